//! The stored state of one ACME certificate: in its folder, and in the store shared by several machines.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::task::spawn_blocking;

use super::{
    backoff::Backoff,
    peers::{PeerLock, Peers},
};
use crate::{
    loaded_certificate::LoadedCertificate,
    secret_folder::{FolderLock, SecretFolder},
};

/// The folder of one certificate and, if a shared store is configured, the certificate's keys in the store.
#[derive(Clone, Debug)]
pub(super) struct CertificateStorage {
    folder: SecretFolder,
    /// The shared store, and the prefix of the certificate's keys in it.
    peers: Option<(Arc<dyn Peers>, String)>,
}

/// The locks held while an order is placed: the folder lock, and the lock in the shared store.
#[must_use]
pub(super) struct OrderLock {
    _folder: FolderLock,
    peers: Option<Box<dyn PeerLock>>,
}

impl CertificateStorage {
    pub(super) fn new(folder: SecretFolder, peers: Option<Arc<dyn Peers>>, name: &str) -> Self {
        Self { folder, peers: peers.map(|peers| (peers, name.to_owned())) }
    }

    pub(super) fn folder(&self) -> &SecretFolder {
        &self.folder
    }

    /// Reads the certificate and the back-off in the folder. Blocks while it accesses the disk.
    pub(super) fn read_folder(&self) -> StoredState {
        let certificate = match self.folder.read(CERTIFICATE) {
            Ok(Some(pem)) => LoadedCertificate::from_pem(&pem, &pem).map(Some).map_err(|error| error.to_string()),
            Ok(None) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        let backoff = self.folder.read(BACKOFF).ok().flatten();
        let certificate = certificate.unwrap_or_else(|reason| {
            let path = self.folder.file_path(CERTIFICATE);
            tracing::warn!(path = %path.display(), reason, "ignoring an unusable certificate in the certificate folder");
            None
        });
        StoredState { certificate, backoff: backoff.and_then(|text| Backoff::from_text(&text, SystemTime::now())) }
    }

    /// Reads the state in the shared store, and updates the older certificate, in the folder or in the store.
    ///
    /// The result has a certificate only if it is newer than `current`.
    pub(super) async fn sync_with_peers(&self, current: Option<&LoadedCertificate>) -> StoredState {
        let Some((peers, _)) = &self.peers else { return StoredState::default() };
        let read = async {
            let pem = peers.read(&self.key(CERTIFICATE)).await?;
            Ok::<_, io::Error>((pem, peers.read(&self.key(BACKOFF)).await?))
        };
        let (pem, backoff) = match read.await {
            Ok(values) => values,
            Err(error) => {
                tracing::debug!(%error, "cannot read the certificate in the shared store, keeping the current one");
                return StoredState::default();
            }
        };
        let shared = pem.as_ref().and_then(|pem| match LoadedCertificate::from_pem(pem, pem) {
            Ok(certificate) => Some(certificate),
            Err(error) => {
                tracing::warn!(key = self.key(CERTIFICATE), %error, "ignoring an unusable certificate in the shared store");
                None
            }
        });
        let expiry = |certificate: &LoadedCertificate| certificate.validity.not_after;
        let is_newer = shared.as_ref().map(expiry) > current.map(expiry);
        match (pem, current) {
            (Some(pem), _) if is_newer => self.update_folder(move |folder| folder.write(CERTIFICATE, &pem)).await,
            (_, Some(current)) if shared.as_ref().map(expiry) < Some(expiry(current)) => self.share_stored().await,
            _ => {}
        }
        StoredState {
            certificate: shared.filter(|_| is_newer),
            backoff: backoff.and_then(|text| Backoff::from_text(&text, SystemTime::now())),
        }
    }

    /// Writes the certificate in the folder to the shared store.
    async fn share_stored(&self) {
        let folder = self.folder.clone();
        if let Ok(Ok(Some(pem))) = spawn_blocking(move || folder.read(CERTIFICATE)).await
            && let Err(error) = self.share_certificate(&pem).await
        {
            tracing::debug!(%error, "cannot write the certificate to the shared store, retrying later");
        }
    }

    /// Stores a new certificate in its folder.
    pub(super) async fn write_certificate(&self, pem: Vec<u8>) -> io::Result<()> {
        let folder = self.folder.clone();
        spawn_blocking(move || folder.write(CERTIFICATE, &pem)).await.map_err(io::Error::other).flatten()
    }

    /// Writes a certificate to the shared store, if a shared store is configured.
    pub(super) async fn share_certificate(&self, pem: &[u8]) -> io::Result<()> {
        match &self.peers {
            Some((peers, _)) => peers.write(&self.key(CERTIFICATE), pem).await,
            None => Ok(()),
        }
    }

    /// Stores the back-off for restarts and other machines, or removes it if `backoff` is `None`.
    pub(super) async fn write_backoff(&self, backoff: Option<Backoff>) {
        let text = backoff.map(Backoff::to_text);
        if let Some((peers, _)) = &self.peers {
            // Errors are ignored, because the back-off is optional.
            let _ = match &text {
                Some(text) => peers.write(&self.key(BACKOFF), text.as_bytes()).await,
                None => peers.remove(&self.key(BACKOFF)).await,
            };
        }
        self.update_folder(move |folder| match text {
            Some(text) => folder.write(BACKOFF, text.as_bytes()),
            None => folder.remove(BACKOFF),
        })
        .await;
    }

    /// Acquires the locks for placing an order, or returns `None` while another process or machine holds one of them.
    pub(super) async fn try_lock(&self) -> io::Result<Option<OrderLock>> {
        let folder = self.folder.clone();
        let lock = spawn_blocking(move || folder.try_lock()).await.map_err(io::Error::other).flatten();
        let lock = lock.map_err(|error| {
            let path = self.folder.path().display();
            io::Error::new(error.kind(), format!("cannot lock certificate folder {path}: {error}"))
        })?;
        let Some(folder_lock) = lock else { return Ok(None) };
        let Some((peers, _)) = &self.peers else { return Ok(Some(OrderLock { _folder: folder_lock, peers: None })) };
        let peer_lock = peers.try_lock(&self.key("lock")).await?;
        Ok(peer_lock.map(|lock| OrderLock { _folder: folder_lock, peers: Some(lock) }))
    }

    fn key(&self, file: &str) -> String {
        let name = self.peers.as_ref().map_or("", |(_, name)| name);
        format!("{name}/{file}")
    }

    /// Updates the folder, and ignores errors, because the stored copy is optional.
    async fn update_folder(&self, update: impl FnOnce(SecretFolder) -> io::Result<()> + Send + 'static) {
        let folder = self.folder.clone();
        let _ = spawn_blocking(move || update(folder)).await;
    }
}

impl OrderLock {
    pub(super) async fn release(self) {
        if let Some(lock) = self.peers {
            lock.release().await;
        }
    }
}

/// The state read from the folder or from the shared store.
#[derive(Debug, Default)]
pub(super) struct StoredState {
    pub(super) certificate: Option<LoadedCertificate>,
    pub(super) backoff: Option<Backoff>,
}

/// The name of the file with the private key and the chain, which are replaced together.
const CERTIFICATE: &str = "certificate.pem";
/// The name of the file with the back-off after failed orders.
const BACKOFF: &str = "retry";

/// The interval between attempts to acquire a lock that another process or machine holds.
pub(super) const LOCK_RETRY: Duration = Duration::from_secs(2);
