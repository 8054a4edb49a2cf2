//! The [`ContentSecurityPolicyBuilder`] type and its errors.

use std::fmt::Write;

use http::HeaderValue;

use super::{ContentSecurityPolicy, CspDirective, CspSource, SandboxFlag};

/// A builder for [`ContentSecurityPolicy`].
///
/// [`build`](Self::build) rejects policies that browsers would silently ignore.
///
/// # Examples
///
/// ```
/// use rproxy_security_headers::{ContentSecurityPolicy, CspError, CspDirective, SecurityHeadersLayer, CspSource};
///
/// fn main() -> Result<(), CspError> {
///     let policy = ContentSecurityPolicy::builder()
///         .directive(CspDirective::DefaultSrc, [CspSource::SelfOrigin])
///         .directive(CspDirective::ScriptSrc, [CspSource::Nonce, CspSource::StrictDynamic])
///         .directive(CspDirective::ImgSrc, [CspSource::SelfOrigin, CspSource::host("images.example.org")?])
///         .directive(CspDirective::FrameAncestors, [CspSource::None])
///         .report_to("csp")
///         .build()?;
///     assert_eq!(
///         policy.header_value(),
///         "default-src 'self'; script-src 'nonce-{nonce}' 'strict-dynamic'; \
///          img-src 'self' images.example.org; frame-ancestors 'none'; report-to csp"
///     );
///     let layer = SecurityHeadersLayer::recommended().content_security_policy(policy);
///     # let _ = layer;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ContentSecurityPolicyBuilder {
    directives: Vec<(CspDirective, Vec<CspSource>)>,
    sandbox: Option<Vec<SandboxFlag>>,
    trusted_types: Option<Vec<String>>,
    upgrade_insecure_requests: bool,
    report_to: Option<String>,
    report_uri: Option<String>,
}

impl ContentSecurityPolicyBuilder {
    /// Adds a directive with a list of sources. An empty list is `'none'`.
    pub fn directive(mut self, directive: CspDirective, sources: impl IntoIterator<Item = CspSource>) -> Self {
        self.directives.push((directive, sources.into_iter().collect()));
        self
    }

    /// Adds a `sandbox` directive, which restricts the page to these permissions.
    pub fn sandbox(mut self, flags: impl IntoIterator<Item = SandboxFlag>) -> Self {
        self.sandbox = Some(flags.into_iter().collect());
        self
    }

    /// Requires Trusted Types, created by policies with these names, in DOM sinks that execute scripts.
    pub fn require_trusted_types(mut self, policies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.trusted_types = Some(policies.into_iter().map(Into::into).collect());
        self
    }

    /// Adds `upgrade-insecure-requests`, which makes browsers load HTTP resources over HTTPS. It breaks all assets of a
    /// site without TLS.
    pub fn upgrade_insecure_requests(mut self) -> Self {
        self.upgrade_insecure_requests = true;
        self
    }

    /// Reports policy violations to an endpoint of [`ReportingEndpoints`](crate::ReportingEndpoints).
    pub fn report_to(mut self, endpoint: impl Into<String>) -> Self {
        self.report_to = Some(endpoint.into());
        self
    }

    /// Reports policy violations to this URL, for browsers without support for `report-to`.
    pub fn report_uri(mut self, uri: impl Into<String>) -> Self {
        self.report_uri = Some(uri.into());
        self
    }

    /// Builds the [`ContentSecurityPolicy`].
    ///
    /// # Errors
    ///
    /// Returns an error for a policy that browsers would partly or wholly ignore:
    ///
    /// - It has no directive, or a duplicate one.
    /// - `'none'` is not the only source of its directive.
    /// - A source for scripts and styles, such as a nonce, is in a directive that does not support it.
    /// - `'strict-dynamic'` is used without a nonce or hash.
    /// - A name or URL contains a character that ends the directive.
    pub fn build(self) -> Result<ContentSecurityPolicy, CspError> {
        let mut text = String::new();
        for (index, (directive, sources)) in self.directives.iter().enumerate() {
            if self.directives[..index].iter().any(|(other, _)| other == directive) {
                return Err(CspError::DuplicateDirective(*directive));
            }
            check(*directive, sources)?;
            write_directive(&mut text, directive.as_str(), sources);
            if sources.is_empty() {
                write_token(&mut text, &CspSource::None);
            }
        }
        if let Some(flags) = &self.sandbox {
            write_directive(&mut text, "sandbox", flags.iter().map(|flag| flag.as_str()));
        }
        if let Some(policies) = &self.trusted_types {
            write_directive(&mut text, "require-trusted-types-for", ["'script'"]);
            let names = policies.iter().map(|name| token(name)).collect::<Result<Vec<_>, _>>()?;
            write_directive(&mut text, "trusted-types", if names.is_empty() { vec!["'none'"] } else { names });
        }
        if self.upgrade_insecure_requests {
            write_directive(&mut text, "upgrade-insecure-requests", [""; 0]);
        }
        for (directive, target) in [("report-uri", &self.report_uri), ("report-to", &self.report_to)] {
            if let Some(target) = target {
                write_directive(&mut text, directive, [token(target)?]);
            }
        }
        match HeaderValue::try_from(&text) {
            Ok(value) if !text.is_empty() => Ok(value.into()),
            _ => Err(CspError::Empty),
        }
    }
}

fn check(directive: CspDirective, sources: &[CspSource]) -> Result<(), CspError> {
    if sources.contains(&CspSource::None) && sources.len() > 1 {
        return Err(CspError::NoneWithOtherSources(directive));
    }
    if let Some(source) = sources.iter().find(|source| source.is_for_code() && !directive.is_for_code()) {
        return Err(CspError::UnsupportedSource { keyword: source.clone(), directive });
    }
    let is_nonce_or_hash = |source: &CspSource| matches!(source, CspSource::Nonce | CspSource::Hash(_));
    if sources.contains(&CspSource::StrictDynamic) && !sources.iter().any(is_nonce_or_hash) {
        return Err(CspError::StrictDynamicWithoutNonce(directive));
    }
    Ok(())
}

fn write_directive(text: &mut String, name: &str, tokens: impl IntoIterator<Item = impl std::fmt::Display>) {
    if !text.is_empty() {
        text.push_str("; ");
    }
    text.push_str(name);
    for token in tokens {
        write_token(text, &token);
    }
}

fn write_token(text: &mut String, token: &impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(text, " {token}");
}

/// Checks that the text is visible ASCII without `;`, which ends a directive, and `,`, which ends a policy.
fn token(text: &str) -> Result<&str, CspError> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';' && byte != b',') {
        true => Ok(text),
        false => Err(CspError::InvalidToken(text.to_owned())),
    }
}

/// The error for a policy that browsers would ignore partly or completely.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CspError {
    /// The policy contains an invalid host source.
    #[error("bad CSP host source {0:?}: expected the form https://*.example.org:443/path")]
    InvalidHost(String),
    /// The policy contains an invalid scheme source.
    #[error("bad CSP scheme source {0:?}: expected a scheme such as https or data")]
    InvalidScheme(String),
    /// A hash is not base64 or has the wrong length.
    #[error("bad CSP hash {0:?}: expected base64 with the length of the digest")]
    InvalidHash(String),
    /// A name or URL is empty, or contains a space, `;` or `,`.
    #[error("bad name or URL {0:?} in a CSP directive: empty, or contains a space, semicolon or comma")]
    InvalidToken(String),
    /// The policy contains the same directive twice. Browsers would ignore the second one.
    #[error("duplicate CSP directive {0}")]
    DuplicateDirective(CspDirective),
    /// A directive contains `'none'` together with other sources. Browsers would ignore it.
    #[error("'none' must be the only source in the CSP directive {0}")]
    NoneWithOtherSources(CspDirective),
    /// A source for scripts or styles, such as a nonce, is in a directive that does not support it.
    #[error("the CSP source {keyword} has no effect in the directive {directive}")]
    UnsupportedSource {
        /// The source that has no effect.
        keyword: CspSource,
        /// The directive that contains the source.
        directive: CspDirective,
    },
    /// `'strict-dynamic'` is used without a nonce or hash, so no script would run.
    #[error("'strict-dynamic' in the CSP directive {0} requires a nonce or a hash")]
    StrictDynamicWithoutNonce(CspDirective),
    /// The policy contains no directive.
    #[error("a Content Security Policy needs at least one directive")]
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> ContentSecurityPolicyBuilder {
        ContentSecurityPolicy::builder()
    }

    #[test]
    fn formats_all_csp_directives_in_order() {
        let policy = builder()
            .directive(CspDirective::DefaultSrc, [])
            .directive(CspDirective::StyleSrc, [CspSource::SelfOrigin, CspSource::UnsafeInline])
            .directive(CspDirective::ConnectSrc, [CspSource::scheme("wss").unwrap(), CspSource::Any])
            .sandbox([SandboxFlag::AllowScripts, SandboxFlag::AllowForms])
            .require_trusted_types(["default"])
            .upgrade_insecure_requests()
            .report_uri("https://reports.example/csp")
            .report_to("csp")
            .build()
            .unwrap();
        assert_eq!(
            policy.header_value(),
            "default-src 'none'; style-src 'self' 'unsafe-inline'; connect-src wss: *; sandbox allow-scripts \
             allow-forms; require-trusted-types-for 'script'; trusted-types default; upgrade-insecure-requests; \
             report-uri https://reports.example/csp; report-to csp"
        );
        assert!(!policy.has_nonce());
        assert!(builder().directive(CspDirective::ScriptSrc, [CspSource::Nonce]).build().unwrap().has_nonce());
    }

    #[test]
    fn csp_builder_rejects_policies_that_browsers_would_ignore() {
        use CspDirective::{FrameAncestors, ImgSrc, ScriptSrc};
        for (builder, error) in [
            (builder(), CspError::Empty),
            (builder().directive(ImgSrc, []).directive(ImgSrc, [CspSource::Any]), CspError::DuplicateDirective(ImgSrc)),
            (
                builder().directive(FrameAncestors, [CspSource::None, CspSource::SelfOrigin]),
                CspError::NoneWithOtherSources(FrameAncestors),
            ),
            (
                builder().directive(ImgSrc, [CspSource::Nonce]),
                CspError::UnsupportedSource { keyword: CspSource::Nonce, directive: ImgSrc },
            ),
            (
                builder().directive(ScriptSrc, [CspSource::StrictDynamic]),
                CspError::StrictDynamicWithoutNonce(ScriptSrc),
            ),
            (builder().report_to("a b"), CspError::InvalidToken("a b".to_owned())),
            (builder().report_uri("https://a/;script-src"), CspError::InvalidToken("https://a/;script-src".to_owned())),
        ] {
            assert_eq!(builder.build(), Err(error));
        }
    }
}
