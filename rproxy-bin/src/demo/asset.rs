//! The files of the demo site, which are embedded in the binary.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{Either, Full};

use super::SiteBody;

/// A static file of the demo site, with the response header fields for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asset {
    content: &'static str,
    content_type: &'static str,
    cache_control: &'static str,
}

impl Asset {
    pub(super) fn at(path: &str) -> Option<Self> {
        let (content, content_type, cache_control) = match path {
            "/" => (include_str!("index.html"), "text/html; charset=utf-8", "no-cache"),
            "/static/demo.css" => (include_str!("demo.css"), "text/css; charset=utf-8", FOR_A_MINUTE),
            "/static/demo.js" => (include_str!("demo.js"), "text/javascript; charset=utf-8", FOR_A_MINUTE),
            "/static/icon.svg" => (include_str!("icon.svg"), "image/svg+xml", FOR_A_MINUTE),
            _ => return None,
        };
        Some(Self { content, content_type, cache_control })
    }

    pub(super) fn answer(self, headers: &HeaderMap) -> Response<SiteBody> {
        let etag = self.etag();
        let mut response = Response::new(Either::Left(Full::default()));
        // RFC 9110 §13.1.2
        if headers.get_all(IF_NONE_MATCH).iter().any(|field| matches_etag(field, &etag)) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            *response.body_mut() = Either::Left(Full::new(Bytes::from_static(self.content.as_bytes())));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        // RFC 9110 §15.4.5: a 304 has these fields, too.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(self.cache_control));
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        if let Ok(etag) = HeaderValue::try_from(etag) {
            response.headers_mut().insert(ETAG, etag);
        }
        response
    }

    fn etag(self) -> String {
        let mut hasher = DefaultHasher::new();
        self.content.hash(&mut hasher);
        format!("\"{:016x}\"", hasher.finish())
    }
}

pub(super) const FOR_A_MINUTE: &str = "public, max-age=60";

/// Everything that the page loads is part of the demo site.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'";

/// Returns whether `If-None-Match` contains the entity tag.
///
/// The comparison is weak (RFC 9110 §8.8.3.2).
fn matches_etag(field: &HeaderValue, etag: &str) -> bool {
    let Ok(field) = field.to_str() else {
        return false;
    };
    field.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::super::DYNAMIC_PATHS;
    use super::*;

    #[test]
    fn if_none_match_matches_etag_in_every_form() {
        for (field, matches) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(matches_etag(&HeaderValue::from_static(field), "\"a\""), matches, "{field}");
        }
    }

    #[test]
    fn demo_page_references_only_existing_assets() {
        let page = include_str!("index.html");
        let targets: Vec<&str> = page.split("\"/static/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(targets.len() >= 3);
        for target in targets {
            let path = format!("/static/{target}");
            assert!(Asset::at(&path).is_some() || DYNAMIC_PATHS.contains(&&*path), "{target}");
        }
    }

    #[test]
    fn demo_page_works_with_a_policy_that_forbids_inline_code() {
        let page = include_str!("index.html");
        for inline in ["<style", "style=\"", "<script>", " onclick", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }
}
