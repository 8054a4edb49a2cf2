//! The settings of response compression.

use rproxy_compression::CompressionLayer;

use crate::setting::{SWITCH, settings};
use crate::values::value::boolean;

settings! {
    /// The settings of response compression.
    CompressionSettings, "Responses"

    "compression" => enabled: bool {
        value: "BOOL",
        default: "true",
        help: "Compresses responses with brotli, gzip or zstd",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.enabled.to_string()),
    }
}

impl CompressionSettings {
    pub(crate) fn layer(&self) -> Option<CompressionLayer> {
        self.enabled.then(CompressionLayer::new)
    }

    pub(crate) fn describe(&self) -> Option<String> {
        self.enabled.then(|| "Compression      brotli, gzip, zstd".to_owned())
    }
}
