use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use crate::{
    Error, PemError, Source,
    certified::Certified,
    shelf::{Shelf, SlotId},
    store::digest,
};

/// A certificate chain and its key in two PEM files that somebody else keeps up to date.
#[derive(Debug)]
pub(crate) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    shelf: Arc<Shelf>,
    slot: SlotId,
    /// What was read last, good or bad: a bad pair is complained of once, not at each event in its folder.
    seen: Mutex<String>,
}

impl Files {
    /// Reads the files for the first time; here a bad pair is an error, later it is a warning.
    pub(crate) fn open(certificate: PathBuf, key: PathBuf, shelf: &Arc<Shelf>) -> Result<Self, Error> {
        let failed = |source| Error::Files { certificate: certificate.clone(), key: key.clone(), source };
        let content = Content::read(&certificate, &key).map_err(failed)?;
        let certified = content.certified().map_err(failed)?;
        let files = Self {
            slot: shelf.reserve(Source::Files, Vec::new()),
            shelf: shelf.clone(),
            seen: Mutex::new(content.fingerprint()),
            certificate,
            key,
        };
        files.publish(certified);
        Ok(files)
    }

    /// Reads the files again. A good pair that is new is served from now on; a bad one changes nothing and is warned of.
    pub(crate) fn reload(&self) {
        // Held to the end: two reloads at once could otherwise put the older pair over the newer one.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let content = match Content::read(&self.certificate, &self.key) {
            Ok(content) => content,
            Err(error) => {
                let reason = error.to_string();
                if *seen != reason {
                    self.refuse(&reason);
                    *seen = reason;
                }
                return;
            }
        };
        let fingerprint = content.fingerprint();
        if *seen == fingerprint {
            return;
        }
        *seen = fingerprint;
        match content.certified() {
            Ok(certified) => {
                tracing::info!(certificate = %self.certificate.display(), "certificate reloaded");
                self.publish(certified);
            }
            Err(error) => self.refuse(&error.to_string()),
        }
    }

    pub(crate) fn paths(&self) -> [&Path; 2] {
        [&self.certificate, &self.key]
    }

    fn publish(&self, certified: Certified) {
        let certificate = self.certificate.display();
        if certified.mended {
            tracing::warn!(
                %certificate,
                "the certificates in the file are not just the chain from leaf to root; served in the right order, but mend the file"
            );
        }
        if certified.validity.is_expired(SystemTime::now()) {
            let not_after = httpdate::fmt_http_date(certified.validity.not_after);
            tracing::warn!(%certificate, not_after, "the certificate has expired; clients will refuse it");
        }
        if certified.names == Default::default() {
            tracing::warn!(%certificate, "the certificate names no host; clients will refuse it");
        }
        self.shelf.publish(self.slot, certified);
    }

    fn refuse(&self, reason: &str) {
        tracing::warn!(
            certificate = %self.certificate.display(),
            key = %self.key.display(),
            reason,
            "the new certificate can't be used; the old one is still served"
        );
        self.shelf.report(self.slot, Some(reason.to_owned()));
    }
}

struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Content {
    fn read(certificate: &Path, key: &Path) -> Result<Self, PemError> {
        let read = |path: &Path| fs::read(path).map_err(|source| PemError::Read { path: path.to_owned(), source });
        Ok(Self { certificate: read(certificate)?, key: read(key)? })
    }

    fn certified(&self) -> Result<Certified, PemError> {
        Certified::from_pem(&self.certificate, &self.key)
    }

    fn fingerprint(&self) -> String {
        digest(&[&self.certificate, &self.key])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::self_signed_pem;

    struct Pair {
        folder: tempfile::TempDir,
    }

    impl Pair {
        fn new(name: &str) -> Self {
            let pair = Self { folder: tempfile::tempdir().unwrap() };
            let (chain, key) = self_signed_pem(&[name]);
            pair.write(&chain, &key);
            pair
        }

        fn write(&self, chain: &str, key: &str) {
            fs::write(self.path("chain.pem"), chain).unwrap();
            fs::write(self.path("key.pem"), key).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn open(&self, shelf: &Arc<Shelf>) -> Result<Files, Error> {
            Files::open(self.path("chain.pem"), self.path("key.pem"), shelf)
        }
    }

    fn status(shelf: &Shelf) -> (Vec<String>, Option<String>) {
        let status = shelf.status().remove(0);
        (status.names, status.last_error)
    }

    #[test]
    fn a_new_pair_is_served_after_a_reload() {
        let shelf = Arc::new(Shelf::new());
        let pair = Pair::new("old.test");
        let files = pair.open(&shelf).unwrap();
        assert_eq!(status(&shelf), (vec!["old.test".to_owned()], None));

        let (chain, key) = self_signed_pem(&["new.test"]);
        pair.write(&chain, &key);
        files.reload();
        assert_eq!(status(&shelf), (vec!["new.test".to_owned()], None));
    }

    #[test]
    fn a_bad_pair_keeps_the_old_certificate_and_a_good_one_clears_the_error() {
        let shelf = Arc::new(Shelf::new());
        let pair = Pair::new("old.test");
        let files = pair.open(&shelf).unwrap();
        let (chain, key) = self_signed_pem(&["new.test"]);
        let (_, other_key) = self_signed_pem(&["new.test"]);
        for (chain, key, complaint) in [
            ("", key.as_str(), "no certificate found"),
            ("half a file", &key, "no certificate found"),
            (&chain, "", "no private key found"),
            (&chain, &other_key, "does not fit"),
            (&chain[..chain.len() / 2], &key, "malformed PEM"),
        ] {
            pair.write(chain, key);
            files.reload();
            let (names, error) = status(&shelf);
            assert_eq!(names, ["old.test"]);
            assert!(error.as_deref().unwrap().contains(complaint), "{error:?}");
        }

        fs::remove_file(pair.path("key.pem")).unwrap();
        files.reload();
        let (names, error) = status(&shelf);
        assert_eq!(names, ["old.test"]);
        assert!(error.unwrap().contains("can't read"));

        pair.write(&chain, &key);
        files.reload();
        assert_eq!(status(&shelf), (vec!["new.test".to_owned()], None));
    }

    #[test]
    fn a_pair_that_came_back_unchanged_after_a_bad_one_clears_the_error() {
        let shelf = Arc::new(Shelf::new());
        let pair = Pair::new("old.test");
        let chain = fs::read_to_string(pair.path("chain.pem")).unwrap();
        let key = fs::read_to_string(pair.path("key.pem")).unwrap();
        let files = pair.open(&shelf).unwrap();
        pair.write("", "");
        files.reload();
        assert!(status(&shelf).1.is_some());
        pair.write(&chain, &key);
        files.reload();
        assert_eq!(status(&shelf), (vec!["old.test".to_owned()], None));
    }

    #[test]
    fn a_bad_pair_at_the_start_is_an_error_that_names_the_files() {
        let shelf = Arc::new(Shelf::new());
        let pair = Pair::new("a.test");
        let (_, other_key) = self_signed_pem(&["a.test"]);
        fs::write(pair.path("key.pem"), other_key).unwrap();
        let error = pair.open(&shelf).unwrap_err();
        assert!(matches!(error, Error::Files { source: PemError::KeyMismatch, .. }));
        let text = error.to_string();
        assert!(text.contains("chain.pem") && text.contains("key.pem"), "{text}");
    }
}
