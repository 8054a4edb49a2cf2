//! The builder of an [`Upstream`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use tokio::sync::Notify;

use crate::backend::{Backend, BackendError};
use crate::backend_list::BackendList;
use crate::backend_state::BackendState;
use crate::backends::Backends;
use crate::balance::Balance;
use crate::connection_limit::ConnectionLimit;
use crate::connector::Connector;
use crate::error::{BoxError, BuildError};
use crate::expectation::ExpectContinue;
use crate::hash::HashKey;
use crate::health::{EjectionPolicy, Health};
use crate::health_check::HealthCheck;
use crate::retry_budget::RetryBudget;
use crate::service::Upstream;
use crate::settings::Settings;
use crate::tls::{Identity, PublicKeyPin, TlsOptions};

/// A builder of an [`Upstream`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_upstream::Upstream;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let upstream: Upstream<http_body_util::Empty<bytes::Bytes>> = Upstream::builder()
///     .backend("10.0.0.1:3000 weight=2")?
///     .backend("10.0.0.2:3000")?
///     .timeout(Duration::from_secs(10))
///     .retries(2)
///     .build()?;
/// # let _ = upstream;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(crate) backends: Vec<Backend>,
    balance: Balance,
    balance_secret: Option<HashKey>,
    timeout: Duration,
    connect_timeout: Duration,
    read_timeout: Duration,
    request_timeout: Option<Duration>,
    idle_timeout: Duration,
    max_idle: usize,
    max_connections: Option<usize>,
    queue_timeout: Duration,
    http2_ping_interval: Option<Duration>,
    expect_continue: ExpectContinue,
    retries: u32,
    max_failures: u32,
    hold: Duration,
    health_check: Option<HealthCheck>,
    pub(crate) name_servers: Vec<SocketAddr>,
    pub(crate) tls: TlsOptions,
    previous: Option<Backends>,
}

impl Upstream<http_body_util::Empty<bytes::Bytes>> {
    /// Returns a builder with the default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            backends: Vec::new(),
            balance: Balance::RoundRobin,
            balance_secret: None,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(5 * 60),
            request_timeout: None,
            idle_timeout: Duration::from_secs(60),
            max_idle: 128,
            max_connections: None,
            queue_timeout: Duration::from_secs(5),
            http2_ping_interval: None,
            expect_continue: ExpectContinue::Forward,
            retries: 1,
            max_failures: 5,
            hold: Duration::ZERO,
            health_check: None,
            name_servers: Vec::new(),
            tls: TlsOptions::default(),
            previous: None,
        }
    }
}

impl Builder {
    /// Adds a backend by its address.
    ///
    /// # Errors
    ///
    /// Returns an error if the address is not a valid [`Backend`].
    pub fn backend(self, address: &str) -> Result<Self, BackendError> {
        Ok(self.backends([address.parse()?]))
    }

    /// Adds several backends to the upstream.
    pub fn backends(mut self, backends: impl IntoIterator<Item = Backend>) -> Self {
        self.backends.extend(backends);
        self
    }

    /// Sets the load balancing policy. The default is [`Balance::RoundRobin`].
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// Sets a secret for [`Balance::by_key`], so that several processes select the same backend for a key.
    ///
    /// The processes must also have the same backend addresses and the same version of this crate. By default each
    /// process has a random secret: after a restart, and in other processes, a key can have a different backend.
    pub fn balance_secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.balance_secret = Some(HashKey::from_secret(secret.as_ref()));
        self
    }

    /// Sets the timeout from the last byte of the request to the response head. The default is 30 s.
    ///
    /// After that, the response is 504.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the combined timeout for DNS lookup, TCP connection and TLS handshake. The default is 5 s.
    ///
    /// After that, the request is sent to another backend. If there is none, the response is 504.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the maximum time between two parts of a response body. The default is 5 min.
    ///
    /// After that, the body ends with an error.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// Sets the timeout from the start of the request to the end of the response body. The default is `None`, no limit.
    pub fn request_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.request_timeout = timeout.into();
        self
    }

    /// Sets the time after which an idle connection is closed. The default is 60 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets the maximum number of idle HTTP/1.1 connections per backend and [upstream](Backends::upstream). The default
    /// is 128.
    pub fn max_idle(mut self, connections: usize) -> Self {
        self.max_idle = connections;
        self
    }

    /// Sets the maximum number of HTTP/1.1 connections per backend. The default is `None`, no limit.
    ///
    /// All [upstreams](Backends::upstream) share the limit. Open WebSockets are not counted. Further requests wait for
    /// a connection, see [`queue_timeout`](Self::queue_timeout).
    pub fn max_connections(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.max_connections = connections.into();
        self
    }

    /// Sets the maximum time that a request waits for a free connection or HTTP/2 stream. The default is 5 s.
    ///
    /// After that, the response is 503. See [`max_connections`](Self::max_connections).
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = timeout;
        self
    }

    /// Sets the time without received data after which an HTTP/2 connection is checked with a PING. The default is
    /// `None`, no pings.
    ///
    /// The connection is closed if the backend does not acknowledge the PING within 20 s. gRPC servers allow one PING
    /// in five minutes by default, and close connections with more.
    pub fn http2_ping_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.http2_ping_interval = interval.into();
        self
    }

    /// Sets the handling of requests with `Expect: 100-continue`. The default is [`ExpectContinue::Forward`].
    ///
    /// HTTP/2 backends never get the field.
    pub fn expect_continue(mut self, handling: ExpectContinue) -> Self {
        self.expect_continue = handling;
        self
    }

    /// Sets the maximum number of retries on another backend after a connection was closed without a response. The
    /// default is 1.
    ///
    /// Only requests with an idempotent method and without content, or with content that still waits for a 100, are
    /// retried (RFC 9110 §9.2.2), within a retry budget of about 10 % of all requests (gRFC A6). A request that could not be sent to a backend is always sent to the
    /// next one.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the number of consecutive failures after which a backend is ejected. The default is 5, the minimum 1.
    ///
    /// Timeouts, closed connections and malformed responses are failures. A backend is ejected for 250 ms, then twice as
    /// long each time, up to 30 s. If it cannot be reached, it is ejected after the first failure.
    pub fn max_failures(mut self, failures: u32) -> Self {
        self.max_failures = failures.max(1);
        self
    }

    /// Sets the maximum time that a request waits if no backend is available. The default is 0, no wait.
    ///
    /// With a single backend, its restart delays requests instead of failing them. A request that the backend received
    /// before it closed the connection also waits, if it is idempotent and [`retries`](Builder::retries) allows to send
    /// it again.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Sets the active health check, which [`Backends::run_health_checks`] runs. The default is `None`.
    pub fn health_check(mut self, check: impl Into<Option<HealthCheck>>) -> Self {
        self.health_check = check.into();
        self
    }

    /// Sets the name servers that resolve the host names of backends.
    ///
    /// The default is `/etc/hosts`, then the name servers of the system (`/etc/resolv.conf`).
    pub fn name_servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.name_servers.extend(servers);
        self
    }

    /// Adds certificates to trust for TLS to backends, instead of the root certificates of the system.
    ///
    /// A backend is accepted if its certificate is one of these, self-signed for example, or if its chain leads to one
    /// of these that is an authority (RFC 5280 §4.2.1.9). Its name and its validity period are verified in both cases. The
    /// common name counts if one of these certificates has no subject alternative name.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use rproxy_upstream::Upstream;
    /// use rustls_pki_types::CertificateDer;
    /// use rustls_pki_types::pem::PemObject;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let certificate = CertificateDer::from_pem_file("/etc/ssl/backend.pem")?;
    /// let backends = Upstream::builder()
    ///     .backend("https://10.0.0.7:8443")?
    ///     .server_name("backend.internal")?
    ///     .root_certificates([certificate])
    ///     .build_backends()?;
    /// # let _ = backends;
    /// # Ok(())
    /// # }
    /// ```
    pub fn root_certificates(mut self, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        self.tls.roots.extend(roots);
        self
    }

    /// Adds a public key pin: an `https://` backend must have one of the pinned keys.
    ///
    /// The public key identifies the backend, so neither the chain nor the name of its certificate is verified. With
    /// [`root_certificates`](Self::root_certificates) both are verified, too. The validity period is always verified.
    ///
    /// A pin is compared on each connection: sessions are not resumed. To replace a key, add the pin of the next one
    /// before the backend uses it.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_upstream::Upstream;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let backends = Upstream::builder()
    ///     .backend("https://10.0.0.7:8443")?
    ///     .public_key_pins(["sha256/RHFyQxXYKAzGIgy0BsyKNkW92p9UNNFjyhRAX3f5Uow=".parse()?])
    ///     .build_backends()?;
    /// # let _ = backends;
    /// # Ok(())
    /// # }
    /// ```
    pub fn public_key_pins(mut self, pins: impl IntoIterator<Item = PublicKeyPin>) -> Self {
        self.tls.pins.extend(pins);
        self
    }

    /// Sets the server name for TLS to backends: the name in their certificates, and the SNI. The default is the host
    /// of the backend.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is neither a DNS name nor an IP address.
    pub fn server_name(mut self, name: &str) -> Result<Self, InvalidDnsNameError> {
        self.tls.server_name = Some(ServerName::try_from(name.to_owned())?);
        Ok(self)
    }

    /// Sets the client certificate that is sent to backends that request one. The chain begins with the certificate
    /// itself.
    pub fn client_certificate(mut self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        self.tls.identity = Some(Identity { chain, key: Arc::new(key) });
        self
    }

    /// Continues the health of the backends that `previous` has, too, for example after a change of the settings.
    ///
    /// Backends with the same [`max_connections`](Self::max_connections) also share its count of connections. Open
    /// connections are not taken over.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_upstream::Upstream;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let before = Upstream::builder().backend("10.0.0.1:3000")?.build_backends()?;
    /// let after = Upstream::builder()
    ///     .backend("10.0.0.1:3000")?
    ///     .backend("10.0.0.2:3000")?
    ///     .previous(before)
    ///     .build_backends()?;
    /// # let _ = after;
    /// # Ok(())
    /// # }
    /// ```
    pub fn previous(mut self, previous: impl Into<Option<Backends>>) -> Self {
        self.previous = previous.into();
        self
    }

    /// Builds the upstream from the settings.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no backend, or if a certificate is not valid.
    pub fn build<B>(self) -> Result<Upstream<B>, BuildError>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        Ok(self.build_backends()?.upstream())
    }

    /// Builds the backends and their shared state, for several [`Upstream`]s with any type of request body.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no backend, or if a certificate is not valid.
    pub fn build_backends(self) -> Result<Backends, BuildError> {
        if self.backends.is_empty() {
            return Err(BuildError::NoBackend);
        }
        let connector = Connector::new(self.tls, self.name_servers, self.connect_timeout);
        connector.prepare(&self.backends)?;
        let policy = EjectionPolicy {
            max_failures: self.max_failures,
            // A short back-off, so that waiting requests are sent soon after the backend recovers.
            max_back_off: if self.hold.is_zero() { MAX_BACK_OFF } else { MAX_BACK_OFF_WITH_HOLD },
            check_interval: self.health_check.as_ref().map(HealthCheck::check_interval).unwrap_or_default(),
        };
        let hash_key = self.balance_secret.unwrap_or_else(HashKey::of_process);
        let changed = Arc::<Notify>::default();
        let has_checks = self.health_check.is_some();
        let previous = self.previous.map(|previous| previous.0.backends.current());
        let previous = previous.as_deref().unwrap_or_default();
        let backend = |config: Backend| {
            let before = previous.iter().find(|before| *before.name == config.origin());
            let changed = Arc::clone(&changed);
            let health = match before {
                Some(before) => before.health.continued(policy, changed, has_checks),
                None => Health::new(policy, changed),
            };
            let limit = self.max_connections.map(|max| {
                let shared = before.and_then(|before| before.connection_limit.as_ref());
                let shared = shared.filter(|limit| limit.max() == max).map(Arc::clone);
                shared.unwrap_or_else(|| Arc::new(ConnectionLimit::new(max)))
            });
            Arc::new(BackendState::new(config, health, limit, hash_key))
        };
        Ok(Backends(Arc::new(Settings {
            backends: BackendList::new(self.backends.into_iter().map(backend).collect()),
            balance: self.balance,
            hash_key,
            connector,
            timeout: self.timeout,
            read_timeout: self.read_timeout,
            request_timeout: self.request_timeout,
            idle_timeout: self.idle_timeout,
            max_idle: self.max_idle,
            queue_timeout: self.queue_timeout,
            http2_ping_interval: self.http2_ping_interval,
            expect_continue: self.expect_continue,
            retries: self.retries,
            budget: RetryBudget::new(),
            hold: self.hold,
            changed,
            health_check: self.health_check,
        })))
    }
}

/// The maximum duration of an ejection.
const MAX_BACK_OFF: Duration = Duration::from_secs(30);
/// The maximum duration of an ejection if requests are held until a backend is available.
const MAX_BACK_OFF_WITH_HOLD: Duration = Duration::from_millis(500);
