//! The settings of the access log and of the log of the process.

use crate::setting::settings;
use crate::values::choice::{AccessLog, LogFilter};

settings! {
    /// The settings of the access log and of the log of the process.
    ObserveSettings, "Running"

    "access_log" => access_log: AccessLog {
        value: "FORMAT",
        default: "off",
        help: "Format of the access log on standard output, one line per request",
        accepted: "off, text or json",
        scope: Process,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.access_log.to_string()),
    }

    "log_level" => log_level: LogFilter {
        value: "FILTER",
        default: "info",
        help: "Filter for the log of the proxy itself, on standard error; RUST_LOG applies if this is not set",
        accepted: "error, warn, info, debug, trace or off, and TARGET=LEVEL, comma-separated: warn,rproxy=debug",
        scope: Process,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.log_level.to_string()),
    }
}
