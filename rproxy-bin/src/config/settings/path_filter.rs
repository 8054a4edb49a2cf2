//! Settings of the path filter.

use super::{DefaultValue, SWITCH, Setting, put};
use crate::config::paths;
use crate::config::value::boolean;

const HEADING: &str = "Path filter";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: "filter_enabled",
        heading: HEADING,
        placeholder: "BOOL",
        default: DefaultValue::Literal("true"),
        help: "Rejects requests for blocked paths",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.filter_enabled, boolean(t)),
        show: |c| Some(c.filter_enabled.to_string()),
    },
    Setting {
        key: "blocked_paths",
        heading: HEADING,
        placeholder: "GLOB,...",
        default: DefaultValue::Description("`default`, the built-in list"),
        help: "Paths to block; `default,/private/**` extends the built-in list, `!/pattern` exempts a path",
        accepted: "comma-separated globs, `default` for the built-in list, `!` before an exemption",
        secret: false,
        set: |c, t| put(&mut c.blocked_paths, paths::rules(t)),
        show: |c| Some(c.blocked_paths.text().to_owned()),
    },
    Setting {
        key: "filter_status",
        heading: HEADING,
        placeholder: "STATUS|close",
        default: DefaultValue::Literal("404"),
        help: "Response to blocked paths: a status, or `close` to close the connection (HTTP/2: reset the stream) without a response, except for trusted proxies, which get 404",
        accepted: "a status from 400 to 499, or close",
        secret: false,
        set: |c, t| put(&mut c.filter_status, t.parse()),
        show: |c| Some(c.filter_status.to_string()),
    },
    Setting {
        key: "filter_strict",
        heading: HEADING,
        placeholder: "BOOL",
        default: DefaultValue::Literal("false"),
        help: "Rejects ambiguous paths with 400, which servers may decode differently: with %2F, //, /./, ; and the like",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.filter_strict, boolean(t)),
        show: |c| Some(c.filter_strict.to_string()),
    },
    Setting {
        key: "filter_log_only",
        heading: HEADING,
        placeholder: "BOOL",
        default: DefaultValue::Literal("false"),
        help: "Shadow mode: forwards requests for blocked paths, and marks them in the access log",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.filter_log_only, boolean(t)),
        show: |c| Some(c.filter_log_only.to_string()),
    },
];
