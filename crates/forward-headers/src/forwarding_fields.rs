//! Removes untrusted forwarding fields, and sets the forwarding fields of this proxy.

use http::header::{FORWARDED, HOST, HeaderMap, HeaderValue};
use http::uri::Scheme;
use http::{Method, Request};
use rproxy_client_ip::{ClientIp, PeerAddr, TrustedPeer};

use crate::address_format::{address, chain, port};
use crate::authority::RequestAuthority;
use crate::config::Config;
use crate::cookies;
use crate::hop_by_hop;
use crate::names::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REAL_IP, X_REQUEST_ID};
use crate::request_id::RequestId;
use crate::trust::{self, Report, Trust};
use crate::via::LoopDetected;

/// Removes the hop-by-hop fields of `request`, replaces its forwarding fields, and returns the request ID.
pub(crate) fn rebuild<B>(request: &mut Request<B>, config: &Config) -> Result<RequestId, LoopDetected> {
    let extensions = request.extensions();
    let trusted = extensions.get::<TrustedPeer>().cloned();
    let peer = extensions.get::<PeerAddr>().map(|peer| peer.0.ip().to_canonical());
    let client = extensions.get::<ClientIp>().map(|client| client.0).or(peer);
    let is_https = extensions.get::<Scheme>().or(request.uri().scheme()) == Some(&Scheme::HTTPS);

    let (received, is_post) = (request.version(), *request.method() == Method::POST);

    let headers = request.headers_mut();
    // Growing the map once is cheaper than growing it twice. If it is full, the insertions below report that.
    let _ = headers.try_reserve(MAX_ADDED_FIELDS);
    let trust = Trust::new(trusted.as_ref(), peer, &config.trusted_fields);
    // Most requests have neither untrusted fields nor a trace context.
    let (mut may_have_untrusted, mut has_trace_context) = (false, false);
    // Before the forwarding fields are set, which a client must not be able to remove by `Connection`.
    hop_by_hop::remove(headers, |name| {
        may_have_untrusted = may_have_untrusted || trust.may_distrust(name);
        has_trace_context |= matches!(name, "traceparent" | "tracestate");
    });
    let report = Report::read(headers, &trust);
    if may_have_untrusted {
        trust::remove_untrusted(headers, is_post, received, &trust);
    }
    cookies::join(headers);

    let hops = trusted.as_ref().map_or(&[][..], TrustedPeer::hops);
    if let Some(peer) = peer.filter(|_| !config.hides_client) {
        let peer_value = address(peer);
        let chain = if hops.is_empty() { peer_value.clone() } else { chain(hops, peer) };
        headers.insert(X_FORWARDED_FOR, chain);
        let client = client.filter(|client| *client != peer).map_or(peer_value, address);
        headers.insert(X_REAL_IP, client);
    }
    let is_https = report.scheme.as_ref().map_or(is_https, |scheme| *scheme == Scheme::HTTPS);
    let scheme = if is_https { Scheme::HTTPS } else { Scheme::HTTP };
    // The server normalised `Host` by the scheme of the connection, which may be another one.
    if report.scheme.is_some() {
        remove_default_port(headers, &scheme);
    }
    let authority = RequestAuthority::new(&report.authority, headers.get(HOST), &scheme);
    let proto = HeaderValue::from_static(if is_https { "https" } else { "http" });
    if let Some(forwarded) = &config.forwarded {
        let value = forwarded.header_value(hops, peer, authority.host.as_ref(), &proto);
        headers.extend(value.map(|value| (FORWARDED, value)));
    }
    headers.insert(X_FORWARDED_PROTO, proto);
    headers.insert(X_FORWARDED_PORT, port(authority.port));
    if let Some(host) = authority.host {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if let Some(via) = &config.via {
        via.append_entry(headers, received)?;
    }
    let id = report.request_id.unwrap_or_else(RequestId::generate);
    headers.insert(X_REQUEST_ID, id.header_value().clone());
    config.trace_context.apply(headers, has_trace_context, trusted.is_some(), &id);
    // Caches need the authority and the scheme of the client's request for their keys.
    if let Some(authority) = authority.reported {
        request.extensions_mut().insert(authority);
    }
    if report.scheme.is_some() {
        request.extensions_mut().insert(scheme);
    }
    Ok(id)
}

/// Removes the port from `Host` if it is the default port of the scheme.
///
/// The backend then gets the same authority as the cache key contains.
fn remove_default_port(headers: &mut HeaderMap, scheme: &Scheme) {
    let default = if *scheme == Scheme::HTTPS { &b":443"[..] } else { b":80" };
    let host = headers.get(HOST).and_then(|host| host.as_bytes().strip_suffix(default));
    if let Some(host) = host.and_then(|host| HeaderValue::from_bytes(host).ok()) {
        headers.insert(HOST, host);
    }
}

/// The maximum number of header fields that the layer adds to a request.
const MAX_ADDED_FIELDS: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarded::Forwarded;
    use http::header::HeaderName;
    use http::uri::Authority;
    use rproxy_client_ip::{ClientIpLayer, TrustedProxies};
    use tower::{Layer, ServiceExt, service_fn};
    use uuid::Uuid;

    /// Returns the header fields that the backend receives if 10.0.0.0/8 and fd00::/8 are trusted.
    async fn forwarded_headers(peer: &str, scheme: Scheme, fields: &[(&str, &str)], config: Config) -> HeaderMap {
        let mut request = Request::get("/").extension(scheme).extension(PeerAddr(peer.parse().unwrap()));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        let inner = service_fn(|mut request: Request<()>| {
            rebuild(&mut request, &config).unwrap();
            sender.send(request.headers().clone()).unwrap();
            async { Ok::<_, std::convert::Infallible>(http::Response::new(String::new())) }
        });
        let trusted: TrustedProxies = "10.0.0.0/8, fd00::/8".parse().unwrap();
        ClientIpLayer::new(trusted).layer(inner).oneshot(request.body(()).unwrap()).await.unwrap();
        receiver.recv().unwrap()
    }

    #[tokio::test]
    async fn replaces_forwarding_fields_of_an_untrusted_peer() {
        let fields = [
            ("host", "a.example:8443"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded_for", "6.6.6.6"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-server", "evil"),
            ("x-forwarded-prefix", "/evil"),
            ("x-real-ip", "6.6.6.6"),
            ("x_real_ip", "6.6.6.6"),
            ("x.real.ip", "6.6.6.6"),
            ("x.forwarded~for", "6.6.6.6"),
            ("x-request-id", "chosen"),
            ("forwarded", "for=6.6.6.6"),
            ("proxy", "http://evil"),
            ("x-forwarded-client-cert", "evil"),
        ];
        let headers = forwarded_headers("192.0.2.1:1", Scheme::HTTPS, &fields, Config::default()).await;
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "host",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-port",
                "x-forwarded-proto",
                "x-real-ip",
                "x-request-id"
            ]
        );
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-real-ip", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example:8443"),
            ("x-forwarded-port", "8443"),
        ] {
            assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
        }
        let id = Uuid::try_parse(headers["x-request-id"].to_str().unwrap()).unwrap();
        assert_eq!(id.get_version_num(), 7);
    }

    /// Returns a configuration that trusts `X-Forwarded-Host` and `X-Forwarded-Port`.
    fn trusted_authority() -> Config {
        Config { trusted_fields: vec![X_FORWARDED_HOST, X_FORWARDED_PORT], ..Config::default() }
    }

    #[tokio::test]
    async fn uses_address_scheme_and_request_id_of_a_trusted_peer() {
        let fields = [
            ("host", "a.example"),
            ("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.0.0.2"),
            ("x-forwarded-proto", "HTTPS"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-port", "1337"),
            ("x-forwarded-prefix", "/evil"),
            ("x-original-url", "/.env"),
            ("remote-user", "admin"),
            ("x-request-id", "abc-123"),
        ];
        let headers = forwarded_headers("10.0.0.1:1", Scheme::HTTP, &fields, Config::default()).await;
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.7, 10.0.0.2, 10.0.0.1"),
            ("x-real-ip", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example"),
            ("x-forwarded-port", "443"),
            ("x-request-id", "abc-123"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        for name in ["x-forwarded-prefix", "x-original-url", "remote-user"] {
            assert!(!headers.contains_key(name), "{name}");
        }
    }

    #[tokio::test]
    async fn uses_host_and_port_of_a_trusted_peer_if_configured() {
        let fields = [("host", "internal:8080"), ("x-forwarded-host", "A.example"), ("x-forwarded-port", "8443")];
        let config = Config { forwarded: Some(Forwarded::default()), ..trusted_authority() };
        let headers = forwarded_headers("10.0.0.1:1", Scheme::HTTPS, &fields, config).await;
        assert_eq!(headers["x-forwarded-host"], "a.example:8443");
        assert_eq!(headers["x-forwarded-port"], "8443");
        assert_eq!(headers["forwarded"], "for=10.0.0.1;host=\"a.example:8443\";proto=https");
        assert_eq!(headers["host"], "internal:8080");
        let headers = forwarded_headers("192.0.2.1:1", Scheme::HTTPS, &fields, trusted_authority()).await;
        assert_eq!(headers["x-forwarded-host"], "internal:8080");
    }

    #[tokio::test]
    async fn ignores_invalid_forwarding_fields_of_a_trusted_peer() {
        let fields = [
            ("host", "a.example"),
            ("x-forwarded-proto", "javascript"),
            ("x-forwarded-host", "a.example\", evil"),
            ("x-forwarded-port", "99999"),
            ("x-request-id", "two words"),
        ];
        let headers = forwarded_headers("10.0.0.1:1", Scheme::HTTP, &fields, trusted_authority()).await;
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a.example");
        assert_eq!(headers["x-forwarded-port"], "80");
        assert_ne!(headers["x-request-id"], "two words");
    }

    #[tokio::test]
    async fn removes_default_port_of_the_forwarded_scheme_from_host() {
        for (peer, host, expected) in [
            ("10.0.0.1:1", "a.example:443", "a.example"),
            ("10.0.0.1:1", "a.example:80", "a.example:80"),
            ("192.0.2.1:1", "a.example:443", "a.example:443"),
        ] {
            let fields = [("host", host), ("x-forwarded-proto", "https")];
            let headers = forwarded_headers(peer, Scheme::HTTP, &fields, Config::default()).await;
            assert_eq!(
                (&headers["host"], &headers["x-forwarded-host"]),
                (&expected.parse().unwrap(), &expected.parse().unwrap())
            );
        }
    }

    #[tokio::test]
    async fn trusts_scheme_and_host_in_forwarded_as_in_x_forwarded_fields() {
        for (trusted_fields, host) in [(&[][..], "internal:8080"), (&[X_FORWARDED_HOST], "pub.example")] {
            let layer = ClientIpLayer::new("10.0.0.0/8".parse().unwrap()).source("forwarded".parse().unwrap());
            let config = Config { trusted_fields: trusted_fields.to_vec(), ..Config::default() };
            let inner = service_fn(async |mut request: Request<()>| {
                rebuild(&mut request, &config).unwrap();
                assert_eq!(request.headers()["x-forwarded-proto"], "https");
                assert_eq!(request.headers()["x-forwarded-host"], host);
                assert_eq!(request.headers()["x-forwarded-for"], "203.0.113.9, 10.0.0.1");
                Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
            });
            let request = Request::get("/")
                .extension(PeerAddr("10.0.0.1:1".parse().unwrap()))
                .header(HOST, "internal:8080")
                .header(FORWARDED, "for=203.0.113.9;proto=https;host=pub.example");
            layer.layer(inner).oneshot(request.body(()).unwrap()).await.unwrap();
        }
    }

    /// Returns the scheme, host and port that the backend receives if `source` is the client IP source.
    async fn reported(source: &str, fields: &[(&str, &str)], trusted_fields: &[HeaderName]) -> [String; 3] {
        let layer = ClientIpLayer::new("10.0.0.0/8".parse().unwrap()).source(source.parse().unwrap());
        let config = Config { trusted_fields: trusted_fields.to_vec(), ..Config::default() };
        let (sender, receiver) = std::sync::mpsc::channel();
        let inner = service_fn(|mut request: Request<()>| {
            rebuild(&mut request, &config).unwrap();
            let field = |name| request.headers()[name].to_str().unwrap().to_owned();
            sender.send([X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT].map(field)).unwrap();
            async { Ok::<_, std::convert::Infallible>(http::Response::new(String::new())) }
        });
        let mut request =
            Request::get("/").extension(PeerAddr("10.0.0.1:1".parse().unwrap())).header(HOST, "internal:8080");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        layer.layer(inner).oneshot(request.body(()).unwrap()).await.unwrap();
        receiver.recv().unwrap()
    }

    #[tokio::test]
    async fn client_ip_source_selects_between_conflicting_forwarding_fields() {
        let all = [
            ("forwarded", "for=192.0.2.7;proto=https;host=pub.example"),
            ("x-forwarded-for", "192.0.2.8"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "other.example"),
            ("x-forwarded-port", "81"),
        ];
        let both = [X_FORWARDED_HOST, X_FORWARDED_PORT];
        for (source, trusted_fields, expected) in [
            ("forwarded", &both[..], ["https", "pub.example", "443"]),
            ("forwarded", &[], ["https", "internal:8080", "8080"]),
            ("x-forwarded-for", &both, ["http", "other.example:81", "81"]),
            ("x-forwarded-for", &[], ["http", "internal:8080", "8080"]),
            ("cf-connecting-ip", &both, ["http", "other.example:81", "81"]),
        ] {
            assert_eq!(reported(source, &all, trusted_fields).await, expected, "{source} {trusted_fields:?}");
        }
        // Values that `Forwarded` lacks, because it has no such parameter or is invalid, come from the other fields.
        for forwarded in ["for=192.0.2.7", "for=192.0.2.7;proto=https;proto=https", "proto=https;host=a/b;"] {
            let fields: Vec<_> = std::iter::once(("forwarded", forwarded)).chain(all[1..].iter().copied()).collect();
            assert_eq!(reported("forwarded", &fields, &both).await, ["http", "other.example:81", "81"], "{forwarded}");
        }
    }

    #[tokio::test]
    async fn sends_the_forwarded_field_if_configured() {
        let config = Config { forwarded: Some(Forwarded::default()), ..Config::default() };
        let fields = [("host", "a.example:81"), ("x-forwarded-for", "2001:db8::7")];
        let headers = forwarded_headers("[fd00::1]:1", Scheme::HTTP, &fields, config).await;
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::7]\", for=\"[fd00::1]\";host=\"a.example:81\";proto=http");
    }

    #[tokio::test]
    async fn uses_the_forwarding_field_values_of_the_nearest_trusted_hop() {
        let fields = [
            ("host", "internal"),
            ("x-forwarded-proto", "http, https"),
            ("x-forwarded-host", "forged.example, a.example"),
            ("x-forwarded-prefix", "/app"),
            ("x_forwarded_prefix", "/evil"),
            ("x-request-id", "first"),
            ("x-request-id", "last"),
        ];
        let mut config = trusted_authority();
        config.trusted_fields.push(HeaderName::from_static("x-forwarded-prefix"));
        let headers = forwarded_headers("10.0.0.1:1", Scheme::HTTP, &fields, config).await;
        for (name, value) in [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example"),
            ("x-forwarded-prefix", "/app"),
            ("x-request-id", "last"),
        ] {
            assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
        }
        assert!(!headers.contains_key("x_forwarded_prefix"));
    }

    #[test]
    fn inserts_forwarded_authority_and_scheme_as_request_extensions() {
        let headers = |request: http::request::Builder| {
            request.header(HOST, "internal").header(X_FORWARDED_HOST, "a.example").header(X_FORWARDED_PROTO, "https")
        };
        for (is_trusted, config, authority, scheme) in [
            (true, trusted_authority(), Some("a.example"), Some(Scheme::HTTPS)),
            (true, Config::default(), None, Some(Scheme::HTTPS)),
            (false, trusted_authority(), None, None),
        ] {
            let mut request = headers(Request::get("/")).body(()).unwrap();
            if is_trusted {
                request.extensions_mut().insert(TrustedPeer::default());
            }
            rebuild(&mut request, &config).unwrap();
            assert_eq!(request.extensions().get::<Authority>().map(Authority::as_str), authority);
            assert_eq!(request.extensions().get::<Scheme>(), scheme.as_ref());
        }
    }

    #[tokio::test]
    async fn hides_the_client_address_if_configured() {
        let forwarded = Some(Forwarded { hides_client: true, ..Forwarded::default() });
        let config = Config { hides_client: true, forwarded, ..Config::default() };
        let fields = [("host", "a.example"), ("x-forwarded-for", "192.0.2.7"), ("x-real-ip", "6.6.6.6")];
        let headers = forwarded_headers("10.0.0.1:1", Scheme::HTTP, &fields, config).await;
        assert_eq!(headers["forwarded"], "for=_hidden, for=_hidden;host=a.example;proto=http");
        assert!(!headers.contains_key("x-forwarded-for") && !headers.contains_key("x-real-ip"));
    }
}
