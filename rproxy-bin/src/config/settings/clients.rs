//! Settings of trusted proxies and client requests.

use super::{DefaultValue, Setting, put};
use crate::config::choice::trusted_fields;
use crate::config::value::{format_size, joined, size};

const HEADING: &str = "Clients";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: "trusted_proxies",
        heading: HEADING,
        placeholder: "RANGE,...",
        default: DefaultValue::Description("none"),
        help: "Proxies whose headers are trusted for the client address, the scheme and the request ID",
        accepted: "comma-separated CIDRs and addresses, or private, loopback, cloudflare, fastly, cloudfront",
        secret: false,
        set: |c, t| put(&mut c.trusted_proxies, t.parse()),
        show: |c| (!c.trusted_proxies.is_empty()).then(|| c.trusted_proxies.text().to_owned()),
    },
    Setting {
        key: "trusted_fields",
        heading: HEADING,
        placeholder: "FIELD,...",
        default: DefaultValue::Description("none"),
        help: "Further request header fields to accept from trusted proxies. Name only fields that the proxy overwrites in every request. Requests with such a field bypass the cache, except for X-Forwarded-Host and X-Forwarded-Port",
        accepted: "comma-separated names of header fields: x-forwarded-host, x-forwarded-prefix, remote-user",
        secret: false,
        set: |c, t| put(&mut c.trusted_fields, trusted_fields(t)),
        show: |c| joined(&c.trusted_fields),
    },
    Setting {
        key: "client_ip_from",
        heading: HEADING,
        placeholder: "FIELD",
        default: DefaultValue::Literal("x-forwarded-for"),
        help: "Request header field in which trusted proxies send the client address, such as Forwarded or CF-Connecting-IP",
        accepted: "the name of a header field, or none",
        secret: false,
        set: |c, t| put(&mut c.client_ip_from, t.parse()),
        show: |c| Some(c.client_ip_from.to_string()),
    },
    Setting {
        key: "proxy_protocol",
        heading: HEADING,
        placeholder: "VERSION",
        default: DefaultValue::Literal("off"),
        help: "PROXY protocol version to accept from trusted proxies",
        accepted: "off, v1, v2, or any for both",
        secret: false,
        set: |c, t| put(&mut c.proxy_protocol, t.parse()),
        show: |c| Some(c.proxy_protocol.to_string()),
    },
    Setting {
        key: "max_body",
        heading: HEADING,
        placeholder: "SIZE",
        default: DefaultValue::Description("`0` (no limit)"),
        help: "Maximum size of a request body; larger ones get 413",
        accepted: "a size such as 10MiB; a bare number is bytes; 0 for no limit",
        secret: false,
        set: |c, t| put(&mut c.max_body, size(t, 1).map(|bytes| (bytes > 0).then_some(bytes))),
        show: |c| Some(c.max_body.map_or_else(|| "0".to_owned(), format_size)),
    },
];
