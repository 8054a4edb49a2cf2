//! Redirects: of the plain listener to HTTPS, and of sites.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use rproxy_router::{RouteTable, request_host};
use rproxy_server::RequestRejection;
use tower_service::Service;

use crate::error_response::ErrorReason;

/// Redirects requests to the same host and path on HTTPS.
///
/// Responds with 404 if no site has the host, and with 400 if there is no valid host.
#[derive(Clone, Debug)]
pub(crate) struct HttpsRedirect {
    port: u16,
    table: Arc<RouteTable>,
}

impl HttpsRedirect {
    /// Creates a redirect of the hosts in `table` to `port`.
    pub(crate) fn new(port: u16, table: Arc<RouteTable>) -> Self {
        Self { port, table }
    }

    fn respond<B>(&self, request: &Request<B>) -> Response<&'static str> {
        match redirect(request, self.port) {
            None => rejection(StatusCode::BAD_REQUEST, ErrorReason::Request(RequestRejection::BadHost)),
            Some(_) if self.table.site(&request_host(request)).is_none() => {
                rejection(StatusCode::NOT_FOUND, ErrorReason::UnknownHost)
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

fn redirect<B>(request: &Request<B>, port: u16) -> Option<Response<&'static str>> {
    let host: Authority = request.headers().get(HOST)?.to_str().ok()?.parse().ok()?;
    let host = host.host();
    // `OPTIONS *` applies to the server and has no path.
    let target = request.uri().path_and_query().map(|target| target.as_str());
    let target = target.filter(|target| target.starts_with('/')).unwrap_or("/");
    let location = match port {
        443 => format!("https://{host}{target}"),
        _ => format!("https://{host}:{port}{target}"),
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
    response
}

/// Returns an error response of this proxy.
pub(crate) fn rejection(status: StatusCode, reason: ErrorReason) -> Response<&'static str> {
    let mut response = match status {
        StatusCode::BAD_REQUEST => text(status, "Bad Request\n"),
        StatusCode::MISDIRECTED_REQUEST => text(status, "Misdirected Request\n"),
        _ => text(status, "Not Found\n"),
    };
    response.extensions_mut().insert(reason);
    response
}

/// Returns a response with plain text.
fn text(status: StatusCode, body: &'static str) -> Response<&'static str> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_to_the_same_path_on_https() {
        for (method, host, target, port, status, location) in [
            ("GET", "a.example", "/x?y=1", 443, 301, "https://a.example/x?y=1"),
            ("HEAD", "a.example:80", "/", 443, 301, "https://a.example/"),
            ("POST", "a.example:8080", "/form", 8443, 308, "https://a.example:8443/form"),
            ("OPTIONS", "a.example", "*", 443, 308, "https://a.example/"),
            ("GET", "[::1]:80", "//evil.example/", 443, 301, "https://[::1]//evil.example/"),
        ] {
            let request = Request::builder().method(method).uri(target).header(HOST, host).body(()).unwrap();
            let response = redirect(&request, port).unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[LOCATION], location);
        }
    }

    #[test]
    fn does_not_redirect_without_host() {
        assert!(redirect(&Request::get("/").body(()).unwrap(), 443).is_none());
    }
}
