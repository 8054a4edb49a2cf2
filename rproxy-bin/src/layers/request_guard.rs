//! Settings that validate requests and limit request bodies.

use std::time::Duration;

use rproxy_server::RequestGuardLayer;

use crate::setting::{DURATION, settings};
use crate::values::value::{format_duration, format_size, size, timeout};

settings! {
    /// The settings that limit request bodies.
    RequestGuardSettings, "Limits"

    "max_body" => max_body: Option<u64> {
        value: "SIZE",
        default: "`0` (no limit)" => None,
        help: "Maximum size of a request body; larger ones get 413",
        accepted: "a size such as 10MiB; a bare number is bytes; 0 for no limit",
        scope: Route,
        reload: Live,
        parse: |t| size(t, 1).map(|bytes| (bytes > 0).then_some(bytes)),
        show: |s| Some(s.max_body.map_or_else(|| "0".to_owned(), format_size)),
    }

    "body_timeout" => body_timeout: Duration {
        value: "DURATION",
        default: "30s",
        help: "Maximum time between two parts of a request body; slower clients get 408",
        accepted: DURATION,
        scope: Route,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.body_timeout)),
    }
}

impl RequestGuardSettings {
    pub(crate) fn layer(&self) -> RequestGuardLayer {
        RequestGuardLayer::new().max_body(self.max_body).body_timeout(self.body_timeout)
    }
}
