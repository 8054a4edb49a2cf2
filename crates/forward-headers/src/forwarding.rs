//! Who asked and how: the claims that go, and the facts that are put in their place.

use http::Request;
use http::header::{FORWARDED, HOST, HeaderValue};
use http::uri::{Authority, Scheme};
use rproxy_client_ip::{ClientIp, PeerAddr, TrustedPeer};

use crate::addresses::{address, chain, port};
use crate::claims::{self, Claims};
use crate::cookies;
use crate::hop_by_hop::Seen;
use crate::layer::Settings;
use crate::names::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REAL_IP, X_REQUEST_ID};
use crate::request_id::RequestId;
use crate::via::Loop;

/// Rebuilds the forwarding headers of `request`, and names it.
pub(crate) fn rebuild<B>(request: &mut Request<B>, settings: &Settings, seen: Seen) -> Result<RequestId, Loop> {
    let extensions = request.extensions();
    let trusted = extensions.get::<TrustedPeer>().cloned();
    let peer = extensions.get::<PeerAddr>().map(|peer| peer.0.ip().to_canonical());
    let client = extensions.get::<ClientIp>().map(|client| client.0).or(peer);
    let is_https = extensions.get::<Scheme>().or(request.uri().scheme()) == Some(&Scheme::HTTPS);

    let received = request.version();

    let headers = request.headers_mut();
    // Growing once is cheaper than twice. A map that can't take more says so at the insertion.
    let _ = headers.try_reserve(ADDED);
    let claims = trusted.as_ref().map(|_| Claims::of(headers)).unwrap_or_default();
    claims::remove(headers, trusted.is_some());
    cookies::join(headers);

    let hops = trusted.as_ref().map_or(&[][..], TrustedPeer::hops);
    if let Some(peer) = peer.filter(|_| !settings.hides_client) {
        let peer_value = address(peer);
        let chain = if hops.is_empty() { peer_value.clone() } else { chain(hops, peer) };
        headers.insert(X_FORWARDED_FOR, chain);
        let client = client.filter(|client| *client != peer).map_or(peer_value, address);
        headers.insert(X_REAL_IP, client);
    }
    // Where a trusted peer says that the client asked elsewhere, a cache has to know.
    let origin = claims.host.as_ref().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let scheme = claims.proto.as_ref().map(|proto| if proto == "https" { Scheme::HTTPS } else { Scheme::HTTP });
    let proto = claims.proto.unwrap_or(HeaderValue::from_static(if is_https { "https" } else { "http" }));
    let host = claims.host.or_else(|| headers.get(HOST).cloned());
    let port = claims.port.unwrap_or_else(|| port(host.as_ref(), &proto));
    if let Some(forwarded) = &settings.forwarded {
        let forwarded = forwarded.header_value(hops, peer, host.as_ref(), &proto);
        headers.extend(forwarded.map(|forwarded| (FORWARDED, forwarded)));
    }
    headers.insert(X_FORWARDED_PROTO, proto);
    headers.insert(X_FORWARDED_PORT, port);
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if let Some(via) = &settings.via {
        via.pass(headers, received)?;
    }
    let id = claims.request_id.unwrap_or_else(RequestId::new);
    headers.insert(X_REQUEST_ID, id.header_value().clone());
    settings.trace_context.apply(headers, seen.trace_context, trusted.is_some(), &id);
    if let Some(origin) = origin {
        request.extensions_mut().insert(origin);
    }
    if let Some(scheme) = scheme {
        request.extensions_mut().insert(scheme);
    }
    Ok(id)
}

/// How many fields are added at most.
const ADDED: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarded::Forwarded;
    use http::header::{HeaderMap, HeaderName};
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

    #[tokio::test]
    async fn a_trusted_peer_is_believed_and_its_chain_continued() {
        let claims = [
            ("host", "internal"),
            ("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.0.0.2"),
            ("x-forwarded-proto", "HTTPS"),
            ("x-forwarded-host", "a.example"),
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
        let headers = rebuilt("10.0.0.1:1", Scheme::HTTP, &claims, Settings::default()).await;
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a.example");
        assert_eq!(headers["x-forwarded-port"], "80");
        assert_ne!(headers["x-request-id"], "two words");
    }

    #[tokio::test]
    async fn forwarded_is_sent_on_request() {
        let settings = Settings { forwarded: Some(Forwarded::default()), ..Settings::default() };
        let claims = [("host", "a.example:81"), ("x-forwarded-for", "2001:db8::7")];
        let headers = rebuilt("[fd00::1]:1", Scheme::HTTP, &claims, settings).await;
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::7]\", for=\"[fd00::1]\";host=\"a.example:81\";proto=http");
    }

    #[tokio::test]
    async fn of_a_trusted_chain_the_nearest_hop_counts_and_other_claims_stay() {
        let claims = [
            ("host", "internal"),
            ("x-forwarded-proto", "http, https"),
            ("x-forwarded-host", "forged.example, a.example"),
            ("x-forwarded-prefix", "/app"),
            ("x_forwarded_prefix", "/evil"),
            ("x-request-id", "first"),
            ("x-request-id", "last"),
        ];
        let headers = rebuilt("10.0.0.1:1", Scheme::HTTP, &claims, Settings::default()).await;
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
    fn where_the_client_asked_by_a_trusted_word_is_an_extension() {
        let headers = |request: http::request::Builder| {
            request.header(HOST, "internal").header(X_FORWARDED_HOST, "a.example").header(X_FORWARDED_PROTO, "https")
        };
        let mut request = headers(Request::get("/")).extension(TrustedPeer::default()).body(()).unwrap();
        rebuild(&mut request, &Settings::default(), Seen::default()).unwrap();
        assert_eq!(request.extensions().get::<Authority>().unwrap(), "a.example");
        assert_eq!(request.extensions().get::<Scheme>(), Some(&Scheme::HTTPS));
        let mut request = headers(Request::get("/")).body(()).unwrap();
        rebuild(&mut request, &Settings::default(), Seen::default()).unwrap();
        assert!(request.extensions().get::<Authority>().is_none() && request.extensions().get::<Scheme>().is_none());
    }

    #[tokio::test]
    async fn fields_of_other_proxies_are_believed_of_a_trusted_peer_only() {
        let claims = [("cf-connecting-ip", "6.6.6.6"), ("x_original_url", "/.env"), ("accept", "*/*")];
        let headers = rebuilt("192.0.2.1:1", Scheme::HTTPS, &claims, Settings::default()).await;
        assert!(headers.contains_key("accept"));
        assert!(!headers.contains_key("cf-connecting-ip") && !headers.contains_key("x_original_url"));
        let headers = rebuilt("10.0.0.1:1", Scheme::HTTPS, &claims, Settings::default()).await;
        assert!(headers.contains_key("cf-connecting-ip") && !headers.contains_key("x_original_url"));
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
