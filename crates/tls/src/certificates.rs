use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::ServerConfig;
use tokio::task::JoinSet;

use crate::{
    Acme, CertificateStatus, CipherSuites, ClientAuth, Error, LocalCa, Source, TlsVersion,
    acme::AcmeCertificateSet,
    file_watcher::watch,
    local_ca::LocalCertificate,
    pem_files::{FileCertificate, PemContent, PemPaths, reload_all},
    resolver::CertificateResolver,
    server_config::{TlsOptions, server_config},
};

/// All certificates of a server, and the [`ServerConfig`] with which rustls serves them.
///
/// Clones are cheap and share all state.
#[derive(Clone)]
pub struct Certificates {
    inner: Arc<Inner>,
}

struct Inner {
    resolver: Arc<CertificateResolver>,
    config: Arc<ServerConfig>,
    acme: AcmeCertificateSet,
    files: Vec<Arc<FileCertificate>>,
    local: Option<Arc<LocalCertificate>>,
}

impl Certificates {
    /// Returns a builder without any certificate source.
    pub fn builder() -> CertificatesBuilder {
        CertificatesBuilder::default()
    }

    /// Returns the TLS configuration, which all listeners and workers should share.
    ///
    /// Because the ticket keys are shared, a client can resume its session with any worker.
    ///
    /// The handshakes of an ACME validation use the same configuration. After a handshake,
    /// [`is_challenge`](crate::is_challenge) tells whether it was one.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.inner.config.clone()
    }

    /// Returns whether the certificate served for the server name `sni` is valid for `host`.
    ///
    /// If it is not, the connection was opened for another site, and the server should respond with 421 (Misdirected
    /// Request, RFC 9110 §15.5.20). `host` is given without a port.
    ///
    /// There are two exceptions:
    ///
    /// - An IP address or `localhost` is covered if `sni` is absent or equal to it, for the sake of health checks and
    ///   development.
    /// - A certificate without subject alternative names covers every host.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// use rproxy_tls::{Certificates, LocalCa};
    ///
    /// let certificates = Certificates::builder().local(LocalCa::new(folder.path()).name("app.test")).build()?;
    /// assert!(certificates.covers(Some("app.test"), "app.test"));
    /// assert!(!certificates.covers(Some("app.test"), "other.test"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn covers(&self, sni: Option<&str>, host: &str) -> bool {
        self.inner.resolver.covers(sni, host)
    }

    /// Orders and renews certificates and reloads changed files, until the future is dropped.
    ///
    /// Without this future running, certificates are neither ordered nor renewed, and files are read again only by
    /// [`reload`](Self::reload).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn start(certificates: rproxy_tls::Certificates) {
    /// tokio::spawn(certificates.clone().run());
    /// # }
    /// ```
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        if !self.inner.acme.is_empty() {
            let inner = self.inner.clone();
            tasks.spawn(async move { inner.acme.run(inner.resolver.challenges()).await });
        }
        if let Some(local) = &self.inner.local {
            tasks.spawn(local.clone().run());
        }
        tasks.spawn(watch(self.inner.files.clone()));
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "certificate task failed, certificates may not be renewed until a restart");
            }
        }
    }

    /// Reads all certificate files again, and retries failed ACME orders immediately.
    ///
    /// Blocks while the files are read. A failure is logged and reported by [`status`](Self::status); the current
    /// certificate is still served.
    pub fn reload(&self) {
        reload_all(&self.inner.files);
        self.inner.acme.reload();
    }

    /// Replaces the certificates that are ordered from the first ACME directory, given as lists of names.
    ///
    /// A certificate with the same names stays. New ones are served from the folder if they are stored there, or else
    /// ordered at once by [`run`](Self::run). Until then, a replaced certificate is served for those of its names that are
    /// still listed. Other replaced certificates are neither served nor renewed.
    ///
    /// Blocks while the folder is read.
    ///
    /// # Errors
    ///
    /// Returns an error if the builder got no [`Acme`], if a name cannot be certified or is listed twice, or if the folder
    /// cannot be used. Nothing changes then.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// use rproxy_tls::{Acme, Certificates};
    ///
    /// let acme = Acme::new(folder.path()).domain("example.com");
    /// let certificates = Certificates::builder().acme(acme).build()?;
    /// certificates.set_acme_certificates([["example.com"], ["shop.example.com"]])?;
    /// assert_eq!(certificates.status().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_acme_certificates<N>(
        &self,
        certificates: impl IntoIterator<Item = impl IntoIterator<Item = N>>,
    ) -> Result<(), Error>
    where
        N: Into<String>,
    {
        let names = certificates.into_iter().map(|names| names.into_iter().map(Into::into).collect());
        self.inner.acme.replace(&names.collect::<Vec<Vec<String>>>())
    }

    /// Replaces the configured names of the local CA's certificate.
    ///
    /// A new certificate is issued and served at once if the current one lacks some of them.
    ///
    /// # Errors
    ///
    /// Returns an error if the builder got no [`LocalCa`], if a name is invalid, or if the folder cannot be used. Nothing
    /// changes then.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// use rproxy_tls::{Certificates, LocalCa};
    ///
    /// let certificates = Certificates::builder().local(LocalCa::new(folder.path())).build()?;
    /// certificates.set_local_names(["app.test"])?;
    /// assert!(certificates.covers(Some("app.test"), "app.test"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_local_names(&self, names: impl IntoIterator<Item = impl Into<String>>) -> Result<(), Error> {
        let local = self.inner.local.as_ref().ok_or(Error::NotConfigured { kind: Source::Local })?;
        local.set_names(&names.into_iter().map(Into::into).collect::<Vec<_>>())
    }

    /// Returns the status of each certificate, ordered by source: files, ACME, local CA.
    pub fn status(&self) -> Vec<CertificateStatus> {
        self.inner.resolver.status()
    }

    /// Waits until every configured certificate is available.
    ///
    /// Certificates from files and from the local CA are available as soon as they are built. A certificate that ACME
    /// has not issued yet requires [`run`](Self::run) to be running.
    pub async fn ready(&self) {
        self.inner.resolver.all_available().await;
    }

    /// Returns the path of the local CA's own certificate, or `None` if there is no local CA.
    ///
    /// Clients that should accept the local certificate need to trust this file.
    pub fn local_ca_pem_path(&self) -> Option<PathBuf> {
        self.inner.local.as_ref().map(|local| local.ca_path())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A builder for [`Certificates`], which combines certificates from several sources.
///
/// If several sources have a certificate for the same name, files take precedence over ACME, and ACME over the local
/// CA.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct CertificatesBuilder {
    acme: Vec<Acme>,
    files: Vec<PemPaths>,
    /// The contents of `files`, if they were read before.
    contents: Vec<Arc<PemContent>>,
    local: Option<LocalCa>,
    tls: TlsOptions,
}

impl CertificatesBuilder {
    /// Adds certificates that are ordered by ACME and renewed before they expire. Call it again to use a second
    /// directory.
    pub fn acme(mut self, acme: Acme) -> Self {
        self.acme.push(acme);
        self
    }

    /// Adds a certificate chain and its private key from PEM files, which are reloaded when they change.
    ///
    /// It can be called several times. The first pair of files is the default certificate, for clients that send no
    /// server name or an unknown one.
    ///
    /// A name can have several certificates with different key types, such as ECDSA and RSA. Each client gets the first
    /// that it supports, by the signature algorithms that it offers: elliptic-curve keys before RSA, and otherwise in
    /// the order of the calls. This includes the default certificate.
    pub fn files(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.pem_files(certificate.as_ref(), key.as_ref(), None)
    }

    /// Adds PEM files like [`files`](Self::files), and a file with an OCSP response to staple.
    ///
    /// The response is in DER (RFC 6960). It is stapled while it is current and says that the certificate is good. If
    /// the response is missing, expired or for another certificate, a warning is logged and nothing is stapled.
    pub fn files_with_ocsp(
        self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
        response: impl AsRef<Path>,
    ) -> Self {
        self.pem_files(certificate.as_ref(), key.as_ref(), Some(response.as_ref()))
    }

    fn pem_files(mut self, certificate: &Path, key: &Path, ocsp: Option<&Path>) -> Self {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let paths = PemPaths { certificate, key, ocsp: ocsp.map(Path::to_owned) };
        if !self.files.contains(&paths) {
            self.files.push(paths);
        }
        self
    }

    /// Reads the PEM files that were added so far now instead of in [`build`](Self::build).
    ///
    /// A process that gives up the privilege to read private keys calls this before.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read.
    pub fn read_files(mut self) -> Result<Self, Error> {
        let contents = self.files.iter().map(|paths| PemContent::read(paths).map_err(|error| paths.error(error)));
        self.contents = contents.map(|content| content.map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Adds a certificate that is issued by a local CA, for development. The last call wins.
    pub fn local(mut self, local: LocalCa) -> Self {
        self.local = Some(local);
        self
    }

    /// Sets the minimum TLS version. The default is TLS 1.2.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.tls.min_version = version;
        self
    }

    /// Sets the accepted cipher suites, in the server's order of preference.
    ///
    /// By default all suites that rustls considers safe are accepted, in the client's order of preference, because the
    /// client knows which of them its hardware accelerates.
    pub fn cipher_suites(mut self, suites: CipherSuites) -> Self {
        self.tls.suites = suites;
        self
    }

    /// Requests certificates from clients (mutual TLS).
    ///
    /// ACME validation still works, although the certificate authority sends no certificate: with TLS 1.3, it has
    /// received the challenge certificate before the server checks for a client certificate.
    pub fn client_auth(mut self, auth: ClientAuth) -> Self {
        self.tls.client_auth = Some(auth);
        self
    }

    /// Appends the secrets of all TLS sessions to a key log file, in the format that Wireshark reads.
    ///
    /// Anyone with this file can decrypt the traffic. Use it for debugging only.
    pub fn key_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.key_log = Some(path.into());
        self
    }

    /// Validates the settings, loads the stored certificates, and issues the certificate of the local CA.
    ///
    /// It does not access the network, but blocks while it reads and writes files.
    ///
    /// # Errors
    ///
    /// Returns an error if no source is configured, if a name cannot be certified by its source, if a file or folder
    /// cannot be used, if PEM files would never be served because earlier ones have the same names and key type, or if
    /// the TLS options contradict each other.
    pub fn build(self) -> Result<Certificates, Error> {
        let resolver = Arc::new(CertificateResolver::new());
        let mut files = Vec::new();
        let contents = self.contents.into_iter().map(Some).chain(std::iter::repeat(None));
        for (paths, content) in self.files.into_iter().zip(contents) {
            let certificate = FileCertificate::open(paths, content, &resolver)?;
            certificate.check_names(&files)?;
            files.push(Arc::new(certificate));
        }
        let mut acme = AcmeCertificateSet::default();
        let mut names = HashSet::new();
        for settings in self.acme {
            let (source, certificates) = settings.open(&mut names, &resolver)?;
            acme.add_directory(source, certificates);
        }
        let local = match self.local {
            Some(local) => Some(Arc::new(LocalCertificate::open(local, &resolver)?)),
            None => None,
        };
        if files.is_empty() && acme.is_empty() && local.is_none() {
            return Err(Error::NoCertificates);
        }
        let config = server_config(resolver.clone(), !acme.is_empty(), self.tls)?;
        Ok(Certificates { inner: Arc::new(Inner { resolver, config: Arc::new(config), acme, files, local }) })
    }
}
