//! Pages that other sites may embed in frames.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

/// A function that returns whether the inner service controls the embedding of the page at a path.
#[derive(Clone)]
pub(crate) struct EmbeddablePaths(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl EmbeddablePaths {
    pub(crate) fn new(contains: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(contains))
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        (self.0)(path)
    }
}

impl fmt::Debug for EmbeddablePaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddablePaths").finish_non_exhaustive()
    }
}

/// Returns whether a directive of a Content Security Policy is `frame-ancestors`.
pub(crate) fn is_frame_ancestors(directive: &[u8]) -> bool {
    let name = directive.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
    name.eq_ignore_ascii_case(b"frame-ancestors")
}

/// Removes `frame-ancestors` from a Content Security Policy. Returns `None` if nothing is left.
pub(crate) fn without_frame_ancestors(policy: &HeaderValue) -> Option<HeaderValue> {
    let policies = policy.as_bytes().split(|byte| *byte == b',').filter_map(|policy| {
        let directives = policy.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let others: Vec<_> = directives.filter(|it| !it.is_empty() && !is_frame_ancestors(it)).collect();
        (!others.is_empty()).then(|| others.join(&b"; "[..]))
    });
    let left = policies.collect::<Vec<_>>().join(&b", "[..]);
    // A part of a valid value is a valid value.
    (!left.is_empty()).then(|| HeaderValue::from_bytes(&left).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_only_frame_ancestors_from_a_policy() {
        for (policy, expected) in [
            ("default-src 'self'; frame-ancestors 'none'; img-src *", Some("default-src 'self'; img-src *")),
            ("Frame-Ancestors https://a.example;default-src 'self';", Some("default-src 'self'")),
            ("frame-ancestors 'none', img-src *; frame-ancestors *", Some("img-src *")),
            ("frame-src 'none'", Some("frame-src 'none'")),
            ("frame-ancestors 'none'", None),
            ("", None),
        ] {
            let left = without_frame_ancestors(&HeaderValue::from_static(policy));
            assert_eq!(left.as_ref().map(HeaderValue::as_bytes), expected.map(str::as_bytes), "{policy}");
        }
    }
}
