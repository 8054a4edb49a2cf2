//! The decision: has this request one reading?

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri, Version};
use hyper::ext::Protocol;

use super::host::normalize_host;
use super::{RequestRefusal, Serves};
use crate::target::percent_encode;
use crate::{RefusedHead, TlsInfo};

/// Checks the head, and leaves it with a `Host` in its normal form and a target in origin-form (or `*`).
pub(super) fn check<B>(request: &mut Request<B>, serves: Option<&Serves>) -> Result<(), RequestRefusal> {
    if let Some(refused) = request.extensions().get::<RefusedHead>() {
        return Err(RequestRefusal::Head(*refused));
    }
    // RFC 8441 §4: extended CONNECT names a protocol and a path, and is a tunnel to our upstream.
    let extended = request.extensions().get::<Protocol>().is_some();
    if request.method() == Method::CONNECT && !extended {
        return Err(RequestRefusal::Connect);
    }
    host(request)?;
    normalize_host(request);
    target(request)?;
    if let (Some(serves), Some(tls)) = (serves, request.extensions().get::<TlsInfo>()) {
        let name = tls.server_name.as_deref();
        // HTTP/1.0 knew no Host, and what is not there contradicts nothing.
        if let Some(host) = request.headers().get(HOST) {
            let host = host.to_str().map_or("", without_port);
            if !serves(name, host) {
                return Err(RequestRefusal::Misdirected);
            }
        }
    }
    Ok(())
}

/// RFC 9112 §3.2, RFC 9113 §8.3.1: one host, said the same way everywhere.
fn host<B>(request: &mut Request<B>) -> Result<(), RequestRefusal> {
    let headers = request.headers();
    // As many values as names: no name is there twice, nor is a search needed to tell.
    if headers.len() != headers.keys_len() && headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(RequestRefusal::BadHost);
    }
    match (headers.get(HOST), request.uri().authority()) {
        (Some(host), None) if is_ordinary(host.as_bytes()) => {}
        (Some(host), None) => {
            authority(host).ok_or(RequestRefusal::BadHost)?;
        }
        (Some(host), Some(target)) => {
            let host = authority(host).ok_or(RequestRefusal::BadHost)?;
            if !is_plain(target) || !agree(&host, target, request.uri().scheme()) {
                return Err(RequestRefusal::HostMismatch);
            }
        }
        (None, Some(target)) if request.version() == Version::HTTP_2 => {
            if !is_ordinary(target.as_str().as_bytes()) && !is_plain(target) {
                return Err(RequestRefusal::BadHost);
            }
            let host = HeaderValue::from_str(target.as_str()).map_err(|_| RequestRefusal::BadHost)?;
            request.headers_mut().insert(HOST, host);
        }
        // HTTP/1.0 knew no Host.
        (None, None) if request.version() == Version::HTTP_10 => {}
        (None, _) => return Err(RequestRefusal::BadHost),
    }
    Ok(())
}

/// Whether it is a name or an IPv4 address, and perhaps a port: what nearly all are, and quickly told.
fn is_ordinary(host: &[u8]) -> bool {
    let colon = host.iter().position(|&byte| byte == b':').unwrap_or(host.len());
    let (name, port) = host.split_at(colon);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    (1..=255).contains(&name.len()) && all(name, is_name) && is_port(port)
}

/// Whether each is. To the end without a jump, for the compiler to look at many bytes at a time.
fn all(bytes: &[u8], is: impl Fn(&u8) -> bool) -> bool {
    bytes.iter().fold(true, |all, byte| all & is(byte))
}

/// Nothing, or a colon and a number up to 65,535 of at most five digits.
fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] if (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) => {
            digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')) <= u16::MAX.into()
        }
        _ => false,
    }
}

/// The authority of a `Host` field: a host and perhaps a port, no user, no list.
fn authority(host: &HeaderValue) -> Option<Authority> {
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    is_plain(&authority).then_some(authority)
}

fn is_plain(authority: &Authority) -> bool {
    let text = authority.as_str();
    let (host, port) = (authority.host(), &text[without_port(text).len()..]);
    !host.is_empty()
        && host.len() <= 255
        && !text.contains(['@', ',', '%', '\''])
        && (port.is_empty() || port[1..].parse::<u16>().is_ok() && !port.starts_with(":+"))
}

/// Whether both mean the same host and port.
fn agree(host: &Authority, target: &Authority, scheme: Option<&Scheme>) -> bool {
    let default = if scheme == Some(&Scheme::HTTPS) { 443 } else { 80 };
    host.host().eq_ignore_ascii_case(target.host())
        && host.port_u16().unwrap_or(default) == target.port_u16().unwrap_or(default)
}

/// `example.org` of `example.org:8080`, `[::1]` of `[::1]:80`.
fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// RFC 9112 §3.2: origin-form, absolute-form of http and https, or the asterisk of OPTIONS.
fn target<B>(request: &mut Request<B>) -> Result<(), RequestRefusal> {
    let uri = request.uri();
    let path = uri.path();
    let is_asterisk = path == "*" && request.method() == Method::OPTIONS;
    if !path.starts_with('/') && !is_asterisk {
        return Err(RequestRefusal::BadTarget);
    }
    // RFC 3986 §2: by HTTP/2 other bytes get as far as this, and readers of HTTP/1.1 disagree on them.
    let is_ascii = |target: &PathAndQuery| all(target.as_str().as_bytes(), u8::is_ascii_graphic);
    if !uri.path_and_query().is_none_or(is_ascii) {
        *request.uri_mut() = percent_encoded(uri).ok_or(RequestRefusal::BadTarget)?;
    }
    let uri = request.uri();
    match uri.scheme() {
        None if uri.authority().is_none() => return Ok(()),
        None => return Err(RequestRefusal::BadTarget), // authority-form is CONNECT's
        Some(scheme) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS => {}
        Some(_) => return Err(RequestRefusal::BadTarget),
    }
    let origin_form = origin_form(uri, request.version()).ok_or(RequestRefusal::BadTarget)?;
    *request.uri_mut() = Uri::from(origin_form);
    Ok(())
}

/// The same with a target in ASCII, as [`target`](crate::target) has it; `None` where there are controls in it.
fn percent_encoded(uri: &Uri) -> Option<Uri> {
    let encoded = percent_encode(uri.path_and_query()?.as_str().as_bytes());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(encoded).ok()?);
    Uri::from_parts(parts).ok()
}

/// RFC 9112 §3.2.1: an empty path is sent as `/`, also before a query, where URIs do without.
fn origin_form(uri: &Uri, version: Version) -> Option<PathAndQuery> {
    match uri.path_and_query() {
        // RFC 9113 §8.3.1: in HTTP/2 the client has to see to that.
        Some(target) if target.as_str().starts_with('?') && version >= Version::HTTP_2 => None,
        Some(target) if target.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{}", target.as_str())).ok()
        }
        Some(target) => Some(target.clone()),
        None => Some(PathAndQuery::from_static("/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, version: Version, hosts: &[&str]) -> Request<()> {
        let mut builder = Request::builder().method(method).uri(target).version(version);
        for host in hosts {
            builder = builder.header(HOST, *host);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn one_reading_passes_in_origin_form() {
        for (method, target, version, hosts, host, origin) in [
            ("GET", "/a?b", Version::HTTP_11, &["a.example"][..], Some("a.example"), "/a?b"),
            ("GET", "/", Version::HTTP_11, &["[::1]:8080"], Some("[::1]:8080"), "/"),
            ("GET", "/", Version::HTTP_11, &["my_host:80"], Some("my_host"), "/"),
            ("GET", "/", Version::HTTP_11, &["A.example.:080"], Some("a.example"), "/"),
            ("GET", "http://a.example/x", Version::HTTP_11, &["A.example:80"], Some("a.example"), "/x"),
            ("GET", "http://A.example:80/x", Version::HTTP_11, &["a.example"], Some("a.example"), "/x"),
            ("GET", "http://a.example", Version::HTTP_11, &["a.example"], Some("a.example"), "/"),
            ("GET", "http://a.example?/x", Version::HTTP_11, &["a.example"], Some("a.example"), "/?/x"),
            ("GET", "http://a.example?", Version::HTTP_11, &["a.example"], Some("a.example"), "/?"),
            ("OPTIONS", "*", Version::HTTP_11, &["a.example"], Some("a.example"), "*"),
            ("GET", "/", Version::HTTP_10, &[], None, "/"),
            ("GET", "https://a.example/x?y", Version::HTTP_2, &[], Some("a.example"), "/x?y"),
            ("GET", "https://a.example/", Version::HTTP_2, &["a.example"], Some("a.example"), "/"),
            ("GET", "https://A.example:443/", Version::HTTP_2, &[], Some("a.example"), "/"),
            ("GET", "https://a.example/", Version::HTTP_2, &["A.EXAMPLE:443"], Some("a.example"), "/"),
            ("GET", "https://a.example/\u{e4}?\u{e4}", Version::HTTP_2, &[], Some("a.example"), "/%C3%A4?%C3%A4"),
        ] {
            let mut request = request(method, target, version, hosts);
            assert_eq!(check(&mut request, None), Ok(()), "{target} {hosts:?}");
            assert_eq!(request.headers().get(HOST).map(|host| host.to_str().unwrap()), host);
            assert_eq!(request.uri().to_string(), origin);
        }
    }

    #[test]
    fn more_than_one_reading_is_refused() {
        use RequestRefusal::{BadHost, BadTarget, Connect, HostMismatch};
        for (method, target, version, hosts, refusal) in [
            ("GET", "/", Version::HTTP_11, &[][..], BadHost),
            ("GET", "/", Version::HTTP_11, &["a", "a"], BadHost),
            ("GET", "/", Version::HTTP_11, &["a, b"], BadHost),
            ("GET", "/", Version::HTTP_11, &[""], BadHost),
            ("GET", "/", Version::HTTP_11, &["a@b"], BadHost),
            ("GET", "/", Version::HTTP_11, &["a/b"], BadHost),
            ("GET", "/", Version::HTTP_11, &["a b"], BadHost),
            ("GET", "/", Version::HTTP_11, &["a:65536"], BadHost),
            ("GET", "/", Version::HTTP_11, &["a:99999"], BadHost),
            ("GET", "/", Version::HTTP_11, &["a:x"], BadHost),
            ("GET", "/", Version::HTTP_11, &["a:"], BadHost),
            ("GET", "/", Version::HTTP_11, &[":80"], BadHost),
            ("GET", "http://a.example/", Version::HTTP_11, &[], BadHost),
            ("GET", "http://a.example/", Version::HTTP_11, &["b.example"], HostMismatch),
            ("GET", "http://a.example:81/", Version::HTTP_11, &["a.example"], HostMismatch),
            ("GET", "http://u@a.example/", Version::HTTP_11, &["a.example"], HostMismatch),
            ("GET", "https://a.example/", Version::HTTP_2, &["b.example"], HostMismatch),
            ("GET", "ftp://a.example/", Version::HTTP_11, &["a.example"], BadTarget),
            ("GET", "*", Version::HTTP_11, &["a"], BadTarget),
            ("CONNECT", "a.example:443", Version::HTTP_11, &["a.example:443"], Connect),
        ] {
            let mut request = request(method, target, version, hosts);
            assert_eq!(check(&mut request, None), Err(refusal), "{method} {target} {hosts:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_ordinary_host_is_an_authority(host in "[a-zA-Z0-9.:_@-]{0,20}|[a.-]{0,2}:[0-9]{0,6}") {
            let value = HeaderValue::try_from(&host).unwrap();
            proptest::prop_assert!(!is_ordinary(host.as_bytes()) || authority(&value).is_some(), "{}", host);
        }
    }

    #[test]
    fn a_host_that_the_certificate_does_not_cover_is_misdirected() {
        let serves = |_: Option<&str>, host: &str| host == "b.example";
        for (name, host, expected) in [
            (Some("a.example"), Some("b.example:443"), Ok(())),
            (Some("a.example"), Some("c.example"), Err(RequestRefusal::Misdirected)),
            (Some("c.example"), Some("c.example"), Err(RequestRefusal::Misdirected)),
            (None, Some("b.example"), Ok(())),
            (None, Some("c.example"), Err(RequestRefusal::Misdirected)),
            // HTTP/1.0 needs no Host.
            (Some("a.example"), None, Ok(())),
            (None, None, Ok(())),
        ] {
            let version = if host.is_some() { Version::HTTP_11 } else { Version::HTTP_10 };
            let mut request = request("GET", "/", version, host.as_slice());
            request.extensions_mut().insert(TlsInfo { server_name: name.map(Into::into), client_certificate: None });
            assert_eq!(check(&mut request, Some(&serves)), expected, "{name:?} {host:?}");
        }
    }
}
