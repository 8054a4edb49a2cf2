//! The builder of the static files layer.

use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::beneath::{HiddenFiles, Waiting, check_root};
use crate::error::StaticFilesError;
use crate::file::{NoFile, OpenFile};
use crate::layer::StaticFilesLayer;
use crate::lookup::Settings;
use crate::request_path::FilePath;

/// A builder for a [`StaticFilesLayer`].
#[derive(Clone, Debug)]
#[must_use]
pub struct StaticFilesBuilder {
    root: PathBuf,
    fallback: Option<String>,
    precompressed: bool,
    files_only: bool,
}

impl StaticFilesLayer {
    /// Creates a layer that serves the files beneath `root` first.
    ///
    /// # Errors
    ///
    /// Returns an error if the root is not a folder that can be opened.
    pub fn new(root: impl Into<PathBuf>) -> Result<Self, StaticFilesError> {
        Self::builder(root).build()
    }

    /// Returns a builder for a layer that serves the files beneath `root`.
    pub fn builder(root: impl Into<PathBuf>) -> StaticFilesBuilder {
        StaticFilesBuilder::new(root.into())
    }
}

impl StaticFilesBuilder {
    fn new(root: PathBuf) -> Self {
        Self { root, fallback: None, precompressed: true, files_only: false }
    }

    /// Sets the file below the root that serves navigations to paths without a file, for single-page applications. Default: none.
    ///
    /// A navigation is a GET or HEAD request that prefers `text/html`, to a path whose last segment has no dot. The status is 200, and `Vary` has
    /// `Accept`.
    pub fn fallback(mut self, path: impl Into<String>) -> Self {
        self.fallback = Some(path.into());
        self
    }

    /// Sets whether precompressed variants of files are served. Default: `true`.
    pub fn precompressed(mut self, enabled: bool) -> Self {
        self.precompressed = enabled;
        self
    }

    /// Sets whether requests without a file are rejected instead of forwarded to the inner service. Default: `false`.
    pub fn files_only(mut self, enabled: bool) -> Self {
        self.files_only = enabled;
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// Returns an error if the root is not a folder that can be opened, or if the fallback is not a file below the root.
    pub fn build(self) -> Result<StaticFilesLayer, StaticFilesError> {
        let root = match check_root(&self.root) {
            Ok(root) => root,
            Err(source) => return Err(StaticFilesError::Root { path: self.root, source }),
        };
        let mut fallback = None;
        if let Some(path) = self.fallback {
            let relative = path.strip_prefix('/').unwrap_or(&path).replace('%', "%25");
            let Some(parsed) = FilePath::of_request(&format!("/{relative}")).filter(|path| !path.is_folder) else {
                return Err(StaticFilesError::Fallback(path));
            };
            match OpenFile::open(root.as_fd(), &parsed.bytes, Waiting::Allowed, HiddenFiles::Missing) {
                Ok(_) => fallback = Some(parsed.bytes),
                Err(reason) => {
                    let path = self.root.join(path.trim_start_matches('/'));
                    return Err(StaticFilesError::UnreadableFallback { path, source: error_of(reason) });
                }
            }
        }
        Ok(StaticFilesLayer::from_settings(Settings {
            root: self.root,
            fallback,
            precompressed: self.precompressed,
            files_only: self.files_only,
        }))
    }
}

fn error_of(reason: NoFile) -> std::io::Error {
    match reason {
        NoFile::Folder => std::io::ErrorKind::IsADirectory.into(),
        NoFile::Missing => std::io::ErrorKind::NotFound.into(),
        NoFile::Denied => std::io::ErrorKind::PermissionDenied.into(),
        NoFile::Error(error) => error,
    }
}
