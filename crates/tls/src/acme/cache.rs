use std::{io, sync::Arc};

use async_trait::async_trait;
use tokio::task::spawn_blocking;
use tokio_rustls_acme::{AccountCache, CertCache};

use super::{account::Account, order::CERTIFICATE};
use crate::{
    PemError,
    certified::Certified,
    shelf::{Shelf, SlotId},
    store::Store,
};

/// Where one order finds its account and leaves its certificate.
pub(super) struct AcmeCache {
    pub(super) account: Arc<Account>,
    pub(super) store: Store,
    pub(super) shelf: Arc<Shelf>,
    pub(super) slot: SlotId,
}

/// Why an order could not find its account or leave its certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    #[error("{0}")]
    Io(#[source] io::Error),
    #[error("account key: {0}")]
    Account(String),
    #[error("the issued certificate can't be used: {0}")]
    Unusable(#[source] PemError),
}

#[async_trait]
impl CertCache for AcmeCache {
    type EC = CacheError;

    /// An order is only begun once the certificate in the folder does no longer: there is never one to load.
    async fn load_cert(&self, _: &[String], _: &str) -> Result<Option<Vec<u8>>, CacheError> {
        Ok(None)
    }

    async fn store_cert(&self, _: &[String], _: &str, pem: &[u8]) -> Result<(), CacheError> {
        let certified = Certified::from_pem(pem, pem).map_err(CacheError::Unusable)?;
        // Served first: a full disk is no reason to go without.
        self.shelf.publish(self.slot, certified);
        let (store, pem) = (self.store.clone(), pem.to_vec());
        spawn_blocking(move || store.write(CERTIFICATE, &pem))
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(CacheError::Io)
    }
}

#[async_trait]
impl AccountCache for AcmeCache {
    type EA = CacheError;

    async fn load_account(&self, _: &[String], _: &str) -> Result<Option<Vec<u8>>, CacheError> {
        self.account.key().await.map(Some)
    }

    /// Never called, for there always is an account to load.
    async fn store_account(&self, _: &[String], _: &str, _: &[u8]) -> Result<(), CacheError> {
        Ok(())
    }
}
