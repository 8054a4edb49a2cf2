//! Tests that a request and the policies of its response contain the same nonce.

use std::convert::Infallible;

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Request, Response};
use rproxy_security_headers::{ContentSecurityPolicy, CspDirective, CspNonce, CspSource, SecurityHeadersLayer};
use tower::{Layer, ServiceExt, service_fn};

const FIELD: HeaderName = HeaderName::from_static("x-csp-nonce");

/// Sends a request with spoofed nonces to an inner service whose response has the fields `inner_fields`.
///
/// Returns the nonce that the inner service got as an extension, the nonces that it got as fields, and the headers of the
/// response.
async fn send(
    layer: SecurityHeadersLayer,
    inner_fields: &[(HeaderName, &str)],
) -> (Option<String>, Vec<String>, HeaderMap) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let inner = service_fn(|request: Request<()>| {
        let nonce = request.extensions().get::<CspNonce>().map(ToString::to_string);
        let fields = request.headers().iter().filter(|(name, _)| name.as_str().ends_with("nonce"));
        let fields = fields.map(|(_, value)| value.to_str().unwrap().to_owned()).collect();
        sender.send((nonce, fields)).unwrap();
        let head = Response::builder().header(CONTENT_TYPE, "text/html");
        let head = inner_fields.iter().fold(head, |head, (name, value)| head.header(name, *value));
        async { Ok::<_, Infallible>(head.body(()).unwrap()) }
    });
    let request = Request::get("/").header("x-csp-nonce", "spoofed").header("x_csp_nonce", "spoofed").body(()).unwrap();
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    let (nonce, fields) = receiver.recv().unwrap();
    (nonce, fields, response.into_parts().0.headers)
}

fn with_nonce() -> SecurityHeadersLayer {
    let sources = [CspSource::Nonce, CspSource::StrictDynamic];
    let policy = ContentSecurityPolicy::builder().directive(CspDirective::ScriptSrc, sources).build().unwrap();
    SecurityHeadersLayer::minimal().content_security_policy(policy)
}

#[tokio::test]
async fn inner_service_and_browser_receive_the_same_nonce() {
    let (nonce, fields, headers) = send(with_nonce().nonce_field(FIELD), &[]).await;
    let nonce = nonce.unwrap();
    assert_eq!(fields, [nonce.as_str()], "the spoofed fields are removed");
    assert_eq!(headers[CONTENT_SECURITY_POLICY], format!("script-src 'nonce-{nonce}' 'strict-dynamic'"));
    let (other, ..) = send(with_nonce(), &[]).await;
    assert_ne!(other.unwrap(), nonce);
}

#[tokio::test]
async fn all_policies_of_a_response_contain_the_same_nonce() {
    let layer = with_nonce().content_security_policy_report_only("style-src 'nonce-{nonce}'");
    let (nonce, _, headers) = send(layer.clone(), &[]).await;
    let nonce = nonce.unwrap();
    assert_eq!(headers[CONTENT_SECURITY_POLICY], format!("script-src 'nonce-{nonce}' 'strict-dynamic'"));
    assert_eq!(headers[CONTENT_SECURITY_POLICY_REPORT_ONLY], format!("style-src 'nonce-{nonce}'"));

    let inner_fields =
        [(CONTENT_SECURITY_POLICY, "script-src 'self' 'nonce-{nonce}'"), (CONTENT_SECURITY_POLICY, "img-src *")];
    let (nonce, _, headers) = send(layer, &inner_fields).await;
    let policies: Vec<_> = headers.get_all(CONTENT_SECURITY_POLICY).iter().collect();
    assert_eq!(policies, [&*format!("script-src 'self' 'nonce-{}'", nonce.unwrap()), "img-src *"]);
}

#[tokio::test]
async fn adds_no_nonce_without_a_policy_but_strips_spoofed_nonce_fields() {
    for (layer, remaining_fields) in [
        (SecurityHeadersLayer::strict(), 2),
        (SecurityHeadersLayer::recommended().nonce_field(FIELD), 0),
        (with_nonce().content_security_policy("default-src 'self'"), 2),
        (with_nonce().without(CONTENT_SECURITY_POLICY).nonce_field(FIELD), 0),
    ] {
        let inner_fields = [(CONTENT_SECURITY_POLICY, "script-src 'nonce-{nonce}'")];
        let (nonce, fields, headers) = send(layer, &inner_fields).await;
        assert_eq!(nonce, None);
        assert_eq!(fields.len(), remaining_fields, "only the configured nonce field is stripped");
        assert_eq!(headers[CONTENT_SECURITY_POLICY], "script-src 'nonce-{nonce}'");
    }
}

#[tokio::test]
async fn request_extension_identifies_responses_that_depend_on_the_nonce() {
    // The same type as `rproxy_cache::RequestSpecificCheck`.
    type RequestSpecificCheck = fn(&HeaderMap) -> bool;

    for (layer, expected) in [(with_nonce(), Some((true, false))), (SecurityHeadersLayer::strict(), None)] {
        let inner = service_fn(async |request: Request<()>| {
            let is_for_one_request: Option<RequestSpecificCheck> = request.extensions().get().copied();
            let headers_of =
                |content_type: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
            let actual = is_for_one_request
                .map(|is_for_one| (is_for_one(&headers_of("text/html")), is_for_one(&headers_of("text/css"))));
            assert_eq!(actual, expected);
            Ok::<_, Infallible>(Response::new(()))
        });
        layer.layer(inner).oneshot(Request::get("/").body(()).unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn removes_policies_with_a_nonce_from_304_responses() {
    // RFC 9111 §3.2: a browser overwrites the fields of its stored page with those of a 304.
    let inner = service_fn(async |_: Request<()>| {
        let response = Response::builder().status(304).header(CONTENT_SECURITY_POLICY, "script-src 'nonce-{nonce}'");
        let response = response.header(CONTENT_SECURITY_POLICY_REPORT_ONLY, "img-src *");
        Ok::<_, Infallible>(response.body(()).unwrap())
    });
    let response = with_nonce().layer(inner).oneshot(Request::get("/").body(()).unwrap()).await.unwrap();
    assert!(!response.headers().contains_key(CONTENT_SECURITY_POLICY));
    assert_eq!(
        response.headers()[CONTENT_SECURITY_POLICY_REPORT_ONLY],
        "img-src *",
        "a policy without a nonce is kept"
    );
}
