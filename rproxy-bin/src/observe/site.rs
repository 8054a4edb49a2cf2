//! The names of the site and route of a request, in logs and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// Response extension with the names of the site and route of the request. Clones share the counters.
#[derive(Clone, Debug)]
pub struct SiteLabel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    site: Box<str>,
    route: Box<str>,
    /// The number of responses per status class.
    requests: [AtomicU64; CLASSES.len()],
}

/// The values of the label `code`, which are status classes.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl SiteLabel {
    /// Creates the label of a route, or of a site if `route` is empty.
    pub fn new(site: &str, route: &str) -> Self {
        Self { inner: Arc::new(Inner { site: site.into(), route: route.into(), requests: Default::default() }) }
    }

    /// Returns the name of the site for logs and metrics.
    pub fn site(&self) -> &str {
        &self.inner.site
    }

    /// Returns the name of the route, such as `POST /login`; empty for the site itself.
    pub fn route(&self) -> &str {
        &self.inner.route
    }

    pub(super) fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.inner.requests[class].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of responses per status class.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = CLASSES.iter().zip(&self.inner.requests);
        counts.map(|(class, count)| (*class, count.load(Ordering::Relaxed)))
    }
}
