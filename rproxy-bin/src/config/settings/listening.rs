//! Settings of the listeners.

use super::{DefaultValue, SWITCH, Setting, put};
use crate::config::listen;
use crate::config::value::{boolean, joined, list, some};

const HEADING: &str = "Listening";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: "listen",
        heading: HEADING,
        placeholder: "ADDRESS,...",
        default: DefaultValue::Description("`0.0.0.0:443` with TLS, else `0.0.0.0:8080`"),
        help: "Addresses of the main listeners",
        accepted: "comma-separated ADDRESS:PORT, [IPV6]:PORT, :PORT or unix:/path",
        secret: false,
        set: |c, t| put(&mut c.listen, list(t, listen::address).and_then(|all| some("listen address", t, all))),
        show: |c| joined(&c.listeners()),
    },
    Setting {
        key: "http_port",
        heading: HEADING,
        placeholder: "PORT",
        default: DefaultValue::Description("`80` with TLS, else off"),
        help: "Port of the plain HTTP listener that redirects to HTTPS, with 301 for GET and HEAD, else 308; 0 turns it off",
        accepted: "a port from 1 to 65535, or 0 for none",
        secret: false,
        set: |c, t| put(&mut c.http_port, t.parse()),
        show: |c| Some(c.redirect_port().map_or_else(|| "0".to_owned(), |port| port.to_string())),
    },
    Setting {
        key: "h2c",
        heading: HEADING,
        placeholder: "BOOL",
        default: DefaultValue::Literal("true"),
        help: "Accepts HTTP/2 without TLS (h2c with prior knowledge), such as for gRPC behind a load balancer",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.h2c, boolean(t)),
        show: |c| Some(c.h2c.to_string()),
    },
];
