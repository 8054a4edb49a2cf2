//! The settings of certificates that are ordered by ACME, and their validation.

mod account;
mod backoff;
mod certificate;
mod certificate_set;
mod challenge;
mod failure;
mod order;
#[cfg(any(feature = "redis", test))]
mod peer_challenge;
mod peers;
#[cfg(feature = "redis")]
mod redis;
mod storage;

use std::{collections::HashSet, fmt, path::PathBuf, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls_acme::acme::{LETS_ENCRYPT_PRODUCTION_DIRECTORY, LETS_ENCRYPT_STAGING_DIRECTORY};

pub(crate) use account::Account;
pub(crate) use certificate::AcmeCertificate;
pub(crate) use certificate_set::AcmeCertificateSet;
pub(crate) use challenge::Challenges;

use crate::{
    Error,
    crypto::provider,
    names::acme_name,
    resolver::CertificateResolver,
    roots,
    secret_folder::{SecretFolder, folder_name},
};
use account::ExternalAccount;
use peers::Peers;

/// The settings of certificates ordered by ACME (RFC 8555), from Let's Encrypt by default.
///
/// Names are validated by TLS-ALPN-01 (RFC 8737): the certificate authority connects to port 443 of each name, and no
/// other port needs to be reachable. Each certificate has a separate order, so a name that fails does not delay the
/// others.
///
/// # Examples
///
/// ```
/// use rproxy_tls::Acme;
///
/// let acme = Acme::new("/var/lib/app/certs")
///     .contact("admin@example.com")
///     .domain("example.com")
///     .certificate(["shop.example.com", "pay.example.com"]);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Acme {
    cache_dir: PathBuf,
    certificates: Vec<Vec<String>>,
    directory: String,
    directory_ca: Option<PathBuf>,
    contacts: Vec<String>,
    external_account: Option<(String, String)>,
    self_signed_fallback: bool,
    #[cfg(feature = "redis")]
    redis: Option<String>,
}

impl Acme {
    /// Creates settings that store the account and the certificates in `cache_dir/acme`.
    ///
    /// On start, stored certificates are served without contacting the ACME directory.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            certificates: Vec::new(),
            directory: LETS_ENCRYPT_PRODUCTION_DIRECTORY.to_owned(),
            directory_ca: None,
            contacts: Vec::new(),
            external_account: None,
            self_signed_fallback: false,
            #[cfg(feature = "redis")]
            redis: None,
        }
    }

    /// Adds a certificate for a single DNS name.
    pub fn domain(self, name: impl Into<String>) -> Self {
        self.certificate([name])
    }

    /// Adds a separate certificate for each DNS name.
    pub fn domains(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names = names.into_iter().map(|name| vec![name.into()]);
        self.certificates.extend(names);
        self
    }

    /// Adds a single certificate that is valid for all of these DNS names.
    ///
    /// If the validation of one name fails, the whole certificate is not issued.
    pub fn certificate(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.certificates.push(names.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the URL of the ACME directory; Let's Encrypt by default. The default is the production directory of Let's
    /// Encrypt.
    pub fn directory(mut self, url: impl Into<String>) -> Self {
        self.directory = url.into();
        self
    }

    /// Sets the ACME directory to the staging environment of Let's Encrypt, which is meant for tests.
    ///
    /// Its rate limits are high, and browsers do not trust its certificates.
    pub fn staging(self) -> Self {
        self.directory(LETS_ENCRYPT_STAGING_DIRECTORY)
    }

    /// Trusts only the CAs in this PEM file for the TLS connection to the ACME directory.
    ///
    /// The default is the Mozilla root program, as packaged by `webpki-roots`.
    pub fn directory_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory_ca = Some(path.into());
        self
    }

    /// Adds an email address at which the certificate authority can reach the account holder.
    pub fn contact(mut self, mail: impl Into<String>) -> Self {
        self.contacts.push(mail.into());
        self
    }

    /// Binds the ACME account to an existing account at the certificate authority (RFC 8555 §7.3.4).
    ///
    /// The certificate authority provides the key identifier `kid` and the MAC key, which is base64url.
    pub fn external_account(mut self, kid: impl Into<String>, key: impl Into<String>) -> Self {
        self.external_account = Some((kid.into(), key.into()));
        self
    }

    /// Sets whether a self-signed certificate is served until the ACME server has issued a certificate.
    ///
    /// The default is `false`: the handshake fails until then. A client that is configured to accept any self-signed
    /// certificate would also accept one from an attacker.
    pub fn self_signed_fallback(mut self, enabled: bool) -> Self {
        self.self_signed_fallback = enabled;
        self
    }

    /// Shares the account, certificates and challenges with other machines through Redis or Valkey.
    ///
    /// This is for machines behind one public address. One machine places the order, and each of them can respond to
    /// the challenge. The URL scheme is `redis://`, `rediss://` (TLS, with the CAs of the operating system) or
    /// `unix://`, with optional user, password and database.
    ///
    /// Certificates are stored in the folder too. While Redis is unavailable, they are still served, and orders wait.
    ///
    /// Redis then holds private keys: anyone who can read it can impersonate the servers. Requires the feature `redis`.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.redis = Some(url.into());
        self
    }

    /// Validates the ACME settings without network access, and publishes the stored certificates.
    ///
    /// `used_names` holds the names of all other ACME certificates, and is extended by the names of these.
    pub(crate) fn open(
        self,
        used_names: &mut HashSet<String>,
        resolver: &Arc<CertificateResolver>,
    ) -> Result<(AcmeSource, Vec<Arc<AcmeCertificate>>), Error> {
        let certificates = self.names(used_names)?;
        let secrets = SecretFolder::new(&self.cache_dir).subfolder("acme");
        let secrets = secrets.subfolder(folder_name(&[self.directory_name()?]));
        secrets.open().map_err(|source| Error::Folder { path: secrets.path().to_owned(), source })?;
        let (contacts, binding, client, peers) = (self.contacts()?, self.binding()?, self.client()?, self.peers()?);
        let account = Account::new(secrets.clone(), contacts, binding, client, self.directory, peers);
        let source = AcmeSource {
            secrets,
            account: Arc::new(account),
            resolver: resolver.clone(),
            self_signed_fallback: self.self_signed_fallback,
        };
        let certificates =
            certificates.into_iter().map(|names| source.open(names).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok((source, certificates))
    }

    fn names(&self, used_names: &mut HashSet<String>) -> Result<Vec<Vec<String>>, Error> {
        let certificates = normalized(&self.certificates, used_names)?;
        match certificates.is_empty() {
            true => Err(Error::NoCertificates),
            false => Ok(certificates),
        }
    }

    fn directory_name(&self) -> Result<&str, Error> {
        let invalid = |reason| Error::InvalidDirectory { url: self.directory.clone(), reason };
        // RFC 8555 §6.1 requires https.
        let name = self.directory.strip_prefix("https://").ok_or_else(|| invalid("expected an https:// URL"))?;
        if name.is_empty() || name.starts_with('/') || name.contains(char::is_whitespace) {
            return Err(invalid("the URL of the ACME directory has no host"));
        }
        Ok(name)
    }

    fn contacts(&self) -> Result<Vec<String>, Error> {
        let contacts = self.contacts.iter().map(|contact| {
            let mail = contact.strip_prefix("mailto:").unwrap_or(contact);
            let is_mail = mail.split_once('@').is_some_and(|(user, host)| {
                !user.is_empty() && !host.is_empty() && !mail.contains([' ', ',', '?', '<', '>'])
            });
            if !is_mail {
                return Err(Error::InvalidContact { contact: contact.clone() });
            }
            Ok(format!("mailto:{mail}"))
        });
        contacts.collect()
    }

    fn binding(&self) -> Result<Option<ExternalAccount>, Error> {
        let Some((kid, key)) = &self.external_account else {
            return Ok(None);
        };
        let invalid = |reason| Error::InvalidExternalAccountKey { kid: kid.clone(), reason };
        // Some certificate authorities show the key in standard base64, or padded.
        let key: String = key
            .trim()
            .trim_end_matches('=')
            .chars()
            .map(|character| match character {
                '+' => '-',
                '/' => '_',
                other => other,
            })
            .collect();
        let key = URL_SAFE_NO_PAD.decode(key).map_err(|_| invalid("the key is not base64url"))?;
        if key.is_empty() {
            return Err(invalid("the key is empty"));
        }
        Ok(Some(ExternalAccount { kid: kid.clone(), key }))
    }

    #[cfg(feature = "redis")]
    fn peers(&self) -> Result<Option<Arc<dyn Peers>>, Error> {
        let Some(url) = &self.redis else { return Ok(None) };
        let scope = folder_name(&[self.directory_name()?]);
        let peers = redis::RedisPeers::new(url, &scope).map_err(|reason| Error::InvalidRedisUrl { reason })?;
        Ok(Some(Arc::new(peers)))
    }

    #[cfg(not(feature = "redis"))]
    fn peers(&self) -> Result<Option<Arc<dyn Peers>>, Error> {
        Ok(None)
    }

    fn client(&self) -> Result<Arc<ClientConfig>, Error> {
        let mut roots = RootCertStore::empty();
        match &self.directory_ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                roots = roots::read(path).map_err(|reason| Error::DirectoryCa { path: path.clone(), reason })?;
            }
        }
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(client))
    }
}

/// An ACME directory with an account, to which certificates can be added later.
#[derive(Debug)]
pub(crate) struct AcmeSource {
    secrets: SecretFolder,
    account: Arc<Account>,
    resolver: Arc<CertificateResolver>,
    self_signed_fallback: bool,
}

impl AcmeSource {
    /// Creates a certificate for these normalised names, and publishes the stored certificate, if any.
    pub(crate) fn open(&self, names: Vec<String>) -> Result<AcmeCertificate, Error> {
        let account = self.account.clone();
        AcmeCertificate::open(names, &self.secrets, account, &self.resolver, self.self_signed_fallback)
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

/// Returns the normalised names of each certificate, skipping certificates without names.
///
/// `used_names` holds the names of all other certificates, and is extended by these.
pub(crate) fn normalized(
    certificates: &[Vec<String>],
    used_names: &mut HashSet<String>,
) -> Result<Vec<Vec<String>>, Error> {
    let mut all = Vec::new();
    for certificate in certificates {
        let mut names = Vec::new();
        for name in certificate {
            let name = acme_name(name)?;
            if !used_names.insert(name.clone()) {
                return Err(Error::DuplicateName { name });
            }
            names.push(name);
        }
        if !names.is_empty() {
            all.push(names);
        }
    }
    Ok(all)
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme")
            .field("cache_dir", &self.cache_dir)
            .field("certificates", &self.certificates)
            .field("directory", &self.directory)
            .field("directory_ca", &self.directory_ca)
            .field("contacts", &self.contacts)
            .field("external_account", &self.external_account.as_ref().map(|(kid, _)| kid))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(configure: impl FnOnce(Acme) -> Acme) -> Result<usize, Error> {
        let folder = tempfile::tempdir().unwrap();
        let resolver = Arc::new(CertificateResolver::new());
        configure(Acme::new(folder.path()))
            .open(&mut HashSet::new(), &resolver)
            .map(|(_, certificates)| certificates.len())
    }

    #[test]
    fn acme_domains_adds_one_certificate_per_name_and_certificate_adds_one_for_all_names() {
        let count = open(|acme| acme.domains(["a.test", "b.test"]).domain("c.test").certificate(["d.test", "e.test"]));
        assert_eq!(count.unwrap(), 4);
    }

    #[test]
    fn rejects_invalid_acme_settings_without_network_access() {
        type Configure = fn(Acme) -> Acme;
        let invalid: [(Configure, &str); 11] = [
            (|acme| acme, "no certificate configured"),
            (|acme| acme.domain("*.a.test"), "wildcard"),
            (|acme| acme.domain("10.0.0.1"), "not IP addresses"),
            (|acme| acme.domains(["a.test", "A.test."]), "listed twice"),
            (|acme| acme.domain("a.test").directory("http://ca.test/dir"), "expected an https:// URL"),
            (|acme| acme.domain("a.test").directory("https://"), "no host"),
            (|acme| acme.domain("a.test").contact("nobody"), "not an email address"),
            (|acme| acme.domain("a.test").external_account("kid-1", "§"), "the key is not base64url"),
            (|acme| acme.domain("a.test").external_account("kid-1", "=="), "empty"),
            (|acme| acme.domain("a.test").directory_ca_file("/nonexistent"), "/nonexistent"),
            (|acme| acme.domain("a.test").directory_ca_file("/dev/null"), "no CA certificate found"),
        ];
        for (configure, expected) in invalid {
            let error = open(configure).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        }
    }

    #[test]
    fn rejects_a_name_that_is_configured_for_two_acme_directories() {
        let folder = tempfile::tempdir().unwrap();
        let acme = Acme::new(folder.path()).domain("a.test");
        let error = crate::Certificates::builder().acme(acme.clone()).acme(acme.staging()).build();
        assert!(matches!(error, Err(Error::DuplicateName { .. })));
    }

    #[test]
    fn rejects_an_acme_directory_path_that_cannot_be_created() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let resolver = Arc::new(CertificateResolver::new());
        let error = Acme::new(file.path()).domain("a.test").open(&mut HashSet::new(), &resolver);
        assert!(matches!(error, Err(Error::Folder { .. })));
    }

    #[test]
    fn accepts_external_account_keys_in_both_base64_alphabets_and_omits_them_from_debug_output() {
        for key in ["-_-_", "+/+/", "-_-_====", " -_-_\n"] {
            let acme = Acme::new("/nowhere").external_account("kid-1", key);
            let binding = acme.binding().unwrap().unwrap();
            assert_eq!(binding.key, [0xfb, 0xff, 0xbf], "{key:?}");
            assert!(!format!("{acme:?}{binding:?}").contains(key.trim()));
        }
    }
}
