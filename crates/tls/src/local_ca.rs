use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    crypto::digest,
    loaded_certificate::LoadedCertificate,
    names::{Host, local_name},
    resolver::{CertificateResolver, SlotId},
    secret_folder::SecretFolder,
    validity::{Validity, system_time, until},
};

/// The settings of a local certificate authority (CA) for development.
///
/// The CA is created once and stored in a folder. Clients need to trust it, see
/// [`Certificates::local_ca_pem_path`](crate::Certificates::local_ca_pem_path). The certificate that it issues is valid
/// for `localhost`, `127.0.0.1`, `::1` and the added names.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// use rproxy_tls::{Certificates, LocalCa};
///
/// let ca = LocalCa::new(folder.path()).name("app.test").name("*.app.test");
/// let certificates = Certificates::builder().local(ca).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct LocalCa {
    folder: PathBuf,
    names: Vec<String>,
}

impl LocalCa {
    /// Creates settings that store the CA and its certificate in `cache_dir/local`.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self { folder: cache_dir.into(), names: Vec::new() }
    }

    /// Adds a name to the local certificate: a DNS name, a wildcard or an IP address.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Adds several names to the local certificate.
    pub fn names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.names.extend(names.into_iter().map(Into::into));
        self
    }
}

/// The certificate that the local CA issues and renews.
#[derive(Debug)]
pub(crate) struct LocalCertificate {
    secrets: SecretFolder,
    names: Mutex<Vec<String>>,
    resolver: Arc<CertificateResolver>,
    slot: SlotId,
}

impl LocalCertificate {
    pub(crate) fn open(settings: LocalCa, resolver: &Arc<CertificateResolver>) -> Result<Self, Error> {
        let names = with_loopback(&settings.names)?;
        let certificate = Self {
            secrets: SecretFolder::new(settings.folder).subfolder("local"),
            slot: resolver.reserve(Source::Local, names.clone()),
            names: Mutex::new(names),
            resolver: resolver.clone(),
        };
        certificate.refresh(SystemTime::now())?;
        Ok(certificate)
    }

    /// Changes the names of the local certificate, and issues a new certificate if the current one lacks a name.
    ///
    /// If that fails, the current names and certificate stay in use.
    pub(crate) fn set_names(&self, names: &[String]) -> Result<(), Error> {
        let names = with_loopback(names)?;
        let before = std::mem::replace(&mut *self.names(), names);
        self.refresh(SystemTime::now()).inspect_err(|_| *self.names() = before)
    }

    fn names(&self) -> MutexGuard<'_, Vec<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ca_path(&self) -> PathBuf {
        self.secrets.file_path(CA)
    }

    /// Renews the local certificate when a third of its lifetime is left. Never returns.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let wait = match self.resolver.current(self.slot) {
                Some(certificate) => until(certificate.validity.renewal_time(), SystemTime::now()),
                None => Duration::ZERO,
            };
            // At most an hour, to notice a changed clock or a suspended machine.
            sleep(wait.clamp(Duration::from_secs(60), Duration::from_secs(3600))).await;
            let certificate = self.clone();
            let refreshed = spawn_blocking(move || certificate.refresh(SystemTime::now())).await;
            if let Ok(Err(error)) = refreshed {
                let error = error.with_source();
                tracing::warn!(error, "cannot renew the local certificate, keeping the current one");
                self.resolver.set_error(self.slot, Some(error));
            }
        }
    }

    /// Publishes the stored local certificate if it is still usable, else a new one.
    fn refresh(&self, now: SystemTime) -> Result<(), Error> {
        let _lock = self.secrets.lock().map_err(|error| self.folder_error(error))?;
        let ca = match self.stored_ca(now)? {
            Some(ca) => ca,
            None => self.create_ca(now)?,
        };
        let stored = self
            .secrets
            .read(LEAF)
            .map_err(|error| self.folder_error(error))?
            .and_then(|pem| LoadedCertificate::from_pem(&pem, &pem).ok())
            .filter(|leaf| self.is_usable(leaf, &ca, now));
        let leaf = match stored {
            Some(leaf) => leaf,
            None => self.issue(&ca, now)?,
        };
        self.resolver.publish(self.slot, leaf);
        Ok(())
    }

    fn stored_ca(&self, now: SystemTime) -> Result<Option<Ca>, Error> {
        let read = |file| self.secrets.read(file).map_err(|error| self.folder_error(error));
        let (Some(certificate), Some(key)) = (read(CA)?, read(CA_KEY)?) else {
            return Ok(None);
        };
        // A CA that cannot be parsed is not replaced, because other machines may already trust it.
        let ca = Ca::from_pem(&certificate, &key).map_err(|reason| self.ca_error(reason))?;
        if until(ca.validity.not_after, now) < CA_RENEWAL {
            tracing::warn!(
                path = %self.ca_path().display(),
                "the local CA certificate is about to expire, creating a new certificate authority; clients must trust the new one"
            );
            return Ok(None);
        }
        Ok(Some(ca))
    }

    fn create_ca(&self, now: SystemTime) -> Result<Ca, Error> {
        let failed = |error: rcgen::Error| self.ca_error(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
        params.not_after = OffsetDateTime::from(now + CA_LIFETIME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = DistinguishedName::new();
        // The digest of the key keeps the names of several CAs in one trust store apart.
        let identity = digest(&[key.public_key_raw()]);
        params.distinguished_name.push(DnType::CommonName, format!("rproxy development CA {}", &identity[..8]));
        let certificate = params.self_signed(&key).map_err(failed)?.pem();

        let key = key.serialize_pem();
        // Removed first: if the process ended after writing the key, the old certificate would not match it, and the
        // next start would fail instead of creating a CA again.
        self.secrets.remove(CA).map_err(|error| self.folder_error(error))?;
        self.write(CA_KEY, key.as_bytes())?;
        self.write(CA, certificate.as_bytes())?;
        tracing::info!(path = %self.ca_path().display(), "local certificate authority created");
        Ca::from_pem(certificate.as_bytes(), key.as_bytes()).map_err(|reason| self.ca_error(reason))
    }

    fn issue(&self, ca: &Ca, now: SystemTime) -> Result<LoadedCertificate, Error> {
        let failed = |error: rcgen::Error| self.ca_error(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(self.names().clone()).map_err(failed)?;
        params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
        params.not_after = OffsetDateTime::from((now - CLOCK_SKEW + LEAF_LIFETIME).min(ca.validity.not_after));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "rproxy development certificate");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &ca.issuer).map_err(failed)?;

        // The chain omits the CA certificate: clients that trust it have it.
        let pem = [key.serialize_pem(), leaf.pem()].concat();
        let certificate = LoadedCertificate::from_pem(pem.as_bytes(), pem.as_bytes())
            .map_err(|error| self.ca_error(error.to_string()))?;
        self.write(LEAF, pem.as_bytes())?;
        Ok(certificate)
    }

    fn is_usable(&self, leaf: &LoadedCertificate, ca: &Ca, now: SystemTime) -> bool {
        let covered = |name: &String| leaf.names.covers(&Host::parse(name));
        now < leaf.validity.renewal_time()
            && self.names().iter().all(covered)
            && leaf.key.cert.first().is_some_and(|leaf| ca.has_issued(leaf))
    }

    fn write(&self, file: &str, content: &[u8]) -> Result<(), Error> {
        self.secrets.write(file, content).map_err(|error| self.folder_error(error))
    }

    fn folder_error(&self, source: std::io::Error) -> Error {
        Error::Folder { path: self.secrets.path().to_owned(), source }
    }

    fn ca_error(&self, reason: String) -> Error {
        Error::LocalCa { path: self.secrets.path().to_owned(), reason }
    }
}

/// Returns the loopback names followed by the configured names, without duplicates.
fn with_loopback(added: &[String]) -> Result<Vec<String>, Error> {
    let mut names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()];
    for name in added {
        let name = local_name(name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Creates a self-signed certificate for these names, without storing it.
pub(crate) fn self_signed(names: &[String]) -> Result<LoadedCertificate, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(|error| error.to_string())?;
    let now = SystemTime::now();
    params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
    params.not_after = OffsetDateTime::from(now - CLOCK_SKEW + LEAF_LIFETIME);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "rproxy self-signed certificate");
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let pem = [key.serialize_pem(), certificate.pem()].concat();
    LoadedCertificate::from_pem(pem.as_bytes(), pem.as_bytes()).map_err(|error| error.to_string())
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
            return Err(format!("the CA key in {CA_KEY} does not match the CA certificate in {CA}"));
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
        // The name includes a digest of the key, so equal names mean equal keys.
        leaf.issuer().as_raw() == ca.subject().as_raw()
    }
}

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
const LEAF: &str = "localhost.pem";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The tolerance for slow client clocks, as in virtual machines and containers.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);
const CA_LIFETIME: Duration = DAY.saturating_mul(3650);
/// The maximum lifetime of a server certificate that clients accept.
const LEAF_LIFETIME: Duration = DAY.saturating_mul(397);
/// The remaining lifetime of the CA certificate at which it is replaced.
const CA_RENEWAL: Duration = DAY.saturating_mul(30);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn open(folder: &Path, names: &[&str]) -> (Arc<CertificateResolver>, LocalCertificate) {
        let resolver = Arc::new(CertificateResolver::new());
        let settings = LocalCa::new(folder).names(names.iter().copied());
        let certificate = LocalCertificate::open(settings, &resolver).unwrap();
        (resolver, certificate)
    }

    fn served(resolver: &CertificateResolver) -> CertificateDer<'static> {
        resolver.select(None, &[]).unwrap().key.cert[0].clone()
    }

    #[test]
    fn interrupted_ca_replacement_leaves_no_ca_certificate_without_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let (_, local) = open(folder.path(), &[]);
        // A folder in place of the key file makes writing the key fail.
        let key = local.secrets.file_path(CA_KEY);
        std::fs::remove_file(&key).unwrap();
        std::fs::create_dir_all(key.join("in the way")).unwrap();
        assert!(local.create_ca(SystemTime::now()).is_err());
        std::fs::remove_dir_all(&key).unwrap();
        std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        drop(local);
        open(folder.path(), &[]);
    }

    #[test]
    fn restart_reuses_the_local_certificate_and_the_ca() {
        let folder = tempfile::tempdir().unwrap();
        let (first, local_one) = open(folder.path(), &["app.test"]);
        let ca = std::fs::read(local_one.ca_path()).unwrap();
        let (second, local_two) = open(folder.path(), &["App.test."]);
        assert_eq!(served(&first), served(&second));
        assert_eq!(std::fs::read(local_two.ca_path()).unwrap(), ca);
    }

    #[test]
    fn adding_a_name_issues_a_new_local_certificate_from_the_same_ca() {
        let folder = tempfile::tempdir().unwrap();
        let (first, local_one) = open(folder.path(), &[]);
        let ca = std::fs::read(local_one.ca_path()).unwrap();
        let (second, _) = open(folder.path(), &["app.test", "10.0.0.1", "*.app.test"]);
        assert_ne!(served(&first), served(&second));
        assert_eq!(std::fs::read(local_one.ca_path()).unwrap(), ca);
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
    fn changed_names_get_a_certificate_immediately_and_invalid_names_keep_the_current_one() {
        let folder = tempfile::tempdir().unwrap();
        let (resolver, local) = open(folder.path(), &["app.test"]);
        let first = served(&resolver);
        let ca = std::fs::read(local.ca_path()).unwrap();
        local.set_names(&["app.test".to_owned(), "new.test".to_owned()]).unwrap();
        assert!(resolver.covers(Some("new.test"), "new.test") && resolver.covers(Some("app.test"), "app.test"));
        assert_eq!(std::fs::read(local.ca_path()).unwrap(), ca);

        let second = served(&resolver);
        assert_ne!(second, first);
        assert!(local.set_names(&["a b".to_owned()]).is_err());
        assert_eq!(served(&resolver), second);
        // A certificate with more names than needed is not issued again.
        local.set_names(&["new.test".to_owned()]).unwrap();
        assert_eq!(served(&resolver), second);
    }

    #[test]
    fn local_certificate_is_valid_for_at_most_397_days_and_renewed_with_a_third_left() {
        let folder = tempfile::tempdir().unwrap();
        let (resolver, local) = open(folder.path(), &[]);
        let first = served(&resolver);
        let validity = resolver.select(None, &[]).unwrap().validity;
        let lifetime = validity.not_after.duration_since(validity.not_before);
        assert!(lifetime.unwrap() <= 397 * DAY);

        local.refresh(validity.renewal_time() - DAY).unwrap();
        assert_eq!(served(&resolver), first);
        local.refresh(validity.renewal_time() + DAY).unwrap();
        assert_ne!(served(&resolver), first);
    }

    #[test]
    fn expiring_ca_is_replaced_together_with_the_local_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let (resolver, local) = open(folder.path(), &[]);
        let first = served(&resolver);
        let ca = std::fs::read(local.ca_path()).unwrap();
        local.refresh(SystemTime::now() + CA_LIFETIME - CA_RENEWAL + DAY).unwrap();
        assert_ne!(std::fs::read(local.ca_path()).unwrap(), ca);
        assert_ne!(served(&resolver), first);
    }

    #[test]
    fn local_certificate_does_not_outlive_the_ca() {
        let folder = tempfile::tempdir().unwrap();
        let (resolver, local) = open(folder.path(), &[]);
        local.refresh(SystemTime::now() + CA_LIFETIME - 60 * DAY).unwrap();
        let ca = std::fs::read(local.ca_path()).unwrap();
        let key = std::fs::read(local.secrets.file_path(CA_KEY)).unwrap();
        let ca = Ca::from_pem(&ca, &key).unwrap();
        assert_eq!(resolver.select(None, &[]).unwrap().validity.not_after, ca.validity.not_after);
    }

    #[test]
    fn rejects_an_unparsable_ca_without_overwriting_it() {
        let folder = tempfile::tempdir().unwrap();
        let (_, first) = open(folder.path(), &[]);
        std::fs::write(first.ca_path(), "scribble").unwrap();
        let error = LocalCertificate::open(LocalCa::new(folder.path()), &Arc::new(CertificateResolver::new()));
        assert!(matches!(error, Err(Error::LocalCa { .. })));
        assert_eq!(std::fs::read(first.ca_path()).unwrap(), b"scribble");
    }

    #[test]
    fn replaces_an_unparsable_local_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let (_, first) = open(folder.path(), &[]);
        std::fs::write(first.secrets.file_path(LEAF), "scribble").unwrap();
        let (resolver, _) = open(folder.path(), &[]);
        assert!(resolver.select(Some("localhost"), &[]).is_some());
    }
}
