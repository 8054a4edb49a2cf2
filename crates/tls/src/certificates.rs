use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::ServerConfig;
use tokio::task::JoinSet;

use crate::{
    Acme, CertificateStatus, CipherSuites, ClientAuth, Error, Local, TlsVersion,
    acme::{Account, Ordered},
    config::{Protocol, server_config},
    files::{Files, Pair},
    local::LocalAuthority,
    shelf::Shelf,
    watch::watch,
};

/// The certificates of a server, from all sources together. Clones share everything.
#[derive(Clone)]
pub struct Certificates {
    inner: Arc<Inner>,
}

struct Inner {
    shelf: Arc<Shelf>,
    config: Arc<ServerConfig>,
    ordered: Vec<Arc<Ordered>>,
    files: Vec<Arc<Files>>,
    local: Option<Arc<LocalAuthority>>,
}

impl Certificates {
    /// Starts with no source at all.
    pub fn builder() -> CertificatesBuilder {
        CertificatesBuilder::default()
    }

    /// The configuration for every listener and every worker: a client that got a ticket from one resumes with any.
    ///
    /// A handshake by an authority that validates a name goes through the same configuration;
    /// [`is_challenge`](crate::is_challenge) tells it from a client's afterwards.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.inner.config.clone()
    }

    /// Whether the certificate that is served for this server name indication is valid for `host`. If not, the request
    /// has come over a connection that was not meant for it, and 421 is the response (RFC 9110 §15.5.20).
    ///
    /// `host` comes without its port. An address and `localhost` are covered where the indication does not contradict
    /// them, whatever the certificate names: they are for checks and for development. A certificate that names nobody
    /// covers every host.
    pub fn covers(&self, sni: Option<&str>, host: &str) -> bool {
        self.inner.shelf.covers(sni, host)
    }

    /// Orders and renews certificates, and reloads files that change, until it is dropped. Nothing else does.
    ///
    /// ```no_run
    /// # async fn start(certificates: rproxy_tls::Certificates) {
    /// tokio::spawn(certificates.clone().run());
    /// # }
    /// ```
    pub async fn run(self) {
        let mut sources = JoinSet::new();
        for ordered in &self.inner.ordered {
            sources.spawn(ordered.clone().run());
        }
        for (account, names) in self.accounts() {
            sources.spawn(account.answer_for_others(names, self.inner.shelf.challenges().clone()));
        }
        if let Some(local) = &self.inner.local {
            sources.spawn(local.clone().run());
        }
        sources.spawn(watch(self.inner.files.clone()));
        while let Some(ended) = sources.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a certificate is no longer kept fresh");
            }
        }
    }

    /// Each account with others to answer for, and all the names that it orders.
    fn accounts(&self) -> Vec<(Arc<Account>, Vec<String>)> {
        let mut accounts: Vec<(Arc<Account>, Vec<String>)> = Vec::new();
        for ordered in self.inner.ordered.iter().filter(|ordered| ordered.account().peers().is_some()) {
            let known = accounts.iter_mut().find(|(account, _)| Arc::ptr_eq(account, ordered.account()));
            match known {
                Some((_, names)) => names.extend_from_slice(ordered.names()),
                None => accounts.push((ordered.account().clone(), ordered.names().to_vec())),
            }
        }
        accounts
    }

    /// Reads the files again, looks into the folders again, and lets an order that waits after a failure try now.
    ///
    /// Blocks for as long as the files take to read. What goes wrong is logged and stands in [`status`](Self::status);
    /// what was served stays.
    pub fn reload(&self) {
        for files in &self.inner.files {
            files.reload();
        }
        for ordered in &self.inner.ordered {
            ordered.reload();
        }
    }

    /// How each certificate is doing, in the order in which they were configured within their source.
    pub fn status(&self) -> Vec<CertificateStatus> {
        self.inner.shelf.status()
    }

    /// Waits until each certificate is there. Files and the local authority's are from the start; one by ACME may
    /// have to be ordered, for which [`run`](Self::run) has to be running.
    pub async fn ready(&self) {
        self.inner.shelf.filled().await;
    }

    /// The local authority's certificate, for whoever wants to trust it; `None` without a local authority.
    pub fn local_ca_pem_path(&self) -> Option<PathBuf> {
        self.inner.local.as_ref().map(|local| local.ca_path())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Collects the sources of [`Certificates`]. They may be mixed: where two have a certificate for the same name, files
/// win over ACME, and ACME over the local authority.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct CertificatesBuilder {
    acme: Vec<Acme>,
    files: Vec<Pair>,
    local: Option<Local>,
    protocol: Protocol,
}

impl CertificatesBuilder {
    /// Orders certificates by ACME. May be called again for another directory.
    pub fn acme(mut self, acme: Acme) -> Self {
        self.acme.push(acme);
        self
    }

    /// Serves a chain and its key from PEM files, and reads them again when they change. May be called again; the
    /// first pair is the default for clients that name no host, or an unknown one.
    pub fn files(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.pair(certificate.as_ref(), key.as_ref(), None)
    }

    /// [`files`](Self::files), with an OCSP response in DER (RFC 6960) that is stapled to the certificate in each
    /// handshake, for as long as it says that the certificate is good. One that is missing, is about another
    /// certificate, or has expired is warned of, and nothing is stapled.
    pub fn files_with_ocsp(
        self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
        response: impl AsRef<Path>,
    ) -> Self {
        self.pair(certificate.as_ref(), key.as_ref(), Some(response.as_ref()))
    }

    fn pair(mut self, certificate: &Path, key: &Path, ocsp: Option<&Path>) -> Self {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        self.files.push(Pair { certificate, key, ocsp: ocsp.map(Path::to_owned) });
        self
    }

    /// Has a local development authority make a certificate. The last call counts.
    pub fn local(mut self, local: Local) -> Self {
        self.local = Some(local);
        self
    }

    /// Speaks this version of TLS and newer ones. Default 1.2.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.protocol.min_version = version;
        self
    }

    /// Speaks these cipher suites only, and prefers them in this order. By default all that rustls considers safe, in
    /// the client's order: it knows which it computes faster.
    pub fn cipher_suites(mut self, suites: CipherSuites) -> Self {
        self.protocol.suites = suites;
        self
    }

    /// Asks clients for certificates. An authority that validates a name by ACME shows none and still gets its answer,
    /// for which it takes TLS 1.3.
    pub fn client_auth(mut self, auth: ClientAuth) -> Self {
        self.protocol.client_auth = Some(auth);
        self
    }

    /// Appends the secrets of all sessions to this file, for Wireshark and the like: whoever has it can read all that
    /// was said. For the hour in which it is needed, and no longer.
    pub fn key_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.protocol.key_log = Some(path.into());
        self
    }

    /// Reads files and folders, makes what the local authority needs, and refuses what can't work. It asks nobody over
    /// the network, but blocks for as long as the disk takes.
    pub fn build(self) -> Result<Certificates, Error> {
        let shelf = Arc::new(Shelf::new());
        let mut files = Vec::new();
        for pair in self.files {
            files.push(Arc::new(Files::open(pair, &shelf)?));
        }
        let mut ordered = Vec::new();
        let mut names = HashSet::new();
        for acme in self.acme {
            ordered.extend(acme.open(&mut names, &shelf)?.into_iter().map(Arc::new));
        }
        let local = match self.local {
            Some(local) => Some(Arc::new(LocalAuthority::open(local, &shelf)?)),
            None => None,
        };
        if files.is_empty() && ordered.is_empty() && local.is_none() {
            return Err(Error::Nothing);
        }
        let config = server_config(shelf.clone(), !ordered.is_empty(), self.protocol)?;
        Ok(Certificates { inner: Arc::new(Inner { shelf, config: Arc::new(config), ordered, files, local }) })
    }
}
