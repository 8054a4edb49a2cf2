//! The life cycle of one ACME certificate: order, store, publish and renew.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    account::Account,
    backoff::Backoff,
    failure::{Failure, FailureKind},
    order::place_order,
    storage::{CertificateStorage, LOCK_RETRY, StoredState},
};
use crate::{
    Error, Source,
    crypto::random,
    loaded_certificate::LoadedCertificate,
    local_ca::self_signed,
    names::Host,
    resolver::{CertificateResolver, SlotId},
    secret_folder::{SecretFolder, folder_name},
    validity::until,
};

/// A certificate that is ordered by ACME, stored, and renewed before it expires.
///
/// The back-off of tokio-rustls-acme is not used, because it starts at one second and does not survive a restart.
#[derive(Debug)]
pub(crate) struct AcmeCertificate {
    names: Vec<String>,
    storage: CertificateStorage,
    account: Arc<Account>,
    resolver: Arc<CertificateResolver>,
    slot: SlotId,
    backoff: Mutex<Backoff>,
    reload: Notify,
}

impl AcmeCertificate {
    /// Publishes the stored certificate, or else a self-signed certificate if `self_signed_fallback` is true.
    pub(crate) fn open(
        names: Vec<String>,
        secrets: &SecretFolder,
        account: Arc<Account>,
        resolver: &Arc<CertificateResolver>,
        self_signed_fallback: bool,
    ) -> Result<Self, Error> {
        let words: Vec<&str> = names.iter().map(String::as_str).collect();
        let name = folder_name(&words);
        let folder = secrets.subfolder(&name);
        folder.open().map_err(|source| Error::Folder { path: folder.path().to_owned(), source })?;
        let certificate = Self {
            slot: resolver.reserve(Source::Acme, names.clone()),
            storage: CertificateStorage::new(folder, account.peers().cloned(), &name),
            names,
            account,
            resolver: resolver.clone(),
            backoff: Mutex::new(Backoff::NONE),
            reload: Notify::new(),
        };
        certificate.adopt(certificate.storage.read_folder(), "folder");
        if self_signed_fallback && resolver.current(certificate.slot).is_none() {
            let fallback = self_signed(&certificate.names).map_err(|reason| Error::SelfSigned { reason })?;
            tracing::info!(
                names = ?certificate.names,
                "serving a self-signed certificate until the ACME server issues a certificate"
            );
            resolver.publish_fallback(certificate.slot, Arc::new(fallback));
        }
        Ok(certificate)
    }

    /// Serves the certificate of `other`, which has different names, until this certificate is issued.
    pub(crate) fn succeed(&self, other: &Self) {
        if let Some(certificate) = self.resolver.current(other.slot) {
            self.resolver.publish_fallback(self.slot, certificate);
        }
    }

    /// Stops serving the certificate, and removes its slot.
    pub(crate) fn release(&self) {
        self.resolver.release(self.slot);
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads the certificate's folder again, and skips the back-off after a failed order.
    pub(crate) fn reload(&self) {
        self.reload.notify_one();
    }

    /// Orders and renews the certificate, and never returns.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.sync().await;
            let wait = self.wait(SystemTime::now());
            if !wait.is_zero() {
                tokio::select! {
                    // At most an hour, to notice a changed clock, a suspended machine, or a certificate that another
                    // process has put into the folder.
                    () = sleep(wait.min(Duration::from_secs(3600))) => {}
                    () = self.reload.notified() => self.retry_now().await,
                }
                continue;
            }
            match self.storage.try_lock().await {
                Ok(Some(lock)) => {
                    // The previous holder of the lock may have ordered this certificate.
                    self.sync().await;
                    if self.wait(SystemTime::now()).is_zero() {
                        self.order().await;
                    }
                    lock.release().await;
                }
                Ok(None) => sleep(LOCK_RETRY).await,
                Err(error) => self.failed(Failure::transient(error.to_string())).await,
            }
        }
    }

    /// Returns the time until the next order of the certificate, which depends on renewal time and back-off.
    fn wait(&self, now: SystemTime) -> Duration {
        let current = self.resolver.current(self.slot);
        let due = current.map_or(SystemTime::UNIX_EPOCH, |certificate| certificate.validity.renewal_time());
        until(due.max(self.backoff().next()), now)
    }

    async fn order(&self) {
        tracing::info!(names = ?self.names, directory = self.account.directory(), "ordering a certificate");
        let outcome = timeout(ORDER_TIMEOUT, self.order_and_publish()).await.unwrap_or_else(|_| {
            Err(Failure::rejected(format!("the ACME server did not complete the order within {ORDER_TIMEOUT:?}")))
        });
        match outcome {
            Ok(()) => self.issued().await,
            Err(failure) => self.failed(failure).await,
        }
    }

    async fn order_and_publish(&self) -> Result<(), Failure> {
        let pem = place_order(&self.account, &self.names, &self.resolver).await?;
        let certificate = LoadedCertificate::from_pem(&pem, &pem)
            .map_err(|error| Failure::rejected(format!("unusable certificate from the ACME server: {error}")))?;
        // Stored before it is served: once a client has seen it, a restart must not order it again. It is served even
        // if storing fails, for example because the disk is full.
        let stored = self.storage.write_certificate(pem.clone()).await;
        self.resolver.publish(self.slot, certificate);
        if let Err(error) = stored.and(self.storage.share_certificate(&pem).await) {
            let path = self.storage.folder().path().display();
            tracing::warn!(%path, %error, "cannot store or share the issued certificate, serving it from memory");
            self.resolver.set_error(self.slot, Some(error.to_string()));
        }
        Ok(())
    }

    async fn issued(&self) {
        let Some(certificate) = self.resolver.current(self.slot) else {
            return;
        };
        let not_after = httpdate::fmt_http_date(certificate.validity.not_after);
        tracing::info!(names = ?self.names, not_after, "certificate issued");
        *self.backoff() = Backoff::NONE;
        if certificate.validity.renewal_time() <= SystemTime::now() {
            // Counts as a failure, because otherwise the next order would follow at once.
            let reason =
                format!("the new certificate is already due for renewal, it expires at {not_after}; check the clock");
            self.failed(Failure::rejected(reason)).await;
            return;
        }
        self.storage.write_backoff(None).await;
    }

    async fn failed(&self, failure: Failure) {
        let now = SystemTime::now();
        let backoff = self.backoff().after(failure.kind, now, random());
        *self.backoff() = backoff;
        let served = match self.resolver.current(self.slot) {
            None => "none",
            Some(certificate) if certificate.validity.is_expired(now) => "expired",
            Some(_) => "current",
        };
        tracing::warn!(
            names = ?self.names,
            reason = failure.reason,
            next_try = httpdate::fmt_http_date(backoff.next()),
            served,
            "certificate order failed, retrying later"
        );
        self.resolver.set_error(self.slot, Some(failure.reason));
        if failure.kind == FailureKind::Rejected {
            self.storage.write_backoff(Some(backoff)).await;
        }
    }

    async fn retry_now(&self) {
        let backoff = self.backoff().retry_now();
        *self.backoff() = backoff;
        self.storage.write_backoff(None).await;
    }

    /// Reads the certificate and the back-off that other processes and machines have stored.
    async fn sync(&self) {
        let storage = self.storage.clone();
        if let Ok(state) = spawn_blocking(move || storage.read_folder()).await {
            self.adopt(state, "folder");
        }
        let current = self.resolver.current(self.slot);
        self.adopt(self.storage.sync_with_peers(current.as_deref()).await, "other machines");
    }

    /// Publishes a stored certificate if it is newer than the current one, and applies a longer stored back-off.
    fn adopt(&self, state: StoredState, from: &'static str) {
        if let Some(stored) = state.certificate
            && self.is_newer(&stored)
        {
            let not_after = httpdate::fmt_http_date(stored.validity.not_after);
            tracing::info!(names = ?self.names, not_after, from, "certificate loaded");
            self.resolver.publish(self.slot, stored);
        }
        let Some(stored) = state.backoff else { return };
        let mut backoff = self.backoff();
        if stored.next() > backoff.next() {
            tracing::info!(
                names = ?self.names,
                next_try = httpdate::fmt_http_date(stored.next()),
                "the previous certificate order failed, waiting before the next attempt (a reload retries immediately)"
            );
            *backoff = stored;
        }
    }

    fn is_newer(&self, stored: &LoadedCertificate) -> bool {
        let covered = |name: &String| stored.names.covers(&Host::parse(name));
        let current = self.resolver.current(self.slot);
        self.names.iter().all(covered)
            && current.is_none_or(|current| current.validity.not_after < stored.validity.not_after)
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The timeout of an ACME order, longer than the few minutes that some certificate authorities need.
const ORDER_TIMEOUT: Duration = Duration::from_secs(15 * 60);
