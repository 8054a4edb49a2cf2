//! A tower layer that sends the files that the inner service names.

use std::path::{self, PathBuf};
use std::sync::Arc;

use tower_layer::Layer;

use super::named_file::Settings;
use super::service::SendFileService;
use crate::beneath::check_root;
use crate::error::StaticFilesError;

/// A layer that sends the file that a response of the inner service names in `X-Sendfile` or `X-Accel-Redirect`.
///
/// # Examples
///
/// ```no_run
/// use rproxy_static_files::SendFileLayer;
///
/// let layer = SendFileLayer::builder("/srv/private").accel_prefix("/protected").build()?;
/// # let _ = layer;
/// # Ok::<(), rproxy_static_files::StaticFilesError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SendFileLayer {
    /// `None` if the layer sends no files.
    settings: Option<Arc<Settings>>,
}

/// A builder for a [`SendFileLayer`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SendFileBuilder {
    root: PathBuf,
    prefix: String,
}

impl SendFileLayer {
    /// Creates a layer that sends files beneath `root`.
    ///
    /// # Errors
    ///
    /// Returns an error if the root is not a folder that can be opened.
    pub fn new(root: impl Into<PathBuf>) -> Result<Self, StaticFilesError> {
        Self::builder(root).build()
    }

    /// Creates a layer that sends no files and changes nothing, for programs that decide about files at run time.
    pub fn none() -> Self {
        Self { settings: None }
    }

    /// Returns a builder for a layer that sends files beneath `root`.
    pub fn builder(root: impl Into<PathBuf>) -> SendFileBuilder {
        SendFileBuilder { root: root.into(), prefix: String::new() }
    }
}

impl SendFileBuilder {
    /// Sets the prefix that is removed from the path in `X-Accel-Redirect`, like a location of nginx with `alias`. Other paths are
    /// rejected. Default: none.
    pub fn accel_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// Returns an error if the root is not a folder that can be opened, or if the prefix is not a path, or is percent-encoded.
    pub fn build(self) -> Result<SendFileLayer, StaticFilesError> {
        let prefix = self.prefix.trim_end_matches('/');
        // The path is compared after decoding.
        if !prefix.is_empty() && !prefix.starts_with('/') || prefix.contains('%') {
            return Err(StaticFilesError::Prefix(self.prefix));
        }
        let opened = check_root(&self.root);
        match opened.and_then(|_| path::absolute(&self.root)) {
            Ok(absolute_root) => Ok(SendFileLayer {
                settings: Some(Arc::new(Settings { root: self.root, absolute_root, prefix: prefix.into() })),
            }),
            Err(source) => Err(StaticFilesError::Root { path: self.root, source }),
        }
    }
}

impl<S> Layer<S> for SendFileLayer {
    type Service = SendFileService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SendFileService::new(inner, self.settings.clone())
    }
}
