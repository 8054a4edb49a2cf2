use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use crate::{
    Error, PemError, Source,
    crypto::digest,
    loaded_certificate::LoadedCertificate,
    resolver::{CertificateResolver, SlotId},
};

/// A certificate in PEM files that another program updates.
#[derive(Debug)]
pub(crate) struct FileCertificate {
    paths: PemPaths,
    resolver: Arc<CertificateResolver>,
    slot: SlotId,
    last_read: Mutex<LastRead>,
}

/// The paths of the files with a certificate chain, its private key, and its OCSP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PemPaths {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The path of the file with an OCSP response in DER.
    pub(crate) ocsp: Option<PathBuf>,
}

/// The result of the last attempt to read the certificate files.
#[derive(Debug)]
struct LastRead {
    /// The digest of the file contents, or the error, so that an unchanged error is logged only once.
    fingerprint: String,
    /// The expiry of the stapled OCSP response, or `None` if no response is stapled.
    staple_expiry: Option<SystemTime>,
}

/// Reads the files of all certificates again, and publishes the changed certificates.
pub(crate) fn reload_all(certificates: &[Arc<FileCertificate>]) {
    let changed: Vec<_> = certificates.iter().map(|certificate| certificate.reload()).collect();
    if !changed.contains(&true) {
        return;
    }
    // Not an error, as at the start: another program may be about to replace the other files, too.
    for (index, certificate) in certificates.iter().enumerate() {
        if let Err(error) = certificate.check_names(&certificates[..index]) {
            tracing::warn!("{error}");
        }
    }
}

impl FileCertificate {
    /// Reads the certificate files at startup, unless their content is given. Returns an error if a file is unusable. A
    /// reload only logs a warning.
    pub(crate) fn open(
        paths: PemPaths,
        content: Option<Arc<PemContent>>,
        resolver: &Arc<CertificateResolver>,
    ) -> Result<Self, Error> {
        let content = match content {
            Some(content) => content,
            None => Arc::new(PemContent::read(&paths).map_err(|error| paths.error(error))?),
        };
        let loaded = content.parse().map_err(|error| paths.error(error))?;
        let certificate = Self {
            slot: resolver.reserve(Source::Files, Vec::new()),
            resolver: resolver.clone(),
            last_read: Mutex::new(LastRead { fingerprint: content.fingerprint(), staple_expiry: None }),
            paths,
        };
        certificate.publish(loaded, &content, &mut certificate.last_read());
        Ok(certificate)
    }

    /// Checks that handshakes select this certificate for its names: it must be the first with its key type.
    ///
    /// A certificate that shares only some of its names with `earlier` ones is served for the others: that causes a
    /// warning. The same files twice are harmless.
    ///
    /// # Errors
    ///
    /// Returns an error if it is never selected.
    pub(crate) fn check_names(&self, earlier: &[Arc<Self>]) -> Result<(), Error> {
        let Some(loaded) = self.resolver.current(self.slot) else { return Ok(()) };
        let mut names: Vec<_> = loaded.names.iter().collect();
        let total = names.len();
        let mut served_instead = None;
        for other in earlier {
            let Some(current) = self.resolver.current(other.slot) else { continue };
            if current.key.cert == loaded.key.cert {
                return Ok(());
            }
            if current.key_type == loaded.key_type && names.iter().any(|name| current.names.contains(name)) {
                names.retain(|name| !current.names.contains(name));
                served_instead.get_or_insert(&other.paths.certificate);
            }
        }
        let Some(earlier) = served_instead else { return Ok(()) };
        let key_type = loaded.key_type;
        if names.is_empty() {
            let (certificate, earlier) = (self.paths.certificate.clone(), earlier.clone());
            return Err(Error::DuplicateFiles { certificate, earlier, key_type, names: loaded.names.to_strings() });
        }
        tracing::warn!(
            certificate = %self.paths.certificate.display(),
            served_instead = %earlier.display(),
            %key_type,
            names = total - names.len(),
            "another certificate has the same key type for some of the names, and takes precedence because it is configured earlier"
        );
        Ok(())
    }

    /// Reads the certificate files again, and publishes the certificate if they changed. Keeps the current one if a
    /// file is bad.
    ///
    /// Returns whether a certificate was published.
    pub(crate) fn reload(&self) -> bool {
        // Locked to the end, or a concurrent reload could replace a newer certificate with an older one.
        let mut last_read = self.last_read();
        let content = match PemContent::read(&self.paths) {
            Ok(content) => content,
            Err(error) => {
                let reason = error.to_string();
                if last_read.fingerprint != reason {
                    self.reload_failed(&reason);
                    last_read.fingerprint = reason;
                }
                return false;
            }
        };
        let fingerprint = content.fingerprint();
        let is_staple_expired = last_read.staple_expiry.is_some_and(|expiry| expiry <= SystemTime::now());
        if last_read.fingerprint == fingerprint && !is_staple_expired {
            return false;
        }
        last_read.fingerprint = fingerprint;
        match content.parse() {
            Ok(loaded) => {
                tracing::info!(certificate = %self.paths.certificate.display(), "certificate reloaded");
                self.publish(loaded, &content, &mut last_read);
                true
            }
            Err(error) => {
                self.reload_failed(&error.to_string());
                false
            }
        }
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.paths.certificate), Some(&self.paths.key), self.paths.ocsp.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    /// Returns the expiry of the stapled OCSP response, at which the files must be read again.
    pub(crate) fn staple_expiry(&self) -> Option<SystemTime> {
        self.last_read().staple_expiry
    }

    fn last_read(&self) -> MutexGuard<'_, LastRead> {
        self.last_read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, mut loaded: LoadedCertificate, content: &PemContent, last_read: &mut LastRead) {
        let certificate = self.paths.certificate.display();
        if loaded.is_reordered {
            tracing::warn!(
                %certificate,
                "the certificates in the file are not in order from leaf to root, serving the reordered chain"
            );
        }
        if loaded.validity.is_expired(SystemTime::now()) {
            let not_after = httpdate::fmt_http_date(loaded.validity.not_after);
            tracing::warn!(%certificate, not_after, "the certificate has expired, clients will reject it");
        }
        if loaded.names == Default::default() {
            tracing::warn!(%certificate, "the certificate has no subject alternative name, clients will reject it");
        }
        last_read.staple_expiry = None;
        if let (Some(path), Some(response)) = (&self.paths.ocsp, &content.ocsp) {
            let response = response.as_ref().map_err(ToString::to_string);
            match response.and_then(|response| loaded.staple(response.clone())) {
                Ok(expiry) => last_read.staple_expiry = expiry,
                Err(reason) => {
                    tracing::warn!(
                        %certificate,
                        ocsp = %path.display(),
                        reason,
                        "unusable OCSP response, serving the certificate without one"
                    );
                }
            }
        }
        self.resolver.publish(self.slot, loaded);
    }

    fn reload_failed(&self, reason: &str) {
        tracing::warn!(
            certificate = %self.paths.certificate.display(),
            key = %self.paths.key.display(),
            reason,
            "certificate reload failed, keeping the current certificate"
        );
        self.resolver.set_error(self.slot, Some(reason.to_owned()));
    }
}

impl PemPaths {
    /// Returns the error for files that are unusable.
    pub(crate) fn error(&self, source: PemError) -> Error {
        Error::Files { certificate: self.certificate.clone(), key: self.key.clone(), source }
    }
}

/// The contents of a certificate's files.
pub(crate) struct PemContent {
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// The OCSP response, or the error of reading it, which does not prevent serving the certificate.
    ocsp: Option<io::Result<Vec<u8>>>,
}

/// Formats no content, because the key is secret.
impl fmt::Debug for PemContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemContent").finish_non_exhaustive()
    }
}

impl PemContent {
    pub(crate) fn read(paths: &PemPaths) -> Result<Self, PemError> {
        let read = |path: &Path| fs::read(path).map_err(|error| PemError::Read { path: path.to_owned(), error });
        let (certificate, key) = (read(&paths.certificate)?, read(&paths.key)?);
        Ok(Self { certificate, key, ocsp: paths.ocsp.as_ref().map(fs::read) })
    }

    fn parse(&self) -> Result<LoadedCertificate, PemError> {
        LoadedCertificate::from_pem(&self.certificate, &self.key)
    }

    fn fingerprint(&self) -> String {
        let ocsp = self.ocsp.as_ref().and_then(|ocsp| ocsp.as_ref().ok());
        digest(&[&self.certificate[..], &self.key, ocsp.map_or(&[], Vec::as_slice)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::testing::{OcspResponse, self_signed_pem};

    /// A temporary folder with the files of a certificate chain and its key.
    struct TestFiles {
        folder: tempfile::TempDir,
    }

    impl TestFiles {
        fn new(name: &str) -> Self {
            let files = Self { folder: tempfile::tempdir().unwrap() };
            let (chain, key) = self_signed_pem(&[name]);
            files.write(&chain, &key);
            files
        }

        fn write(&self, chain: &str, key: &str) {
            fs::write(self.path("chain.pem"), chain).unwrap();
            fs::write(self.path("key.pem"), key).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn open(&self, resolver: &Arc<CertificateResolver>) -> Result<FileCertificate, Error> {
            let ocsp = Some(self.path("ocsp.der")).filter(|path| path.exists());
            let paths = PemPaths { certificate: self.path("chain.pem"), key: self.path("key.pem"), ocsp };
            FileCertificate::open(paths, None, resolver)
        }
    }

    /// Returns the names and the last error in the status of the only certificate.
    fn status(resolver: &CertificateResolver) -> (Vec<String>, Option<String>) {
        let status = resolver.status().remove(0);
        (status.names, status.last_error)
    }

    #[test]
    fn files_that_were_read_before_are_not_needed_to_build_the_certificates() {
        let files = TestFiles::new("a.test");
        let builder = || crate::Certificates::builder().files(files.path("chain.pem"), files.path("key.pem"));
        let read = builder().read_files().unwrap();
        fs::remove_file(files.path("key.pem")).unwrap();
        let certificates = read.build().unwrap();
        assert!(certificates.covers(Some("a.test"), "a.test"));
        let error = builder().read_files().unwrap_err();
        assert!(matches!(&error, Error::Files { key, .. } if *key == files.path("key.pem")), "{error}");
    }

    #[test]
    fn reload_applies_a_changed_certificate_file() {
        let resolver = Arc::new(CertificateResolver::new());
        let files = TestFiles::new("old.test");
        let certificate = files.open(&resolver).unwrap();
        assert_eq!(status(&resolver), (vec!["old.test".to_owned()], None));

        let (chain, key) = self_signed_pem(&["new.test"]);
        files.write(&chain, &key);
        certificate.reload();
        assert_eq!(status(&resolver), (vec!["new.test".to_owned()], None));
    }

    #[test]
    fn failed_reload_keeps_the_certificate_and_a_later_successful_reload_clears_the_error() {
        let resolver = Arc::new(CertificateResolver::new());
        let files = TestFiles::new("old.test");
        let certificate = files.open(&resolver).unwrap();
        let (chain, key) = self_signed_pem(&["new.test"]);
        let (_, other_key) = self_signed_pem(&["new.test"]);
        for (chain, key, expected) in [
            ("", key.as_str(), "no certificate found"),
            ("half a file", &key, "no certificate found"),
            (&chain, "", "no private key found"),
            (&chain, &other_key, "does not match"),
            (&chain[..chain.len() / 2], &key, "malformed PEM"),
        ] {
            files.write(chain, key);
            certificate.reload();
            let (names, error) = status(&resolver);
            assert_eq!(names, ["old.test"]);
            assert!(error.as_deref().unwrap().contains(expected), "{error:?}");
        }

        fs::remove_file(files.path("key.pem")).unwrap();
        certificate.reload();
        let (names, error) = status(&resolver);
        assert_eq!(names, ["old.test"]);
        assert!(error.unwrap().contains("cannot read"));

        files.write(&chain, &key);
        certificate.reload();
        assert_eq!(status(&resolver), (vec!["new.test".to_owned()], None));
    }

    #[test]
    fn restoring_the_original_files_clears_the_reload_error() {
        let resolver = Arc::new(CertificateResolver::new());
        let files = TestFiles::new("old.test");
        let chain = fs::read_to_string(files.path("chain.pem")).unwrap();
        let key = fs::read_to_string(files.path("key.pem")).unwrap();
        let certificate = files.open(&resolver).unwrap();
        files.write("", "");
        certificate.reload();
        assert!(status(&resolver).1.is_some());
        files.write(&chain, &key);
        certificate.reload();
        assert_eq!(status(&resolver), (vec!["old.test".to_owned()], None));
    }

    #[test]
    fn error_for_a_key_of_another_certificate_names_both_files() {
        let resolver = Arc::new(CertificateResolver::new());
        let files = TestFiles::new("a.test");
        let (_, other_key) = self_signed_pem(&["a.test"]);
        fs::write(files.path("key.pem"), other_key).unwrap();
        let error = files.open(&resolver).unwrap_err();
        assert!(matches!(error, Error::Files { source: PemError::KeyMismatch, .. }));
        let text = error.to_string();
        assert!(text.contains("chain.pem") && text.contains("key.pem"), "{text}");
    }

    #[test]
    fn staples_an_ocsp_response_until_it_expires() {
        let resolver = Arc::new(CertificateResolver::new());
        let files = TestFiles::new("a.test");
        fs::write(files.path("ocsp.der"), "not yet").unwrap();
        let certificate = files.open(&resolver).unwrap();
        let leaf = resolver.select(None, &[]).unwrap().key.cert[0].clone();
        let stapled = || resolver.select(None, &[]).unwrap().key.ocsp.clone();
        assert_eq!(stapled(), None, "the certificate is served without a response");

        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let good = OcspResponse { leaf: &leaf, status: 0, this_update: now - hour, next_update: Some(now + hour) };
        fs::write(files.path("ocsp.der"), good.der()).unwrap();
        certificate.reload();
        assert_eq!(stapled(), Some(good.der()));
        let expiry = certificate.staple_expiry().unwrap();
        assert!(expiry > now && expiry <= now + hour);

        let expired = OcspResponse { next_update: Some(now - hour / 2), ..good };
        fs::write(files.path("ocsp.der"), expired.der()).unwrap();
        certificate.reload();
        assert_eq!(stapled(), None);
        // Time passes without a change of the certificate file.
        certificate.last_read().staple_expiry = Some(now - hour);
        fs::remove_file(files.path("ocsp.der")).unwrap();
        certificate.reload();
        assert_eq!((stapled(), certificate.staple_expiry()), (None, None));
    }
}
