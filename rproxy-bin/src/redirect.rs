//! Redirects of the plain HTTP listener to HTTPS, and redirects of sites.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use rproxy_core::host::{self, HostAndPort};
use rproxy_core::{ProxyErrorType, Rejection};
use rproxy_router::{RouteTable, request_host};
use tower_service::Service;

use crate::observe::Notices;

/// The ports that determine the port in a redirect to HTTPS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RedirectPorts {
    /// The public HTTPS port, if it is configured.
    pub(crate) public_https: Option<NonZeroU16>,
    /// The port of the plain HTTP listener.
    pub(crate) plain: u16,
    /// The port of the main HTTPS listener.
    pub(crate) https: u16,
}

impl RedirectPorts {
    /// Returns the HTTPS port for a client that connected to the plain HTTP listener by the port `requested`.
    ///
    /// If the port is another one than that of the plain listener, a router or a container maps public ports to those of
    /// the listeners. The public port of HTTPS is then unknown, and most likely the default.
    fn https_port(self, requested: u16) -> u16 {
        match self.public_https {
            Some(port) => port.get(),
            None if requested == self.plain => self.https,
            None => 443,
        }
    }
}

/// Redirects requests to the same host and path on HTTPS.
///
/// Responds with 404 if no site has the host, and with 400 if there is no valid host.
#[derive(Clone, Debug)]
pub(crate) struct HttpsRedirect {
    ports: RedirectPorts,
    table: Arc<RouteTable>,
    notices: Notices,
}

impl HttpsRedirect {
    /// Creates a service that redirects requests for the hosts in `table` to HTTPS.
    pub(crate) fn new(ports: RedirectPorts, table: Arc<RouteTable>, notices: Notices) -> Self {
        Self { ports, table, notices }
    }

    fn respond<B>(&self, request: &Request<B>) -> Response<&'static str> {
        let host = request_host(request);
        match redirect(request, self.ports) {
            None => respond(Rejection::new("https_redirect", "bad_host", StatusCode::BAD_REQUEST)),
            Some(_) if self.table.site(&host).is_none() => {
                let rejection = unknown_host(StatusCode::NOT_FOUND);
                self.notices.unserved_host(&host, &rejection);
                respond(rejection)
            }
            Some(response) => response,
        }
    }
}

impl<B> Service<Request<B>> for HttpsRedirect {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.respond(&request).map(Full::from)))
    }
}

fn redirect<B>(request: &Request<B>, ports: RedirectPorts) -> Option<Response<&'static str>> {
    let HostAndPort { host, port, .. } = host::parse(request.headers().get(HOST)?.as_bytes())?;
    // `OPTIONS *` applies to the server and has no path.
    let target = request.uri().path_and_query().map(|target| target.as_str());
    let target = target.filter(|target| target.starts_with('/')).unwrap_or("/");
    let location = match ports.https_port(port.unwrap_or(80)) {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    };
    Some(permanent(request.method(), HeaderValue::try_from(location).ok()?))
}

/// Returns a permanent redirect to `location`.
pub(crate) fn permanent(method: &Method, location: HeaderValue) -> Response<&'static str> {
    // RFC 9110 §15.4.9: 308 keeps the method. GET and HEAD get 301, which all clients and caches know.
    let mut response = match *method {
        Method::GET | Method::HEAD => text(StatusCode::MOVED_PERMANENTLY, "Moved Permanently\n"),
        _ => text(StatusCode::PERMANENT_REDIRECT, "Permanent Redirect\n"),
    };
    response.headers_mut().insert(LOCATION, location);
    if *method == Method::HEAD {
        // hyper would send the content over HTTP/2.
        let length = std::mem::take(response.body_mut()).len();
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// Returns the rejection of a request for a host that no site has.
pub(crate) fn unknown_host(status: StatusCode) -> Rejection {
    Rejection::new("router", "unknown_host", status).with_error_type(ProxyErrorType::HttpRequestError)
}

/// Returns the rejection of a request whose path can take two routes.
pub(crate) fn ambiguous_path() -> Rejection {
    Rejection::new("router", "ambiguous_path", StatusCode::BAD_REQUEST)
}

/// Returns the response to a rejected request.
pub(crate) fn respond(rejection: Rejection) -> Response<&'static str> {
    let text = match rejection.status() {
        StatusCode::BAD_REQUEST => "Bad Request\n",
        StatusCode::MISDIRECTED_REQUEST => "Misdirected Request\n",
        _ => "Not Found\n",
    };
    rejection.into_response(text)
}

/// Returns a response with a plain-text body.
fn text(status: StatusCode, body: &'static str) -> Response<&'static str> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns redirect ports without a configured public HTTPS port.
    fn ports(plain: u16, https: u16) -> RedirectPorts {
        RedirectPorts { public_https: None, plain, https }
    }

    #[test]
    fn redirects_to_the_same_path_on_https() {
        for (method, host, target, ports, status, location) in [
            ("GET", "a.example", "/x?y=1", ports(80, 443), 301, "https://a.example/x?y=1"),
            ("HEAD", "a.example:80", "/", ports(80, 443), 301, "https://a.example/"),
            ("POST", "a.example:8080", "/form", ports(8080, 8443), 308, "https://a.example:8443/form"),
            ("OPTIONS", "a.example", "*", ports(80, 443), 308, "https://a.example/"),
            ("GET", "[::1]:80", "//evil.example/", ports(80, 443), 301, "https://[::1]//evil.example/"),
        ] {
            let request = Request::builder().method(method).uri(target).header(HOST, host).body(()).unwrap();
            let response = redirect(&request, ports).unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[LOCATION], location);
        }
    }

    #[test]
    fn redirects_to_the_listener_port_only_if_ports_are_not_mapped() {
        let public = RedirectPorts { public_https: NonZeroU16::new(9443), ..ports(8080, 8443) };
        let default = RedirectPorts { public_https: NonZeroU16::new(443), ..ports(8080, 8443) };
        for (host, ports, location) in [
            // Published as 80 and 443.
            ("a.example", ports(8080, 8443), "https://a.example/"),
            ("a.example:80", ports(8080, 8443), "https://a.example/"),
            ("[::1]", ports(8080, 8443), "https://[::1]/"),
            // Published as other ports.
            ("a.example:9080", ports(8080, 8443), "https://a.example/"),
            // Reached without a mapping.
            ("a.example:8080", ports(8080, 8443), "https://a.example:8443/"),
            ("[::1]:8080", ports(8080, 8443), "https://[::1]:8443/"),
            ("a.example", ports(80, 8443), "https://a.example:8443/"),
            ("a.example:8080", ports(8080, 443), "https://a.example/"),
            // A configured port always applies.
            ("a.example", public, "https://a.example:9443/"),
            ("a.example:8080", public, "https://a.example:9443/"),
            ("a.example:8080", default, "https://a.example/"),
        ] {
            let request = Request::get("/").header(HOST, host).body(()).unwrap();
            assert_eq!(redirect(&request, ports).unwrap().headers()[LOCATION], location, "{host} {ports:?}");
        }
    }

    #[test]
    fn redirect_for_head_has_content_length_of_get_and_no_content() {
        let location = || HeaderValue::from_static("https://a.example/");
        let (get, head) = (permanent(&Method::GET, location()), permanent(&Method::HEAD, location()));
        assert_eq!(head.headers()[CONTENT_LENGTH], get.body().len().to_string());
        assert!(head.body().is_empty());
    }

    #[test]
    fn does_not_redirect_requests_without_a_valid_host() {
        assert!(redirect(&Request::get("/").body(()).unwrap(), ports(80, 443)).is_none());
        for host in ["[]", "[::1]a", "[a.example]", "u@a.example", "a.example:", ":80"] {
            let request = Request::get("/").header(HOST, host).body(()).unwrap();
            assert!(redirect(&request, ports(80, 443)).is_none(), "{host}");
        }
    }
}
