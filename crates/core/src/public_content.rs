//! The mark of content that is the same for all clients.

/// A response extension: the content is the same for all clients, with any credentials or none.
///
/// The layer that makes a response from a file inserts it. Layers that treat responses to requests with credentials as private,
/// such as compression, make an exception.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicContent;
