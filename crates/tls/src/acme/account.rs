use std::{fmt, str, sync::Arc};

use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use tokio::{sync::Mutex, task::spawn_blocking};
use tokio_rustls_acme::{AcmeConfig, acme::Account as AcmeAccount};

use super::cache::{AcmeCache, CacheError};
use crate::store::{Store, digest};

/// Who orders, and where: shared by all certificates from one directory.
#[derive(Debug)]
pub(crate) struct Account {
    store: Store,
    /// The key's file: another contact or another binding is another account.
    file: String,
    contacts: Vec<String>,
    external: Option<ExternalAccount>,
    client: Arc<ClientConfig>,
    directory: String,
    /// Locked while the key is read or made, so that orders that start together do not make an account each.
    key: Mutex<Option<AccountKey>>,
}

impl Account {
    pub(crate) fn new(
        store: Store,
        contacts: Vec<String>,
        external: Option<ExternalAccount>,
        client: Arc<ClientConfig>,
        directory: String,
    ) -> Self {
        let kid = external.as_ref().map_or("", |external| &external.kid);
        let words: Vec<&str> = contacts.iter().map(String::as_str).chain([kid]).collect();
        Self {
            file: format!("account-{}.pem", &digest(&words)[..16]),
            store,
            contacts,
            external,
            client,
            directory,
            key: Mutex::new(None),
        }
    }

    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    pub(super) fn order(&self, names: &[String], cache: AcmeCache) -> AcmeConfig<CacheError> {
        let mut config = AcmeConfig::new_with_client_tls_config(names, self.client.clone())
            .directory(&self.directory)
            .contact(&self.contacts)
            .cache(cache);
        if let Some(external) = &self.external {
            config = config.external_account_binding(&external.kid, &external.key);
        }
        config
    }

    /// The account's key as PKCS #8: from memory, from the folder, or a new one.
    pub(super) async fn key(&self) -> Result<Vec<u8>, CacheError> {
        let mut key = self.key.lock().await;
        if let Some(AccountKey(der)) = &*key {
            return Ok(der.clone());
        }
        let (store, file) = (self.store.clone(), self.file.clone());
        let der = spawn_blocking(move || keep_key(&store, &file))
            .await
            .map_err(|error| CacheError::Account(error.to_string()))??;
        *key = Some(AccountKey(der.clone()));
        Ok(der)
    }
}

fn keep_key(store: &Store, file: &str) -> Result<Vec<u8>, CacheError> {
    if let Some(pem) = store.read(file).map_err(CacheError::Io)? {
        return from_pem(&pem);
    }
    let der = AcmeAccount::generate_key_pair();
    let pem =
        KeyPair::try_from(der.as_slice()).map_err(|error| CacheError::Account(error.to_string()))?.serialize_pem();
    match store.write_new(file, pem.as_bytes()) {
        Ok(pem) => from_pem(&pem),
        Err(error) => {
            // The order can go ahead; memory holds the key, so that at least this process stays one account.
            tracing::warn!(path = %store.path(file).display(), %error, "the ACME account key could not be kept");
            Ok(der)
        }
    }
}

fn from_pem(pem: &[u8]) -> Result<Vec<u8>, CacheError> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|error| CacheError::Account(error.to_string()))?;
    Ok(key.secret_pkcs8_der().to_vec())
}

struct AccountKey(Vec<u8>);

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey(..)")
    }
}

/// An account at the authority that the ACME account is bound to.
pub(crate) struct ExternalAccount {
    pub(crate) kid: String,
    pub(crate) key: Vec<u8>,
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount").field("kid", &self.kid).finish_non_exhaustive()
    }
}
