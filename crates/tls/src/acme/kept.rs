//! What is kept of one certificate: in its folder, and with the other machines, where there are any.

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
    certified::Certified,
    store::{Lock, Store},
};

/// The folder of one certificate, and its like at the other machines.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    store: Store,
    peers: Option<(Arc<dyn Peers>, String)>,
}

/// The right to order: this process's among those of this folder, and this machine's among all.
#[must_use]
pub(super) struct Turn {
    _folder: Lock,
    peers: Option<Box<dyn PeerLock>>,
}

impl Kept {
    pub(super) fn new(store: Store, peers: Option<Arc<dyn Peers>>, name: &str) -> Self {
        Self { store, peers: peers.map(|peers| (peers, name.to_owned())) }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// What the folder has. Blocks for as long as the disk takes.
    pub(super) fn in_folder(&self) -> Found {
        let certificate = match self.store.read(CERTIFICATE) {
            Ok(Some(pem)) => Certified::from_pem(&pem, &pem).map(Some).map_err(|error| error.to_string()),
            Ok(None) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        let retry = self.store.read(RETRY).ok().flatten();
        let certificate = certificate.unwrap_or_else(|reason| {
            let path = self.store.path(CERTIFICATE);
            tracing::warn!(path = %path.display(), reason, "the kept certificate can't be used");
            None
        });
        Found { certificate, backoff: retry.and_then(|text| Backoff::from_text(&text, SystemTime::now())) }
    }

    /// What the other machines have, which is to be in the folder as well, and the other way round.
    pub(super) async fn with_peers(&self, ours: Option<&Certified>) -> Found {
        let Some((peers, _)) = &self.peers else { return Found::default() };
        let both = async {
            let pem = peers.read(&self.key(CERTIFICATE)).await?;
            Ok::<_, io::Error>((pem, peers.read(&self.key(RETRY)).await?))
        };
        let (pem, retry) = match both.await {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "the other machines' certificates are out of reach");
                return Found::default();
            }
        };
        let theirs = pem.as_ref().and_then(|pem| match Certified::from_pem(pem, pem) {
            Ok(certified) => Some(certified),
            Err(error) => {
                tracing::warn!(key = self.key(CERTIFICATE), %error, "the shared certificate can't be used");
                None
            }
        });
        let end = |certified: &Certified| certified.validity.not_after;
        let is_newer = theirs.as_ref().map(end) > ours.map(end);
        match (pem, ours) {
            (Some(pem), _) if is_newer => self.with_store(move |store| store.write(CERTIFICATE, &pem)).await,
            (_, Some(ours)) if theirs.as_ref().map(end) < Some(end(ours)) => self.share_again().await,
            _ => {}
        }
        Found {
            certificate: theirs.filter(|_| is_newer),
            backoff: retry.and_then(|text| Backoff::from_text(&text, SystemTime::now())),
        }
    }

    /// Gives the others what the folder has: they have lost theirs, or never had it.
    async fn share_again(&self) {
        let store = self.store.clone();
        if let Ok(Ok(Some(pem))) = spawn_blocking(move || store.read(CERTIFICATE)).await
            && let Err(error) = self.share(&pem).await
        {
            tracing::debug!(%error, "the certificate could not be shared");
        }
    }

    /// Keeps a new certificate in the folder.
    pub(super) async fn put(&self, pem: Vec<u8>) -> io::Result<()> {
        let store = self.store.clone();
        spawn_blocking(move || store.write(CERTIFICATE, &pem)).await.map_err(io::Error::other).flatten()
    }

    /// Gives a certificate to the others, where there are any.
    pub(super) async fn share(&self, pem: &[u8]) -> io::Result<()> {
        match &self.peers {
            Some((peers, _)) => peers.write(&self.key(CERTIFICATE), pem).await,
            None => Ok(()),
        }
    }

    /// Keeps how long to wait, so that neither a restart nor another machine makes it shorter; `None`: no time at all.
    pub(super) async fn put_backoff(&self, backoff: Option<Backoff>) {
        let text = backoff.map(Backoff::to_text);
        if let Some((peers, _)) = &self.peers {
            // It is a help, and no reason to fail.
            let _ = match &text {
                Some(text) => peers.write(&self.key(RETRY), text.as_bytes()).await,
                None => peers.remove(&self.key(RETRY)).await,
            };
        }
        self.with_store(move |store| match text {
            Some(text) => store.write(RETRY, text.as_bytes()),
            None => store.remove(RETRY),
        })
        .await;
    }

    /// `None` while somebody else orders.
    pub(super) async fn try_turn(&self) -> io::Result<Option<Turn>> {
        let store = self.store.clone();
        let folder = spawn_blocking(move || store.try_lock()).await.map_err(io::Error::other).flatten();
        let folder = folder.map_err(|error| {
            let path = self.store.root().display();
            io::Error::new(error.kind(), format!("certificate folder {path}: {error}"))
        })?;
        let Some(folder) = folder else { return Ok(None) };
        let Some((peers, _)) = &self.peers else { return Ok(Some(Turn { _folder: folder, peers: None })) };
        let lock = peers.try_lock(&self.key("lock")).await?;
        Ok(lock.map(|lock| Turn { _folder: folder, peers: Some(lock) }))
    }

    fn key(&self, file: &str) -> String {
        let name = self.peers.as_ref().map_or("", |(_, name)| name);
        format!("{name}/{file}")
    }

    /// What is kept in the folder beside the certificate is a help, and no reason to fail.
    async fn with_store(&self, action: impl FnOnce(Store) -> io::Result<()> + Send + 'static) {
        let store = self.store.clone();
        let _ = spawn_blocking(move || action(store)).await;
    }
}

impl Turn {
    pub(super) async fn end(self) {
        if let Some(lock) = self.peers {
            lock.release().await;
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) certificate: Option<Certified>,
    pub(super) backoff: Option<Backoff>,
}

/// Key and chain in one file, so that there is never one without the other.
const CERTIFICATE: &str = "certificate.pem";
const RETRY: &str = "retry";

/// How often to look whether another process is done with the same order.
pub(super) const LOCKED: Duration = Duration::from_secs(2);
