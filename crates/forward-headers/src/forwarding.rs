//! Who asked and how: the claims that go, and the facts that are put in their place.

use std::fmt::Write;
use std::net::IpAddr;

use http::Request;
use http::header::{COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use http::uri::{Authority, Scheme};
use rproxy_client_ip::{ClientIp, PeerAddr, TrustedPeer};

use crate::foreign::{begins, is, is_foreign};
use crate::layer::{Settings, Via};
use crate::request_id::RequestId;

/// A request that comes back again and again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loop;

/// Rebuilds the forwarding headers of `request`, and names it.
pub(crate) fn rebuild<B>(request: &mut Request<B>, settings: &Settings) -> Result<RequestId, Loop> {
    let extensions = request.extensions();
    let trusted = extensions.get::<TrustedPeer>().cloned();
    let peer = extensions.get::<PeerAddr>().map(|peer| peer.0.ip().to_canonical());
    let client = extensions.get::<ClientIp>().map(|client| client.0).or(peer);
    let is_https = extensions.get::<Scheme>().or(request.uri().scheme()) == Some(&Scheme::HTTPS);

    let received = request.version();

    let headers = request.headers_mut();
    // Growing once is cheaper than twice. A map that can't take more says so at the insertion.
    let _ = headers.try_reserve(ADDED);
    let claims = trusted.as_ref().map(|_| Claims::take(headers)).unwrap_or_default();
    drop_claims(headers, trusted.is_some());
    join_cookies(headers);

    let hops = trusted.as_ref().map_or(&[][..], TrustedPeer::hops);
    if let Some(peer) = peer {
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
    if settings.forwarded {
        let forwarded = forwarded(hops, peer, host.as_ref(), &proto);
        headers.extend(forwarded.map(|forwarded| (FORWARDED, forwarded)));
    }
    headers.insert(X_FORWARDED_PROTO, proto);
    headers.insert(X_FORWARDED_PORT, port);
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if let Some(via) = &settings.via {
        // A line of its own is an entry of the same list (RFC 9110 §5.3).
        let has_been_forwarded = headers.append(VIA, via.entry(received));
        if has_been_forwarded && is_loop(headers, via) {
            return Err(Loop);
        }
    }
    let id = claims.request_id.unwrap_or_else(RequestId::new);
    headers.insert(X_REQUEST_ID, id.header_value().clone());
    if let Some(origin) = origin {
        request.extensions_mut().insert(origin);
    }
    if let Some(scheme) = scheme {
        request.extensions_mut().insert(scheme);
    }
    Ok(id)
}

/// Whether this proxy's pseudonym is in `Via` more often than proxies of one name stand behind each other. One time
/// alone shows no loop: two of them may well call themselves the same.
fn is_loop(headers: &HeaderMap, via: &Via) -> bool {
    let entries = headers.get_all(VIA).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    // RFC 9110 §7.6.3: received-protocol, received-by, perhaps a comment.
    let received_by = |entry: &[u8]| {
        let by = entry.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1);
        by.is_some_and(|by| by.eq_ignore_ascii_case(via.pseudonym().as_bytes()))
    };
    entries.filter(|entry| received_by(entry)).count() > MOST_PASSES
}

/// How often a request may come by.
const MOST_PASSES: usize = 8;

/// What a trusted peer says of the client's side, where it is fit to be passed on.
#[derive(Default)]
struct Claims {
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    port: Option<HeaderValue>,
    request_id: Option<RequestId>,
}

impl Claims {
    fn take(headers: &HeaderMap) -> Self {
        // The last member of the list is that of the nearest hop, the one we trust.
        let last = |name| {
            let line = headers.get_all(name).iter().next_back()?;
            match line.as_bytes().rsplit(|&byte| byte == b',').next() {
                Some(member) if member.len() < line.len() => HeaderValue::from_bytes(member.trim_ascii()).ok(),
                _ => Some(line.clone()),
            }
        };
        let proto = last(X_FORWARDED_PROTO).and_then(|proto| match proto.as_bytes().to_ascii_lowercase().as_slice() {
            b"https" | b"wss" => Some(HeaderValue::from_static("https")),
            b"http" | b"ws" => Some(HeaderValue::from_static("http")),
            _ => None,
        });
        // A list with nonsense in it was not made by a proxy.
        let is_list = |line: &HeaderValue| {
            line.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[], \t".contains(byte))
        };
        let host = last(X_FORWARDED_HOST)
            .filter(|host| !host.is_empty() && host.len() <= 261 && !host.as_bytes().contains(&b' '))
            .filter(|_| headers.get_all(X_FORWARDED_HOST).iter().all(is_list));
        let port = last(X_FORWARDED_PORT).filter(|port| port.to_str().is_ok_and(|port| port.parse::<u16>().is_ok()));
        let request_id = last(X_REQUEST_ID).as_ref().and_then(RequestId::from_trusted);
        Self { proto, host, port, request_id }
    }
}

/// Removes every claim, also where something else stands for a hyphen: CGI, WSGI and many more turn both into the same
/// variable. Of a trusted peer, what is not rebuilt here stays, if it is spelled as it should be.
fn drop_claims(headers: &mut HeaderMap, is_trusted: bool) {
    let goes = |name: &str| {
        is_claim(name) && !(is_trusted && is_kept(name))
            || is_foreign(name)
                && !(is_trusted && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
    };
    while let Some(claim) = headers.keys().find(|name| goes(name.as_str())) {
        let claim = claim.clone();
        headers.remove(claim);
    }
}

/// A claim that nothing is put in the place of, such as `X-Forwarded-Prefix`.
fn is_kept(name: &str) -> bool {
    let rebuilt = [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT];
    let is_certificate = name == "client-cert" || name == "client-cert-chain";
    is_certificate || name.starts_with("x-forwarded-") && !rebuilt.iter().any(|rebuilt| is(name, rebuilt.as_str()))
}

/// RFC 9113 §8.2.3: HTTP/2 may send each cookie on a line of its own; elsewhere there is one.
fn join_cookies(headers: &mut HeaderMap) {
    // As many values as names: no name is there twice, nor is a search needed to tell.
    if headers.len() == headers.keys_len() || headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Made of values, it is one.
    if let Ok(cookie) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

fn is_claim(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'x') => {
            begins(name, "x-forwarded-")
                || ["x-forwarded", "x-real-ip", "x-request-id"].iter().any(|claim| is(name, claim))
        }
        // RFC 9440 §2.4
        Some(b'c') => is(name, "client-cert") || is(name, "client-cert-chain"),
        Some(b'f') => is(name, "forwarded"),
        // httpoxy, CVE-2016-5385
        Some(b'p') => name == "proxy",
        // Answered by the server, or not at all (RFC 9110 §10.1.1).
        Some(b'e') => name == "expect",
        _ => false,
    }
}

/// `192.0.2.1, 10.0.0.2`
fn chain(hops: &[IpAddr], peer: IpAddr) -> HeaderValue {
    let mut chain = String::with_capacity(16 * (hops.len() + 1));
    for hop in hops {
        // Writing to a string can't fail.
        let _ = write!(chain, "{hop}, ");
    }
    let _ = write!(chain, "{peer}");
    HeaderValue::try_from(chain).unwrap_or(UNKNOWN)
}

fn address(address: IpAddr) -> HeaderValue {
    let mut text = String::with_capacity(LONGEST_ADDRESS);
    match address {
        // On the path of most requests, and formatted ten times faster without the formatter.
        IpAddr::V4(v4) => {
            let mut digits = itoa::Buffer::new();
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push('.');
                }
                text.push_str(digits.format(octet));
            }
        }
        IpAddr::V6(v6) => {
            // Writing to a string can't fail.
            let _ = write!(text, "{v6}");
        }
    }
    HeaderValue::try_from(text).unwrap_or(UNKNOWN)
}

/// The port that the client named, or the scheme's own.
fn port(host: Option<&HeaderValue>, proto: &HeaderValue) -> HeaderValue {
    let host = host.map(HeaderValue::as_bytes).unwrap_or_default();
    let named = host.iter().rposition(|&byte| byte == b':').map(|colon| &host[colon + 1..]);
    match named {
        Some(digits) if !digits.is_empty() && digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            HeaderValue::from_bytes(digits).unwrap_or(UNKNOWN)
        }
        _ if proto == "https" => HeaderValue::from_static("443"),
        _ => HeaderValue::from_static("80"),
    }
}

/// RFC 7239 §4: one element per hop; what we know ourselves stands in the last.
fn forwarded(
    hops: &[IpAddr],
    peer: Option<IpAddr>,
    host: Option<&HeaderValue>,
    proto: &HeaderValue,
) -> Option<HeaderValue> {
    let mut text = String::new();
    let node = |text: &mut String, address: &IpAddr| match address {
        IpAddr::V4(v4) => write!(text, "for={v4}"),
        // RFC 7239 §6: in brackets, and so in quotes.
        IpAddr::V6(v6) => write!(text, "for=\"[{v6}]\""),
    };
    for hop in hops {
        let _ = node(&mut text, hop);
        text.push_str(", ");
    }
    let _ = node(&mut text, &peer?);
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        let is_token = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        let _ = if is_token { write!(text, ";host={host}") } else { write!(text, ";host=\"{}\"", escaped(host)) };
    }
    let _ = write!(text, ";proto={}", proto.to_str().unwrap_or("http"));
    HeaderValue::try_from(text).ok()
}

/// RFC 9110 §5.6.4: within quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");
const LONGEST_ADDRESS: usize = 39;
/// How many fields are added at most.
const ADDED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Via;
    use http::Version;
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
            rebuild(&mut request, &settings).unwrap();
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
        let settings = Settings { forwarded: true, ..Settings::default() };
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
        rebuild(&mut request, &Settings::default()).unwrap();
        assert_eq!(request.extensions().get::<Authority>().unwrap(), "a.example");
        assert_eq!(request.extensions().get::<Scheme>(), Some(&Scheme::HTTPS));
        let mut request = headers(Request::get("/")).body(()).unwrap();
        rebuild(&mut request, &Settings::default()).unwrap();
        assert!(request.extensions().get::<Authority>().is_none() && request.extensions().get::<Scheme>().is_none());
    }

    // RFC 9113 §8.2.3
    #[tokio::test]
    async fn cookies_arrive_on_one_line() {
        let claims = [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")];
        let headers = rebuilt("192.0.2.1:1", Scheme::HTTPS, &claims, Settings::default()).await;
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
    }

    #[tokio::test]
    async fn a_host_breaks_out_of_no_quotes() {
        let settings = Settings { forwarded: true, ..Settings::default() };
        let headers = rebuilt("192.0.2.1:1", Scheme::HTTP, &[("host", "a\", for=\"6.6.6.6")], settings).await;
        assert_eq!(headers["forwarded"], "for=192.0.2.1;host=\"a\\\", for=\\\"6.6.6.6\";proto=http");
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

    #[test]
    fn a_request_may_come_by_a_few_times_but_not_for_ever() {
        let settings = Settings { via: Via::new("edge"), ..Settings::default() };
        let mut request = Request::get("/").header(VIA, "1.1 other, HTTP/2.0 EDGE (comment)").body(()).unwrap();
        for _ in 0..7 {
            rebuild(&mut request, &settings).unwrap();
        }
        assert_eq!(rebuild(&mut request, &settings), Err(Loop));
        let others = "1.1 others, 1.1 edge.example, 1.1 edges, edge,".repeat(20);
        let mut request = Request::get("/").header(VIA, others).body(()).unwrap();
        rebuild(&mut request, &settings).unwrap();
    }

    // RFC 9110 §7.6.3
    #[test]
    fn via_is_continued_with_the_protocol_that_was_received() {
        let settings = Settings { via: Via::new("edge"), ..Settings::default() };
        for (version, entry) in
            [(Version::HTTP_10, "1.0 edge"), (Version::HTTP_11, "1.1 edge"), (Version::HTTP_2, "2.0 edge")]
        {
            let mut request = Request::get("/").version(version).header(VIA, "1.0 fred").body(()).unwrap();
            rebuild(&mut request, &settings).unwrap();
            assert_eq!(request.headers().get_all(VIA).iter().collect::<Vec<_>>(), ["1.0 fred", entry]);
        }
    }
}
