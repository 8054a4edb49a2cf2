//! The layer and its rules.

use std::sync::Arc;

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, STRICT_TRANSPORT_SECURITY};
use http::{HeaderName, HeaderValue};
use tower_layer::Layer;

use crate::cookies::Cookies;
use crate::csp::ContentSecurityPolicy;
use crate::hsts::{Hsts, YEAR};
use crate::names::{PERMISSIONS_POLICY, REPORTING_ENDPOINTS};
use crate::permissions::PermissionsPolicy;
use crate::profiles::{self, Header};
use crate::reporting::ReportingEndpoints;
use crate::rules::{Rules, Wins};
use crate::service::SecurityHeadersService;

/// Adds security headers to responses, and removes fingerprints.
///
/// It starts from a profile. Of two calls about the same header, the later one counts.
#[derive(Clone, Debug)]
#[must_use]
pub struct SecurityHeadersLayer {
    rules: Arc<Rules>,
}

impl SecurityHeadersLayer {
    /// What an ordinary site, made without a thought of these headers, can take: see the
    /// [crate's page](crate) for each and why.
    pub fn recommended() -> Self {
        Self::profile(&profiles::RECOMMENDED).hsts(Hsts::max_age(YEAR))
    }

    /// For a site that loads everything from its own origin and has no inline scripts or styles:
    /// `default-src 'self'`, isolated from other origins both ways, never framed, no access to
    /// camera, position and the like, no referrer, and TLS for all subdomains for two years.
    pub fn strict() -> Self {
        Self::profile(&profiles::STRICT).hsts(Hsts::max_age(2 * YEAR).include_subdomains(true))
    }

    /// For an API, whose answers nobody is meant to look at in a browser: `default-src 'none'`,
    /// never framed, not loaded by other origins but by CORS. `Cache-Control` stays the
    /// application's affair.
    pub fn api() -> Self {
        Self::profile(&profiles::API).hsts(Hsts::max_age(YEAR))
    }

    /// `X-Content-Type-Options`, and `Strict-Transport-Security` over TLS. Fingerprints go, as ever.
    pub fn minimal() -> Self {
        Self::profile(&profiles::MINIMAL).hsts(Hsts::max_age(YEAR))
    }

    fn profile(profile: &[Header]) -> Self {
        Self { rules: Arc::new(Rules::new(profile)) }
    }

    /// Sends this `Content-Security-Policy` with documents that have none of their own. An empty
    /// one is none.
    ///
    /// Where it says `'nonce-{nonce}'` ([`Source::Nonce`](crate::Source::Nonce)), each request gets a
    /// [`CspNonce`](crate::CspNonce) as an extension. It stands in the policy of the response, also in one of the
    /// application's own that says so.
    pub fn content_security_policy(self, policy: impl Into<ContentSecurityPolicy>) -> Self {
        self.policy(CONTENT_SECURITY_POLICY, policy.into())
    }

    /// Sends this `Content-Security-Policy-Report-Only`, which tells what a policy would break and
    /// breaks nothing.
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

    /// Sends the nonce in the request field `name`, such as `X-CSP-Nonce`, for an application in another process.
    ///
    /// The client's field of that name is removed, also where no policy has a nonce.
    pub fn nonce_field(mut self, name: HeaderName) -> Self {
        self.rules_mut().nonce_field = Some(name);
        self
    }

    /// Sends this `Permissions-Policy` with documents that have none of their own.
    pub fn permissions_policy(self, policy: PermissionsPolicy) -> Self {
        self.header(PERMISSIONS_POLICY, policy.header_value())
    }

    /// Sends these `Reporting-Endpoints` with documents that have none of their own.
    pub fn reporting_endpoints(self, endpoints: ReportingEndpoints) -> Self {
        self.header(REPORTING_ENDPOINTS, endpoints.header_value())
    }

    /// Sends this `Strict-Transport-Security` over TLS.
    pub fn hsts(self, hsts: Hsts) -> Self {
        self.header(STRICT_TRANSPORT_SECURITY, hsts.header_value())
    }

    /// Leaves `Strict-Transport-Security` to the application.
    pub fn without_hsts(self) -> Self {
        self.without(STRICT_TRANSPORT_SECURITY)
    }

    /// Adds to cookies what they lack. By default they are the application's affair.
    pub fn cookies(mut self, cookies: Cookies) -> Self {
        self.rules_mut().cookies = Some(cookies);
        self
    }

    /// Whether every request came over TLS, whatever the extension [`Scheme`](http::uri::Scheme)
    /// says: for behind a proxy that ends TLS.
    pub fn assume_https(mut self, assume: bool) -> Self {
        self.rules_mut().assume_https = assume;
        self
    }

    /// Sends `name: value` where the application says nothing of it. Headers that are for documents
    /// only go on documents only.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.rules_mut().send(name, value, Wins::Application);
        self
    }

    /// Leaves the header `name` to the application.
    pub fn without(mut self, name: HeaderName) -> Self {
        self.rules_mut().send_nothing(&name);
        self
    }

    /// Sends `name: value` on every response, in place of what the application says;
    /// `Strict-Transport-Security` still over TLS only.
    pub fn override_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.rules_mut().send(name, value, Wins::Rule);
        self
    }

    /// Neither sends the header `name` nor lets the application send it.
    pub fn remove_header(mut self, name: HeaderName) -> Self {
        self.rules_mut().remove(name);
        self
    }

    /// Lets the application send `name`, though it is a fingerprint.
    pub fn keep(mut self, name: HeaderName) -> Self {
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
