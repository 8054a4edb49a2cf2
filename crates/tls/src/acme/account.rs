use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use tokio::{sync::Mutex, task::spawn_blocking, time::sleep};
use tokio_rustls_acme::acme::Account as AcmeAccount;

use super::{challenge::Challenges, failure::Failure, peers::Peers};
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
    peers: Option<Arc<dyn Peers>>,
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
        peers: Option<Arc<dyn Peers>>,
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
            peers,
            key: Mutex::new(None),
        }
    }

    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    pub(super) fn client(&self) -> &Arc<ClientConfig> {
        &self.client
    }

    pub(super) fn contacts(&self) -> &[String] {
        &self.contacts
    }

    pub(super) fn external(&self) -> Option<&ExternalAccount> {
        self.external.as_ref()
    }

    /// Answers the challenges of other machines, for as long as the process runs. Ends where there are none.
    pub(crate) async fn answer_for_others(self: Arc<Self>, names: Vec<String>, challenges: Arc<Challenges>) {
        let Some(peers) = &self.peers else { return };
        let mut wait = SOON;
        loop {
            let began = Instant::now();
            let error = peers.listen(&names, &challenges).await;
            if began.elapsed() > LATE {
                wait = SOON;
            }
            tracing::warn!(%error, "challenges of other machines are not heard of; trying again in {wait:?}");
            sleep(wait).await;
            wait = (wait * 2).min(LATE);
        }
    }

    pub(crate) fn peers(&self) -> Option<&Arc<dyn Peers>> {
        self.peers.as_ref()
    }

    /// The account's key as PKCS #8: from memory, from the folder, from the other machines, or a new one.
    pub(super) async fn key(&self) -> Result<Vec<u8>, Failure> {
        let failed = |error: String| Failure::unreachable(format!("account key: {error}"));
        let mut key = self.key.lock().await;
        if let Some(AccountKey(der)) = &*key {
            return Ok(der.clone());
        }
        let (store, file) = (self.store.clone(), self.file.clone());
        let kept = spawn_blocking(move || keep_key(&store, &file)).await.map_err(|error| error.to_string());
        let mut pem = kept.flatten().map_err(failed)?;
        if let Some(peers) = &self.peers {
            // All of them are one account: the first one's.
            let shared = peers.write_new(&self.file, &pem).await.map_err(|error| failed(error.to_string()))?;
            if shared != pem {
                let (store, file, content) = (self.store.clone(), self.file.clone(), shared.clone());
                let _ = spawn_blocking(move || store.write(&file, &content)).await;
                pem = shared;
            }
        }
        let der = from_pem(&pem).map_err(failed)?;
        *key = Some(AccountKey(der.clone()));
        Ok(der)
    }
}

/// The key's PEM text.
fn keep_key(store: &Store, file: &str) -> Result<Vec<u8>, String> {
    if let Some(pem) = store.read(file).map_err(|error| error.to_string())? {
        return Ok(pem);
    }
    let der = AcmeAccount::generate_key_pair();
    let pem = KeyPair::try_from(der.as_slice()).map_err(|error| error.to_string())?.serialize_pem();
    match store.write_new(file, pem.as_bytes()) {
        Ok(pem) => Ok(pem),
        Err(error) => {
            // The order can go ahead; memory holds the key, so that at least this process stays one account.
            tracing::warn!(path = %store.path(file).display(), %error, "the ACME account key could not be kept");
            Ok(pem.into_bytes())
        }
    }
}

fn from_pem(pem: &[u8]) -> Result<Vec<u8>, String> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    Ok(key.secret_pkcs8_der().to_vec())
}

const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(60);

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
