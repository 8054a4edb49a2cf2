//! A service that verifies the credentials of a request before it calls the inner service.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use rproxy_client_ip::ClientIp;
use rproxy_core::{Authenticated, EitherBody, Rejection};
use tower_service::Service;

use super::config::Config;
use super::credentials::{Credentials, MissingCredentials};
use super::verifier::Outcome;
use crate::decision::{Admission, Decision, DecisionFuture};
use crate::rejection::unknown_address;

/// A service that requires a user name and a password, see [`BasicAuthLayer`](crate::BasicAuthLayer).
#[derive(Clone, Debug)]
pub struct BasicAuthService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> BasicAuthService<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for BasicAuthService<S>
where
    // Cloned only for requests whose credentials are verified.
    S: Service<Request<B>, Response = Response<R>> + Clone,
{
    type Response = Response<EitherBody<R, Full<Bytes>>>;
    type Error = S::Error;
    type Future = DecisionFuture<S, B, Full<Bytes>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let config = &self.config;
        config.user_field.remove(request.headers_mut());
        let credentials = match Credentials::of(request.headers()) {
            Ok(credentials) => credentials,
            Err(missing) => {
                let cause = match missing {
                    MissingCredentials::Absent => "no_credentials",
                    MissingCredentials::Malformed => "malformed_credentials",
                };
                return DecisionFuture::decided(config.unauthorized(cause), &mut self.inner, request);
            }
        };
        if config.removes_credentials {
            request.headers_mut().remove(AUTHORIZATION);
        }
        match (config.verifier.recall(&credentials), request.extensions().get::<ClientIp>()) {
            (Ok(user), _) => DecisionFuture::decided(config.admission(user), &mut self.inner, request),
            (Err(_), None) => {
                // The failures of the client could not be counted.
                let decision = Decision::Respond(unknown_address().map(Full::from));
                DecisionFuture::decided(decision, &mut self.inner, request)
            }
            (Err(tag), Some(client)) => {
                let (config, client) = (Arc::clone(config), client.0);
                let decision = async move {
                    let outcome = Arc::clone(&config.verifier).verify(credentials, tag, client).await;
                    config.decision(outcome)
                };
                // Only this instance is known to be ready: it makes the call, and its clone stays behind.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                DecisionFuture::pending(Box::pin(decision), ready, request)
            }
        }
    }
}

impl Config {
    fn decision(&self, outcome: Outcome) -> Decision<Full<Bytes>> {
        match outcome {
            Outcome::Right(user) => self.admission(user),
            Outcome::Wrong => self.unauthorized("wrong_credentials"),
            Outcome::TooManyFailures(wait) => respond(
                Rejection::new("access", "auth_failures", StatusCode::TOO_MANY_REQUESTS).with_retry_after(wait),
                "Too Many Requests\n",
            ),
            Outcome::Busy => respond(
                Rejection::new("access", "auth_busy", StatusCode::SERVICE_UNAVAILABLE)
                    .with_retry_after(Duration::from_secs(1)),
                "Service Unavailable\n",
            ),
        }
    }

    fn admission(&self, user: Arc<str>) -> Decision<Full<Bytes>> {
        // A name has no control characters.
        let value = HeaderValue::from_bytes(user.as_bytes()).ok();
        let fields = self.user_field.names().filter_map(|name| Some((name.clone(), value.clone()?)));
        let request_fields: HeaderMap = fields.collect();
        Decision::Admit(Admission {
            authenticated: Authenticated::new().with_user(user),
            request_fields,
            ..Admission::default()
        })
    }

    fn unauthorized(&self, cause: &'static str) -> Decision<Full<Bytes>> {
        let rejection = Rejection::new("access", "unauthorized", StatusCode::UNAUTHORIZED).with_cause(cause);
        let mut response = rejection.into_response(Full::from("Unauthorized\n"));
        response.headers_mut().insert(WWW_AUTHENTICATE, self.challenge.clone());
        Decision::Respond(response)
    }
}

fn respond(rejection: Rejection, text: &'static str) -> Decision<Full<Bytes>> {
    Decision::Respond(rejection.into_response(Full::from(text)))
}
