//! Rules that add, replace and remove header fields of responses.

use std::sync::{Arc, LazyLock};

use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, CONTENT_TYPE, Entry, HOST, HeaderMap,
    STRICT_TRANSPORT_SECURITY, X_FRAME_OPTIONS,
};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};

use crate::cookies::CookieAttributes;
use crate::csp::{ContentSecurityPolicy, has_placeholder, insert_nonce};
use crate::embedding::{EmbeddablePaths, is_frame_ancestors, without_frame_ancestors};
use crate::fingerprints::{FINGERPRINTS, NEXTJS_DATA_FINGERPRINTS};
use crate::header_name_set::{HeaderNameSet, Shape, ShapeSet};
use crate::names::{CROSS_ORIGIN_EMBEDDER_POLICY, CROSS_ORIGIN_OPENER_POLICY, PERMISSIONS_POLICY, REPORTING_ENDPOINTS};
use crate::nonce::CspNonce;
use crate::profiles::Header;

/// Returns whether the host of a request is an IP address or `localhost`, to which HSTS does not apply.
///
/// Browsers ignore HSTS for addresses (RFC 6797 §8.1.1). For `localhost` it would break every other program that is
/// developed on the machine, on any port.
fn is_local<B>(request: &Request<B>) -> bool {
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    };
    if host.starts_with('[') {
        return true;
    }
    let name = host.split(':').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    let top = name.rsplit('.').next().unwrap_or_default();
    // No top-level domain is a number (RFC 3696 §2).
    top.eq_ignore_ascii_case("localhost") || (!top.is_empty() && top.bytes().all(|byte| byte.is_ascii_digit()))
}

#[derive(Clone, Debug)]
pub(crate) struct Rules {
    sent: Vec<Rule>,
    // Shared by all rules that have not changed them.
    removed: Arc<HeaderNameSet>,
    removed_unless_nextjs_data: Arc<HeaderNameSet>,
    /// The shapes of the names of sent headers, and of `Content-Security-Policy`, which affects them.
    relevant: ShapeSet,
    /// The shapes of all names above. Most headers of responses have none of them.
    listed: ShapeSet,
    pub(crate) assume_https: bool,
    pub(crate) cookies: Option<CookieAttributes>,
    /// Whether any policy contains a nonce placeholder. If none does, no nonces are created.
    has_nonce: bool,
    pub(crate) nonce_field: Option<HeaderName>,
    pub(crate) embeddable_paths: Option<EmbeddablePaths>,
}

#[derive(Clone, Debug)]
struct Rule {
    name: HeaderName,
    value: HeaderValue,
    has_nonce: bool,
    scope: Scope,
    precedence: Precedence,
}

/// The value that takes precedence if both the inner service and a rule set a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precedence {
    InnerService,
    Rule,
}

/// The responses to which a rule adds a header.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    Everything,
    /// Responses that a browser may render as a page, and in which scripts may run.
    Documents,
    /// Responses to requests that were received over TLS.
    Https,
}

impl Scope {
    fn default_for(name: &HeaderName) -> Self {
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

/// Properties of a request that affect the headers of its response.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    is_https: bool,
    /// Whether HSTS applies: the request was received over TLS, and its host is not local.
    takes_hsts: bool,
    has_nextjs_data: bool,
    /// Whether the inner service decides which sites may embed the page in a frame.
    is_embeddable: bool,
    nonce: Option<CspNonce>,
}

impl Rules {
    pub(crate) fn new(profile: &[Header]) -> Self {
        static REMOVED: LazyLock<Arc<HeaderNameSet>> =
            LazyLock::new(|| Arc::new(HeaderNameSet::from_static(FINGERPRINTS)));
        static REMOVED_UNLESS_NEXTJS_DATA: LazyLock<Arc<HeaderNameSet>> =
            LazyLock::new(|| Arc::new(HeaderNameSet::from_static(NEXTJS_DATA_FINGERPRINTS)));
        let sent = profile.iter().map(|(name, value, scope)| Rule {
            name: name.clone(),
            value: HeaderValue::from_static(value),
            has_nonce: false,
            scope: *scope,
            precedence: Precedence::InnerService,
        });
        let mut relevant = ShapeSet::default();
        profile.iter().map(|(name, ..)| name).chain([&CONTENT_SECURITY_POLICY]).for_each(|name| relevant.insert(name));
        let listed = relevant.union(REMOVED.shapes()).union(REMOVED_UNLESS_NEXTJS_DATA.shapes());
        Self {
            sent: sent.collect(),
            relevant,
            listed,
            removed: Arc::clone(&REMOVED),
            removed_unless_nextjs_data: Arc::clone(&REMOVED_UNLESS_NEXTJS_DATA),
            assume_https: false,
            cookies: None,
            has_nonce: false,
            nonce_field: None,
            embeddable_paths: None,
        }
    }

    pub(crate) fn send(&mut self, name: HeaderName, value: HeaderValue, precedence: Precedence) {
        self.send_rule(name, value, false, precedence);
    }

    pub(crate) fn send_policy(&mut self, name: HeaderName, policy: ContentSecurityPolicy) {
        self.send_rule(name, policy.header_value().clone(), policy.has_nonce(), Precedence::InnerService);
    }

    fn send_rule(&mut self, name: HeaderName, value: HeaderValue, has_nonce: bool, precedence: Precedence) {
        self.relevant.insert(&name);
        self.listed.insert(&name);
        match self.sent.iter_mut().find(|rule| rule.name == name) {
            // Keeps the scope, which a profile may have set.
            Some(rule) => (rule.value, rule.has_nonce, rule.precedence) = (value, has_nonce, precedence),
            None => self.sent.push(Rule { scope: Scope::default_for(&name), name, value, has_nonce, precedence }),
        }
        self.has_nonce = self.sent.iter().any(|rule| rule.has_nonce);
    }

    pub(crate) fn remove_rule(&mut self, name: &HeaderName) {
        self.sent.retain(|rule| rule.name != name);
        self.has_nonce = self.sent.iter().any(|rule| rule.has_nonce);
    }

    pub(crate) fn remove(&mut self, name: HeaderName) {
        self.remove_rule(&name);
        self.listed.insert(&name);
        Arc::make_mut(&mut self.removed).insert(name);
    }

    pub(crate) fn keep(&mut self, name: &HeaderName) {
        for names in [&mut self.removed, &mut self.removed_unless_nextjs_data] {
            if names.get(name).is_some() {
                Arc::make_mut(names).remove(name);
            }
        }
    }

    /// Strips a spoofed nonce field from the request, and adds a nonce if a policy needs one.
    pub(crate) fn prepare<B>(&self, request: &mut Request<B>) -> RequestContext {
        let nonce_field = self.nonce_field.as_ref().map(HeaderName::as_str);
        let (mut has_nextjs_data, mut has_nonce_field) = (false, false);
        for name in request.headers().keys().map(HeaderName::as_str) {
            has_nextjs_data |= name == "x-nextjs-data";
            has_nonce_field |= nonce_field.is_some_and(|field| CspNonce::is_spelling_of(name, field));
        }
        // Done even without a nonce: the inner service would trust the client's field.
        if let Some(name) = self.nonce_field.as_ref().filter(|_| has_nonce_field) {
            CspNonce::strip_field(request.headers_mut(), name);
        }
        let is_https = self.assume_https || request.extensions().get() == Some(&Scheme::HTTPS);
        RequestContext {
            is_https,
            takes_hsts: is_https && !is_local(request),
            has_nextjs_data,
            is_embeddable: self.embeddable_paths.as_ref().is_some_and(|paths| paths.contains(request.uri().path())),
            nonce: if self.has_nonce { self.add_nonce(request) } else { None },
        }
    }

    /// Creates a nonce, and adds it to the request.
    fn add_nonce<B>(&self, request: &mut Request<B>) -> Option<CspNonce> {
        let nonce = CspNonce::new()?;
        if let Some(name) = &self.nonce_field {
            nonce.set_field(request.headers_mut(), name);
        }
        request.extensions_mut().insert(nonce.clone());
        // A stored document that contains this nonce would not match the policy of a later response.
        request.extensions_mut().insert::<RequestSpecificCheck>(is_document);
        Some(nonce)
    }

    pub(crate) fn apply<B>(&self, response: &mut Response<B>, context: &RequestContext) {
        let status = response.status();
        let headers = response.headers_mut();
        let may_have_relevant = self.remove_fingerprints(headers, context);
        // Browsers render no page from an informational response.
        if !status.is_informational() {
            self.add_headers(status, headers, context, may_have_relevant);
        }
    }

    /// Adds the headers of the rules. `may_have_relevant` is whether a [relevant](Self::relevant) header may be present.
    fn add_headers(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        context: &RequestContext,
        may_have_relevant: bool,
    ) {
        if let Some(cookies) = self.cookies {
            cookies.apply(headers, context.is_https);
        }

        let is_update = status == StatusCode::NOT_MODIFIED;
        if self.has_nonce {
            insert_nonce_into_inner_policies(headers, context.nonce.as_ref(), is_update);
        }

        // Growing the map once is cheaper than growing it twice. If it is full, the insertions below report that.
        let _ = headers.try_reserve(self.sent.len());
        let is_document = is_document(headers);
        let has_frame_ancestors = may_have_relevant && has_frame_ancestors(headers);
        for Rule { name, value, has_nonce, scope, precedence } in &self.sent {
            let applies = match (scope, precedence) {
                (Scope::Https, _) => context.takes_hsts,
                (_, Precedence::Rule) => true,
                // RFC 9111 §3.2: a cache overwrites the fields of its stored response with those of a 304.
                _ if is_update => false,
                // CSP Level 3 §6.4.2: `frame-ancestors` replaces `X-Frame-Options`.
                _ if (has_frame_ancestors || context.is_embeddable) && name == X_FRAME_OPTIONS => false,
                (Scope::Documents, _) => is_document,
                (Scope::Everything, _) => true,
            };
            if !applies {
                continue;
            }
            let is_adapted =
                context.is_embeddable && *precedence == Precedence::InnerService && name == CONTENT_SECURITY_POLICY;
            let adapted = if is_adapted { without_frame_ancestors(value) } else { None };
            if is_adapted && adapted.is_none() {
                continue;
            }
            let value = adapted.as_ref().unwrap_or(value);
            let value = || if *has_nonce { insert_nonce(value, context.nonce.as_ref()) } else { value.clone() };
            // The only error is a full map, which is left as it is.
            if !may_have_relevant {
                drop(headers.try_append(name, value()));
                continue;
            }
            match (precedence, headers.try_entry(name)) {
                (_, Ok(Entry::Vacant(vacant))) => drop(vacant.try_insert(value())),
                (Precedence::Rule, Ok(Entry::Occupied(mut occupied))) => drop(occupied.insert(value())),
                (Precedence::InnerService, Ok(Entry::Occupied(_))) | (_, Err(_)) => {}
            }
        }
    }

    /// Removes fingerprinting headers, and returns whether the response may have a [relevant](Self::relevant) header.
    ///
    /// One pass over the names replaces a look-up of each header (bench `security-headers`: 470 of 3,660 instructions less).
    fn remove_fingerprints(&self, headers: &mut HeaderMap, context: &RequestContext) -> bool {
        let mut may_have_relevant = false;
        loop {
            let mut names = headers.keys().filter_map(|name| {
                let shape = Shape::of(name);
                if !self.listed.contains(shape) {
                    return None;
                }
                may_have_relevant |= self.relevant.contains(shape);
                self.name_to_remove(name, shape, context)
            });
            // A removal changes the order of the names. Most responses have few of these headers.
            let removed: [Option<&HeaderName>; 4] = std::array::from_fn(|_| names.next());
            for name in removed.into_iter().flatten() {
                headers.remove(name);
            }
            if removed.contains(&None) {
                return may_have_relevant;
            }
        }
    }

    /// Returns the stored copy of `name` if the header must be removed.
    fn name_to_remove(&self, name: &HeaderName, shape: Shape, context: &RequestContext) -> Option<&HeaderName> {
        self.removed.get_by_shape(name, shape).or_else(|| match context.has_nextjs_data {
            true => None,
            false => self.removed_unless_nextjs_data.get_by_shape(name, shape),
        })
    }
}

/// A request extension with a function that returns whether a response must not be stored in a cache.
///
/// It is the same type as `rproxy_cache::RequestSpecificCheck`, spelled out to avoid a dependency.
type RequestSpecificCheck = fn(&HeaderMap) -> bool;

/// Inserts the nonce into policies from the inner service.
fn insert_nonce_into_inner_policies(headers: &mut HeaderMap, nonce: Option<&CspNonce>, is_update: bool) {
    for name in [CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY] {
        // RFC 9111 §3.2: the browser would overwrite the policy of its stored page, whose nonce is another one.
        if is_update && headers.get_all(&name).iter().any(has_placeholder) {
            headers.remove(&name);
        }
        if let Ok(Entry::Occupied(mut policies)) = headers.try_entry(name) {
            for policy in policies.iter_mut().filter(|policy| has_placeholder(policy)) {
                *policy = insert_nonce(policy, nonce);
            }
        }
    }
}

/// Returns whether a browser may render the response as a page. Without a valid content type, it may guess so.
fn is_document(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    // A fast path for the usual value.
    if content_type == "text/html" || content_type.as_bytes().starts_with(b"text/html;") {
        return true;
    }
    // RFC 9110 §8.3.1: type and subtype are case-insensitive, parameters follow a semicolon.
    let media_type = content_type.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let is_type = |other: &str| media_type.eq_ignore_ascii_case(other.as_bytes());
    let has_suffix = |suffix: &str| {
        let at = media_type.len().saturating_sub(suffix.len());
        media_type[at..].eq_ignore_ascii_case(suffix.as_bytes())
    };
    is_type("text/html")
        || is_type("text/xml")
        || is_type("application/xml")
        || has_suffix("+xml")
        || !media_type.contains(&b'/')
}

/// Returns whether a policy from the inner service contains `frame-ancestors`.
fn has_frame_ancestors(headers: &HeaderMap) -> bool {
    let policies = headers.get_all(CONTENT_SECURITY_POLICY).into_iter();
    policies.flat_map(|policy| policy.as_bytes().split(|byte| b";,".contains(byte))).any(is_frame_ancestors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profiles;
    use proptest::prelude::*;

    /// Names of fields that are removed, sent or ignored, and some with the shape of another one.
    const NAMES: [&str; 16] = [
        "server",
        "sirvir",
        "x-powered-by",
        "x-generator",
        "x-nextjs-redirect",
        "x-envoy-internal",
        "x-cms",
        "x-content-type-options",
        "x-frame-options",
        "x-frame-optiens",
        "referrer-policy",
        "content-security-policy",
        "strict-transport-security",
        "content-type",
        "date",
        "x-custom",
    ];

    proptest! {
        #[test]
        fn fast_path_for_responses_equals_the_general_path(
            fields in proptest::collection::vec((proptest::sample::select(&NAMES[..]), "frame-ancestors 'self'|text/html|a"), 0..12),
            is_strict: bool,
            overrides: bool,
            takes_hsts: bool,
            has_nextjs_data: bool,
            is_update: bool,
        ) {
            let mut rules = Rules::new(if is_strict { &profiles::STRICT } else { &profiles::RECOMMENDED });
            rules.send(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=1"), Precedence::InnerService);
            if overrides {
                rules.send(HeaderName::from_static("x-custom"), HeaderValue::from_static("b"), Precedence::Rule);
            }
            let context =
                RequestContext { is_https: takes_hsts, takes_hsts, has_nextjs_data, is_embeddable: false, nonce: None };
            let status = if is_update { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
            let mut fast = Response::new(());
            *fast.status_mut() = status;
            for (name, value) in &fields {
                fast.headers_mut().append(*name, value.parse().unwrap());
            }
            let mut general = fast.headers().clone();
            rules.apply(&mut fast, &context);
            for name in NAMES.map(HeaderName::from_static) {
                let is_removed = rules.removed.get(&name).is_some()
                    || !has_nextjs_data && rules.removed_unless_nextjs_data.get(&name).is_some();
                if is_removed {
                    general.remove(name);
                }
            }
            rules.add_headers(status, &mut general, &context, true);
            prop_assert_eq!(fast.headers(), &general);
        }
    }

    #[test]
    fn treats_responses_with_html_xml_or_unknown_types_as_documents() {
        for (content_type, expected) in [
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
            assert_eq!(is_document(&headers), expected, "{content_type:?}");
        }
        assert!(is_document(&HeaderMap::new()));
    }

    #[test]
    fn detects_frame_ancestors_only_as_a_directive_name() {
        for (policy, expected) in [
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
            assert_eq!(has_frame_ancestors(&headers), expected, "{policy:?}");
        }
        assert!(!has_frame_ancestors(&HeaderMap::new()));
    }
}
