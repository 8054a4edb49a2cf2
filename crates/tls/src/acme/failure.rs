use std::fmt;

use tokio_rustls_acme::acme::{AcmeError, Auth, Identifier, Order, Problem};

/// Why an order did not end in a certificate, in the directory's own words where it had any.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

/// What a failure costs, which decides how long to wait after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The directory heard the request and said no. Each time counts against its limits.
    Refused,
    /// The directory was not there, not well, or wants the same again: nothing was used up.
    Unreachable,
}

impl Failure {
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, reason: reason.into() }
    }

    pub(crate) fn unreachable(reason: impl Into<String>) -> Self {
        Self { kind: Kind::Unreachable, reason: reason.into() }
    }

    /// Nobody else's fault: asking again would end the same way.
    pub(super) fn ours(error: impl fmt::Display) -> Self {
        Self::refused(error.to_string())
    }

    pub(super) fn of_order(order: &Order) -> Self {
        Self::refused(match &order.error {
            Some(error) => problem(error),
            None => "the order became invalid".to_owned(),
        })
    }

    pub(super) fn of_authorization(authorization: &Auth) -> Self {
        let Identifier::Dns(name) = &authorization.identifier;
        let mut errors = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        Self::refused(match errors.next_back() {
            Some(error) => format!("{name}: {}", problem(error)),
            None => format!("{name}: the authorization is {:?}", authorization.status),
        })
    }

    pub(super) fn of_request(error: AcmeError) -> Self {
        match error {
            // The error's own type can't be named from here; its text is all there is to go by.
            AcmeError::HttpRequest(error) => Self::of_response(&error.to_string()),
            AcmeError::NoTlsAlpn01Challenge => Self::refused("the directory offers no TLS-ALPN-01 challenge"),
            error @ (AcmeError::Io(_) | AcmeError::Json(_) | AcmeError::MissingHeader(_)) => {
                Self::unreachable(error.to_string())
            }
            error => Self::refused(error.to_string()),
        }
    }

    fn of_response(text: &str) -> Self {
        let Some((status, body)) = text.strip_prefix("non 2xx http status: ").and_then(|rest| rest.split_once(' '))
        else {
            return Self::unreachable(text);
        };
        // The body is shown as a Rust string, which for a JSON text is a JSON string as well.
        let document = serde_json::from_str::<String>(body)
            .ok()
            .and_then(|body| serde_json::from_str::<Problem>(&body).ok())
            .filter(|document| document.typ.is_some() || document.detail.is_some());
        let Some(document) = document else {
            let reason = format!("the directory answered {status}");
            return if status.starts_with('5') { Self::unreachable(reason) } else { Self::refused(reason) };
        };
        let reason = problem(&document);
        // RFC 8555 §6.5: a request with a used-up nonce is to be tried again.
        let again = document.typ.as_deref() == Some(BAD_NONCE);
        if again || status.starts_with('5') { Self::unreachable(reason) } else { Self::refused(reason) }
    }
}

/// Whether the directory wants the same again with another nonce (RFC 8555 §6.5).
pub(super) fn is_bad_nonce(error: &AcmeError) -> bool {
    matches!(error, AcmeError::HttpRequest(error) if error.to_string().contains(BAD_NONCE))
}

fn problem(problem: &Problem) -> String {
    let typ = problem.typ.as_deref().unwrap_or("about:blank");
    let typ = typ.strip_prefix(ERROR).unwrap_or(typ);
    match &problem.detail {
        Some(detail) => format!("{detail} ({typ})"),
        None => typ.to_owned(),
    }
}

/// RFC 8555 §6.7.
const ERROR: &str = "urn:ietf:params:acme:error:";
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_directorys_own_and_the_kind_says_what_it_cost() {
        for (status, body, kind, reason) in [
            (
                429,
                r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many \"new\" orders","status":429}"#,
                Kind::Refused,
                r#"too many "new" orders (rateLimited)"#,
            ),
            (
                400,
                r#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"JWS has an invalid nonce"}"#,
                Kind::Unreachable,
                "JWS has an invalid nonce (badNonce)",
            ),
            (500, r#"{"type":"urn:ietf:params:acme:error:serverInternal"}"#, Kind::Unreachable, "serverInternal"),
            (503, "<html>", Kind::Unreachable, "the directory answered 503"),
            (403, "", Kind::Refused, "the directory answered 403"),
            (404, "{}", Kind::Refused, "the directory answered 404"),
        ] {
            let text = format!("non 2xx http status: {status} {body:?}");
            let failure = Failure::of_response(&text);
            assert_eq!((failure.kind, &*failure.reason), (kind, reason));
        }
    }

    #[test]
    fn a_connection_that_failed_is_no_refusal() {
        let failure = Failure::of_response("http error: ConnectError(..)");
        assert_eq!(failure.kind, Kind::Unreachable);
    }

    #[test]
    fn a_failed_validation_names_the_name_and_the_reason() {
        let auth: Auth = serde_json::from_str(
            r#"{"status":"invalid","identifier":{"type":"dns","value":"a.test"},"challenges":[
                {"type":"http-01"},
                {"type":"tls-alpn-01","error":{"type":"urn:ietf:params:acme:error:connection","detail":"Connection refused"}}]}"#,
        )
        .unwrap();
        let failure = Failure::of_authorization(&auth);
        assert_eq!(failure.reason, "a.test: Connection refused (connection)");
        assert_eq!(failure.kind, Kind::Refused);
    }
}
