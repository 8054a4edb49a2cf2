//! A nonce for each request: told to the application, and put into the policy of its answer.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Request, Response};
use rproxy_security_headers::ContentSecurityPolicy;
use rproxy_security_headers::{CspNonce, Directive, SecurityHeadersLayer, Source};
use tower::{Layer, ServiceExt, service_fn};

const FIELD: HeaderName = HeaderName::from_static("x-csp-nonce");

/// What the application was told, by extension and by field, and the headers of the answer, when it sends `sent` itself.
async fn answer(layer: SecurityHeadersLayer, sent: &[(HeaderName, &str)]) -> (Option<String>, Vec<String>, HeaderMap) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let application = service_fn(|request: Request<()>| {
        let nonce = request.extensions().get::<CspNonce>().map(ToString::to_string);
        let fields = request.headers().iter().filter(|(name, _)| name.as_str().ends_with("nonce"));
        let fields = fields.map(|(_, value)| value.to_str().unwrap().to_owned()).collect();
        sender.send((nonce, fields)).unwrap();
        let head = Response::builder().header(CONTENT_TYPE, "text/html");
        let head = sent.iter().fold(head, |head, (name, value)| head.header(name, *value));
        async { Ok::<_, Infallible>(head.body(()).unwrap()) }
    });
    let request = Request::get("/").header("x-csp-nonce", "chosen").header("x_csp_nonce", "chosen").body(()).unwrap();
    let response = layer.layer(application).oneshot(request).await.unwrap();
    let (nonce, fields) = receiver.recv().unwrap();
    (nonce, fields, response.into_parts().0.headers)
}

fn with_nonce() -> SecurityHeadersLayer {
    let sources = [Source::Nonce, Source::StrictDynamic];
    let policy = ContentSecurityPolicy::builder().directive(Directive::ScriptSrc, sources).build().unwrap();
    SecurityHeadersLayer::minimal().content_security_policy(policy)
}

#[tokio::test]
async fn the_application_and_the_browser_are_told_the_same() {
    let (nonce, fields, headers) = answer(with_nonce().nonce_field(FIELD), &[]).await;
    let nonce = nonce.unwrap();
    assert_eq!(fields, [nonce.as_str()], "and nobody else's word");
    assert_eq!(headers[CONTENT_SECURITY_POLICY], format!("script-src 'nonce-{nonce}' 'strict-dynamic'"));
    let (other, ..) = answer(with_nonce(), &[]).await;
    assert_ne!(other.unwrap(), nonce);
}

#[tokio::test]
async fn both_policies_and_the_applications_own_have_the_same_one() {
    let layer = with_nonce().content_security_policy_report_only("style-src 'nonce-{nonce}'");
    let (nonce, _, headers) = answer(layer.clone(), &[]).await;
    let nonce = nonce.unwrap();
    assert_eq!(headers[CONTENT_SECURITY_POLICY], format!("script-src 'nonce-{nonce}' 'strict-dynamic'"));
    assert_eq!(headers[CONTENT_SECURITY_POLICY_REPORT_ONLY], format!("style-src 'nonce-{nonce}'"));

    let own = [(CONTENT_SECURITY_POLICY, "script-src 'self' 'nonce-{nonce}'"), (CONTENT_SECURITY_POLICY, "img-src *")];
    let (nonce, _, headers) = answer(layer, &own).await;
    let policies: Vec<_> = headers.get_all(CONTENT_SECURITY_POLICY).iter().collect();
    assert_eq!(policies, [&*format!("script-src 'self' 'nonce-{}'", nonce.unwrap()), "img-src *"]);
}

#[tokio::test]
async fn adds_no_nonce_without_a_policy_and_strips_the_clients_field() {
    for (layer, fields_left) in [
        (SecurityHeadersLayer::strict(), 2),
        (SecurityHeadersLayer::recommended().nonce_field(FIELD), 0),
        (with_nonce().content_security_policy("default-src 'self'"), 2),
        (with_nonce().without(CONTENT_SECURITY_POLICY).nonce_field(FIELD), 0),
    ] {
        let own = [(CONTENT_SECURITY_POLICY, "script-src 'nonce-{nonce}'")];
        let (nonce, fields, headers) = answer(layer, &own).await;
        assert_eq!(nonce, None);
        assert_eq!(fields.len(), fields_left, "the client's field goes where the layer owns it");
        assert_eq!(headers[CONTENT_SECURITY_POLICY], "script-src 'nonce-{nonce}'");
    }
}

#[tokio::test]
async fn caches_inside_learn_which_responses_depend_on_the_nonce() {
    // The type that `rproxy_cache::IsForOneRequest` is.
    type IsForOneRequest = fn(&HeaderMap) -> bool;

    for (layer, expected) in [(with_nonce(), Some((true, false))), (SecurityHeadersLayer::strict(), None)] {
        let application = service_fn(async |request: Request<()>| {
            let is_for_one: Option<IsForOneRequest> = request.extensions().get().copied();
            let of = |content_type: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
            let found = is_for_one.map(|is_for_one| (is_for_one(&of("text/html")), is_for_one(&of("text/css"))));
            assert_eq!(found, expected);
            Ok::<_, Infallible>(Response::new(()))
        });
        layer.layer(application).oneshot(Request::get("/").body(()).unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_304_leaves_the_nonce_of_the_stored_page_as_it_is() {
    // RFC 9111 §3.2: a browser writes the fields of a 304 over those of the page.
    let application = service_fn(async |_: Request<()>| {
        let own = Response::builder().status(304).header(CONTENT_SECURITY_POLICY, "script-src 'nonce-{nonce}'");
        let own = own.header(CONTENT_SECURITY_POLICY_REPORT_ONLY, "img-src *");
        Ok::<_, Infallible>(own.body(()).unwrap())
    });
    let response = with_nonce().layer(application).oneshot(Request::get("/").body(()).unwrap()).await.unwrap();
    assert!(!response.headers().contains_key(CONTENT_SECURITY_POLICY));
    assert_eq!(response.headers()[CONTENT_SECURITY_POLICY_REPORT_ONLY], "img-src *", "without a nonce it stays");
}
