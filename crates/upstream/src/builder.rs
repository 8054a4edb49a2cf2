//! From settings to an [`Upstream`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use crate::backend::{Backend, BackendError};
use crate::connect::Connector;
use crate::error::BoxError;
use crate::service::{Member, Upstream};

/// Builds an [`Upstream`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    backends: Vec<Backend>,
    timeout: Duration,
    connect_timeout: Duration,
    idle_timeout: Duration,
    max_idle: usize,
    roots: Vec<CertificateDer<'static>>,
}

/// What all requests share.
pub(crate) struct Settings {
    pub(crate) members: Vec<Arc<Member>>,
    pub(crate) connector: Connector,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            backends: Vec::new(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            max_idle: 128,
            roots: Vec::new(),
        }
    }
}

impl Builder {
    /// Adds a backend; requests go to all of them in turn.
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

    /// From the request to the response head; then 504. Default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// For name, socket and TLS together; then 504. Default 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
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

    /// Trusts these authorities, too, when a backend speaks TLS. The web PKI's roots always are.
    pub fn root_certificates(mut self, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        self.roots.extend(roots);
        self
    }

    /// Builds it.
    ///
    /// # Errors
    ///
    /// No backend, or a root certificate that is none.
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
        let tls = client_config(self.roots)?;
        Ok(Backends(Arc::new(Settings {
            members: self.backends.into_iter().map(|backend| Arc::new(Member::new(backend))).collect(),
            connector: Connector { tls: Arc::new(tls), timeout: self.connect_timeout },
            timeout: self.timeout,
            idle_timeout: self.idle_timeout,
            max_idle: self.max_idle,
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
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.members.iter().map(|member| &member.name)).finish()
    }
}

fn client_config(roots: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in roots {
        store.add(root)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Settings that make no [`Upstream`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is nobody to send requests to.
    #[error("an upstream needs at least one backend")]
    NoBackend,
    /// A root certificate can't be used.
    #[error("bad root certificate for upstream TLS: {0}")]
    Tls(#[from] rustls::Error),
}
