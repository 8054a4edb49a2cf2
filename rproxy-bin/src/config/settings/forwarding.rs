//! Settings of the headers that the upstream receives.

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
        help: "Sends the Forwarded header (RFC 7239) to the upstream, in addition to X-Forwarded-*",
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
        help: "Name of this proxy in the by parameter of Forwarded",
        accepted: "an underscore followed by letters, digits, `.`, `_` or `-`: _edge",
        secret: false,
        set: |c, t| put(&mut c.forwarded_by, node_name(t).map(Some)),
        show: |c| c.forwarded_by.clone(),
    },
    Setting {
        key: "hide_client",
        heading: HEADING,
        placeholder: "BOOL",
        default: DefaultValue::Literal("false"),
        help: "Hides client addresses from the upstream: no X-Forwarded-For, no X-Real-IP, and for=_hidden in Forwarded",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.hide_client, boolean(t)),
        show: |c| Some(c.hide_client.to_string()),
    },
    Setting {
        key: "trace_context",
        heading: HEADING,
        placeholder: "MODE",
        default: DefaultValue::Literal("pass"),
        help: "Handling of the W3C traceparent header: pass forwards a valid one, begin also starts a trace if there is none, restart starts a new trace unless the peer is a trusted proxy",
        accepted: "pass, begin or restart",
        secret: false,
        set: |c, t| put(&mut c.trace_context, t.parse()),
        show: |c| Some(c.trace_context.to_string()),
    },
];
