//! A tower layer that adds security headers and removes fingerprinting headers.

use std::sync::Arc;

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, STRICT_TRANSPORT_SECURITY};
use http::{HeaderName, HeaderValue};
use tower_layer::Layer;

use crate::cookies::CookieAttributes;
use crate::csp::ContentSecurityPolicy;
use crate::embedding::EmbeddablePaths;
use crate::hsts::{Hsts, YEAR};
use crate::names::{PERMISSIONS_POLICY, REPORTING_ENDPOINTS};
use crate::permissions::PermissionsPolicy;
use crate::profiles::{self, Header};
use crate::reporting::ReportingEndpoints;
use crate::rules::{Precedence, Rules};
use crate::service::SecurityHeadersService;

/// A layer that adds security headers to responses and removes fingerprinting headers.
///
/// It starts from a profile, whose headers the methods change. The last call for a header name applies.
///
/// # Examples
///
/// ```
/// use http::header;
/// use rproxy_security_headers::SecurityHeadersLayer;
///
/// let layer = SecurityHeadersLayer::recommended()
///     .content_security_policy("default-src 'self'")
///     .without(header::X_FRAME_OPTIONS);
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SecurityHeadersLayer {
    rules: Arc<Rules>,
}

impl SecurityHeadersLayer {
    /// Creates a layer with headers that are safe for most existing sites.
    ///
    /// The [crate documentation](crate) lists the headers and the reason for each value.
    pub fn recommended() -> Self {
        Self::profile(&profiles::RECOMMENDED).hsts(Hsts::new(YEAR))
    }

    /// Creates a layer for sites that load all resources from their own origin, without inline scripts or styles.
    ///
    /// - The Content Security Policy is `default-src 'self'`, and pages cannot be framed.
    /// - Pages are isolated from other origins.
    /// - Pages cannot use the camera, the location and similar features.
    /// - Browsers send no referrer.
    /// - TLS is required for two years, for all subdomains as well.
    pub fn strict() -> Self {
        Self::profile(&profiles::STRICT).hsts(Hsts::new(2 * YEAR).include_subdomains(true))
    }

    /// Creates a layer for APIs, whose responses are not rendered in a browser.
    ///
    /// The Content Security Policy is `default-src 'none'`. Other origins can load responses by CORS only, and cannot frame
    /// them. `Cache-Control` is not set.
    pub fn api() -> Self {
        Self::profile(&profiles::API).hsts(Hsts::new(YEAR))
    }

    /// Creates a layer that adds only `X-Content-Type-Options`, and `Strict-Transport-Security` over TLS.
    ///
    /// It removes fingerprinting headers, like all profiles.
    pub fn minimal() -> Self {
        Self::profile(&profiles::MINIMAL).hsts(Hsts::new(YEAR))
    }

    fn profile(profile: &[Header]) -> Self {
        Self { rules: Arc::new(Rules::new(profile)) }
    }

    /// Adds this `Content-Security-Policy` to documents that have none. An empty policy removes the header.
    ///
    /// If the policy contains `'nonce-{nonce}'` ([`CspSource::Nonce`](crate::CspSource::Nonce)), each request gets a
    /// [`CspNonce`](crate::CspNonce) extension. The nonce replaces that text in the policy of the response, even if the
    /// inner service set the policy.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_security_headers::SecurityHeadersLayer;
    ///
    /// let layer = SecurityHeadersLayer::recommended().content_security_policy("script-src 'nonce-{nonce}'");
    /// # let _ = layer;
    /// ```
    pub fn content_security_policy(self, policy: impl Into<ContentSecurityPolicy>) -> Self {
        self.policy(CONTENT_SECURITY_POLICY, policy.into())
    }

    /// Adds this `Content-Security-Policy-Report-Only` to documents that have none.
    ///
    /// Browsers report violations of such a policy, but do not enforce it.
    pub fn content_security_policy_report_only(self, policy: impl Into<ContentSecurityPolicy>) -> Self {
        self.policy(CONTENT_SECURITY_POLICY_REPORT_ONLY, policy.into())
    }

    fn policy(mut self, name: HeaderName, policy: ContentSecurityPolicy) -> Self {
        if policy.header_value().is_empty() {
            return self.without(name);
        }
        self.rules_mut().send_policy(name, policy);
        self
    }

    /// Adds the nonce to requests in the header field `name`, such as `X-CSP-Nonce`.
    ///
    /// An inner service in another process can thus use the nonce.
    ///
    /// The client's fields of that name are removed, even if no policy has a nonce.
    pub fn nonce_field(mut self, name: HeaderName) -> Self {
        self.rules_mut().nonce_field = Some(name);
        self
    }

    /// Lets the inner service decide which pages other sites may embed in frames.
    ///
    /// On the paths for which `contains` returns `true`, the layer adds neither `X-Frame-Options` nor the directive
    /// `frame-ancestors` of a policy. A header that [overrides](Self::override_header) that of the inner service is still
    /// sent. The path is that of the request, percent-encoded: `contains` should return `false` for a path that servers
    /// resolve differently, such as `/embed/..%2fadmin`.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_security_headers::SecurityHeadersLayer;
    ///
    /// let layer = SecurityHeadersLayer::recommended().embeddable_paths(|path| path == "/player");
    /// # let _ = layer;
    /// ```
    pub fn embeddable_paths(mut self, contains: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.rules_mut().embeddable_paths = Some(EmbeddablePaths::new(contains));
        self
    }

    /// Adds this `Permissions-Policy` to documents that have none.
    pub fn permissions_policy(self, policy: PermissionsPolicy) -> Self {
        self.header(PERMISSIONS_POLICY, policy.header_value())
    }

    /// Adds these `Reporting-Endpoints` to documents without the field.
    pub fn reporting_endpoints(self, endpoints: ReportingEndpoints) -> Self {
        self.header(REPORTING_ENDPOINTS, endpoints.header_value())
    }

    /// Adds this `Strict-Transport-Security` to responses over TLS.
    pub fn hsts(self, hsts: Hsts) -> Self {
        self.header(STRICT_TRANSPORT_SECURITY, hsts.header_value())
    }

    /// Stops the layer from adding `Strict-Transport-Security`.
    pub fn without_hsts(self) -> Self {
        self.without(STRICT_TRANSPORT_SECURITY)
    }

    /// Adds security attributes to cookies that lack them; off by default.
    pub fn cookies(mut self, cookies: CookieAttributes) -> Self {
        self.rules_mut().cookies = Some(cookies);
        self
    }

    /// Sets whether to treat all requests as received over TLS, such as behind a proxy that terminates TLS.
    ///
    /// By default, a request was sent over TLS if it has the extension [`Scheme`](http::uri::Scheme) with the value HTTPS.
    pub fn assume_https(mut self, assume: bool) -> Self {
        self.rules_mut().assume_https = assume;
        self
    }

    /// Adds a header to responses that do not have this header. Headers for documents are added to documents only.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{HeaderValue, header};
    /// use rproxy_security_headers::SecurityHeadersLayer;
    ///
    /// let layer = SecurityHeadersLayer::recommended()
    ///     .header(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    /// # let _ = layer;
    /// ```
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.rules_mut().send(name, value, Precedence::InnerService);
        self
    }

    /// Stops the layer from adding the header `name`. The inner service may still send it.
    pub fn without(mut self, name: HeaderName) -> Self {
        self.rules_mut().remove_rule(&name);
        self
    }

    /// Sets a header on all responses, and replaces values from the inner service.
    ///
    /// `Strict-Transport-Security` is still sent over TLS only.
    pub fn override_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.rules_mut().send(name, value, Precedence::Rule);
        self
    }

    /// Removes the header `name` from all responses.
    pub fn remove_header(mut self, name: HeaderName) -> Self {
        self.rules_mut().remove(name);
        self
    }

    /// Keeps the fingerprinting header `name`, which is removed by default.
    pub fn keep_header(mut self, name: HeaderName) -> Self {
        self.rules_mut().keep(&name);
        self
    }

    fn rules_mut(&mut self) -> &mut Rules {
        Arc::make_mut(&mut self.rules)
    }
}

impl<S> Layer<S> for SecurityHeadersLayer {
    type Service = SecurityHeadersService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SecurityHeadersService::new(inner, Arc::clone(&self.rules))
    }
}
