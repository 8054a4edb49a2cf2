//! From settings to an [`Upstream`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use tokio::sync::Notify;

use crate::backend::{Backend, BackendError, Protocol};
use crate::balance::Balance;
use crate::budget::RetryBudget;
use crate::check::{HealthCheck, check_all};
use crate::connect::Connector;
use crate::error::BoxError;
use crate::hash::HashKey;
use crate::health::{Health, Policy};
use crate::resolve::Resolver;
use crate::service::{Member, Upstream};
use crate::slots::Slots;
use crate::tls::{Identity, PublicKeyPin, Tls, TlsOptions};

/// Builds an [`Upstream`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    backends: Vec<Backend>,
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
    retries: u32,
    max_failures: u32,
    hold: Duration,
    health_check: Option<HealthCheck>,
    name_servers: Vec<SocketAddr>,
    tls: TlsOptions,
}

/// What all requests share.
pub(crate) struct Settings {
    pub(crate) members: Vec<Arc<Member>>,
    pub(crate) balance: Balance,
    pub(crate) hash_key: HashKey,
    pub(crate) connector: Connector,
    pub(crate) timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle: usize,
    pub(crate) queue_timeout: Duration,
    pub(crate) http2_ping_interval: Option<Duration>,
    pub(crate) retries: u32,
    pub(crate) budget: RetryBudget,
    pub(crate) hold: Duration,
    /// Told when a backend is back.
    pub(crate) recovered: Arc<Notify>,
    pub(crate) health_check: Option<HealthCheck>,
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
            retries: 1,
            max_failures: 5,
            hold: Duration::ZERO,
            health_check: None,
            name_servers: Vec::new(),
            tls: TlsOptions::default(),
        }
    }
}

impl Builder {
    /// Adds a backend.
    ///
    /// # Errors
    ///
    /// Text that is no [`Backend`].
    pub fn backend(self, address: &str) -> Result<Self, BackendError> {
        Ok(self.backends([address.parse()?]))
    }

    /// Adds backends that have been parsed.
    pub fn backends(mut self, backends: impl IntoIterator<Item = Backend>) -> Self {
        self.backends.extend(backends);
        self
    }

    /// How requests are spread over several backends. Default in turn.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// Sets a secret that several processes share, so that [`Balance::by_key`] sends a key to the same backend in all of them.
    ///
    /// They also have to name the same backends in the same way, and agree on the version of this crate. By default each
    /// process has a random secret: after a restart and on another machine, a key may belong to another backend.
    pub fn balance_secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.balance_secret = Some(HashKey::from_secret(secret.as_ref()));
        self
    }

    /// From the last byte of the request to the response head; then 504. Default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// For name, socket and TLS together; then another backend, or 504. Default 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// From one part of a response body to the next; then the body breaks off. Default 5 min.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// For the whole exchange, from the request to the end of the response body. Default none.
    pub fn request_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.request_timeout = timeout.into();
        self
    }

    /// How long an idle connection is kept. Default 60 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How many idle connections are kept, per backend and [upstream](Backends::upstream). Default 128.
    pub fn max_idle(mut self, connections: usize) -> Self {
        self.max_idle = connections;
        self
    }

    /// How many HTTP/1.1 connections there may be to each backend, those of all [upstreams](Backends::upstream)
    /// together; WebSockets are not counted once they are open. Requests beyond wait for their turn. Default any number.
    pub fn max_connections(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.max_connections = connections.into();
        self
    }

    /// How long a request waits for one of [`max_connections`](Self::max_connections), or for a stream of an HTTP/2
    /// connection; then 503. Default 5 s.
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = timeout;
        self
    }

    /// Sends a PING on an HTTP/2 connection that has been silent for this long, and closes it when there is no answer
    /// within 20 s. gRPC servers allow one in five minutes, and end connections that send more. Default none.
    pub fn http2_ping_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.http2_ping_interval = interval.into();
        self
    }

    /// How often a request that a backend took, and closed the connection, is sent to another one. Only requests without
    /// content whose method is idempotent (RFC 9110 §9.2.2) are, and only while few need it: no more than about a tenth
    /// of all requests (the throttling of gRFC A6). One that no backend took is tried with each of them. Default 1.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// So many requests in a row may fail, by timeout or without an answer, before a backend is left alone for 250 ms, and
    /// twice as long each time, up to 30 s. One that can't be connected to is left alone at once. Default 5.
    pub fn max_failures(mut self, failures: u32) -> Self {
        self.max_failures = failures.max(1);
        self
    }

    /// How long a request waits when no backend can be reached, so that the restart of an only backend is a delay and
    /// not an error. Default not at all.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Asks the backends how they are, while [`Backends::run_health_checks`] runs. Default no.
    pub fn health_check(mut self, check: impl Into<Option<HealthCheck>>) -> Self {
        self.health_check = check.into();
        self
    }

    /// Asks these name servers for backends that have names. Default those of the system (`/etc/resolv.conf`), after
    /// `/etc/hosts`.
    pub fn name_servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.name_servers.extend(servers);
        self
    }

    /// Adds certificates to trust in TLS with backends, in place of the authorities of the system.
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

    /// Adds public keys of which an `https://` backend needs to have one.
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

    /// The name that backends' certificates have to be for, which is sent as SNI, too. Default the backend's host.
    ///
    /// # Errors
    ///
    /// What is neither a DNS name nor an address.
    pub fn server_name(mut self, name: &str) -> Result<Self, InvalidDnsNameError> {
        self.tls.server_name = Some(ServerName::try_from(name.to_owned())?);
        Ok(self)
    }

    /// Shows this certificate, the first of the chain, to backends that ask for one.
    pub fn client_certificate(mut self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        self.tls.identity = Some(Identity { chain, key: Arc::new(key) });
        self
    }

    /// Builds it.
    ///
    /// # Errors
    ///
    /// No backend, or certificates that can't be used.
    pub fn build<B>(self) -> Result<Upstream<B>, BuildError>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        Ok(self.build_backends()?.upstream())
    }

    /// Builds what several [`Upstream`]s share, whatever body each is for.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_backends(self) -> Result<Backends, BuildError> {
        if self.backends.is_empty() {
            return Err(BuildError::NoBackend);
        }
        // Neither is free: the one reads the roots, the other the system's configuration.
        let is_tls = self.backends.iter().any(|backend| backend.protocol == Protocol::Https);
        let has_name = self.backends.iter().any(Backend::has_name);
        let connector = Connector {
            tls: is_tls.then(|| Tls::new(self.tls)).transpose()?,
            resolver: has_name.then(|| Resolver::new(&self.name_servers)),
            timeout: self.connect_timeout,
        };
        let policy = Policy {
            max_failures: self.max_failures,
            // Whoever waits is to be served soon after the backend is back.
            longest_back_off: if self.hold.is_zero() { LONGEST_BACK_OFF } else { LONGEST_BACK_OFF_WHILE_HELD },
            check_interval: self.health_check.as_ref().map(HealthCheck::every).unwrap_or_default(),
        };
        let hash_key = self.balance_secret.unwrap_or_else(HashKey::of_process);
        let recovered = Arc::<Notify>::default();
        let member = |backend| {
            let health = Health::new(policy, Arc::clone(&recovered));
            Arc::new(Member::new(backend, health, self.max_connections.map(Slots::new), hash_key))
        };
        Ok(Backends(Arc::new(Settings {
            members: self.backends.into_iter().map(member).collect(),
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
            retries: self.retries,
            budget: RetryBudget::new(),
            hold: self.hold,
            recovered,
            health_check: self.health_check,
        })))
    }
}

/// The backends, how they are reached, and what is known of their health.
#[derive(Clone)]
pub struct Backends(Arc<Settings>);

impl Backends {
    /// An upstream with connections of its own: one for each worker that shares none with others.
    pub fn upstream<B>(&self) -> Upstream<B>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        Upstream::new(Arc::clone(&self.0))
    }

    /// Makes the [health checks](Builder::health_check), for all upstreams, until it is dropped: something to spawn.
    pub fn run_health_checks(&self) -> impl Future<Output = ()> + Send + use<> {
        check_all(Arc::clone(&self.0))
    }
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.members.iter().map(|member| &member.name)).finish()
    }
}

/// Settings that make no [`Upstream`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is nobody to send requests to.
    #[error("an upstream needs at least one backend")]
    NoBackend,
    /// A root certificate can't be used.
    #[error("bad root certificate for upstream TLS")]
    Root(#[source] rustls::Error),
    /// The certificate and key of this side can't be used.
    #[error("bad client certificate for upstream TLS")]
    Identity(#[source] rustls::Error),
}

const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
const LONGEST_BACK_OFF_WHILE_HELD: Duration = Duration::from_millis(500);
