//! Detects the operator: a browser on this machine that connects without another proxy.

use std::net::IpAddr;

use http::header::VIA;
use http::{Request, Version};
use rproxy_client_ip::TrustedPeer;
use rproxy_forward_headers::has_forwarding_field;
use rproxy_router::request_host;
use rproxy_server::LoopbackClient;

/// Returns whether the client is the operator, who may see the configuration in error pages.
///
/// The connection must have arrived over loopback, on a listener with a loopback address. A proxy on this machine, such
/// as a tunnel, connects in the same way for its clients: most add forwarding fields, are trusted proxies, or send the
/// public host or HTTP/1.0. One that does none of this cannot be distinguished from a browser. A public host is also that of a page that attacks the proxies of its visitors (DNS rebinding).
pub(super) fn is_operator<B>(request: &Request<B>) -> bool {
    let extensions = request.extensions();
    extensions.get::<LoopbackClient>().is_some()
        && extensions.get::<TrustedPeer>().is_none()
        && request.version() >= Version::HTTP_11
        && !request.headers().contains_key(VIA)
        && !has_forwarding_field(request.headers())
        && is_private_host(&request_host(request))
}

/// Returns whether a host is a loopback address or a special-use name, which no public server has (RFC 6761, RFC 6762).
fn is_private_host(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = address.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let top = host.rsplit('.').next().unwrap_or_default();
    matches!(top, "localhost" | "test" | "example" | "invalid" | "local" | "internal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HOST;

    fn request(host: &str) -> Request<()> {
        let mut request = Request::get("/").header(HOST, host).body(()).unwrap();
        request.extensions_mut().insert(LoopbackClient);
        request
    }

    #[test]
    fn loopback_and_special_use_hosts_are_private() {
        for (host, expected) in [
            ("localhost:8080", true),
            ("127.0.0.1:8080", true),
            ("127.8.0.1", true),
            ("[::1]:8080", true),
            ("app.localhost", true),
            ("app.test", true),
            ("App.Local", true),
            ("192.0.2.1", false),
            ("[2001:db8::1]", false),
            ("example.com", false),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com", false),
            ("", false),
        ] {
            assert_eq!(is_operator(&request(host)), expected, "{host}");
        }
    }

    #[test]
    fn clients_behind_a_proxy_are_not_the_operator() {
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
            ("cf-connecting-ip", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("via", "1.1 proxy"),
        ] {
            let mut request = request("localhost");
            request.headers_mut().insert(name, value.parse().unwrap());
            assert!(!is_operator(&request), "{name}");
        }
        let mut old = request("localhost");
        *old.version_mut() = Version::HTTP_10;
        assert!(!is_operator(&old));
        let mut trusted = request("localhost");
        trusted.extensions_mut().insert(TrustedPeer::default());
        assert!(!is_operator(&trusted));
        let mut remote = request("localhost");
        remote.extensions_mut().remove::<LoopbackClient>();
        assert!(!is_operator(&remote));
    }
}
