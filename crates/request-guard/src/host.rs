//! The normal form of `Host`, so that all layers and backends see the same host.

use http::uri::Scheme;
use http::{HeaderValue, Request, header};

/// Rewrites `Host` to its normal form.
pub(crate) fn normalize_host<B>(request: &mut Request<B>) {
    if request.headers().contains_key(header::HOST)
        && let Some(host) = normalized_host(request)
    {
        request.headers_mut().insert(header::HOST, host);
    }
}

/// Returns the normal form of the request's host, or `None` if the host needs no change or is invalid.
///
/// The host is taken from `Host`, else from the authority of the target. The normal form is in lower case, without a
/// final dot, and without the default port of the scheme. [`RequestGuardLayer`](crate::RequestGuardLayer) rewrites `Host`
/// to it. This function is for layers outside of the guard, such as an access log.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use rproxy_request_guard::normalized_host;
///
/// # fn main() -> Result<(), http::Error> {
/// let request = Request::get("/").header("host", "Example.org.:80").body(())?;
/// assert_eq!(normalized_host(&request).unwrap(), "example.org");
/// # Ok(())
/// # }
/// ```
pub fn normalized_host<B>(request: &Request<B>) -> Option<HeaderValue> {
    let scheme = request.extensions().get::<Scheme>().or(request.uri().scheme());
    let host = match (request.headers().get(header::HOST), request.uri().authority()) {
        (Some(host), _) => host.as_bytes(),
        // RFC 9113 §8.3.1
        (None, authority) => authority?.as_str().as_bytes(),
    };
    normalized(host, scheme == Some(&Scheme::HTTPS))
}

fn normalized(host: &[u8], is_https: bool) -> Option<HeaderValue> {
    let default = if is_https { 443 } else { 80 };
    if is_normal(host, default) {
        return None;
    }
    let bracket = host.iter().position(|&byte| byte == b']').unwrap_or(0);
    let colon = host[bracket..].iter().position(|&byte| byte == b':').map_or(host.len(), |at| bracket + at);
    let (name, port) = host.split_at(colon);
    let port = match port {
        [] => None,
        [_, digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            Some(str::from_utf8(digits).ok()?.parse::<u16>().ok()?)
        }
        // Not a valid host.
        _ => return None,
    };
    // Names with and without the final dot are equal (RFC 1034 §3.1), and backends expect the one without.
    let relative = name.strip_suffix(b".").filter(|name| !name.is_empty() && !name.ends_with(b"."));
    let mut normal = relative.unwrap_or(name).to_ascii_lowercase();
    if let Some(port) = port.filter(|port| *port != default) {
        normal.push(b':');
        normal.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
    (normal != host).then(|| HeaderValue::from_bytes(&normal).ok()).flatten()
}

/// Returns whether a scan finds `host` in normal form, which is the fast path for most hosts.
fn is_normal(host: &[u8], default: u16) -> bool {
    let (mut has_upper, mut colon) = (false, None);
    for (at, byte) in host.iter().enumerate() {
        has_upper |= byte.is_ascii_uppercase();
        colon = if *byte == b':' { Some(at) } else { colon };
    }
    let (name, port) = host.split_at(colon.unwrap_or(host.len()));
    let is_normal_port = match port {
        [] => true,
        [_, digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            let number = digits.iter().fold(0, |number, digit| 10 * number + u32::from(digit - b'0'));
            digits.first().is_some_and(|digit| *digit != b'0') && number <= 65_535 && number != u32::from(default)
        }
        _ => false,
    };
    !has_upper && is_normal_port && name.last() != Some(&b'.') && !name.starts_with(b"[")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes_case_default_port_and_trailing_dot_of_host() {
        for (host, scheme, normal) in [
            ("a.example", Scheme::HTTP, "a.example"),
            ("A.Example", Scheme::HTTP, "a.example"),
            ("a.example:80", Scheme::HTTP, "a.example"),
            ("a.example:080", Scheme::HTTP, "a.example"),
            ("a.example:443", Scheme::HTTP, "a.example:443"),
            ("a.example:443", Scheme::HTTPS, "a.example"),
            ("a.example:80", Scheme::HTTPS, "a.example:80"),
            ("a.example:08080", Scheme::HTTP, "a.example:8080"),
            ("a.example.", Scheme::HTTP, "a.example"),
            ("A.example.:80", Scheme::HTTP, "a.example"),
            ("a.example.:8080", Scheme::HTTP, "a.example:8080"),
            ("[2001:DB8::1]", Scheme::HTTP, "[2001:db8::1]"),
            ("[::1]:80", Scheme::HTTP, "[::1]"),
            ("[::1]:8080", Scheme::HTTP, "[::1]:8080"),
            ("192.0.2.1:80", Scheme::HTTP, "192.0.2.1"),
            // Not valid hosts.
            (".", Scheme::HTTP, "."),
            ("a..", Scheme::HTTP, "a.."),
            ("a:99999", Scheme::HTTP, "a:99999"),
            ("a:b", Scheme::HTTP, "a:b"),
        ] {
            let mut request = Request::get("/").extension(scheme.clone()).header(header::HOST, host).body(()).unwrap();
            normalize_host(&mut request);
            assert_eq!(request.headers()[header::HOST], normal, "{host} {scheme}");
            assert_eq!(normalized_host(&request), None, "{normal} is not the normal form");
            let target = Request::get("https://A.example:443/").body(()).unwrap();
            assert_eq!(normalized_host(&target).unwrap(), "a.example");
        }
    }
}
