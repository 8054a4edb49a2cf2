//! The settings of response compression.

use rproxy_compression::CompressionLayer;

use crate::setting::{SWITCH, settings};
use crate::values::value::{boolean, format_size, size};

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

    "compression_min_size" => min_size: u64 {
        value: "SIZE",
        default: "256B",
        help: "Minimum size of a response that is compressed; responses of unknown size are compressed",
        accepted: "a size such as 1KiB; a bare number is bytes",
        scope: Route,
        reload: Live,
        parse: |t| size(t, 1),
        show: |s| Some(format_size(s.min_size)),
    }

    "compression_private" => private: bool {
        value: "BOOL",
        default: "true",
        help: "Compresses responses that may contain secrets of one user; `false` protects against BREACH",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.private.to_string()),
    }
}

impl CompressionSettings {
    pub(crate) fn layer(&self) -> Option<CompressionLayer> {
        self.enabled.then(|| CompressionLayer::new().min_size(self.min_size).private(self.private))
    }

    pub(crate) fn describe(&self) -> Option<String> {
        self.enabled.then(|| {
            let excluded = if self.private { "" } else { ", except private responses" };
            format!("Compression      brotli, gzip, zstd{excluded}")
        })
    }
}
