use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    pair: Pair,
    shelf: Arc<Shelf>,
    slot: SlotId,
    seen: Mutex<Seen>,
}

/// Where a certificate and what belongs to it are.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// An OCSP response in DER.
    pub(crate) ocsp: Option<PathBuf>,
}

/// What was read last.
#[derive(Debug)]
struct Seen {
    /// Good or bad: a bad pair is complained of once, not at each event in its folder.
    content: String,
    /// When what is stapled has to go.
    staple_ends: Option<SystemTime>,
}

impl Files {
    /// Reads the files for the first time; here a bad pair is an error, later it is a warning.
    pub(crate) fn open(pair: Pair, shelf: &Arc<Shelf>) -> Result<Self, Error> {
        let failed = |source| Error::Files { certificate: pair.certificate.clone(), key: pair.key.clone(), source };
        let content = Content::read(&pair).map_err(failed)?;
        let certified = content.certified().map_err(failed)?;
        let files = Self {
            slot: shelf.reserve(Source::Files, Vec::new()),
            shelf: shelf.clone(),
            seen: Mutex::new(Seen { content: content.fingerprint(), staple_ends: None }),
            pair,
        };
        files.publish(certified, content, &mut files.seen());
        Ok(files)
    }

    /// Reads the files again. A good pair that is new is served from now on; a bad one changes nothing and is warned of.
    pub(crate) fn reload(&self) {
        // Held to the end: two reloads at once could otherwise put the older pair over the newer one.
        let mut seen = self.seen();
        let content = match Content::read(&self.pair) {
            Ok(content) => content,
            Err(error) => {
                let reason = error.to_string();
                if seen.content != reason {
                    self.refuse(&reason);
                    seen.content = reason;
                }
                return;
            }
        };
        let fingerprint = content.fingerprint();
        let is_stale = seen.staple_ends.is_some_and(|end| end <= SystemTime::now());
        if seen.content == fingerprint && !is_stale {
            return;
        }
        seen.content = fingerprint;
        match content.certified() {
            Ok(certified) => {
                tracing::info!(certificate = %self.pair.certificate.display(), "certificate reloaded");
                self.publish(certified, content, &mut seen);
            }
            Err(error) => self.refuse(&error.to_string()),
        }
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.pair.certificate), Some(&self.pair.key), self.pair.ocsp.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    /// When to reload, though no file has changed.
    pub(crate) fn staple_ends(&self) -> Option<SystemTime> {
        self.seen().staple_ends
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, mut certified: Certified, content: Content, seen: &mut Seen) {
        let certificate = self.pair.certificate.display();
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
        seen.staple_ends = None;
        if let (Some(path), Some(response)) = (&self.pair.ocsp, content.ocsp) {
            match response.map_err(|error| error.to_string()).and_then(|response| certified.staple(response)) {
                Ok(end) => seen.staple_ends = end,
                Err(reason) => {
                    tracing::warn!(%certificate, ocsp = %path.display(), reason, "no OCSP response is stapled");
                }
            }
        }
        self.shelf.publish(self.slot, certified);
    }

    fn refuse(&self, reason: &str) {
        tracing::warn!(
            certificate = %self.pair.certificate.display(),
            key = %self.pair.key.display(),
            reason,
            "the new certificate can't be used; the old one is still served"
        );
        self.shelf.report(self.slot, Some(reason.to_owned()));
    }
}

struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// One that can't be read is no reason to serve nothing.
    ocsp: Option<io::Result<Vec<u8>>>,
}

impl Content {
    fn read(pair: &Pair) -> Result<Self, PemError> {
        let read = |path: &Path| fs::read(path).map_err(|source| PemError::Read { path: path.to_owned(), source });
        let (certificate, key) = (read(&pair.certificate)?, read(&pair.key)?);
        Ok(Self { certificate, key, ocsp: pair.ocsp.as_ref().map(fs::read) })
    }

    fn certified(&self) -> Result<Certified, PemError> {
        Certified::from_pem(&self.certificate, &self.key)
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

    struct Folder {
        folder: tempfile::TempDir,
    }

    impl Folder {
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
            let ocsp = Some(self.path("ocsp.der")).filter(|path| path.exists());
            Files::open(Pair { certificate: self.path("chain.pem"), key: self.path("key.pem"), ocsp }, shelf)
        }
    }

    fn status(shelf: &Shelf) -> (Vec<String>, Option<String>) {
        let status = shelf.status().remove(0);
        (status.names, status.last_error)
    }

    #[test]
    fn a_new_pair_is_served_after_a_reload() {
        let shelf = Arc::new(Shelf::new());
        let pair = Folder::new("old.test");
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
        let pair = Folder::new("old.test");
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
        let pair = Folder::new("old.test");
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
        let pair = Folder::new("a.test");
        let (_, other_key) = self_signed_pem(&["a.test"]);
        fs::write(pair.path("key.pem"), other_key).unwrap();
        let error = pair.open(&shelf).unwrap_err();
        assert!(matches!(error, Error::Files { source: PemError::KeyMismatch, .. }));
        let text = error.to_string();
        assert!(text.contains("chain.pem") && text.contains("key.pem"), "{text}");
    }

    #[test]
    fn a_response_is_stapled_for_as_long_as_it_holds() {
        let shelf = Arc::new(Shelf::new());
        let pair = Folder::new("a.test");
        fs::write(pair.path("ocsp.der"), "not yet").unwrap();
        let files = pair.open(&shelf).unwrap();
        let leaf = shelf.select(None).unwrap().key.cert[0].clone();
        let stapled = || shelf.select(None).unwrap().key.ocsp.clone();
        assert_eq!(stapled(), None, "a bad one is no reason to serve nothing");

        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let good = OcspResponse { leaf: &leaf, status: 0, this_update: now - hour, next_update: Some(now + hour) };
        fs::write(pair.path("ocsp.der"), good.der()).unwrap();
        files.reload();
        assert_eq!(stapled(), Some(good.der()));
        let end = files.staple_ends().unwrap();
        assert!(end > now && end <= now + hour);

        let over = OcspResponse { next_update: Some(now - hour / 2), ..good };
        fs::write(pair.path("ocsp.der"), over.der()).unwrap();
        files.reload();
        assert_eq!(stapled(), None);
        // Time passes, and no file changes.
        files.seen().staple_ends = Some(now - hour);
        fs::remove_file(pair.path("ocsp.der")).unwrap();
        files.reload();
        assert_eq!((stapled(), files.staple_ends()), (None, None));
    }
}
