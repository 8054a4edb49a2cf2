//! Redirects never lead to a host that a request chose, as the URL parser of browsers resolves `Location`.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use proptest::prelude::*;
use rproxy_target_rules::{TargetRulesLayer, TrailingSlash};
use tower::{Layer, ServiceExt, service_fn};
use url::Url;

fn layers() -> Vec<TargetRulesLayer> {
    let redirects = [
        "/** -> /x/{path}",
        "/x/** -> /{path}",
        "/{a}/{b} -> /{b}/{a}",
        "/{a} -> /{a}{a}",
        "/{a}/** -> /{path}{a}",
        "/** -> https://other.example/{path}",
        "/{a} -> https://other.example/?next={a}",
    ];
    let redirect = |rule: &&str| TargetRulesLayer::builder().redirect(rule.parse().unwrap()).build().unwrap();
    let mut layers: Vec<_> = redirects.iter().map(redirect).collect();
    layers.push(TargetRulesLayer::builder().trailing_slash(TrailingSlash::Add).build().unwrap());
    layers.push(TargetRulesLayer::builder().trailing_slash(TrailingSlash::Remove).build().unwrap());
    layers.push(TargetRulesLayer::builder().canonical_host("other.example").build().unwrap());
    layers
}

/// Returns the `Location` of the response, if any, and the target that the inner service received.
fn respond(layer: &TargetRulesLayer, target: &str) -> (Option<HeaderValue>, Option<String>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let inner = service_fn(move |request: Request<()>| {
        sender.send(request.uri().to_string()).unwrap();
        async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
    });
    let Ok(uri) = target.parse::<Uri>() else { return (None, None) };
    let request = Request::get(uri).header("host", "own.example").body(()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let response = runtime.block_on(layer.layer(inner).oneshot(request)).unwrap();
    (response.headers().get("location").cloned(), receiver.try_recv().ok())
}

/// Asserts that browsers stay on a configured host, for a request with this target.
fn assert_stays(target: &str) {
    let base = Url::parse("https://own.example/").unwrap();
    for layer in layers() {
        let (location, _) = respond(&layer, target);
        let Some(location) = location else { continue };
        let location = location.to_str().unwrap();
        let url = base.join(location).unwrap();
        assert!(matches!(url.host_str(), Some("own.example" | "other.example")), "{target:?} leads to {location:?}");
        assert!(matches!(url.scheme(), "https" | "http"), "{target:?} leads to {location:?}");
        assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{location:?}");
        // Servers and clients that decode the path first do not leave the host either.
        let path = location.split(['?', '#']).next().unwrap();
        let is_other = location.starts_with("http");
        assert!(
            is_other || (path.starts_with('/') && !path[1..].starts_with(['/', '\\', '%'])) || !is_hostile(path),
            "{location:?}"
        );
    }
}

fn is_hostile(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ["//", "\\", "%2f", "%5c", "%0", "%1", "%7f", "/..", "%2e"].iter().any(|part| path.contains(part))
}

#[test]
fn known_open_redirects_stay_on_the_host() {
    // From collections of open redirect payloads.
    let payloads = [
        "//evil.example",
        "///evil.example",
        "////evil.example",
        "/\\evil.example",
        "/\\/evil.example",
        "\\\\evil.example",
        "//evil.example/",
        "/\\evil.example/",
        "//evil.example//",
        "/%2f/evil.example",
        "/%2fevil.example",
        "/%2f%2fevil.example",
        "/%2f%2fevil.example/",
        "/%5cevil.example",
        "/%5c%5cevil.example",
        "/%5cevil.example/",
        "/%252fevil.example",
        "/%252f%252fevil.example",
        "//evil.example/%2e%2e",
        "//evil.example/%2f..",
        "/evil.example/..//evil.example",
        "/.evil.example",
        "/..//evil.example",
        "/%2e%2e//evil.example",
        "/;//evil.example",
        "/.;//evil.example",
        "/%09/evil.example",
        "/%0a/evil.example",
        "/%0d/evil.example",
        "/%0d%0aLocation:%20https://evil.example",
        "/%e5%98%8a%e5%98%8dLocation:evil",
        "/https:evil.example",
        "/https:/evil.example",
        "/https://evil.example",
        "/http:%2f%2fevil.example",
        "/@evil.example",
        "//@evil.example",
        "//own.example@evil.example",
        "/x//evil.example",
        "/x/%2fevil.example",
        "/x/\\evil.example",
        "/x/%5cevil.example",
        "/x/./evil.example",
        "/x/.//evil.example",
        "/x//",
        "/x///evil.example",
        "/x/javascript:alert(1)",
        "/x/https:evil.example",
        "/x/https://evil.example",
        "/%E3%80%82evil.example",
        "/%EF%BC%8F%EF%BC%8Fevil.example",
        "/x/%EF%BC%8Fevil.example",
        "/x/%c0%afevil.example",
        "/x/%u002fevil.example",
        "/?//evil.example",
        "/a?next=//evil.example",
        "/%00//evil.example",
        "/x/%00/evil.example",
    ];
    for payload in payloads {
        assert_stays(payload);
        assert_stays(&format!("{payload}?a=b"));
    }
}

#[test]
fn hostile_paths_reach_the_inner_service_unchanged() {
    let rewrite = TargetRulesLayer::builder().rewrite("/** -> /x/{path}".parse().unwrap()).build().unwrap();
    let redirect = TargetRulesLayer::builder().redirect("/** -> /x/{path}".parse().unwrap()).build().unwrap();
    for target in ["//evil.example", "/%2fevil", "/a/../b", "/a//b", "/%5cevil", "/a;/../b?c", "/%2e%2e/b"] {
        for layer in [&rewrite, &redirect] {
            assert_eq!(respond(layer, target), (None, Some(target.to_owned())), "{target}");
        }
    }
    assert_eq!(respond(&rewrite, "/a?b"), (None, Some("/x/a?b".to_owned())));
}

proptest! {
    #[test]
    fn redirects_stay_on_the_host(target in "/(x/)?([/\\\\.;:@a?&=]|%2f|%5C|%2e|%09|%0d|%0a|%00|%25|%252f|%c0%af|evil\\.example|https:|[!-~]){0,12}") {
        assert_stays(&target);
    }

    #[test]
    fn rewritten_paths_are_plain(target in "/(x/)?([/\\\\.;:@a?&=]|%2f|%5C|%2e|%09|%0d|%00|%25|[!-~]){0,12}") {
        for rule in ["/x/** -> /{path}", "/{a}/** -> /{path}/{a}", "/{a} -> /{a}{a}?a={a}"] {
            let layer = TargetRulesLayer::builder().rewrite(rule.parse().unwrap()).build().unwrap();
            if let Ok(uri) = target.parse::<Uri>() && let Some(rewritten) = layer.rewritten(&uri) {
                prop_assert!(!is_hostile(rewritten.path()), "{} to {}", target, rewritten);
                prop_assert_eq!(respond(&layer, &target).1, Some(rewritten.to_string()));
            }
        }
    }
}
