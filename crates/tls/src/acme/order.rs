//! When a certificate is ordered, and what becomes of it.

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
    exchange,
    failure::{Failure, Kind},
    kept::{Found, Kept, LOCKED},
};
use crate::{
    Error, Source,
    certified::Certified,
    config::random,
    local::self_signed,
    names::Host,
    shelf::{Shelf, SlotId},
    store::{Store, folder_name},
    validity::until,
};

/// One certificate that is ordered, kept, and ordered again before it expires.
///
/// When to order, and how long to wait after a failure, is decided here: the waits of tokio-rustls-acme start at one
/// second and are forgotten at a restart.
#[derive(Debug)]
pub(crate) struct Ordered {
    names: Vec<String>,
    kept: Kept,
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
        store: &Store,
        account: Arc<Account>,
        shelf: &Arc<Shelf>,
        stand_in: bool,
    ) -> Result<Self, Error> {
        let words: Vec<&str> = names.iter().map(String::as_str).collect();
        let name = folder_name(&words);
        let store = store.folder(&name);
        store.open().map_err(|source| Error::Store { path: store.root().to_owned(), source })?;
        let ordered = Self {
            slot: shelf.reserve(Source::Acme, names.clone()),
            kept: Kept::new(store, account.peers().cloned(), &name),
            names,
            account,
            shelf: shelf.clone(),
            backoff: Mutex::new(Backoff::NONE),
            reload: Notify::new(),
        };
        ordered.adopt(ordered.kept.in_folder(), "folder");
        if stand_in && shelf.current(ordered.slot).is_none() {
            let certified = self_signed(&ordered.names).map_err(|reason| Error::StandIn { reason })?;
            tracing::info!(names = ?ordered.names, "a self-signed certificate serves until there is one");
            shelf.stand_in(ordered.slot, certified);
        }
        Ok(ordered)
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Looks into the folder again, and orders now if an earlier failure is what holds the certificate up.
    pub(crate) fn reload(&self) {
        self.reload.notify_one();
    }

    /// Keeps the certificate fresh for as long as the process runs.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.look().await;
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
            match self.kept.try_turn().await {
                Ok(Some(turn)) => {
                    // Whoever had the lock before may have left what is needed.
                    self.look().await;
                    if self.wait(SystemTime::now()).is_zero() {
                        self.place_order().await;
                    }
                    turn.end().await;
                }
                Ok(None) => sleep(LOCKED).await,
                Err(error) => self.failed(Failure::unreachable(error.to_string())).await,
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
        let pem = exchange::order(&self.account, &self.names, &self.shelf).await?;
        let certified = Certified::from_pem(&pem, &pem)
            .map_err(|error| Failure::refused(format!("the issued certificate can't be used: {error}")))?;
        // Kept first: whoever has seen it served may end this process, and the next one is not to order again. But a
        // full disk is no reason to go without.
        let kept = self.kept.put(pem.clone()).await;
        self.shelf.publish(self.slot, certified);
        if let Err(error) = kept.and(self.kept.share(&pem).await) {
            let path = self.kept.store().root().display();
            tracing::warn!(%path, %error, "the issued certificate could not be kept, or not shared");
            self.shelf.report(self.slot, Some(error.to_string()));
        }
        Ok(())
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
        self.kept.put_backoff(None).await;
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
            self.kept.put_backoff(Some(backoff)).await;
        }
    }

    async fn forget_wait(&self) {
        let now = self.backoff().now();
        *self.backoff() = now;
        self.kept.put_backoff(None).await;
    }

    /// Looks for what others have done: processes on this folder, and other machines.
    async fn look(&self) {
        let kept = self.kept.clone();
        if let Ok(found) = spawn_blocking(move || kept.in_folder()).await {
            self.adopt(found, "folder");
        }
        let current = self.shelf.current(self.slot);
        self.adopt(self.kept.with_peers(current.as_deref()).await, "other machines");
    }

    /// Serves the certificate that was found if it is newer than the one served, and waits as long as others do.
    fn adopt(&self, found: Found, from: &'static str) {
        if let Some(kept) = found.certificate
            && self.is_news(&kept)
        {
            let not_after = httpdate::fmt_http_date(kept.validity.not_after);
            tracing::info!(names = ?self.names, not_after, from, "certificate taken over");
            self.shelf.publish(self.slot, kept);
        }
        let Some(kept) = found.backoff else { return };
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

    fn is_news(&self, kept: &Certified) -> bool {
        let covered = |name: &String| kept.names.cover(&Host::parse(name));
        self.names.iter().all(covered)
            && self.shelf.current(self.slot).is_none_or(|current| current.validity.not_after < kept.validity.not_after)
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some authorities take minutes; none takes longer and succeeds.
const ORDER_TIMEOUT: Duration = Duration::from_secs(15 * 60);
