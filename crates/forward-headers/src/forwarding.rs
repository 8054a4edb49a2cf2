//! Who asked and how: the claims that go, and the facts that are put in their place.

use http::header::{FORWARDED, HOST, HeaderMap, HeaderValue};
use http::uri::Scheme;
use http::{Method, Request};
use rproxy_client_ip::{ClientIp, PeerAddr, TrustedPeer};

use crate::addresses::{address, chain, port};
use crate::claims::{self, Claims, Trust};
use crate::cookies;
use crate::hop_by_hop::Seen;
use crate::layer::Settings;
use crate::names::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REAL_IP, X_REQUEST_ID};
use crate::request_id::RequestId;
use crate::target::Target;
use crate::via::Loop;

/// Rebuilds the forwarding headers of `request`, and names it.
pub(crate) fn rebuild<B>(request: &mut Request<B>, settings: &Settings, seen: Seen) -> Result<RequestId, Loop> {
    let extensions = request.extensions();
    let trusted = extensions.get::<TrustedPeer>().cloned();
    let peer = extensions.get::<PeerAddr>().map(|peer| peer.0.ip().to_canonical());
    let client = extensions.get::<ClientIp>().map(|client| client.0).or(peer);
    let is_https = extensions.get::<Scheme>().or(request.uri().scheme()) == Some(&Scheme::HTTPS);

    let (received, is_post) = (request.version(), *request.method() == Method::POST);

    let headers = request.headers_mut();
    // Growing once is cheaper than twice. A map that can't take more says so at the insertion.
    let _ = headers.try_reserve(ADDED);
    let trust = Trust::new(trusted.as_ref(), peer, &settings.trusted_fields);
    let claims = Claims::of(headers, &trust);
    claims::remove(headers, is_post, &trust);
    cookies::join(headers);

    let hops = trusted.as_ref().map_or(&[][..], TrustedPeer::hops);
    if let Some(peer) = peer.filter(|_| !settings.hides_client) {
        let peer_value = address(peer);
        let chain = if hops.is_empty() { peer_value.clone() } else { chain(hops, peer) };
        headers.insert(X_FORWARDED_FOR, chain);
        let client = client.filter(|client| *client != peer).map_or(peer_value, address);
        headers.insert(X_REAL_IP, client);
    }
    let is_https = claims.scheme.as_ref().map_or(is_https, |scheme| *scheme == Scheme::HTTPS);
    let scheme = if is_https { Scheme::HTTPS } else { Scheme::HTTP };
    // The server has read `Host` by the scheme of the connection.
    if claims.scheme.is_some() {
        remove_default_port(headers, &scheme);
    }
    let target = Target::of(&claims.target, headers.get(HOST), &scheme);
    let proto = HeaderValue::from_static(if is_https { "https" } else { "http" });
    if let Some(forwarded) = &settings.forwarded {
        let forwarded = forwarded.header_value(hops, peer, target.host.as_ref(), &proto);
        headers.extend(forwarded.map(|forwarded| (FORWARDED, forwarded)));
    }
    headers.insert(X_FORWARDED_PROTO, proto);
    headers.insert(X_FORWARDED_PORT, port(target.port));
    if let Some(host) = target.host {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if let Some(via) = &settings.via {
        via.pass(headers, received)?;
    }
    let id = claims.request_id.unwrap_or_else(RequestId::new);
    headers.insert(X_REQUEST_ID, id.header_value().clone());
    settings.trace_context.apply(headers, seen.trace_context, trusted.is_some(), &id);
    // Where a trusted peer says that the client asked elsewhere, a cache has to know.
    if let Some(authority) = target.claimed {
        request.extensions_mut().insert(authority);
    }
    if claims.scheme.is_some() {
        request.extensions_mut().insert(scheme);
    }
    Ok(id)
}

/// Removes from `Host` the port that says nothing beside this scheme, so that the backend gets the authority of the cache key.
fn remove_default_port(headers: &mut HeaderMap, scheme: &Scheme) {
    let default = if *scheme == Scheme::HTTPS { &b":443"[..] } else { b":80" };
    let host = headers.get(HOST).and_then(|host| host.as_bytes().strip_suffix(default));
    if let Some(host) = host.and_then(|host| HeaderValue::from_bytes(host).ok()) {
        headers.insert(HOST, host);
    }
}

/// How many fields are added at most.
const ADDED: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarded::Forwarded;
    use http::header::HeaderName;
    use http::uri::Authority;
    use rproxy_client_ip::{ClientIpLayer, TrustedProxies};
    use tower::{Layer, ServiceExt, service_fn};
    use uuid::Uuid;

    /// The headers after a client-ip layer that trusts 10.0.0.0/8, and the rebuilding.
    async fn rebuilt(peer: &str, scheme: Scheme, lines: &[(&str, &str)], settings: Settings) -> HeaderMap {
        let mut request = Request::get("/").extension(scheme).extension(PeerAddr(peer.parse().unwrap()));
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        let inner = service_fn(|mut request: Request<()>| {
            rebuild(&mut request, &settings, Seen::default()).unwrap();
            sender.send(request.headers().clone()).unwrap();
            async { Ok::<_, std::convert::Infallible>(http::Response::new(String::new())) }
        });
        let trusted: TrustedProxies = "10.0.0.0/8, fd00::/8".parse().unwrap();
        ClientIpLayer::new(trusted).layer(inner).oneshot(request.body(()).unwrap()).await.unwrap();
        receiver.recv().unwrap()
    }

    #[tokio::test]
    async fn facts_replace_the_claims_of_an_untrusted_peer() {
        let claims = [
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
        let headers = rebuilt("192.0.2.1:1", Scheme::HTTPS, &claims, Settings::default()).await;
        let mut seen: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        seen.sort_unstable();
        assert_eq!(
            seen,
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

    /// Believes what a proxy says of the client's target.
    fn target_trusted() -> Settings {
        Settings { trusted_fields: vec![X_FORWARDED_HOST, X_FORWARDED_PORT], ..Settings::default() }
    }

    #[tokio::test]
    async fn a_trusted_peer_is_believed_about_address_scheme_and_id() {
        let claims = [
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
        let headers = rebuilt("10.0.0.1:1", Scheme::HTTP, &claims, Settings::default()).await;
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
    async fn host_and_port_are_believed_where_a_setting_says_so() {
        let claims = [("host", "internal:8080"), ("x-forwarded-host", "A.example"), ("x-forwarded-port", "8443")];
        let settings = Settings { forwarded: Some(Forwarded::default()), ..target_trusted() };
        let headers = rebuilt("10.0.0.1:1", Scheme::HTTPS, &claims, settings).await;
        assert_eq!(headers["x-forwarded-host"], "a.example:8443");
        assert_eq!(headers["x-forwarded-port"], "8443");
        assert_eq!(headers["forwarded"], "for=10.0.0.1;host=\"a.example:8443\";proto=https");
        assert_eq!(headers["host"], "internal:8080");
        let headers = rebuilt("192.0.2.1:1", Scheme::HTTPS, &claims, target_trusted()).await;
        assert_eq!(headers["x-forwarded-host"], "internal:8080");
    }

    #[tokio::test]
    async fn even_a_trusted_peer_can_not_say_nonsense() {
        let claims = [
            ("host", "a.example"),
            ("x-forwarded-proto", "javascript"),
            ("x-forwarded-host", "a.example\", evil"),
            ("x-forwarded-port", "99999"),
            ("x-request-id", "two words"),
        ];
        let headers = rebuilt("10.0.0.1:1", Scheme::HTTP, &claims, target_trusted()).await;
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a.example");
        assert_eq!(headers["x-forwarded-port"], "80");
        assert_ne!(headers["x-request-id"], "two words");
    }

    #[tokio::test]
    async fn host_is_read_by_the_scheme_that_a_trusted_peer_names() {
        for (peer, host, expected) in [
            ("10.0.0.1:1", "a.example:443", "a.example"),
            ("10.0.0.1:1", "a.example:80", "a.example:80"),
            ("192.0.2.1:1", "a.example:443", "a.example:443"),
        ] {
            let claims = [("host", host), ("x-forwarded-proto", "https")];
            let headers = rebuilt(peer, Scheme::HTTP, &claims, Settings::default()).await;
            assert_eq!(
                (&headers["host"], &headers["x-forwarded-host"]),
                (&expected.parse().unwrap(), &expected.parse().unwrap())
            );
        }
    }

    #[tokio::test]
    async fn scheme_and_host_of_forwarded_are_believed_like_those_of_other_fields() {
        for (fields, host) in [(&[][..], "internal:8080"), (&[X_FORWARDED_HOST], "pub.example")] {
            let layer = ClientIpLayer::new("10.0.0.0/8".parse().unwrap()).source("forwarded".parse().unwrap());
            let settings = Settings { trusted_fields: fields.to_vec(), ..Settings::default() };
            let inner = service_fn(async |mut request: Request<()>| {
                rebuild(&mut request, &settings, Seen::default()).unwrap();
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

    #[tokio::test]
    async fn forwarded_is_sent_on_request() {
        let settings = Settings { forwarded: Some(Forwarded::default()), ..Settings::default() };
        let claims = [("host", "a.example:81"), ("x-forwarded-for", "2001:db8::7")];
        let headers = rebuilt("[fd00::1]:1", Scheme::HTTP, &claims, settings).await;
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::7]\", for=\"[fd00::1]\";host=\"a.example:81\";proto=http");
    }

    #[tokio::test]
    async fn of_a_trusted_chain_the_nearest_hop_counts() {
        let claims = [
            ("host", "internal"),
            ("x-forwarded-proto", "http, https"),
            ("x-forwarded-host", "forged.example, a.example"),
            ("x-forwarded-prefix", "/app"),
            ("x_forwarded_prefix", "/evil"),
            ("x-request-id", "first"),
            ("x-request-id", "last"),
        ];
        let mut settings = target_trusted();
        settings.trusted_fields.push(HeaderName::from_static("x-forwarded-prefix"));
        let headers = rebuilt("10.0.0.1:1", Scheme::HTTP, &claims, settings).await;
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
    fn a_believed_target_is_an_extension() {
        let headers = |request: http::request::Builder| {
            request.header(HOST, "internal").header(X_FORWARDED_HOST, "a.example").header(X_FORWARDED_PROTO, "https")
        };
        for (is_trusted, settings, authority, scheme) in [
            (true, target_trusted(), Some("a.example"), Some(Scheme::HTTPS)),
            (true, Settings::default(), None, Some(Scheme::HTTPS)),
            (false, target_trusted(), None, None),
        ] {
            let mut request = headers(Request::get("/")).body(()).unwrap();
            if is_trusted {
                request.extensions_mut().insert(TrustedPeer::default());
            }
            rebuild(&mut request, &settings, Seen::default()).unwrap();
            assert_eq!(request.extensions().get::<Authority>().map(Authority::as_str), authority);
            assert_eq!(request.extensions().get::<Scheme>(), scheme.as_ref());
        }
    }

    #[tokio::test]
    async fn a_client_that_is_hidden_is_told_to_nobody() {
        let forwarded = Some(Forwarded { hides: true, ..Forwarded::default() });
        let settings = Settings { hides_client: true, forwarded, ..Settings::default() };
        let claims = [("host", "a.example"), ("x-forwarded-for", "192.0.2.7"), ("x-real-ip", "6.6.6.6")];
        let headers = rebuilt("10.0.0.1:1", Scheme::HTTP, &claims, settings).await;
        assert_eq!(headers["forwarded"], "for=_hidden, for=_hidden;host=a.example;proto=http");
        assert!(!headers.contains_key("x-forwarded-for") && !headers.contains_key("x-real-ip"));
    }
}
