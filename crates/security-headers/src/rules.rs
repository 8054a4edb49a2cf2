//! What is done to the head of a response.

use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, CONTENT_TYPE, Entry, HeaderMap,
    STRICT_TRANSPORT_SECURITY, X_FRAME_OPTIONS,
};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};

use crate::cookies::Cookies;
use crate::csp::{ContentSecurityPolicy, fill, has_placeholder};
use crate::fingerprints::{FINGERPRINTS, NEXTJS_DATA_FINGERPRINTS};
use crate::names::{CROSS_ORIGIN_EMBEDDER_POLICY, CROSS_ORIGIN_OPENER_POLICY, PERMISSIONS_POLICY, REPORTING_ENDPOINTS};
use crate::nonce::CspNonce;
use crate::profiles::Header;
use crate::removed::Names;

#[derive(Clone, Debug)]
pub(crate) struct Rules {
    sent: Vec<Rule>,
    removed: Names,
    removed_but_for_nextjs_data: Names,
    pub(crate) assume_https: bool,
    pub(crate) cookies: Option<Cookies>,
    /// Whether a policy has one. Where none has, nobody makes any.
    has_nonce: bool,
    pub(crate) nonce_field: Option<HeaderName>,
}

#[derive(Clone, Debug)]
struct Rule {
    name: HeaderName,
    value: HeaderValue,
    has_nonce: bool,
    scope: Scope,
    wins: Wins,
}

/// Who has the last word where both name the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wins {
    Application,
    Rule,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    Everything,
    /// What a browser makes a page of, and runs scripts in.
    Documents,
    /// Whatever goes out over TLS.
    Https,
}

impl Scope {
    fn of(name: &HeaderName) -> Self {
        const DOCUMENT_ONLY: [HeaderName; 7] = [
            CONTENT_SECURITY_POLICY,
            CONTENT_SECURITY_POLICY_REPORT_ONLY,
            CROSS_ORIGIN_EMBEDDER_POLICY,
            CROSS_ORIGIN_OPENER_POLICY,
            PERMISSIONS_POLICY,
            REPORTING_ENDPOINTS,
            X_FRAME_OPTIONS,
        ];
        match name {
            // RFC 6797 §7.2
            name if name == STRICT_TRANSPORT_SECURITY => Self::Https,
            name if DOCUMENT_ONLY.contains(name) => Self::Documents,
            _ => Self::Everything,
        }
    }
}

/// What of the request matters when its response comes.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    is_https: bool,
    is_for_nextjs_data: bool,
    nonce: Option<CspNonce>,
}

impl Rules {
    pub(crate) fn new(profile: &[Header]) -> Self {
        let sent = profile.iter().map(|(name, value, scope)| Rule {
            name: name.clone(),
            value: HeaderValue::from_static(value),
            has_nonce: false,
            scope: *scope,
            wins: Wins::Application,
        });
        Self {
            sent: sent.collect(),
            removed: Names::of(FINGERPRINTS),
            removed_but_for_nextjs_data: Names::of(NEXTJS_DATA_FINGERPRINTS),
            assume_https: false,
            cookies: None,
            has_nonce: false,
            nonce_field: None,
        }
    }

    pub(crate) fn send(&mut self, name: HeaderName, value: HeaderValue, wins: Wins) {
        self.send_rule(name, value, false, wins);
    }

    pub(crate) fn send_policy(&mut self, name: HeaderName, policy: ContentSecurityPolicy) {
        self.send_rule(name, policy.header_value().clone(), policy.has_nonce(), Wins::Application);
    }

    fn send_rule(&mut self, name: HeaderName, value: HeaderValue, has_nonce: bool, wins: Wins) {
        match self.sent.iter_mut().find(|rule| rule.name == name) {
            // The scope stays: a profile may know better than the name.
            Some(rule) => (rule.value, rule.has_nonce, rule.wins) = (value, has_nonce, wins),
            None => self.sent.push(Rule { scope: Scope::of(&name), name, value, has_nonce, wins }),
        }
        self.has_nonce = self.sent.iter().any(|rule| rule.has_nonce);
    }

    pub(crate) fn send_nothing(&mut self, name: &HeaderName) {
        self.sent.retain(|rule| rule.name != name);
        self.has_nonce = self.sent.iter().any(|rule| rule.has_nonce);
    }

    pub(crate) fn remove(&mut self, name: HeaderName) {
        self.send_nothing(&name);
        self.removed.insert(name);
    }

    pub(crate) fn keep(&mut self, name: &HeaderName) {
        self.removed.remove(name);
        self.removed_but_for_nextjs_data.remove(name);
    }

    pub(crate) fn ask<B>(&self, request: &mut Request<B>) -> Asked {
        const X_NEXTJS_DATA: HeaderName = HeaderName::from_static("x-nextjs-data");
        // Also without a nonce: an application must not take the client's field for the proxy's.
        if let Some(name) = &self.nonce_field {
            CspNonce::strip_field(request.headers_mut(), name);
        }
        Asked {
            is_https: self.assume_https || request.extensions().get() == Some(&Scheme::HTTPS),
            is_for_nextjs_data: request.headers().contains_key(X_NEXTJS_DATA),
            nonce: if self.has_nonce { self.nonce(request) } else { None },
        }
    }

    /// Adds a new nonce to the request.
    fn nonce<B>(&self, request: &mut Request<B>) -> Option<CspNonce> {
        let nonce = CspNonce::new()?;
        if let Some(name) = &self.nonce_field {
            nonce.set_field(request.headers_mut(), name);
        }
        request.extensions_mut().insert(nonce.clone());
        // A document that contains the nonce is useless with the policy of another response.
        request.extensions_mut().insert::<IsForOneRequest>(is_document);
        Some(nonce)
    }

    pub(crate) fn apply<B>(&self, response: &mut Response<B>, asked: &Asked) {
        let status = response.status();
        let headers = response.headers_mut();
        while let Some(name) = headers.keys().find_map(|name| self.removed(name, asked)) {
            headers.remove(name);
        }
        // Nobody makes a page of it.
        if status.is_informational() {
            return;
        }

        if let Some(cookies) = self.cookies {
            cookies.apply(headers, asked.is_https);
        }

        let is_update = status == StatusCode::NOT_MODIFIED;
        if self.has_nonce {
            fill_own_policies(headers, asked.nonce.as_ref(), is_update);
        }

        // RFC 9111 §3.2: a cache writes these over those of the response it has stored, which may
        // well be the application's own.
        // Growing once is cheaper than twice. A map that can't take more says so at the insertion.
        let _ = headers.try_reserve(self.sent.len());
        let is_document = is_document(headers);
        let has_frame_ancestors = has_frame_ancestors(headers);
        for Rule { name, value, has_nonce, scope, wins } in &self.sent {
            let applies = match (scope, wins) {
                (Scope::Https, _) => asked.is_https,
                (_, Wins::Rule) => true,
                // CSP Level 3 §6.4.2: `frame-ancestors` takes the place of `X-Frame-Options`.
                _ if is_update || has_frame_ancestors && name == X_FRAME_OPTIONS => false,
                (Scope::Documents, _) => is_document,
                (Scope::Everything, _) => true,
            };
            if !applies {
                continue;
            }
            let value = || if *has_nonce { fill(value, asked.nonce.as_ref()) } else { value.clone() };
            // A map that can't take more is left as it is: the only error there is.
            match (wins, headers.try_entry(name)) {
                (_, Ok(Entry::Vacant(vacant))) => drop(vacant.try_insert(value())),
                (Wins::Rule, Ok(Entry::Occupied(mut occupied))) => drop(occupied.insert(value())),
                (Wins::Application, Ok(Entry::Occupied(_))) | (_, Err(_)) => {}
            }
        }
    }

    /// Our own copy of `name`, if it has to go.
    fn removed(&self, name: &HeaderName, asked: &Asked) -> Option<&HeaderName> {
        self.removed.find(name).or_else(|| match asked.is_for_nextjs_data {
            true => None,
            false => self.removed_but_for_nextjs_data.find(name),
        })
    }
}

/// `rproxy_cache::IsForOneRequest`, a type that takes no dependency to name: whether a response with these fields must not
/// be stored, or be served from a store.
type IsForOneRequest = fn(&HeaderMap) -> bool;

/// The application's own policies may leave a place for the nonce as well.
fn fill_own_policies(headers: &mut HeaderMap, nonce: Option<&CspNonce>, is_update: bool) {
    for name in [CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY] {
        // RFC 9111 §3.2: the browser would write this nonce over the one of the page that it has stored.
        if is_update && headers.get_all(&name).iter().any(has_placeholder) {
            headers.remove(&name);
        }
        if let Ok(Entry::Occupied(mut policies)) = headers.try_entry(name) {
            for policy in policies.iter_mut().filter(|policy| has_placeholder(policy)) {
                *policy = fill(policy, nonce);
            }
        }
    }
}

/// Whether a browser may make a page of it. Without a type that can be read it is left to guess.
fn is_document(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    // RFC 9110 §8.3.1: type and subtype are case-insensitive, parameters follow a semicolon.
    let media_type = content_type.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let is = |other: &str| media_type.eq_ignore_ascii_case(other.as_bytes());
    let has_suffix = |suffix: &str| {
        let at = media_type.len().saturating_sub(suffix.len());
        media_type[at..].eq_ignore_ascii_case(suffix.as_bytes())
    };
    is("text/html") || is("text/xml") || is("application/xml") || has_suffix("+xml") || !media_type.contains(&b'/')
}

/// Whether the application itself has said who may frame it.
fn has_frame_ancestors(headers: &HeaderMap) -> bool {
    let is_frame_ancestors = |directive: &[u8]| {
        let name = directive.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        name.eq_ignore_ascii_case(b"frame-ancestors")
    };
    let policies = headers.get_all(CONTENT_SECURITY_POLICY).into_iter();
    policies.flat_map(|policy| policy.as_bytes().split(|byte| b";,".contains(byte))).any(is_frame_ancestors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_what_a_browser_makes_a_page_of() {
        for (content_type, document) in [
            ("text/html", true),
            ("Text/HTML;charset=utf-8", true),
            (" text/html ;charset=utf-8", true),
            ("application/xhtml+xml", true),
            ("image/svg+XML", true),
            ("text/xml; charset=utf-8", true),
            ("application/xml", true),
            ("", true),
            ("html", true),
            ("; charset=utf-8", true),
            ("text/plain", false),
            ("text/css; note=text/html", false),
            ("text/htmlx", false),
            ("image/png", false),
            ("application/json", false),
            ("text/event-stream", false),
            ("application/xml-dtd", false),
            ("a/", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            assert_eq!(is_document(&headers), document, "{content_type:?}");
        }
        assert!(is_document(&HeaderMap::new()));
    }

    #[test]
    fn frame_ancestors_is_found_where_it_is_a_directive() {
        for (policy, found) in [
            ("frame-ancestors 'none'", true),
            ("default-src 'self';Frame-Ancestors https://a.example", true),
            ("default-src 'self', frame-ancestors\t*", true),
            ("frame-ancestors", true),
            ("frame-src 'none'", false),
            ("script-src frame-ancestors", false),
            ("frame-ancestorsx 'none'", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))]);
            assert_eq!(has_frame_ancestors(&headers), found, "{policy:?}");
        }
        assert!(!has_frame_ancestors(&HeaderMap::new()));
    }
}
