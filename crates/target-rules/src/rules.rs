//! The decision about a request.

use std::sync::Arc;

use bytes::Bytes;
use http::header::LOCATION;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};

use crate::canonical_host::CanonicalHost;
use crate::fixed_response::{FixedResponse, text};
use crate::redirect::{Redirect, Rewrite, permanent};
use crate::safe_path::is_plain;
use crate::trailing_slash::TrailingSlash;

/// A request extension: a rule has rewritten the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RewrittenPath;

/// The rule that responded to a request, as a response extension.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetDecision {
    /// The request was redirected to the canonical host.
    CanonicalHost,
    /// A rule redirected the request.
    Redirect {
        /// The text of the rule.
        rule: Arc<str>,
    },
    /// A rule responded to the request.
    FixedResponse {
        /// The text of the rule.
        rule: Arc<str>,
    },
    /// The request was redirected to the path with or without a trailing slash.
    TrailingSlash,
}

/// All rules of a layer, in the order in which they apply.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) canonical_host: Option<CanonicalHost>,
    pub(crate) redirects: Vec<Redirect>,
    pub(crate) responses: Vec<FixedResponse>,
    pub(crate) trailing_slash: TrailingSlash,
    pub(crate) rewrites: Vec<Rewrite>,
}

impl Rules {
    /// Returns the response of the first rule that responds to the request.
    pub(crate) fn respond<B>(&self, request: &Request<B>) -> Option<Response<Bytes>> {
        let (method, path) = (request.method(), request.uri().path());
        if let Some(location) = self.canonical_host.as_ref().and_then(|host| host.redirect(request)) {
            return Some(redirect(permanent(method), location, method, TargetDecision::CanonicalHost));
        }
        let query = request.uri().query();
        // Only plain paths: another path could be one on another host.
        if (!self.redirects.is_empty() || !self.responses.is_empty()) && is_plain(path) {
            for rule in &self.redirects {
                if let Some((status, target)) = rule.apply(method, path, query)
                    && let Ok(location) = HeaderValue::try_from(target)
                {
                    let decision = TargetDecision::Redirect { rule: Arc::clone(rule.text()) };
                    return Some(redirect(status, location, method, decision));
                }
            }
            if let Some(rule) = self.responses.iter().find(|rule| rule.matches(path)) {
                let mut response = rule.respond(method);
                let decision = TargetDecision::FixedResponse { rule: Arc::clone(rule.text()) };
                response.extensions_mut().insert(decision);
                return Some(response);
            }
        }
        let mut target = self.trailing_slash.redirect(method, path)?;
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        let location = HeaderValue::try_from(target).ok()?;
        Some(redirect(permanent(method), location, method, TargetDecision::TrailingSlash))
    }

    /// Returns the rewritten URI if a rule applies to it.
    pub(crate) fn rewrite(&self, uri: &Uri) -> Option<Uri> {
        if self.rewrites.is_empty() || !is_plain(uri.path()) {
            return None;
        }
        let target = self.rewrites.iter().find_map(|rule| rule.apply(uri.path(), uri.query()))?;
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
        Uri::from_parts(parts).ok()
    }
}

fn redirect(status: StatusCode, location: HeaderValue, method: &Method, decision: TargetDecision) -> Response<Bytes> {
    let content = status.canonical_reason().map_or_else(Bytes::new, |reason| format!("{reason}\n").into());
    let mut response = text(status, content, method);
    response.headers_mut().insert(LOCATION, location);
    response.extensions_mut().insert(decision);
    response
}
