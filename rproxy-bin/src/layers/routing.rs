//! The settings of routes, redirects and path prefixes.

use std::sync::Arc;

use crate::known_rejection::KnownRejection;
use crate::setting::settings;
use crate::values::redirect::RedirectTarget;
use crate::values::routes::RouteList;
use crate::values::value::{ParseError, optional};

/// The rejections of requests without a site or route.
pub(crate) const REJECTIONS: &[KnownRejection] = &[
    KnownRejection::new("unknown_host", "unknown_host")
        .explained("no site has the requested host; add the host to RPROXY_ROUTES, or to the hosts of a [[site]]"),
    KnownRejection::new("ambiguous_path", "ambiguous_path"),
];

settings! {
    /// The settings of routes, redirects and path prefixes.
    RoutingSettings, "Sites and routes"

    "routes" => routes: RouteList {
        value: "ROUTE,...",
        default: "none" => RouteList::default(),
        help: "Sites and routes without a file: requests for HOST, or for paths below HOST/PATH, go to the given backends or are redirected",
        accepted: "comma-separated HOST=UPSTREAM, HOST/PATH=UPSTREAM, /PATH=UPSTREAM or HOST=redirect:URL; several backends as A|B",
        scope: Process,
        reload: Live,
        parse: str::parse,
        show: |s| (!s.routes.is_empty()).then(|| s.routes.to_string()),
    }

    "redirect" => redirect: Option<RedirectTarget> {
        value: "URL",
        default: "none" => None,
        help: "Redirects every request to this URL: 301 for GET and HEAD, otherwise 308; path and query are appended to a URL without a path",
        accepted: "a URL with https:// or http://, or none",
        scope: Route,
        reload: Live,
        parse: |t| optional(t, str::parse),
        show: |s| s.redirect.as_ref().map(ToString::to_string),
    }

    "strip_prefix" => strip_prefix: Option<Arc<str>> {
        value: "PATH",
        default: "none" => None,
        help: "Removes this prefix from the path before the request is forwarded, and sends it in X-Forwarded-Prefix",
        accepted: "a path prefix such as /api, with which all paths of the route begin, or none",
        scope: Route,
        reload: Live,
        parse: |t| optional(t, prefix),
        show: |s| s.strip_prefix.as_ref().map(|prefix| prefix.to_string()),
    }
}

fn prefix(text: &str) -> Result<Arc<str>, ParseError> {
    let error = |reason: &str| ParseError::new("path", text, reason);
    let trimmed = text.trim_end_matches('/');
    if !text.starts_with('/') {
        return Err(error("the prefix must begin with /"));
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if trimmed.is_empty() || !trimmed.bytes().all(is_plain) || trimmed.contains("//") || trimmed.contains("/.") {
        return Err(error("each segment of the prefix must consist of letters, digits, - . _ and ~"));
    }
    Ok(trimmed.into())
}
