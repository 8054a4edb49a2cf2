//! The configuration that a layer shares with its services.

use http::HeaderName;

use crate::forwarded::Forwarded;
use crate::trace_context::TraceContext;
use crate::via::Via;

#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// The configuration of the `Forwarded` field, or `None` to send no `Forwarded`.
    pub(crate) forwarded: Option<Forwarded>,
    pub(crate) hides_client: bool,
    /// The `Via` entries of this proxy, or `None` to send no `Via`.
    pub(crate) via: Option<Via>,
    pub(crate) trace_context: TraceContext,
    pub(crate) trusted_fields: Vec<HeaderName>,
}
