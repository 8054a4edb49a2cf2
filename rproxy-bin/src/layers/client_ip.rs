//! The settings of trusted proxies and the client address.

use http::HeaderName;
use rproxy_client_ip::{ClientIpLayer, ClientIpSource, TrustedProxies};
use rproxy_server::ProxyProtocolVersions;

use crate::setting::settings;
use crate::values::choice::{ProxyProtocol, trusted_fields};
use crate::values::parsed::Parsed;
use crate::values::value::joined;

settings! {
    /// The settings of trusted proxies and the client address.
    ClientIpSettings, "Clients"

    "trusted_proxies" => trusted_proxies: Parsed<TrustedProxies> {
        value: "RANGE,...",
        default: "none" => Parsed::default(),
        help: "Proxies whose headers are trusted for the client address, the scheme and the request ID",
        accepted: "comma-separated CIDRs and addresses, or private, loopback, cloudflare, fastly, cloudfront",
        scope: Process,
        reload: Live,
        parse: str::parse,
        show: |s| (!s.trusted_proxies.is_empty()).then(|| s.trusted_proxies.text().to_owned()),
    }

    "trusted_fields" => trusted_fields: Vec<HeaderName> {
        value: "FIELD,...",
        default: "none" => Vec::new(),
        help: "Additional request header fields to accept from trusted proxies. Name only fields that the proxy overwrites in every request. Requests with such a field bypass the cache, except for X-Forwarded-Host and X-Forwarded-Port",
        accepted: "comma-separated names of header fields: x-forwarded-host, x-forwarded-prefix, remote-user",
        scope: Route,
        reload: Live,
        parse: trusted_fields,
        show: |s| joined(&s.trusted_fields),
    }

    "client_ip_from" => source: ClientIpSource {
        value: "FIELD",
        default: "x-forwarded-for",
        help: "Request header field in which trusted proxies send the client address, such as Forwarded or CF-Connecting-IP",
        accepted: "a header field name, or none",
        scope: Process,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.source.to_string()),
    }

    "proxy_protocol" => proxy_protocol: ProxyProtocol {
        value: "VERSION",
        default: "off",
        help: "PROXY protocol version to accept from trusted proxies",
        accepted: "off, v1, v2, or any for both",
        scope: Process,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.proxy_protocol.to_string()),
    }


    rules {
        ["proxy_protocol", "trusted_proxies"] => |s, c| {
            let nobody = s.proxy_protocol != ProxyProtocol::Off && s.trusted_proxies.is_empty();
            nobody.then(|| {
                let trusted = c.name("trusted_proxies");
                format!("requires {trusted}: the PROXY protocol header is accepted from trusted proxies only, and there are none")
            })
        },
    }

    idle {
        ["trusted_fields"] => |s, _| s.trusted_proxies.is_empty().then(|| "no proxy is trusted".to_owned()),
    }
}

impl ClientIpSettings {
    pub(crate) fn layer(&self) -> ClientIpLayer {
        ClientIpLayer::new(self.trusted_proxies.value().clone()).source(self.source.clone())
    }

    pub(crate) fn proxy_versions(&self) -> Option<ProxyProtocolVersions> {
        match self.proxy_protocol {
            ProxyProtocol::Off => None,
            ProxyProtocol::V1 => Some(ProxyProtocolVersions::V1),
            ProxyProtocol::V2 => Some(ProxyProtocolVersions::V2),
            ProxyProtocol::Any => Some(ProxyProtocolVersions::Any),
        }
    }

    /// Returns the trusted fields that can affect a response but are not part of the cache key, such as a user name or
    /// a prefix.
    pub(crate) fn uncacheable_fields(&self) -> Vec<HeaderName> {
        let is_in_key = |name: &HeaderName| *name == "x-forwarded-host" || *name == "x-forwarded-port";
        self.trusted_fields.iter().filter(|name| !is_in_key(name)).cloned().collect()
    }

    pub(crate) fn describe(&self) -> String {
        let proxies = self.trusted_proxies.text();
        format!("ClientIp         trusts {}", if proxies.is_empty() { "no proxies" } else { proxies })
    }
}
