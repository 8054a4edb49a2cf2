//! Settings of what the upstream is told.

use super::{DefaultValue, SWITCH, Setting, put};
use crate::config::choice::node_name;
use crate::config::value::boolean;

const HEADING: &str = "Forwarding";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: "forwarded",
        heading: HEADING,
        placeholder: "BOOL",
        default: DefaultValue::Literal("false"),
        help: "Whether the upstream gets Forwarded (RFC 7239) beside X-Forwarded-*",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.forwarded, boolean(t)),
        show: |c| Some(c.forwarded.to_string()),
    },
    Setting {
        key: "forwarded_by",
        heading: HEADING,
        placeholder: "NAME",
        default: DefaultValue::Description("none"),
        help: "The name of this proxy in Forwarded",
        accepted: "an underscore, then letters, digits, `.`, `_` and `-`: _edge",
        secret: false,
        set: |c, t| put(&mut c.forwarded_by, node_name(t).map(Some)),
        show: |c| c.forwarded_by.clone(),
    },
    Setting {
        key: "hide_client",
        heading: HEADING,
        placeholder: "BOOL",
        default: DefaultValue::Literal("false"),
        help: "Whether the upstream learns no addresses: no X-Forwarded-For, no X-Real-IP, for=_hidden in Forwarded",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.hide_client, boolean(t)),
        show: |c| Some(c.hide_client.to_string()),
    },
    Setting {
        key: "trace_context",
        heading: HEADING,
        placeholder: "HOW",
        default: DefaultValue::Literal("pass"),
        help: "What becomes of traceparent (W3C): passed on if valid, begun where it is missing, or begun anew for all \
               but trusted proxies",
        accepted: "pass, begin or restart",
        secret: false,
        set: |c, t| put(&mut c.trace_context, t.parse()),
        show: |c| Some(c.trace_context.to_string()),
    },
];
