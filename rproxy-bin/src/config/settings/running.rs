//! Settings of the process: workers, graceful shutdown, logs and the admin listener.

use super::{DURATION, DefaultValue, Setting, put};
use crate::config::choice::host_names;
use crate::config::listen;
use crate::config::value::{duration, format_duration, joined, optional, path, workers};

const HEADING: &str = "Running";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: "workers",
        heading: HEADING,
        placeholder: "NUMBER",
        default: DefaultValue::Description("number of cores"),
        help: "Number of worker threads, each with its own listeners and upstream connections",
        accepted: "a whole number from 1 to 1024",
        secret: false,
        set: |c, t| put(&mut c.workers, workers(t).map(Some)),
        show: |c| Some(c.worker_count().to_string()),
    },
    Setting {
        key: "drain_timeout",
        heading: HEADING,
        placeholder: "DURATION",
        default: DefaultValue::Literal("30s"),
        help: "Maximum time for in-flight requests to finish during a graceful shutdown",
        accepted: DURATION,
        secret: false,
        set: |c, t| put(&mut c.drain_timeout, duration(t)),
        show: |c| Some(format_duration(c.drain_timeout)),
    },
    Setting {
        key: "handover_socket",
        heading: HEADING,
        placeholder: "PATH",
        default: DefaultValue::Description("none"),
        help: "Unix socket for zero-downtime upgrades: a new process receives the listeners of the running one, which then drains",
        accepted: "a path",
        secret: false,
        set: |c, t| put(&mut c.handover_socket, optional(t, path)),
        show: |c| c.handover_socket.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        key: "admin_listen",
        heading: HEADING,
        placeholder: "ADDRESS",
        default: DefaultValue::Description("off"),
        help: "Address of the admin listener, which serves /healthz, /readyz, /metrics and cache purges",
        accepted: "ADDRESS:PORT, [IPV6]:PORT, unix:/path, or off",
        secret: false,
        set: |c, t| put(&mut c.admin_listen, listen::optional_address(t)),
        show: |c| c.admin_listen.as_ref().map(ToString::to_string),
    },
    Setting {
        key: "admin_hosts",
        heading: HEADING,
        placeholder: "NAME,...",
        default: DefaultValue::Description("none"),
        help: "Host names for which the admin listener accepts requests, besides IP addresses and localhost; others get 421",
        accepted: "comma-separated host names: rproxy.internal",
        secret: false,
        set: |c, t| put(&mut c.admin_hosts, host_names(t)),
        show: |c| joined(&c.admin_hosts),
    },
    Setting {
        key: "access_log",
        heading: HEADING,
        placeholder: "FORMAT",
        default: DefaultValue::Literal("off"),
        help: "Format of the access log on standard output, one line per request",
        accepted: "off, text or json",
        secret: false,
        set: |c, t| put(&mut c.access_log, t.parse()),
        show: |c| Some(c.access_log.to_string()),
    },
    Setting {
        key: "log_level",
        heading: HEADING,
        placeholder: "FILTER",
        default: DefaultValue::Literal("info"),
        help: "Filter for the log of the proxy itself, on standard error; RUST_LOG applies if this is not set",
        accepted: "error, warn, info, debug, trace or off, and TARGET=LEVEL, comma-separated: warn,rproxy=debug",
        secret: false,
        set: |c, t| put(&mut c.log_level, t.parse()),
        show: |c| Some(c.log_level.to_string()),
    },
];
