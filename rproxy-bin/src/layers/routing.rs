//! The settings of routes, redirects and path prefixes.

use std::sync::Arc;

use rproxy_target_rules::{FixedResponse, Redirect, Rewrite, TargetRulesLayer, TrailingSlash};

use crate::known_rejection::KnownRejection;
use crate::setting::settings;
use crate::values::redirect::RedirectTarget;
use crate::values::routes::RouteList;
use crate::values::target_rules::{
    canonical_host, target_rules, target_rules_text, trailing_slash, trailing_slash_text,
};
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

    "canonical_host" => canonical_host: Option<String> {
        value: "HOST",
        default: "none" => None,
        help: "Redirects requests for all other hosts of the site to this host, with the same port, path and query: 301 for GET and HEAD, otherwise 308",
        accepted: "a host name without a port, or none",
        scope: Site,
        reload: Live,
        parse: |t| optional(t, canonical_host),
        show: |s| s.canonical_host.clone(),
    }

    "redirects" => redirects: Box<[Redirect]> {
        value: "LINE,...",
        default: "none" => Box::default(),
        help: "Redirects paths by patterns; the first rule that matches applies. The status is 302 for GET and HEAD, otherwise 307, unless the rule has one",
        accepted: "PATTERN -> TARGET, then permanent or a status: /old/** -> https://example.org/{path} permanent; one per line, or separated by commas",
        scope: Route,
        reload: Live,
        parse: target_rules,
        show: |s| target_rules_text(&s.redirects),
    }

    "responses" => responses: Box<[FixedResponse]> {
        value: "LINE,...",
        default: "none" => Box::default(),
        help: "Responds to paths with constant content, without a backend",
        accepted: "PATTERN -> STATUS, then a content type and the content with \\n as line end: /robots.txt -> 200 text/plain User-agent: *; one per line, or separated by commas",
        scope: Route,
        reload: Live,
        parse: target_rules,
        show: |s| target_rules_text(&s.responses),
    }

    "trailing_slash" => trailing_slash: TrailingSlash {
        value: "FORM",
        default: "as-is",
        help: "Redirects GET and HEAD requests with 301 to the path with a slash at its end (add, except for names with a dot) or without one (remove)",
        accepted: "add, remove or as-is",
        scope: Route,
        reload: Live,
        parse: trailing_slash,
        show: |s| Some(trailing_slash_text(s.trailing_slash).to_owned()),
    }

    "rewrites" => rewrites: Box<[Rewrite]> {
        value: "LINE,...",
        default: "none" => Box::default(),
        help: "Changes the path that the cache and the backend receive, by patterns; the first rule that matches applies",
        accepted: "PATTERN -> PATH: /user/{id} -> /profile.php?id={id}; one per line, or separated by commas",
        scope: Route,
        reload: Live,
        parse: target_rules,
        show: |s| target_rules_text(&s.rewrites),
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

    rules {
        ["rewrites", "strip_prefix"] => |s, c| {
            (!s.rewrites.is_empty() && s.strip_prefix.is_some()).then(|| {
                format!("{} cannot be combined with rewrites; write the removal as a rule: /api/** -> /{{path}}", c.name("strip_prefix"))
            })
        },
    }

    idle {
        ["rewrites"] => |s, _| {
            (s.redirect.is_some() && !s.rewrites.is_empty()).then(|| "redirect responds to every request".to_owned())
        },
    }
}

impl RoutingSettings {
    /// Returns the layer for redirects, rewrites and fixed responses, if there are any.
    pub(crate) fn target_rules(&self) -> Option<TargetRulesLayer> {
        let is_empty = self.canonical_host.is_none()
            && self.redirects.is_empty()
            && self.responses.is_empty()
            && self.trailing_slash == TrailingSlash::AsIs
            && self.rewrites.is_empty();
        if is_empty {
            return None;
        }
        let builder = TargetRulesLayer::builder().trailing_slash(self.trailing_slash);
        let builder = self.canonical_host.iter().fold(builder, |builder, host| builder.canonical_host(host.as_str()));
        let builder = self.redirects.iter().cloned().fold(builder, |builder, rule| builder.redirect(rule));
        let builder = self.responses.iter().cloned().fold(builder, |builder, rule| builder.respond(rule));
        let builder = self.rewrites.iter().cloned().fold(builder, |builder, rule| builder.rewrite(rule));
        // Only a canonical host that was set in code can be invalid.
        builder.build().ok()
    }

    pub(crate) fn describe_target_rules(&self) -> Option<String> {
        let counts = [
            (self.redirects.len(), "redirects"),
            (self.responses.len(), "fixed responses"),
            (self.rewrites.len(), "rewrites"),
        ];
        let host = self.canonical_host.iter().map(|host| format!("canonical host {host}"));
        let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{kind}: {count}"));
        let slash = (self.trailing_slash != TrailingSlash::AsIs)
            .then(|| format!("trailing slash: {}", trailing_slash_text(self.trailing_slash)));
        let parts: Vec<String> = host.chain(counts).chain(slash).collect();
        (!parts.is_empty()).then(|| format!("TargetRules      {}", parts.join(", ")))
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
