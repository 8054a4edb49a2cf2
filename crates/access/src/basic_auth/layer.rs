//! A tower layer that requires a user name and a password.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, HeaderValue};
use tower_layer::Layer;

use super::config::Config;
use super::failures::Failures;
use super::service::BasicAuthService;
use super::users::Users;
use super::verifier::Verifier;
use crate::identity_fields::is_connection_or_content_field;

/// A layer that admits only requests with the name and the password of a user (RFC 7617).
///
/// All clones of a layer, and all services that it wraps, share the failures of clients and the verified credentials.
#[derive(Clone, Debug)]
#[must_use]
pub struct BasicAuthLayer {
    config: Arc<Config>,
}

impl BasicAuthLayer {
    /// Creates a layer with the default options of [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn new(users: Users) -> Result<Self, BasicAuthLayerError> {
        Self::builder(users).build()
    }

    /// Returns a builder for a layer with options.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::HeaderName;
    /// use rproxy_access::{BasicAuthLayer, Users};
    ///
    /// let users = Users::parse("alice:$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n")?;
    /// let layer = BasicAuthLayer::builder(users)
    ///     .realm("Staging")
    ///     .user_field(HeaderName::from_static("remote-user"))
    ///     .remove_credentials(true)
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(users: Users) -> BasicAuthLayerBuilder {
        BasicAuthLayerBuilder::new(users)
    }
}

/// A builder for a [`BasicAuthLayer`].
#[derive(Clone, Debug)]
#[must_use]
pub struct BasicAuthLayerBuilder {
    users: Users,
    realm: String,
    user_field: Option<HeaderName>,
    removes_credentials: bool,
    failures_per_minute: NonZeroU32,
    cache_time: Duration,
    max_concurrent: NonZeroUsize,
    max_pending: NonZeroUsize,
}

const TEN: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const MAX_PENDING: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);

impl BasicAuthLayerBuilder {
    fn new(users: Users) -> Self {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            users,
            realm: "Restricted".to_owned(),
            user_field: None,
            removes_credentials: false,
            failures_per_minute: TEN,
            cache_time: Duration::from_secs(300),
            max_concurrent: NonZeroUsize::new(cores / 2).unwrap_or(NonZeroUsize::MIN),
            max_pending: MAX_PENDING,
        }
    }

    /// Sets the realm (RFC 9110 §11.5), which browsers may show; default `Restricted`.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = realm.into();
        self
    }

    /// Sets this request header field to the name of the user. Values that the client sent are removed, in every spelling.
    /// By default there is none.
    pub fn user_field(mut self, name: HeaderName) -> Self {
        self.user_field = Some(name);
        self
    }

    /// Sets whether to remove `Authorization` from admitted requests; default `false`.
    pub fn remove_credentials(mut self, remove: bool) -> Self {
        self.removes_credentials = remove;
        self
    }

    /// Sets the maximum number of failed attempts per client and minute; default 10.
    ///
    /// More attempts get 429, except with credentials that were verified within the [cache time](Self::cache_time). A client
    /// is an IPv4 address or an IPv6 /64.
    pub fn failures_per_minute(mut self, failures: NonZeroU32) -> Self {
        self.failures_per_minute = failures;
        self
    }

    /// Sets the time for which right credentials need no new verification; default 5 minutes.
    pub fn cache_time(mut self, time: Duration) -> Self {
        self.cache_time = time;
        self
    }

    /// Sets the maximum number of concurrent verifications; default half of the processor cores, and at least one.
    ///
    /// Each uses a thread for blocking work, and the memory that the hash needs.
    pub fn max_concurrent(mut self, verifications: NonZeroUsize) -> Self {
        self.max_concurrent = verifications;
        self
    }

    /// Sets the maximum number of verifications that run or wait; default 32. More get 503.
    pub fn max_pending(mut self, verifications: NonZeroUsize) -> Self {
        self.max_pending = verifications;
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// If the realm contains other characters than printable ASCII, if the field for the user has another meaning, or if the
    /// system has no random numbers.
    pub fn build(self) -> Result<BasicAuthLayer, BasicAuthLayerError> {
        let is_printable = self.realm.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let quoted = self.realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{quoted}\", charset=\"UTF-8\""));
        let (true, Ok(challenge)) = (is_printable, challenge) else {
            return Err(BasicAuthLayerError::Realm(self.realm));
        };
        let is_reserved =
            |name: &HeaderName| is_connection_or_content_field(name) || [AUTHORIZATION, COOKIE].contains(name);
        if let Some(name) = self.user_field.clone().filter(is_reserved) {
            return Err(BasicAuthLayerError::UserField(name));
        }
        let mut key = [0; 64];
        getrandom::fill(&mut key).map_err(|error| BasicAuthLayerError::Random(error.to_string()))?;
        let failures = Failures::new(self.failures_per_minute);
        let verifier = Verifier::new(self.users, key, failures, self.cache_time, self.max_concurrent, self.max_pending);
        let config = Config {
            verifier: Arc::new(verifier),
            challenge,
            user_field: self.user_field.into_iter().collect(),
            removes_credentials: self.removes_credentials,
        };
        Ok(BasicAuthLayer { config: Arc::new(config) })
    }
}

/// The error for options from which no [`BasicAuthLayer`] can be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BasicAuthLayerError {
    /// The realm contains other characters than printable ASCII.
    #[error("bad realm {0:?}: only printable ASCII characters are allowed")]
    Realm(String),
    /// The field for the name of the user belongs to the connection or the content, or has credentials.
    #[error("{0} cannot hold the name of the user, because it has another meaning")]
    UserField(HeaderName),
    /// The system has no random numbers.
    #[error("the system has no random numbers: {0}")]
    Random(String),
}

impl<S> Layer<S> for BasicAuthLayer {
    type Service = BasicAuthService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BasicAuthService::new(inner, Arc::clone(&self.config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_field_with_another_meaning_is_rejected() {
        let users = Users::parse("alice:$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n").unwrap();
        for name in ["authorization", "cookie", "host", "content-length", "connection"].map(HeaderName::from_static) {
            let error = BasicAuthLayer::builder(users.clone()).user_field(name.clone()).build().unwrap_err();
            assert_eq!(error, BasicAuthLayerError::UserField(name));
        }
        let builder = BasicAuthLayer::builder(users).user_field(HeaderName::from_static("remote-user"));
        assert!(builder.build().is_ok());
    }
}
