//! A tower layer that serves files.

use std::sync::Arc;

use tower_layer::Layer;

use crate::lookup::Settings;
use crate::service::StaticFilesService;

/// A layer that serves files beneath a root, and forwards requests without a file to the inner service.
///
/// # Examples
///
/// ```no_run
/// use rproxy_static_files::StaticFilesLayer;
///
/// let layer = StaticFilesLayer::builder("/srv/www").fallback("index.html").build()?;
/// # let _ = layer;
/// # Ok::<(), rproxy_static_files::StaticFilesError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct StaticFilesLayer {
    /// `None` if the layer serves no files.
    settings: Option<Arc<Settings>>,
}

impl StaticFilesLayer {
    /// Creates a layer that serves no files and forwards all requests, for programs that decide about files at run time.
    pub fn none() -> Self {
        Self { settings: None }
    }

    pub(crate) fn from_settings(settings: Settings) -> Self {
        Self { settings: Some(Arc::new(settings)) }
    }
}

impl<S> Layer<S> for StaticFilesLayer {
    type Service = StaticFilesService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        StaticFilesService::new(inner, self.settings.clone())
    }
}
