//! Tests of the router as a tower service.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use rproxy_router::{Route, RouteMatch, Router, RouterError};
use tower::{ServiceExt, service_fn, util::BoxCloneService};

type Named = BoxCloneService<Request<()>, Response<String>, Infallible>;

fn named(name: &'static str) -> Named {
    BoxCloneService::new(service_fn(move |_: Request<()>| async move { Ok(Response::new(name.to_owned())) }))
}

fn router() -> Router<Named> {
    Router::new()
        .host("example.org", named("site"))
        .and_then(|router| router.path("/api/**", named("api")))
        .and_then(|router| router.route(Route::new().path("/login").method(Method::POST), named("login")))
        .and_then(|router| router.host("*.example.org", named("wildcard")))
        .unwrap()
}

async fn answer(router: Router<Named>, request: Request<()>) -> (StatusCode, String, Option<RouteMatch>) {
    let response = router.oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, String::from_utf8(body.to_vec()).unwrap(), head.extensions.get().cloned())
}

#[tokio::test]
async fn forwards_each_request_to_the_service_of_its_route() {
    for (method, uri, body, site, route) in [
        (Method::GET, "http://example.org/", "site", "example.org", None),
        (Method::GET, "http://EXAMPLE.org:8080/api/x", "api", "example.org", Some("/api/**")),
        (Method::POST, "http://example.org/login", "login", "example.org", Some("POST /login")),
        (Method::GET, "http://example.org/login", "site", "example.org", None),
        (Method::GET, "http://www.example.org/api/x", "wildcard", "*.example.org", None),
    ] {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let (status, text, found) = answer(router(), request).await;
        let found = found.unwrap();
        assert_eq!((status, text.as_str()), (StatusCode::OK, body), "{uri}");
        assert_eq!((&*found.site, found.route.as_deref()), (site, route), "{uri}");
    }
}

#[tokio::test]
async fn rejects_requests_for_unknown_hosts_with_404_and_ambiguous_paths_with_400() {
    for (uri, status) in [
        ("http://other.example/", StatusCode::NOT_FOUND),
        ("/no-host", StatusCode::NOT_FOUND),
        ("http://example.org/api/..%2fadmin", StatusCode::BAD_REQUEST),
    ] {
        let (found, body, _) = answer(router(), Request::get(uri).body(()).unwrap()).await;
        assert_eq!(found, status, "{uri} {body}");
        assert!(!body.contains("example"), "{body}");
    }
}

#[tokio::test]
async fn forwards_requests_for_unknown_hosts_to_the_default_host() {
    let router = router().default_host(named("default")).unwrap();
    let (status, body, found) = answer(router, Request::get("http://other.example/").body(()).unwrap()).await;
    assert_eq!((status, body.as_str(), &*found.unwrap().site), (StatusCode::OK, "default", "default"));
}

#[test]
fn rejects_a_route_without_a_host_and_a_second_default_host() {
    assert_eq!(Router::new().path("/", named("a")).unwrap_err(), RouterError::NoHost);
    let router = Router::new().default_host(named("a")).unwrap();
    assert_eq!(router.default_host(named("b")).unwrap_err(), RouterError::DuplicateDefault);
    assert!(matches!(router_error("example.org:80"), RouterError::Host { .. }));
    assert_eq!(router_error("Example.org"), RouterError::DuplicateHost("example.org".to_owned()));
}

fn router_error(host: &str) -> RouterError {
    router().host(host, named("again")).unwrap_err()
}
