//! Certificates ordered from an authority: what is asked for, from whom, and as whose account.

mod account;
mod backoff;
mod challenge;
mod exchange;
mod failure;
mod kept;
mod order;
mod peers;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "redis", test))]
mod relayed;

use std::{collections::HashSet, fmt, path::PathBuf, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls_acme::acme::{LETS_ENCRYPT_PRODUCTION_DIRECTORY, LETS_ENCRYPT_STAGING_DIRECTORY};

pub(crate) use account::Account;
pub(crate) use challenge::Challenges;
pub(crate) use order::Ordered;

use crate::{Error, config::provider, names::acme_name, roots, shelf::Shelf, store::Store, store::folder_name};
use account::ExternalAccount;
use peers::Peers;

/// What to order by ACME (RFC 8555), and from whom; Let's Encrypt unless told otherwise.
///
/// Names are validated by TLS-ALPN-01 (RFC 8737): the directory connects to port 443 of each name, and nothing else
/// has to be reachable. Each certificate has an order of its own, so that a name that fails holds up no other.
#[derive(Clone)]
#[must_use]
pub struct Acme {
    cache_dir: PathBuf,
    certificates: Vec<Vec<String>>,
    directory: String,
    directory_ca: Option<PathBuf>,
    contacts: Vec<String>,
    external_account: Option<(String, String)>,
    stand_in: bool,
    #[cfg(feature = "redis")]
    redis: Option<String>,
}

impl Acme {
    /// Keeps the account and the certificates in `acme` under this folder. A start that finds them there asks the
    /// directory nothing.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            certificates: Vec::new(),
            directory: LETS_ENCRYPT_PRODUCTION_DIRECTORY.to_owned(),
            directory_ca: None,
            contacts: Vec::new(),
            external_account: None,
            stand_in: false,
            #[cfg(feature = "redis")]
            redis: None,
        }
    }

    /// Adds a certificate for this one name.
    pub fn domain(self, name: impl Into<String>) -> Self {
        self.certificate([name])
    }

    /// Adds a certificate for each of these names.
    pub fn domains(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names = names.into_iter().map(|name| vec![name.into()]);
        self.certificates.extend(names);
        self
    }

    /// Adds one certificate for all of these names together. If one of them fails, so does the certificate.
    pub fn certificate(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.certificates.push(names.into_iter().map(Into::into).collect());
        self
    }

    /// Orders from another directory.
    pub fn directory(mut self, url: impl Into<String>) -> Self {
        self.directory = url.into();
        self
    }

    /// Orders from Let's Encrypt's staging directory: its limits forgive experiments, and no browser trusts it.
    pub fn staging(self) -> Self {
        self.directory(LETS_ENCRYPT_STAGING_DIRECTORY)
    }

    /// Trusts the authorities in this PEM file, and no others, for the directory's own TLS.
    pub fn directory_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory_ca = Some(path.into());
        self
    }

    /// Gives the directory a mail address to write to when something is wrong.
    pub fn contact(mut self, mail: impl Into<String>) -> Self {
        self.contacts.push(mail.into());
        self
    }

    /// Binds the account to one that the authority knows already (RFC 8555 §7.3.4); the key is base64url.
    pub fn external_account(mut self, kid: impl Into<String>, key: impl Into<String>) -> Self {
        self.external_account = Some((kid.into(), key.into()));
        self
    }

    /// Whether a self-signed certificate serves a name until there is one from the authority. Default: no, the handshake
    /// fails, because a client that is made to trust such a certificate is made to trust anybody's.
    pub fn stand_in(mut self, stand_in: bool) -> Self {
        self.stand_in = stand_in;
        self
    }

    /// Shares account, certificates and challenges with the other machines of this Redis or Valkey: of those behind one
    /// address, one orders, and whichever is reached answers the directory. `redis://`, `rediss://` (TLS, with the
    /// system's authorities) or `unix://`; with user, password and database as usual. The folder is kept as well, and
    /// serves while Redis is away; orders wait until it is back.
    ///
    /// Private keys are written there: who can read that Redis can be these servers. Feature `redis`.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.redis = Some(url.into());
        self
    }

    /// Checks all that can be checked without asking the directory, and puts on the shelf what is in the cache.
    /// `seen` holds the names that others order already.
    pub(crate) fn open(self, seen: &mut HashSet<String>, shelf: &Arc<Shelf>) -> Result<Vec<Ordered>, Error> {
        let certificates = self.names(seen)?;
        let store = Store::new(&self.cache_dir).folder("acme").folder(folder_name(&[self.directory_name()?]));
        store.open().map_err(|source| Error::Store { path: store.root().to_owned(), source })?;
        let (contacts, binding, client, peers) = (self.contacts()?, self.binding()?, self.client()?, self.peers()?);
        let account = Account::new(store.clone(), contacts, binding, client, self.directory, peers);
        let account = Arc::new(account);
        let stand_in = self.stand_in;
        let ordered =
            certificates.into_iter().map(|names| Ordered::open(names, &store, account.clone(), shelf, stand_in));
        ordered.collect()
    }

    fn names(&self, seen: &mut HashSet<String>) -> Result<Vec<Vec<String>>, Error> {
        let mut certificates = Vec::new();
        for certificate in &self.certificates {
            let mut names = Vec::new();
            for name in certificate {
                let name = acme_name(name)?;
                if !seen.insert(name.clone()) {
                    return Err(Error::NameTwice { name });
                }
                names.push(name);
            }
            if !names.is_empty() {
                certificates.push(names);
            }
        }
        if certificates.is_empty() {
            return Err(Error::Nothing);
        }
        Ok(certificates)
    }

    fn directory_name(&self) -> Result<&str, Error> {
        let refused = |reason| Error::Directory { url: self.directory.clone(), reason };
        // RFC 8555 §6.1: ACME is spoken over https, and nothing else.
        let name = self.directory.strip_prefix("https://").ok_or_else(|| refused("an https:// URL is needed"))?;
        if name.is_empty() || name.starts_with('/') || name.contains(char::is_whitespace) {
            return Err(refused("the URL names no host"));
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
                return Err(Error::Contact { contact: contact.clone() });
            }
            Ok(format!("mailto:{mail}"))
        });
        contacts.collect()
    }

    fn binding(&self) -> Result<Option<ExternalAccount>, Error> {
        let Some((kid, key)) = &self.external_account else {
            return Ok(None);
        };
        let refused = |reason| Error::ExternalAccountKey { kid: kid.clone(), reason };
        // Some authorities show the key in the other base64 alphabet, or padded: there is only one reading of each.
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
        let key = URL_SAFE_NO_PAD.decode(key).map_err(|_| refused("not base64url"))?;
        if key.is_empty() {
            return Err(refused("it is empty"));
        }
        Ok(Some(ExternalAccount { kid: kid.clone(), key }))
    }

    #[cfg(feature = "redis")]
    fn peers(&self) -> Result<Option<Arc<dyn Peers>>, Error> {
        let Some(url) = &self.redis else { return Ok(None) };
        let scope = folder_name(&[self.directory_name()?]);
        let peers = redis::RedisPeers::new(url, &scope).map_err(|reason| Error::Redis { reason })?;
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
                let refused = |reason| Error::DirectoryCa { path: path.clone(), reason };
                roots = roots::read(path).map_err(refused)?;
            }
        }
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(client))
    }
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

    fn open(settings: impl FnOnce(Acme) -> Acme) -> Result<usize, Error> {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Arc::new(Shelf::new());
        settings(Acme::new(folder.path())).open(&mut HashSet::new(), &shelf).map(|ordered| ordered.len())
    }

    #[test]
    fn each_domain_has_a_certificate_of_its_own_and_several_names_share_one_when_asked() {
        let count = open(|acme| acme.domains(["a.test", "b.test"]).domain("c.test").certificate(["d.test", "e.test"]));
        assert_eq!(count.unwrap(), 4);
    }

    #[test]
    fn settings_that_can_not_work_are_refused_before_anybody_is_asked() {
        type Settings = fn(Acme) -> Acme;
        let refused: [(Settings, &str); 11] = [
            (|acme| acme, "no certificate is configured"),
            (|acme| acme.domain("*.a.test"), "wildcard"),
            (|acme| acme.domain("10.0.0.1"), "not addresses"),
            (|acme| acme.domains(["a.test", "A.test."]), "asked for twice"),
            (|acme| acme.domain("a.test").directory("http://ca.test/dir"), "https:// URL is needed"),
            (|acme| acme.domain("a.test").directory("https://"), "no host"),
            (|acme| acme.domain("a.test").contact("nobody"), "not a mail"),
            (|acme| acme.domain("a.test").external_account("kid-1", "§"), "not base64url"),
            (|acme| acme.domain("a.test").external_account("kid-1", "=="), "empty"),
            (|acme| acme.domain("a.test").directory_ca_file("/nonexistent"), "/nonexistent"),
            (|acme| acme.domain("a.test").directory_ca_file("/dev/null"), "no certificate found"),
        ];
        for (settings, complaint) in refused {
            let error = open(settings).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error:?} lacks {complaint:?}");
        }
    }

    #[test]
    fn a_name_is_ordered_from_one_directory_only() {
        let folder = tempfile::tempdir().unwrap();
        let acme = Acme::new(folder.path()).domain("a.test");
        let error = crate::Certificates::builder().acme(acme.clone()).acme(acme.staging()).build();
        assert!(matches!(error, Err(Error::NameTwice { .. })));
    }

    #[test]
    fn a_cache_folder_that_can_not_be_made_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let shelf = Arc::new(Shelf::new());
        let error = Acme::new(file.path()).domain("a.test").open(&mut HashSet::new(), &shelf);
        assert!(matches!(error, Err(Error::Store { .. })));
    }

    #[test]
    fn an_external_account_key_is_read_in_either_alphabet_and_never_shown() {
        for key in ["-_-_", "+/+/", "-_-_====", " -_-_\n"] {
            let acme = Acme::new("/nowhere").external_account("kid-1", key);
            let binding = acme.binding().unwrap().unwrap();
            assert_eq!(binding.key, [0xfb, 0xff, 0xbf], "{key:?}");
            assert!(!format!("{acme:?}{binding:?}").contains(key.trim()));
        }
    }
}
