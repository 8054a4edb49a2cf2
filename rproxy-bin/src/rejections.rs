//! The rejections of all layers: label values of metrics, and explanations for operators.
//!
//! Each file in `layers/` declares the rejections of its layer. Layers of other programs can have other reasons.

use std::sync::LazyLock;

use rproxy_core::Rejection;

use crate::config::spelled;
use crate::known_rejection::KnownRejection;
use crate::layers;

/// The rejection of a request whose service panicked.
const PANIC: KnownRejection = KnownRejection::new("panic", "panic");

fn all() -> impl Iterator<Item = &'static KnownRejection> {
    layers::rejections().chain([&PANIC])
}

/// Returns the explanation of a rejection: its cause, and the setting that decides.
///
/// The text names backends and rules: it is for operators, never for clients.
pub(crate) fn explanation(rejection: &Rejection) -> Option<String> {
    let Some(known) = all().find(|known| known.is(rejection)) else {
        return (!REASONS.contains(&rejection.reason())).then(|| rejection.to_string());
    };
    let text = known.explanation?;
    let detail = rejection.detail().map(|detail| detail.as_str());
    // Operators write the backend without its scheme.
    Some(spelled(&filled(text, detail.map(|detail| detail.strip_prefix("http://").unwrap_or(detail)))))
}

/// Returns the index of a rejection among the rejections that are [logged](logged_count), or `None` if it is not one of them.
pub(crate) fn logged_index(rejection: &Rejection) -> Option<usize> {
    all().filter(|known| known.is_logged).position(|known| known.is(rejection))
}

/// Returns the number of rejections that are logged.
pub(crate) fn logged_count() -> usize {
    all().filter(|known| known.is_logged).count()
}

/// Returns the distinct reasons of all declared rejections.
pub(crate) fn reasons() -> &'static [&'static str] {
    &REASONS
}

static REASONS: LazyLock<Box<[&'static str]>> = LazyLock::new(|| {
    let mut reasons = Vec::new();
    for known in all() {
        if !reasons.contains(&known.reason) {
            reasons.push(known.reason);
        }
    }
    reasons.into()
});

/// Replaces the text in braces, or removes only the braces if there is no detail.
fn filled(text: &str, detail: Option<&str>) -> String {
    let Some((before, rest)) = text.split_once('{') else { return text.to_owned() };
    let (fallback, after) = rest.split_once('}').unwrap_or((rest, ""));
    format!("{before}{}{after}", detail.unwrap_or(fallback))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;
    use http::StatusCode;
    use rproxy_core::RejectionDetail;
    use rproxy_upstream::ProxyErrorKind;

    fn rejection(reason: &'static str, cause: &'static str) -> Rejection {
        Rejection::new("test", reason, StatusCode::NOT_FOUND).with_cause(cause)
    }

    #[test]
    fn rejection_explanations_name_only_existing_settings() {
        let known: Vec<String> = settings().map(|setting| setting.variable()).collect();
        let explained: Vec<_> = all().filter_map(|known| known.explanation).collect();
        assert!(explained.len() > 25, "{explained:?}");
        for text in explained {
            let words = text.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
            let named: Vec<_> = words.filter(|word| word.starts_with("RPROXY_")).collect();
            assert!(!named.is_empty(), "{text}");
            assert!(named.iter().all(|name| known.iter().any(|known| known == name)), "{text}");
        }
    }

    #[test]
    fn every_upstream_error_not_caused_by_the_client_has_an_explanation() {
        for kind in ProxyErrorKind::ALL {
            let text = explanation(&rejection("upstream", kind.as_str()));
            assert_eq!(text.is_some(), *kind != ProxyErrorKind::HttpRequestError, "{}", kind.as_str());
        }
    }

    #[test]
    fn explanation_contains_the_detail_of_the_rejection() {
        let refused = rejection("upstream", "connection_refused");
        for (detail, named) in [
            (Some(RejectionDetail::Backend("http://127.0.0.1:3000".into())), "listening on 127.0.0.1:3000;"),
            (Some(RejectionDetail::Backend("unix:/run/a.sock".into())), "listening on unix:/run/a.sock;"),
            (None, "listening on the backend;"),
        ] {
            let refused = detail.into_iter().fold(refused.clone(), Rejection::with_detail);
            let text = explanation(&refused).unwrap();
            assert!(text.contains(named), "{text}");
        }
    }

    #[test]
    fn rejections_without_a_setting_have_no_explanation() {
        for reason in ["bad_host", "only_if_cached", "panic", "websocket"] {
            assert_eq!(explanation(&rejection(reason, reason)), None, "{reason}");
        }
    }

    #[test]
    fn unknown_rejection_is_explained_by_its_own_text() {
        let rejection = rejection("closed", "holiday").with_detail(RejectionDetail::Setting("OPENING_HOURS"));
        assert_eq!(explanation(&rejection).unwrap(), "rejected by test with 404: holiday (setting OPENING_HOURS)");
        assert_eq!(logged_index(&rejection), None);
    }

    #[test]
    fn every_rejection_reason_is_listed_once() {
        let mut reasons = reasons().to_vec();
        assert_eq!(reasons.len(), 34);
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), 34, "{reasons:?}");
    }
}
