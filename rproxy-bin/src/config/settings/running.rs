//! Settings of the process: workers, drain, logs, the admin listener.

use super::{DURATION, DefaultValue, Setting, put};
use crate::config::choice::host_names;
use crate::config::listen;
use crate::config::value::{duration, joined, optional, path, workers, written_duration};

const HEADING: &str = "Running";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: "workers",
        heading: HEADING,
        placeholder: "NUMBER",
        default: DefaultValue::Description("number of cores"),
        help: "Threads, each with listeners and upstream connections of its own",
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
        help: "Time that open requests get after SIGTERM",
        accepted: DURATION,
        secret: false,
        set: |c, t| put(&mut c.drain_timeout, duration(t)),
        show: |c| Some(written_duration(c.drain_timeout)),
    },
    Setting {
        key: "takeover",
        heading: HEADING,
        placeholder: "PATH",
        default: DefaultValue::Description("none"),
        help: "Unix socket by which a new process takes the listeners of the one that runs, which then drains: no connection is refused",
        accepted: "a path",
        secret: false,
        set: |c, t| put(&mut c.takeover, optional(t, path)),
        show: |c| c.takeover.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        key: "admin_listen",
        heading: HEADING,
        placeholder: "ADDRESS",
        default: DefaultValue::Description("off"),
        help: "Serves /healthz, /readyz, /metrics and cache purge, never on the public listener",
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
        help: "Names under which admin_listen is requested, beside its addresses and localhost; others get 421",
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
        help: "A line per request on standard output",
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
        help: "What the proxy logs of itself; RUST_LOG is read when this is not set",
        accepted: "error, warn, info, debug, trace or off, and TARGET=LEVEL, comma-separated: warn,rproxy=debug",
        secret: false,
        set: |c, t| put(&mut c.log_level, t.parse()),
        show: |c| Some(c.log_level.to_string()),
    },
];
