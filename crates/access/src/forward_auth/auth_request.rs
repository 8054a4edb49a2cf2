//! The request to the authentication service.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{Extensions, Method, Request, Version};
use http_body_util::Empty;
use rproxy_client_ip::ClientIp;
use rproxy_core::spelling::{has_prefix, is_spelling_of};

use super::config::Config;
use crate::identity_fields::is_connection_or_content_field;

/// The request has no [`ClientIp`], which the authentication service needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownAddress;

/// Returns a GET request without content, with the header fields of the client's request that describe the client.
pub(crate) fn auth_request<B>(request: &Request<B>, config: &Config) -> Result<Request<Empty<Bytes>>, UnknownAddress> {
    let mut headers = request.headers().clone();
    let host = headers.get(header::HOST).cloned();
    remove_unrelated(&mut headers, config.trusts_forwarding_fields);
    // The client may authenticate itself with these. Other identity fields are set by the authentication service.
    let own = [header::AUTHORIZATION, header::COOKIE].map(|name| (headers.remove(&name), name));
    config.copied_fields.remove(&mut headers);
    own.into_iter().for_each(|(value, name)| drop(value.map(|value| headers.insert(name, value))));

    if !config.trusts_forwarding_fields {
        set_client_fields(&mut headers, request.extensions(), host)?;
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    if let Ok(target) = HeaderValue::from_str(target) {
        headers.insert(X_FORWARDED_URI, target);
    }
    // The method of a WebSocket handshake over HTTP/2 (RFC 8441) is CONNECT, and over HTTP/1.1 it is GET.
    let method = if *request.method() == Method::CONNECT { "GET" } else { request.method().as_str() };
    if let Ok(method) = HeaderValue::from_str(method) {
        headers.insert(X_FORWARDED_METHOD, method);
    }
    headers.insert(header::HOST, config.host.clone());
    let mut auth = Request::new(Empty::new());
    *auth.version_mut() = Version::HTTP_11;
    *auth.uri_mut() = config.uri.clone();
    *auth.headers_mut() = headers;
    Ok(auth)
}

/// Removes fields about the connection, the content, and conditions on the response, and those that the client could spoof.
fn remove_unrelated(headers: &mut HeaderMap, trusts_forwarding_fields: bool) {
    let is_unrelated = |name: &HeaderName| {
        let is_trusted = trusts_forwarding_fields && TRUSTED_FIELDS.contains(name);
        is_connection_or_content_field(name) || is_conditional(name) || is_spoofable(name.as_str()) && !is_trusted
    };
    let unrelated: Vec<HeaderName> = headers.keys().filter(|name| is_unrelated(name)).cloned().collect();
    for name in unrelated {
        headers.remove(name);
    }
}

/// Sets the fields that describe the client and its request.
fn set_client_fields(
    headers: &mut HeaderMap,
    extensions: &Extensions,
    host: Option<HeaderValue>,
) -> Result<(), UnknownAddress> {
    let client = extensions.get::<ClientIp>().ok_or(UnknownAddress)?;
    if let Ok(address) = HeaderValue::try_from(client.0.to_canonical().to_string()) {
        headers.insert(X_FORWARDED_FOR, address.clone());
        headers.insert(X_REAL_IP, address);
    }
    let is_https = extensions.get::<Scheme>().is_some_and(|scheme| *scheme == Scheme::HTTPS);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if is_https { "https" } else { "http" }));
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host);
    }
    Ok(())
}

/// Conditions and ranges are about the resource of the client's request. Otherwise, the authentication service could respond
/// with 304 or 206.
fn is_conditional(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::IF_MATCH
            | header::IF_MODIFIED_SINCE
            | header::IF_NONE_MATCH
            | header::IF_RANGE
            | header::IF_UNMODIFIED_SINCE
            | header::RANGE
    )
}

/// Returns whether authentication services read the field, in some spelling, as set by a proxy.
fn is_spoofable(name: &str) -> bool {
    const PREFIXES: [&str; 3] = ["x-forwarded-", "x-original-", "x-auth-request-"];
    const NAMES: [&str; 4] = ["forwarded", "x-forwarded", "x-real-ip", "x-rewrite-url"];
    PREFIXES.iter().any(|prefix| has_prefix(name, prefix)) || NAMES.iter().any(|other| is_spelling_of(name, other))
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The fields that an outer layer can set.
const TRUSTED_FIELDS: [HeaderName; 6] = [
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    HeaderName::from_static("x-forwarded-port"),
    X_FORWARDED_PROTO,
    X_REAL_IP,
    header::FORWARDED,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ForwardAuthConfig;

    fn fields_of(request: Request<()>, trusts: bool) -> Result<BTreeMap<String, String>, UnknownAddress> {
        let builder = ForwardAuthConfig::builder("http://auth.example:9091/verify?x=1".parse().unwrap());
        let names = ["remote-user", "authorization"].map(HeaderName::from_static);
        let builder = names.into_iter().fold(builder, |builder, name| builder.copy_field(name));
        let config = builder.trust_forwarding_fields(trusts).build().unwrap();
        let auth = auth_request(&request, &config.shared)?;
        assert_eq!((auth.method(), auth.version()), (&Method::GET, Version::HTTP_11));
        assert_eq!(auth.uri(), "http://auth.example:9091/verify?x=1");
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        Ok(auth.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect())
    }

    fn request(fields: &[(&str, &str)]) -> Request<()> {
        let request = Request::post("/upload?next=%2F").header("host", "app.example");
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.extension(ClientIp("192.0.2.1".parse().unwrap())).extension(Scheme::HTTPS).body(()).unwrap()
    }

    fn expected(fields: &[(&str, &str)]) -> BTreeMap<String, String> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const SPOOFED: [(&str, &str); 14] = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x_forwarded_for", "6.6.6.6"),
        ("x-forwarded-uri", "/public"),
        ("x-forwarded_uri", "/public"),
        ("x-forwarded-method", "OPTIONS"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-prefix", "/public"),
        ("x-forwarded-user", "admin"),
        ("x-original-url", "http://evil.example/"),
        ("x.original.uri", "/public"),
        ("x-auth-request-redirect", "http://evil.example/"),
        ("forwarded", "for=6.6.6.6"),
        ("remote-user", "admin"),
        ("remote_user", "admin"),
    ];

    const CLIENT: [(&str, &str); 4] =
        [("cookie", "session=1"), ("authorization", "Bearer 1"), ("accept", "text/html"), ("user-agent", "a")];

    #[test]
    fn describes_the_request_and_removes_spoofed_fields() {
        let others = [
            ("content-length", "3"),
            ("content-type", "text/plain"),
            ("content-encoding", "gzip"),
            ("transfer-encoding", "chunked"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("te", "trailers"),
            ("if-none-match", "\"a\""),
            ("range", "bytes=0-1"),
        ];
        let set = [
            ("host", "auth.example:9091"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-real-ip", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "app.example"),
            ("x-forwarded-uri", "/upload?next=%2F"),
            ("x-forwarded-method", "POST"),
        ];
        let fields = fields_of(request(&[&CLIENT[..], &others, &SPOOFED].concat()), false).unwrap();
        assert_eq!(fields, expected(&[&CLIENT[..], &set].concat()));
    }

    #[test]
    fn keeps_the_fields_of_an_outer_layer_if_they_are_trusted() {
        let outer = [
            ("x-forwarded-for", "192.0.2.9, 10.0.0.1"),
            ("x-real-ip", "192.0.2.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "app.example"),
            ("x-forwarded-port", "8443"),
        ];
        let spoofed = SPOOFED.into_iter().filter(|(name, _)| !outer.iter().any(|(other, _)| other == name));
        let spoofed: Vec<_> = spoofed.filter(|(name, _)| *name != "forwarded").collect();
        let mut request = request(&[&CLIENT[..], &outer, &spoofed].concat());
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().clear();
        let set =
            [("host", "auth.example:9091"), ("x-forwarded-uri", "/upload?next=%2F"), ("x-forwarded-method", "GET")];
        assert_eq!(fields_of(request, true).unwrap(), expected(&[&CLIENT[..], &outer, &set].concat()));
    }

    #[test]
    fn needs_the_address_of_the_client() {
        assert_eq!(fields_of(Request::new(()), false), Err(UnknownAddress));
        let http = Request::builder().extension(ClientIp("::ffff:192.0.2.1".parse().unwrap())).body(()).unwrap();
        let fields = fields_of(http, false).unwrap();
        assert_eq!((&*fields["x-forwarded-for"], &*fields["x-forwarded-proto"]), ("192.0.2.1", "http"));
        assert!(!fields.contains_key("x-forwarded-host"));
    }
}
