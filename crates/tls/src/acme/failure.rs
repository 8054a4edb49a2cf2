use std::fmt;

use tokio_rustls_acme::acme::{AcmeError, Auth, Identifier, Order, Problem};

/// The failure of a certificate order, with the problem that the ACME server reported, if any.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) reason: String,
}

/// The class of an order failure, which determines the back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The ACME server rejected the order, which counts against the server's rate limits.
    Rejected,
    /// The ACME server was unreachable, failed, or requested a retry, which does not count against its rate limits.
    Transient,
}

impl Failure {
    pub(crate) fn rejected(reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::Rejected, reason: reason.into() }
    }

    pub(crate) fn transient(reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::Transient, reason: reason.into() }
    }

    /// Creates a failure from a local error, for which an immediate retry is useless.
    pub(super) fn from_local(error: impl fmt::Display) -> Self {
        Self::rejected(error.to_string())
    }

    pub(super) fn from_order(order: &Order) -> Self {
        Self::rejected(match &order.error {
            Some(error) => format_problem(error),
            None => "the ACME order became invalid".to_owned(),
        })
    }

    pub(super) fn from_authorization(authorization: &Auth) -> Self {
        let Identifier::Dns(name) = &authorization.identifier;
        let mut errors = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        Self::rejected(match errors.next_back() {
            Some(error) => format!("{name}: {}", format_problem(error)),
            None => format!("the ACME authorization of {name} has the status {:?}", authorization.status),
        })
    }

    pub(super) fn from_request(error: AcmeError) -> Self {
        match error {
            // The type of the inner error is not exported, so only its text is available.
            AcmeError::HttpRequest(error) => Self::from_http_error(&error.to_string()),
            AcmeError::NoTlsAlpn01Challenge => Self::rejected("the ACME server offers no TLS-ALPN-01 challenge"),
            error @ (AcmeError::Io(_) | AcmeError::Json(_) | AcmeError::MissingHeader(_)) => {
                Self::transient(error.to_string())
            }
            error => Self::rejected(error.to_string()),
        }
    }

    fn from_http_error(text: &str) -> Self {
        let Some((status, body)) = text.strip_prefix("non 2xx http status: ").and_then(|rest| rest.split_once(' '))
        else {
            return Self::transient(text);
        };
        // The body is formatted as a Rust string literal, which for JSON text is a valid JSON string.
        let document = serde_json::from_str::<String>(body)
            .ok()
            .and_then(|body| serde_json::from_str::<Problem>(&body).ok())
            .filter(|document| document.typ.is_some() || document.detail.is_some());
        let Some(document) = document else {
            let reason = format!("the ACME server responded with {status}");
            return if status.starts_with('5') { Self::transient(reason) } else { Self::rejected(reason) };
        };
        let reason = format_problem(&document);
        // RFC 8555 §6.5: clients should retry after a badNonce error.
        let is_bad_nonce = document.typ.as_deref() == Some(BAD_NONCE);
        if is_bad_nonce || status.starts_with('5') { Self::transient(reason) } else { Self::rejected(reason) }
    }
}

/// Returns whether the request should be repeated with a new nonce (RFC 8555 §6.5).
pub(super) fn is_bad_nonce(error: &AcmeError) -> bool {
    matches!(error, AcmeError::HttpRequest(error) if error.to_string().contains(BAD_NONCE))
}

fn format_problem(problem: &Problem) -> String {
    let typ = problem.typ.as_deref().unwrap_or("about:blank");
    let typ = typ.strip_prefix(ERROR_NAMESPACE).unwrap_or(typ);
    match &problem.detail {
        Some(detail) => format!("{detail} ({typ})"),
        None => typ.to_owned(),
    }
}

/// The URN namespace of ACME error types (RFC 8555 §6.7).
const ERROR_NAMESPACE: &str = "urn:ietf:params:acme:error:";
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_errors_include_the_reported_problem_and_are_classified_by_status() {
        for (status, body, kind, reason) in [
            (
                429,
                r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many \"new\" orders","status":429}"#,
                FailureKind::Rejected,
                r#"too many "new" orders (rateLimited)"#,
            ),
            (
                400,
                r#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"JWS has an invalid nonce"}"#,
                FailureKind::Transient,
                "JWS has an invalid nonce (badNonce)",
            ),
            (500, r#"{"type":"urn:ietf:params:acme:error:serverInternal"}"#, FailureKind::Transient, "serverInternal"),
            (503, "<html>", FailureKind::Transient, "the ACME server responded with 503"),
            (403, "", FailureKind::Rejected, "the ACME server responded with 403"),
            (404, "{}", FailureKind::Rejected, "the ACME server responded with 404"),
        ] {
            let text = format!("non 2xx http status: {status} {body:?}");
            let failure = Failure::from_http_error(&text);
            assert_eq!((failure.kind, &*failure.reason), (kind, reason));
        }
    }

    #[test]
    fn failed_connection_to_the_acme_server_is_a_transient_failure() {
        let failure = Failure::from_http_error("http error: ConnectError(..)");
        assert_eq!(failure.kind, FailureKind::Transient);
    }

    #[test]
    fn failed_acme_validation_reports_the_name_and_the_problem() {
        let auth: Auth = serde_json::from_str(
            r#"{"status":"invalid","identifier":{"type":"dns","value":"a.test"},"challenges":[
                {"type":"http-01"},
                {"type":"tls-alpn-01","error":{"type":"urn:ietf:params:acme:error:connection","detail":"Connection refused"}}]}"#,
        )
        .unwrap();
        let failure = Failure::from_authorization(&auth);
        assert_eq!(failure.reason, "a.test: Connection refused (connection)");
        assert_eq!(failure.kind, FailureKind::Rejected);
    }
}
