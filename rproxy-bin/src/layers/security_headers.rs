//! The settings of the security headers in responses.

use std::sync::LazyLock;

use http::{HeaderName, HeaderValue};
use rproxy_security_headers::{
    ContentSecurityPolicy, CookieAttributes, Hsts, PermissionsPolicy, ReportingEndpoints, SecurityHeadersLayer,
};

use crate::setting::{SWITCH, settings};
use crate::values::choice::{SecurityProfile, field_name, field_names, policy};
use crate::values::parsed::Parsed;
use crate::values::paths::{PathGlobs, embed_paths};
use crate::values::security_headers::SecurityHeaderList;
use crate::values::value::{boolean, joined};

settings! {
    /// The settings of the security headers in responses.
    SecurityHeadersSettings, "Responses"

    "hsts" => hsts: bool {
        value: "BOOL",
        default: "true",
        help: "Sends Strict-Transport-Security on TLS responses",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.hsts.to_string()),
    }

    "hsts_policy" => hsts_policy: Option<Hsts> {
        value: "POLICY",
        default: "from the profile" => None,
        help: "Value of Strict-Transport-Security; `preload` requires includeSubDomains and a max-age of at least a year",
        accepted: "a policy such as max-age=63072000; includeSubDomains; preload",
        scope: Route,
        reload: Live,
        parse: |t| t.parse().map(Some),
        show: |s| s.hsts_policy.as_ref().map(ToString::to_string),
    }

    "security_headers" => headers: SecurityHeaderList {
        value: "PROFILE,...",
        default: "recommended",
        help: "Security headers to add to responses without them: a profile, then individual headers to omit (-NAME) or to set (NAME: VALUE)",
        accepted: "recommended, strict, api or minimal, then -NAME or NAME: VALUE: recommended,-x-frame-options",
        scope: Route,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.headers.to_string()),
    }

    "embed_paths" => embed_paths: Option<Parsed<PathGlobs>> {
        value: "GLOB,...",
        default: "`/**/embed,/**/embed/**` with the profile recommended, otherwise none" => None,
        help: "Pages that other sites may embed in frames, unless the application forbids it: neither X-Frame-Options nor frame-ancestors is added",
        accepted: "comma-separated globs such as /player/**, or none",
        scope: Route,
        reload: Live,
        parse: |t| embed_paths(t).map(Some),
        show: |s| s.embed_paths.as_ref().map(|paths| paths.text().to_owned()),
    }

    "content_security_policy" => content_security_policy: Option<String> {
        value: "POLICY",
        default: "from the profile" => None,
        help: "Content-Security-Policy for documents that have none",
        accepted: "a policy such as default-src 'self'; script-src 'nonce-{nonce}'",
        scope: Route,
        reload: Live,
        parse: |t| policy(t).map(Some),
        show: |s| s.content_security_policy.clone(),
    }

    "content_security_policy_report_only" => content_security_policy_report_only: Option<String> {
        value: "POLICY",
        default: "none" => None,
        help: "Content-Security-Policy-Report-Only for documents: browsers report violations, but do not block them",
        accepted: "a policy such as default-src 'self'; report-to csp",
        scope: Route,
        reload: Live,
        parse: |t| policy(t).map(Some),
        show: |s| s.content_security_policy_report_only.clone(),
    }

    "csp_nonce_header" => csp_nonce_header: HeaderName {
        value: "FIELD",
        default: "x-csp-nonce",
        help: "Request header field in which the backend receives the nonce of a policy with 'nonce-{nonce}'",
        accepted: "a header field name",
        scope: Route,
        reload: Live,
        parse: field_name,
        show: |s| Some(s.csp_nonce_header.to_string()),
    }

    "permissions_policy" => permissions_policy: Option<PermissionsPolicy> {
        value: "POLICY",
        default: "from the profile" => None,
        help: "Permissions-Policy for documents that have none",
        accepted: "a policy such as camera=(), geolocation=(self)",
        scope: Route,
        reload: Live,
        parse: |t| t.parse().map(Some),
        show: |s| s.permissions_policy.as_ref().map(ToString::to_string),
    }

    "reporting_endpoints" => reporting_endpoints: Option<ReportingEndpoints> {
        value: "NAME=URL,...",
        default: "none" => None,
        help: "Reporting-Endpoints for documents: the URLs to which browsers send reports of violations",
        accepted: "comma-separated names with https:// URLs or paths: csp=https://reports.example/csp",
        scope: Route,
        reload: Live,
        parse: |t| t.parse().map(Some),
        show: |s| s.reporting_endpoints.as_ref().map(ToString::to_string),
    }

    "keep_headers" => keep_headers: Vec<HeaderName> {
        value: "FIELD,...",
        default: "none" => Vec::new(),
        help: "Response header fields to keep although they reveal the server software",
        accepted: "comma-separated names of header fields",
        scope: Route,
        reload: Live,
        parse: field_names,
        show: |s| joined(&s.keep_headers),
    }

    "harden_cookies" => harden_cookies: bool {
        value: "BOOL",
        default: "false",
        help: "Adds Secure (over TLS) and SameSite=Lax to cookies that do not set them",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.harden_cookies.to_string()),
    }


    idle {
        ["hsts"] => |s, c| {
            (s.hsts && !c.has_tls).then(|| "Strict-Transport-Security is sent over TLS only, and TLS is off".to_owned())
        },
        ["hsts_policy"] => |s, c| {
            (!s.hsts || !c.has_tls).then(|| "Strict-Transport-Security is sent over TLS only, and only if hsts is on".to_owned())
        },
        ["csp_nonce_header"] => |s, _| {
            let policies = [&s.content_security_policy, &s.content_security_policy_report_only];
            let mut policies = policies.into_iter().flatten();
            let has_nonce = policies.any(|policy| ContentSecurityPolicy::from(policy.as_str()).has_nonce());
            (!has_nonce).then(|| "no policy contains 'nonce-{nonce}'".to_owned())
        },
    }
}

/// The paths of the embeddable pages of WordPress, PeerTube, Mastodon, Pixelfed and other applications.
const DEFAULT_EMBED_PATHS: &str = "/**/embed,/**/embed/**";
const EMBED: &str = "embed";

/// Returns the default pages for embedding. All layers share the compiled globs.
fn default_embed_paths() -> Option<PathGlobs> {
    static PATHS: LazyLock<Option<PathGlobs>> = LazyLock::new(|| DEFAULT_EMBED_PATHS.parse().ok());
    PATHS.clone()
}

impl SecurityHeadersSettings {
    /// Returns whether the policy asks browsers to preload it.
    pub(crate) fn is_preloadable(&self) -> bool {
        self.hsts && self.hsts_policy.is_some_and(Hsts::is_preloadable)
    }

    pub(crate) fn layer(&self) -> SecurityHeadersLayer {
        let mut layer = match self.headers.profile {
            SecurityProfile::Recommended => SecurityHeadersLayer::recommended(),
            SecurityProfile::Strict => SecurityHeadersLayer::strict(),
            SecurityProfile::Api => SecurityHeadersLayer::api(),
            SecurityProfile::Minimal => SecurityHeadersLayer::minimal(),
        };
        if let Some(policy) = &self.content_security_policy {
            layer = layer.content_security_policy(policy.as_str());
        }
        if let Some(policy) = &self.content_security_policy_report_only {
            layer = layer.content_security_policy_report_only(policy.as_str());
        }
        layer = layer.nonce_field(self.csp_nonce_header.clone());
        if let Some(policy) = &self.permissions_policy {
            layer = layer.permissions_policy(policy.clone());
        }
        if let Some(endpoints) = &self.reporting_endpoints {
            layer = layer.reporting_endpoints(endpoints.clone());
        }
        if let Some(policy) = self.hsts_policy {
            layer = layer.hsts(policy);
        }
        if !self.hsts {
            layer = layer.without_hsts();
        }
        if self.harden_cookies {
            layer = layer.cookies(CookieAttributes::hardened());
        }
        let layer = match self.embeddable_paths() {
            // The default globs require this word, which is found faster than a glob is matched.
            Some(paths) if self.embed_paths.is_none() => {
                layer.embeddable_paths(move |path| path.contains(EMBED) && paths.contains(path))
            }
            Some(paths) => layer.embeddable_paths(move |path| paths.contains(path)),
            None => layer,
        };
        let layer = self.headers.without.iter().cloned().fold(layer, SecurityHeadersLayer::without);
        let set = |layer: SecurityHeadersLayer, (name, value): &(HeaderName, HeaderValue)| {
            layer.header(name.clone(), value.clone())
        };
        let layer = self.headers.with.iter().fold(layer, set);
        self.keep_headers.iter().cloned().fold(layer, SecurityHeadersLayer::keep_header)
    }

    /// Returns the paths of the pages for which the backend sets the framing policy.
    ///
    /// The default does not weaken values that were set for framing.
    fn embeddable_paths(&self) -> Option<PathGlobs> {
        let is_set = self.content_security_policy.is_some()
            || self.headers.with.iter().any(|(name, _)| name == http::header::X_FRAME_OPTIONS);
        match &self.embed_paths {
            Some(paths) => Some(paths.value().clone()),
            None if is_set || self.headers.profile != SecurityProfile::Recommended => None,
            None => default_embed_paths(),
        }
    }

    pub(crate) fn describe(&self) -> String {
        format!("SecurityHeaders  {}{}", self.headers, if self.hsts { "" } else { ", without HSTS" })
    }
}
