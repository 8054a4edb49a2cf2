//! A policy, put together.

use std::fmt::Write;

use http::HeaderValue;

use super::{ContentSecurityPolicy, Directive, Sandbox, Source};

/// Collects directives. What browsers would ignore without a word is an error when it is built.
///
/// ```
/// use rproxy_security_headers::{ContentSecurityPolicy, CspError, Directive, SecurityHeadersLayer, Source};
///
/// fn main() -> Result<(), CspError> {
///     let policy = ContentSecurityPolicy::builder()
///         .directive(Directive::DefaultSrc, [Source::SelfOrigin])
///         .directive(Directive::ScriptSrc, [Source::Nonce, Source::StrictDynamic])
///         .directive(Directive::ImgSrc, [Source::SelfOrigin, Source::host("images.example.org")?])
///         .directive(Directive::FrameAncestors, [Source::None])
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
    directives: Vec<(Directive, Vec<Source>)>,
    sandbox: Option<Vec<Sandbox>>,
    trusted_types: Option<Vec<String>>,
    upgrade_insecure_requests: bool,
    report_to: Option<String>,
    report_uri: Option<String>,
}

impl ContentSecurityPolicyBuilder {
    /// Where what the directive is about may come from. No source is `'none'`.
    pub fn directive(mut self, directive: Directive, sources: impl IntoIterator<Item = Source>) -> Self {
        self.directives.push((directive, sources.into_iter().collect()));
        self
    }

    /// Puts the page into a sandbox, in which it may do no more than this.
    pub fn sandbox(mut self, allowed: impl IntoIterator<Item = Sandbox>) -> Self {
        self.sandbox = Some(allowed.into_iter().collect());
        self
    }

    /// Lets text become code only through Trusted Types policies of these names.
    pub fn require_trusted_types(mut self, policies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.trusted_types = Some(policies.into_iter().map(Into::into).collect());
        self
    }

    /// Has the browser ask by HTTPS for what the page names by HTTP. Breaks every asset of a site without TLS.
    pub fn upgrade_insecure_requests(mut self) -> Self {
        self.upgrade_insecure_requests = true;
        self
    }

    /// Reports what was blocked to an endpoint of [`ReportingEndpoints`](crate::ReportingEndpoints).
    pub fn report_to(mut self, endpoint: impl Into<String>) -> Self {
        self.report_to = Some(endpoint.into());
        self
    }

    /// Reports to this address, for browsers that don't know `report-to`.
    pub fn report_uri(mut self, uri: impl Into<String>) -> Self {
        self.report_uri = Some(uri.into());
        self
    }

    /// The policy.
    ///
    /// # Errors
    ///
    /// What a browser would ignore: a directive that is there twice, `'none'` beside others, keywords for scripts and
    /// styles where there are none, `'strict-dynamic'` with neither nonce nor hash; names and addresses that would
    /// end their directive; no directive at all.
    pub fn build(self) -> Result<ContentSecurityPolicy, CspError> {
        let mut text = String::new();
        for (index, (directive, sources)) in self.directives.iter().enumerate() {
            if self.directives[..index].iter().any(|(other, _)| other == directive) {
                return Err(CspError::Twice(*directive));
            }
            check(*directive, sources)?;
            put(&mut text, directive.as_str(), sources);
            if sources.is_empty() {
                put_word(&mut text, &Source::None);
            }
        }
        if let Some(allowed) = &self.sandbox {
            put(&mut text, "sandbox", allowed.iter().map(|allowed| allowed.as_str()));
        }
        if let Some(policies) = &self.trusted_types {
            put(&mut text, "require-trusted-types-for", ["'script'"]);
            let names = policies.iter().map(|name| word(name)).collect::<Result<Vec<_>, _>>()?;
            put(&mut text, "trusted-types", if names.is_empty() { vec!["'none'"] } else { names });
        }
        if self.upgrade_insecure_requests {
            put(&mut text, "upgrade-insecure-requests", [""; 0]);
        }
        for (directive, what) in [("report-uri", &self.report_uri), ("report-to", &self.report_to)] {
            if let Some(what) = what {
                put(&mut text, directive, [word(what)?]);
            }
        }
        match HeaderValue::try_from(&text) {
            Ok(value) if !text.is_empty() => Ok(value.into()),
            _ => Err(CspError::Empty),
        }
    }
}

fn check(directive: Directive, sources: &[Source]) -> Result<(), CspError> {
    if sources.contains(&Source::None) && sources.len() > 1 {
        return Err(CspError::NoneAndMore(directive));
    }
    if let Some(source) = sources.iter().find(|source| source.is_about_code() && !directive.is_about_code()) {
        return Err(CspError::NoMeaning { keyword: source.clone(), directive });
    }
    let is_root_of_trust = |source: &Source| matches!(source, Source::Nonce | Source::Hash(_));
    if sources.contains(&Source::StrictDynamic) && !sources.iter().any(is_root_of_trust) {
        return Err(CspError::NothingToStartFrom(directive));
    }
    Ok(())
}

fn put(text: &mut String, name: &str, words: impl IntoIterator<Item = impl std::fmt::Display>) {
    if !text.is_empty() {
        text.push_str("; ");
    }
    text.push_str(name);
    for word in words {
        put_word(text, &word);
    }
}

fn put_word(text: &mut String, word: &impl std::fmt::Display) {
    // Writing to a string can't fail.
    let _ = write!(text, " {word}");
}

/// Visible ASCII that ends neither its directive nor its policy.
fn word(text: &str) -> Result<&str, CspError> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';' && byte != b',') {
        true => Ok(text),
        false => Err(CspError::Word(text.to_owned())),
    }
}

/// A policy that would not do what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CspError {
    /// No host.
    #[error("bad source {0:?}: not of the form https://*.example.org:443/path")]
    Host(String),
    /// No scheme.
    #[error("bad source {0:?}: not a scheme such as https or data")]
    Scheme(String),
    /// No hash of that length.
    #[error("bad hash {0:?}: not a digest of that length in base64")]
    Hash(String),
    /// A name or address with blanks, `;` or `,` in it, or nothing.
    #[error("bad word {0:?}: empty, or has characters that end it in a policy")]
    Word(String),
    /// Browsers take the first and ignore the second.
    #[error("{0} is there twice")]
    Twice(Directive),
    /// Browsers ignore `'none'` beside anything.
    #[error("'none' of {0} does not stand alone")]
    NoneAndMore(Directive),
    /// A keyword for code, where there is none.
    #[error("{keyword} has no meaning in {directive}")]
    NoMeaning {
        /// The source, which is about code.
        keyword: Source,
        /// Where it stands.
        directive: Directive,
    },
    /// Nothing would run at all.
    #[error("'strict-dynamic' of {0} has neither a nonce nor a hash beside it")]
    NothingToStartFrom(Directive),
    /// No directive.
    #[error("a policy needs at least one directive")]
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> ContentSecurityPolicyBuilder {
        ContentSecurityPolicy::builder()
    }

    #[test]
    fn a_policy_says_what_was_put_together() {
        let policy = builder()
            .directive(Directive::DefaultSrc, [])
            .directive(Directive::StyleSrc, [Source::SelfOrigin, Source::UnsafeInline])
            .directive(Directive::ConnectSrc, [Source::scheme("wss").unwrap(), Source::Any])
            .sandbox([Sandbox::AllowScripts, Sandbox::AllowForms])
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
        assert!(builder().directive(Directive::ScriptSrc, [Source::Nonce]).build().unwrap().has_nonce());
    }

    #[test]
    fn what_browsers_would_ignore_is_refused() {
        use Directive::{FrameAncestors, ImgSrc, ScriptSrc};
        for (builder, error) in [
            (builder(), CspError::Empty),
            (builder().directive(ImgSrc, []).directive(ImgSrc, [Source::Any]), CspError::Twice(ImgSrc)),
            (
                builder().directive(FrameAncestors, [Source::None, Source::SelfOrigin]),
                CspError::NoneAndMore(FrameAncestors),
            ),
            (
                builder().directive(ImgSrc, [Source::Nonce]),
                CspError::NoMeaning { keyword: Source::Nonce, directive: ImgSrc },
            ),
            (builder().directive(ScriptSrc, [Source::StrictDynamic]), CspError::NothingToStartFrom(ScriptSrc)),
            (builder().report_to("a b"), CspError::Word("a b".to_owned())),
            (builder().report_uri("https://a/;script-src"), CspError::Word("https://a/;script-src".to_owned())),
        ] {
            assert_eq!(builder.build(), Err(error));
        }
    }
}
