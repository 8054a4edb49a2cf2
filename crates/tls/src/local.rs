use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    str,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;
use tokio::{task::spawn_blocking, time::sleep};
use x509_parser::parse_x509_certificate;

use crate::{
    Error, Source,
    certified::Certified,
    names::{Host, local_name},
    shelf::{Shelf, SlotId},
    store::Store,
    validity::{Validity, system_time, until},
};

/// A certificate authority of one's own, for development: made once, kept in a folder, trusted by whoever installs it.
///
/// Its certificate is always good for `localhost`, `127.0.0.1` and `::1`.
#[derive(Clone, Debug)]
#[must_use]
pub struct Local {
    folder: PathBuf,
    names: Vec<String>,
}

impl Local {
    /// Keeps the authority and its certificate in `local` under this folder.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self { folder: cache_dir.into(), names: Vec::new() }
    }

    /// Adds a name to the certificate: a DNS name, a wildcard or an address.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Adds several names.
    pub fn names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.names.extend(names.into_iter().map(Into::into));
        self
    }
}

/// The authority at work: keeps a certificate for its names on the shelf.
#[derive(Debug)]
pub(crate) struct LocalAuthority {
    store: Store,
    names: Vec<String>,
    shelf: Arc<Shelf>,
    slot: SlotId,
}

impl LocalAuthority {
    pub(crate) fn open(settings: Local, shelf: &Arc<Shelf>) -> Result<Self, Error> {
        let mut names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()];
        for name in &settings.names {
            let name = local_name(name)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let authority = Self {
            store: Store::new(settings.folder).folder("local"),
            slot: shelf.reserve(Source::Local, names.clone()),
            names,
            shelf: shelf.clone(),
        };
        authority.refresh(SystemTime::now())?;
        Ok(authority)
    }

    pub(crate) fn ca_path(&self) -> PathBuf {
        self.store.path(CA)
    }

    /// Replaces the certificate when a third of its life is left, for as long as the process runs.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let wait = match self.shelf.current(self.slot) {
                Some(certified) => until(certified.validity.renewal_time(), SystemTime::now()),
                None => Duration::ZERO,
            };
            // A clock that was set, or a machine that slept, is noticed within the hour.
            sleep(wait.clamp(Duration::from_secs(60), Duration::from_secs(3600))).await;
            let authority = self.clone();
            let refreshed = spawn_blocking(move || authority.refresh(SystemTime::now())).await;
            if let Ok(Err(error)) = refreshed {
                tracing::warn!(%error, "the local certificate could not be renewed");
                self.shelf.report(self.slot, Some(error.to_string()));
            }
        }
    }

    /// Serves the kept certificate if it still does, else a new one.
    fn refresh(&self, now: SystemTime) -> Result<(), Error> {
        let _lock = self.store.lock().map_err(|source| self.unusable(source))?;
        let ca = match self.kept_ca(now)? {
            Some(ca) => ca,
            None => self.make_ca(now)?,
        };
        let kept = self
            .store
            .read(LEAF)
            .map_err(|source| self.unusable(source))?
            .and_then(|pem| Certified::from_pem(&pem, &pem).ok())
            .filter(|leaf| self.still_does(leaf, &ca, now));
        let leaf = match kept {
            Some(leaf) => leaf,
            None => self.issue(&ca, now)?,
        };
        self.shelf.publish(self.slot, leaf);
        Ok(())
    }

    fn kept_ca(&self, now: SystemTime) -> Result<Option<Ca>, Error> {
        let read = |file| self.store.read(file).map_err(|source| self.unusable(source));
        let (Some(certificate), Some(key)) = (read(CA)?, read(CA_KEY)?) else {
            return Ok(None);
        };
        // One that can't be read is not replaced silently: it may be trusted on more machines than this one.
        let ca = Ca::from_pem(&certificate, &key).map_err(|reason| self.failed(reason))?;
        if until(ca.validity.not_after, now) < LAST_DAYS {
            tracing::warn!(
                path = %self.ca_path().display(),
                "the local certificate authority is at its end; the new one has to be trusted anew"
            );
            return Ok(None);
        }
        Ok(Some(ca))
    }

    fn make_ca(&self, now: SystemTime) -> Result<Ca, Error> {
        let failed = |error: rcgen::Error| self.failed(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.not_before = OffsetDateTime::from(now - SKEW);
        params.not_after = OffsetDateTime::from(now + CA_LIFETIME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = DistinguishedName::new();
        // Two authorities of the same name in one trust store would be told apart by their keys alone, and not by people.
        let identity = crate::store::digest(&[key.public_key_raw()]);
        params.distinguished_name.push(DnType::CommonName, format!("rproxy development CA {}", &identity[..8]));
        let certificate = params.self_signed(&key).map_err(failed)?.pem();

        let key = key.serialize_pem();
        // The one before is at its end. Left beside the new key, if this ended here, it would be a pair that does not
        // fit, which a start refuses; without it the next start begins anew.
        self.store.remove(CA).map_err(|source| self.unusable(source))?;
        self.write(CA_KEY, key.as_bytes())?;
        self.write(CA, certificate.as_bytes())?;
        tracing::info!(path = %self.ca_path().display(), "local certificate authority made");
        Ca::from_pem(certificate.as_bytes(), key.as_bytes()).map_err(|reason| self.failed(reason))
    }

    fn issue(&self, ca: &Ca, now: SystemTime) -> Result<Certified, Error> {
        let failed = |error: rcgen::Error| self.failed(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(self.names.clone()).map_err(failed)?;
        params.not_before = OffsetDateTime::from(now - SKEW);
        params.not_after = OffsetDateTime::from((now - SKEW + LEAF_LIFETIME).min(ca.validity.not_after));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "rproxy development certificate");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &ca.issuer).map_err(failed)?;

        // The authority's own certificate stays out of the chain: who trusts it has it.
        let pem = [key.serialize_pem(), leaf.pem()].concat();
        let certified =
            Certified::from_pem(pem.as_bytes(), pem.as_bytes()).map_err(|error| self.failed(error.to_string()))?;
        self.write(LEAF, pem.as_bytes())?;
        Ok(certified)
    }

    fn still_does(&self, leaf: &Certified, ca: &Ca, now: SystemTime) -> bool {
        let covered = |name: &String| leaf.names.cover(&Host::parse(name));
        now < leaf.validity.renewal_time()
            && self.names.iter().all(covered)
            && leaf.key.cert.first().is_some_and(|leaf| ca.has_issued(leaf))
    }

    fn write(&self, file: &str, content: &[u8]) -> Result<(), Error> {
        self.store.write(file, content).map_err(|source| self.unusable(source))
    }

    fn unusable(&self, source: std::io::Error) -> Error {
        Error::Store { path: self.folder().to_owned(), source }
    }

    fn failed(&self, reason: String) -> Error {
        Error::Local { path: self.folder().to_owned(), reason }
    }

    fn folder(&self) -> &Path {
        self.store.root()
    }
}

/// A certificate for these names that nobody vouches for. It is kept nowhere.
pub(crate) fn self_signed(names: &[String]) -> Result<Certified, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(|error| error.to_string())?;
    let now = SystemTime::now();
    params.not_before = OffsetDateTime::from(now - SKEW);
    params.not_after = OffsetDateTime::from(now - SKEW + LEAF_LIFETIME);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "rproxy stand-in");
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let pem = [key.serialize_pem(), certificate.pem()].concat();
    Certified::from_pem(pem.as_bytes(), pem.as_bytes()).map_err(|error| error.to_string())
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    validity: Validity,
}

impl Ca {
    fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let key = str::from_utf8(key)
            .map_err(|error| error.to_string())
            .and_then(|key| KeyPair::from_pem(key).map_err(|error| error.to_string()))
            .map_err(|error| format!("{CA_KEY}: {error}"))?;
        let certificate = CertificateDer::from_pem_slice(certificate).map_err(|error| format!("{CA}: {error}"))?;
        let (_, parsed) = parse_x509_certificate(&certificate).map_err(|error| format!("{CA}: {error}"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(format!("{CA_KEY} does not fit {CA}"));
        }
        let validity = Validity {
            not_before: system_time(parsed.validity().not_before.timestamp()),
            not_after: system_time(parsed.validity().not_after.timestamp()),
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| format!("{CA}: {error}"))?;
        Ok(Self { issuer, certificate, validity })
    }

    fn has_issued(&self, leaf: &CertificateDer<'_>) -> bool {
        let (Ok((_, leaf)), Ok((_, ca))) = (parse_x509_certificate(leaf), parse_x509_certificate(&self.certificate))
        else {
            return false;
        };
        // The name holds a digest of the key, so the same name is the same key.
        leaf.issuer().as_raw() == ca.subject().as_raw()
    }
}

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
const LEAF: &str = "localhost.pem";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Clocks in virtual machines and containers lag behind.
const SKEW: Duration = Duration::from_secs(60 * 60);
const CA_LIFETIME: Duration = DAY.saturating_mul(3650);
/// Clients refuse server certificates with a longer life.
const LEAF_LIFETIME: Duration = DAY.saturating_mul(397);
/// An authority this close to its end is replaced.
const LAST_DAYS: Duration = DAY.saturating_mul(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(folder: &Path, names: &[&str]) -> (Arc<Shelf>, LocalAuthority) {
        let shelf = Arc::new(Shelf::new());
        let settings = Local::new(folder).names(names.iter().copied());
        let authority = LocalAuthority::open(settings, &shelf).unwrap();
        (shelf, authority)
    }

    fn served(shelf: &Shelf) -> CertificateDer<'static> {
        shelf.select(None).unwrap().key.cert[0].clone()
    }

    #[test]
    fn an_authority_that_is_replaced_halfway_leaves_no_pair_that_does_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let (_, local) = authority(folder.path(), &[]);
        // Writing the new key is as far as it gets.
        let key = local.store.path(CA_KEY);
        std::fs::remove_file(&key).unwrap();
        std::fs::create_dir_all(key.join("in the way")).unwrap();
        assert!(local.make_ca(SystemTime::now()).is_err());
        std::fs::remove_dir_all(&key).unwrap();
        std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        drop(local);
        authority(folder.path(), &[]);
    }

    #[test]
    fn a_second_start_serves_the_same_certificate_of_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        let (first, authority_one) = authority(folder.path(), &["app.test"]);
        let ca = std::fs::read(authority_one.ca_path()).unwrap();
        let (second, authority_two) = authority(folder.path(), &["App.test."]);
        assert_eq!(served(&first), served(&second));
        assert_eq!(std::fs::read(authority_two.ca_path()).unwrap(), ca);
    }

    #[test]
    fn a_new_name_gets_a_new_certificate_of_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        let (first, authority_one) = authority(folder.path(), &[]);
        let ca = std::fs::read(authority_one.ca_path()).unwrap();
        let (second, _) = authority(folder.path(), &["app.test", "10.0.0.1", "*.app.test"]);
        assert_ne!(served(&first), served(&second));
        assert_eq!(std::fs::read(authority_one.ca_path()).unwrap(), ca);
        for (host, covered) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("[::1]", true),
            ("app.test", true),
            ("x.app.test", true),
            ("10.0.0.1", true),
            ("other.test", false),
        ] {
            assert_eq!(second.covers(Some("localhost"), host), covered, "{host}");
        }
    }

    #[test]
    fn the_certificate_is_short_enough_for_browsers_and_renewed_when_a_third_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (shelf, authority) = authority(folder.path(), &[]);
        let first = served(&shelf);
        let validity = shelf.select(None).unwrap().validity;
        let lifetime = validity.not_after.duration_since(validity.not_before);
        assert!(lifetime.unwrap() <= 397 * DAY);

        authority.refresh(validity.renewal_time() - DAY).unwrap();
        assert_eq!(served(&shelf), first);
        authority.refresh(validity.renewal_time() + DAY).unwrap();
        assert_ne!(served(&shelf), first);
    }

    #[test]
    fn an_authority_at_its_end_is_replaced_and_its_certificate_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (shelf, authority) = authority(folder.path(), &[]);
        let first = served(&shelf);
        let ca = std::fs::read(authority.ca_path()).unwrap();
        authority.refresh(SystemTime::now() + CA_LIFETIME - LAST_DAYS + DAY).unwrap();
        assert_ne!(std::fs::read(authority.ca_path()).unwrap(), ca);
        assert_ne!(served(&shelf), first);
    }

    #[test]
    fn a_certificate_never_outlives_its_authority() {
        let folder = tempfile::tempdir().unwrap();
        let (shelf, authority) = authority(folder.path(), &[]);
        authority.refresh(SystemTime::now() + CA_LIFETIME - 60 * DAY).unwrap();
        let ca = std::fs::read(authority.ca_path()).unwrap();
        let key = std::fs::read(authority.store.path(CA_KEY)).unwrap();
        let ca = Ca::from_pem(&ca, &key).unwrap();
        assert_eq!(shelf.select(None).unwrap().validity.not_after, ca.validity.not_after);
    }

    #[test]
    fn an_authority_that_can_not_be_read_is_an_error_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (_, first) = authority(folder.path(), &[]);
        std::fs::write(first.ca_path(), "scribble").unwrap();
        let error = LocalAuthority::open(Local::new(folder.path()), &Arc::new(Shelf::new()));
        assert!(matches!(error, Err(Error::Local { .. })));
        assert_eq!(std::fs::read(first.ca_path()).unwrap(), b"scribble");
    }

    #[test]
    fn a_broken_certificate_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (_, first) = authority(folder.path(), &[]);
        std::fs::write(first.store.path(LEAF), "scribble").unwrap();
        let (shelf, _) = authority(folder.path(), &[]);
        assert!(shelf.select(Some("localhost")).is_some());
    }
}
