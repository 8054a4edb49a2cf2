use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::StreamExt;
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_rustls_acme::{EventError, EventOk};

use super::{
    account::Account,
    backoff::Backoff,
    cache::{AcmeCache, CacheError},
    failure::{Failure, Kind},
};
use crate::{
    Error, Source,
    certified::Certified,
    config::random,
    local::self_signed,
    names::Host,
    shelf::{Shelf, SlotId},
    store::{Lock, Store},
    validity::until,
};

/// One certificate that is ordered, kept, and ordered again before it expires.
///
/// tokio-rustls-acme does one order at a time; when to place it, and how long to wait after a failure, is decided here,
/// because its own waits start at one second and are forgotten at a restart.
#[derive(Debug)]
pub(crate) struct Ordered {
    names: Vec<String>,
    store: Store,
    account: Arc<Account>,
    shelf: Arc<Shelf>,
    slot: SlotId,
    backoff: Mutex<Backoff>,
    reload: Notify,
}

impl Ordered {
    /// Puts on the shelf what the folder holds.
    pub(crate) fn open(
        names: Vec<String>,
        store: Store,
        account: Arc<Account>,
        shelf: &Arc<Shelf>,
        stand_in: bool,
    ) -> Result<Self, Error> {
        store.open().map_err(|source| Error::Store { path: store.root().to_owned(), source })?;
        let ordered = Self {
            slot: shelf.reserve(Source::Acme, names.clone()),
            names,
            store,
            account,
            shelf: shelf.clone(),
            backoff: Mutex::new(Backoff::NONE),
            reload: Notify::new(),
        };
        ordered.adopt();
        if stand_in && shelf.current(ordered.slot).is_none() {
            let certified = self_signed(&ordered.names).map_err(|reason| Error::StandIn { reason })?;
            tracing::info!(names = ?ordered.names, "a self-signed certificate serves until there is one");
            shelf.stand_in(ordered.slot, certified);
        }
        Ok(ordered)
    }

    /// Looks into the folder again, and orders now if an earlier failure is what holds the certificate up.
    pub(crate) fn reload(&self) {
        self.reload.notify_one();
    }

    /// Keeps the certificate fresh for as long as the process runs.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.adopt_in_background().await;
            let wait = self.wait(SystemTime::now());
            if !wait.is_zero() {
                tokio::select! {
                    // A clock that was set, or a machine that slept, is noticed within the hour; so is a certificate
                    // that another process has put into the folder.
                    () = sleep(wait.min(Duration::from_secs(3600))) => {}
                    () = self.reload.notified() => self.forget_wait().await,
                }
                continue;
            }
            match self.lock().await {
                Ok(Some(_lock)) => {
                    // Whoever had the lock before may have left what is needed.
                    self.adopt_in_background().await;
                    if self.wait(SystemTime::now()).is_zero() {
                        self.place_order().await;
                    }
                }
                Ok(None) => sleep(LOCKED).await,
                Err(error) => {
                    let path = self.store.root().display();
                    let reason = format!("certificate folder {path}: {error}");
                    self.failed(Failure::unreachable(reason)).await;
                }
            }
        }
    }

    /// How long until there is something to do: the certificate is young, or an attempt has failed.
    fn wait(&self, now: SystemTime) -> Duration {
        let due =
            self.shelf.current(self.slot).map_or(SystemTime::UNIX_EPOCH, |certified| certified.validity.renewal_time());
        until(due.max(self.backoff().next()), now)
    }

    async fn place_order(&self) {
        tracing::info!(names = ?self.names, directory = self.account.directory(), "ordering a certificate");
        let outcome = timeout(ORDER_TIMEOUT, self.order())
            .await
            .unwrap_or_else(|_| Err(Failure::refused("the directory did not finish the order")));
        match outcome {
            Ok(()) => self.issued().await,
            Err(failure) => self.failed(failure).await,
        }
    }

    async fn order(&self) -> Result<(), Failure> {
        let cache = AcmeCache {
            account: self.account.clone(),
            store: self.store.clone(),
            shelf: self.shelf.clone(),
            slot: self.slot,
        };
        let mut state = self.account.order(&self.names, cache).state();
        let _answers = self.shelf.answer_challenges(&self.names, state.resolver());
        while let Some(event) = state.next().await {
            match event {
                Ok(EventOk::CertCacheStore) => return Ok(()),
                Ok(_) => {}
                Err(EventError::CertCacheStore(CacheError::Io(error))) => {
                    // It is served all the same; but the next start will have to order.
                    let path = self.store.path(CERTIFICATE);
                    tracing::warn!(path = %path.display(), %error, "the issued certificate could not be kept");
                    self.shelf.report(self.slot, Some(error.to_string()));
                    return Ok(());
                }
                Err(error) => return Err(Failure::of(error)),
            }
        }
        Err(Failure::refused("the order ended without a certificate"))
    }

    async fn issued(&self) {
        let Some(certified) = self.shelf.current(self.slot) else {
            return;
        };
        let not_after = httpdate::fmt_http_date(certified.validity.not_after);
        tracing::info!(names = ?self.names, not_after, "certificate issued");
        *self.backoff() = Backoff::NONE;
        if certified.validity.renewal_time() <= SystemTime::now() {
            // Or every new certificate would at once be followed by an order for the next.
            let reason =
                format!("the new certificate is due for renewal already, it ends at {not_after}; is the clock right?");
            self.failed(Failure::refused(reason)).await;
            return;
        }
        self.in_folder(|store| store.remove(RETRY)).await;
    }

    async fn failed(&self, failure: Failure) {
        let now = SystemTime::now();
        let backoff = self.backoff().after(failure.kind, now, random());
        *self.backoff() = backoff;
        let served = match self.shelf.current(self.slot) {
            None => "none",
            Some(certified) if certified.validity.is_expired(now) => "an expired one",
            Some(_) => "the old one",
        };
        tracing::warn!(
            names = ?self.names,
            reason = failure.reason,
            next_try = httpdate::fmt_http_date(backoff.next()),
            served,
            "no certificate from the directory"
        );
        self.shelf.report(self.slot, Some(failure.reason));
        if failure.kind == Kind::Refused {
            self.in_folder(move |store| store.write(RETRY, backoff.to_text().as_bytes())).await;
        }
    }

    async fn forget_wait(&self) {
        let now = self.backoff().now();
        *self.backoff() = now;
        self.in_folder(|store| store.remove(RETRY)).await;
    }

    async fn adopt_in_background(self: &Arc<Self>) {
        let this = self.clone();
        let _ = spawn_blocking(move || this.adopt()).await;
    }

    /// Serves the certificate in the folder if it is newer than the one served, and waits as the folder says.
    fn adopt(&self) {
        let kept = match self.store.read(CERTIFICATE) {
            Ok(Some(pem)) => Certified::from_pem(&pem, &pem).map_err(|error| error.to_string()),
            Ok(None) => Err(String::new()),
            Err(error) => Err(error.to_string()),
        };
        match kept {
            Ok(kept) if self.is_news(&kept) => {
                let not_after = httpdate::fmt_http_date(kept.validity.not_after);
                tracing::info!(names = ?self.names, not_after, "certificate taken from the folder");
                self.shelf.publish(self.slot, kept);
            }
            Ok(_) => {}
            Err(reason) if reason.is_empty() => {}
            Err(reason) => {
                let path = self.store.path(CERTIFICATE);
                tracing::warn!(path = %path.display(), reason, "the kept certificate can't be used");
            }
        }
        let kept = self.store.read(RETRY).ok().flatten();
        if let Some(kept) = kept.and_then(|text| Backoff::from_text(&text, SystemTime::now())) {
            let mut backoff = self.backoff();
            if kept.next() > backoff.next() {
                tracing::info!(
                    names = ?self.names,
                    next_try = httpdate::fmt_http_date(kept.next()),
                    "an earlier order failed; a reload orders at once"
                );
                *backoff = kept;
            }
        }
    }

    fn is_news(&self, kept: &Certified) -> bool {
        let covered = |name: &String| kept.names.cover(&Host::parse(name));
        self.names.iter().all(covered)
            && self.shelf.current(self.slot).is_none_or(|current| current.validity.not_after < kept.validity.not_after)
    }

    async fn lock(&self) -> io::Result<Option<Lock>> {
        let store = self.store.clone();
        spawn_blocking(move || store.try_lock()).await.map_err(io::Error::other).flatten()
    }

    /// What is kept beside the certificate is a help, and no reason to fail.
    async fn in_folder(&self, action: impl FnOnce(Store) -> io::Result<()> + Send + 'static) {
        let store = self.store.clone();
        let _ = spawn_blocking(move || action(store)).await;
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Key and chain in one file, so that there is never one without the other.
pub(super) const CERTIFICATE: &str = "certificate.pem";
const RETRY: &str = "retry";

/// How often to look whether another process is done with the same order.
const LOCKED: Duration = Duration::from_secs(2);
/// Some authorities take minutes; none takes longer and succeeds.
const ORDER_TIMEOUT: Duration = Duration::from_secs(15 * 60);
