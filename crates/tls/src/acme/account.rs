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
use crate::{crypto::digest, secret_folder::SecretFolder};

/// An ACME account, shared by all certificates that are ordered from one ACME directory.
#[derive(Debug)]
pub(crate) struct Account {
    secrets: SecretFolder,
    /// The file name of the account key, which depends on the contacts and the external account.
    key_file: String,
    contacts: Vec<String>,
    external: Option<ExternalAccount>,
    client: Arc<ClientConfig>,
    directory: String,
    peers: Option<Arc<dyn Peers>>,
    /// The account key, locked while it is loaded or created, so that concurrent orders use the same account.
    key: Mutex<Option<AccountKey>>,
}

impl Account {
    pub(crate) fn new(
        secrets: SecretFolder,
        contacts: Vec<String>,
        external: Option<ExternalAccount>,
        client: Arc<ClientConfig>,
        directory: String,
        peers: Option<Arc<dyn Peers>>,
    ) -> Self {
        let kid = external.as_ref().map_or("", |external| &external.kid);
        let words: Vec<&str> = contacts.iter().map(String::as_str).chain([kid]).collect();
        Self {
            key_file: format!("account-{}.pem", &digest(&words)[..16]),
            secrets,
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

    /// Serves the ACME challenges of other machines that share the account. Returns only if the account is not shared.
    pub(crate) async fn serve_peer_challenges(self: Arc<Self>, names: Vec<String>, challenges: Arc<Challenges>) {
        let Some(peers) = &self.peers else { return };
        let mut wait = MIN_RETRY;
        loop {
            let started = Instant::now();
            let error = peers.receive_challenges(&names, &challenges).await;
            if started.elapsed() > MAX_RETRY {
                wait = MIN_RETRY;
            }
            tracing::warn!(%error, "cannot receive the ACME challenges of other machines from the shared store, retrying in {wait:?}");
            sleep(wait).await;
            wait = (wait * 2).min(MAX_RETRY);
        }
    }

    pub(crate) fn peers(&self) -> Option<&Arc<dyn Peers>> {
        self.peers.as_ref()
    }

    /// Returns the account key as PKCS #8: from memory, the folder or the shared store, or else a new key.
    pub(super) async fn key(&self) -> Result<Vec<u8>, Failure> {
        let failed = |error: String| Failure::transient(format!("cannot load or create the ACME account key: {error}"));
        let mut key = self.key.lock().await;
        if let Some(AccountKey(der)) = &*key {
            return Ok(der.clone());
        }
        let (secrets, file) = (self.secrets.clone(), self.key_file.clone());
        let loaded =
            spawn_blocking(move || load_or_create_key(&secrets, &file)).await.map_err(|error| error.to_string());
        let mut pem = loaded.flatten().map_err(failed)?;
        if let Some(peers) = &self.peers {
            // All machines use the account of the first one.
            let shared = peers.write_new(&self.key_file, &pem).await.map_err(|error| failed(error.to_string()))?;
            if shared != pem {
                let (secrets, file, content) = (self.secrets.clone(), self.key_file.clone(), shared.clone());
                let _ = spawn_blocking(move || secrets.write(&file, &content)).await;
                pem = shared;
            }
        }
        let der = from_pem(&pem).map_err(failed)?;
        *key = Some(AccountKey(der.clone()));
        Ok(der)
    }
}

/// Returns the account key in the file as PEM, or creates the file with a new key.
fn load_or_create_key(secrets: &SecretFolder, file: &str) -> Result<Vec<u8>, String> {
    if let Some(pem) = secrets.read(file).map_err(|error| error.to_string())? {
        return Ok(pem);
    }
    let der = AcmeAccount::generate_key_pair();
    let pem = KeyPair::try_from(der.as_slice()).map_err(|error| error.to_string())?.serialize_pem();
    match secrets.write_new(file, pem.as_bytes()) {
        Ok(pem) => Ok(pem),
        Err(error) => {
            // The order continues, with the key in memory only.
            tracing::warn!(
                path = %secrets.file_path(file).display(),
                %error,
                "cannot store the ACME account key, a restart of this process will create another account"
            );
            Ok(pem.into_bytes())
        }
    }
}

fn from_pem(pem: &[u8]) -> Result<Vec<u8>, String> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    Ok(key.secret_pkcs8_der().to_vec())
}

const MIN_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);

struct AccountKey(Vec<u8>);

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey(..)")
    }
}

/// The external account at the certificate authority to which the ACME account is bound (RFC 8555 §7.3.4).
pub(crate) struct ExternalAccount {
    pub(crate) kid: String,
    pub(crate) key: Vec<u8>,
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount").field("kid", &self.kid).finish_non_exhaustive()
    }
}
