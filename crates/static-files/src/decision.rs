//! The decision of a layer about a request.

/// A response extension of [`StaticFilesLayer`](crate::StaticFilesLayer) and [`SendFileLayer`](crate::SendFileLayer): the
/// response is made from a file.
///
/// A response of the inner service and a rejection have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileDecision {
    /// The file at the path of the request, or the index of the folder at this path.
    File,
    /// The fallback of a single-page application.
    Fallback,
    /// A redirect to the path of a folder, with a slash at its end.
    FolderRedirect,
    /// The file that the inner service named.
    SendFile,
}
