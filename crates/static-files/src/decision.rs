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

/// A request extension: the index of a folder is served at the path of the folder without a slash at its end.
///
/// Without it, [`StaticFilesLayer`](crate::StaticFilesLayer) redirects to the path with a slash, so that relative links of the
/// index work. Insert it if another layer rewrote the path, or removes such slashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexWithoutRedirect;
