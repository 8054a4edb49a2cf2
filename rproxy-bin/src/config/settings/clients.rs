//! Settings of who is believed about whom.

use super::{DefaultValue, Setting, put};
use crate::config::choice::trusted_fields;
use crate::config::value::{joined, size, written_size};

const HEADING: &str = "Clients";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: "trusted_proxies",
        heading: HEADING,
        placeholder: "RANGE,...",
        default: DefaultValue::Description("none"),
        help: "Proxies that are believed about the client's address, the scheme and the request id",
        accepted: "comma-separated CIDRs, addresses, private, loopback, cloudflare, fastly or cloudfront",
        secret: false,
        set: |c, t| put(&mut c.trusted_proxies, t.parse()),
        show: |c| (!c.trusted_proxies.is_empty()).then(|| c.trusted_proxies.text().to_owned()),
    },
    Setting {
        key: "trusted_fields",
        heading: HEADING,
        placeholder: "FIELD,...",
        default: DefaultValue::Description("none"),
        help: "More fields that trusted proxies are believed about, because they overwrite them in every request; of CDNs \
               only those that the CDN sets itself. Requests with another of these than X-Forwarded-Host and \
               X-Forwarded-Port are not answered from the cache",
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
        help: "The field in which trusted proxies name the client: `Forwarded`, `CF-Connecting-IP` ...",
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
        help: "Version of the PROXY protocol that is accepted from trusted peers",
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
        help: "Larger request bodies get 413",
        accepted: "a size such as 10MiB; a bare number is bytes; 0 for no limit",
        secret: false,
        set: |c, t| put(&mut c.max_body, size(t, 1).map(|bytes| (bytes > 0).then_some(bytes))),
        show: |c| Some(c.max_body.map_or_else(|| "0".to_owned(), written_size)),
    },
];
