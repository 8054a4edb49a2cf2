//! The configuration that a layer shares with its services.

use http::HeaderName;

use crate::forwarded::Forwarded;
use crate::trace_context::TraceContext;
use crate::via::Via;

#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// `None` if `Forwarded` is not sent.
    pub(crate) forwarded: Option<Forwarded>,
    pub(crate) hides_client: bool,
    /// `None` if `Via` is not sent.
    pub(crate) via: Option<Via>,
    pub(crate) trace_context: TraceContext,
    pub(crate) trusted_fields: Vec<HeaderName>,
}
