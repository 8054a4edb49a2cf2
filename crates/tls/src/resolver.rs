use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use rustls::{
    SignatureScheme,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use crate::{
    CertificateStatus, Source,
    acme::Challenges,
    is_challenge,
    loaded_certificate::LoadedCertificate,
    names::{Host, Names, lowercase},
    sni_table::{Entry, SniTable},
};

/// The current certificates of a server, published by certificate sources and selected by handshakes.
#[derive(Debug)]
pub(crate) struct CertificateResolver {
    slots: Mutex<Slots>,
    /// The table for selecting certificates, replaced as a whole so that no handshake sees a partial change.
    table: RwLock<Arc<SniTable>>,
    challenges: Arc<Challenges>,
    changes: watch::Sender<()>,
}

/// The identifier of a configured certificate, available or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SlotId(usize);

/// The slots of all configured certificates, in the order of configuration.
#[derive(Debug, Default)]
struct Slots {
    next: usize,
    all: BTreeMap<usize, Slot>,
}

#[derive(Debug)]
struct Slot {
    source: Source,
    configured_names: Vec<String>,
    current: Option<Arc<LoadedCertificate>>,
    /// A self-signed or previous certificate, served for its names while `current` is `None`.
    fallback: Option<Arc<LoadedCertificate>>,
    last_error: Option<String>,
}

impl CertificateResolver {
    pub(crate) fn new() -> Self {
        Self {
            slots: Mutex::default(),
            table: RwLock::default(),
            challenges: Arc::default(),
            changes: watch::Sender::new(()),
        }
    }

    /// Adds a slot for a configured certificate that is not available yet.
    pub(crate) fn reserve(&self, source: Source, configured_names: Vec<String>) -> SlotId {
        let mut slots = self.slots();
        let id = slots.next;
        slots.next += 1;
        slots.all.insert(id, Slot { source, configured_names, current: None, fallback: None, last_error: None });
        self.rebuild(&slots);
        SlotId(id)
    }

    /// Removes the slot of a certificate that is no longer configured.
    pub(crate) fn release(&self, id: SlotId) {
        let mut slots = self.slots();
        slots.all.remove(&id.0);
        self.rebuild(&slots);
        drop(slots);
        self.changes.send_replace(());
    }

    /// Publishes a certificate in the slot, for all later handshakes.
    pub(crate) fn publish(&self, id: SlotId, certificate: LoadedCertificate) {
        let mut slots = self.slots();
        if let Some(slot) = slots.all.get_mut(&id.0) {
            slot.current = Some(Arc::new(certificate));
            slot.fallback = None;
            slot.last_error = None;
        }
        self.rebuild(&slots);
        drop(slots);
        self.changes.send_replace(());
    }

    /// Serves a fallback certificate in the slot until a certificate is published.
    pub(crate) fn publish_fallback(&self, id: SlotId, certificate: Arc<LoadedCertificate>) {
        let mut slots = self.slots();
        if let Some(slot) = slots.all.get_mut(&id.0) {
            slot.fallback = Some(certificate);
        }
        self.rebuild(&slots);
    }

    /// Sets the last error in the [`status`](Self::status) of the certificate. The current certificate is still served.
    pub(crate) fn set_error(&self, id: SlotId, error: Option<String>) {
        if let Some(slot) = self.slots().all.get_mut(&id.0) {
            slot.last_error = error;
        }
    }

    pub(crate) fn current(&self, id: SlotId) -> Option<Arc<LoadedCertificate>> {
        self.slots().all.get(&id.0)?.current.clone()
    }

    /// Returns the certificate for a server name, preferring one that can sign with one of `schemes`.
    pub(crate) fn select(
        &self,
        server_name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<LoadedCertificate>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.select(server_name, schemes).cloned()
    }

    pub(crate) fn covers(&self, server_name: Option<&str>, host: &str) -> bool {
        let host = Host::parse(host);
        let table = Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner));
        let (is_local, name) = match &host {
            Host::Ip(_) => (true, None),
            Host::Dns(name) => (&**name == "localhost", Some(&**name)),
        };
        let is_indicated = server_name.is_some_and(|indicated| name == Some(&*lowercase(indicated)));
        // RFC 6066 §3: clients send no server name for an address, so its absence is no mismatch.
        if is_local && (server_name.is_none() || is_indicated) {
            return true;
        }
        if is_indicated && name.is_some_and(|name| table.contains(name)) {
            return true;
        }
        // A certificate without subject alternative names, such as an old self-signed one, gives no way to tell.
        let covers = |names: &Names| names.covers(&host) || names.dns.is_empty() && names.ips.is_empty();
        table.best_match(server_name).iter().any(|certificate| covers(&certificate.names))
    }

    pub(crate) fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    pub(crate) fn status(&self) -> Vec<CertificateStatus> {
        let slots = self.slots();
        let statuses = slots.all.values().map(|slot| CertificateStatus {
            names: match &slot.current {
                Some(certificate) => certificate.names.to_strings(),
                None => slot.configured_names.clone(),
            },
            source: slot.source,
            key_type: slot.current.as_ref().map(|certificate| certificate.key_type),
            not_after: slot.current.as_ref().map(|certificate| certificate.validity.not_after),
            last_error: slot.last_error.clone(),
        });
        statuses.collect()
    }

    /// Waits until every configured certificate is available.
    pub(crate) async fn all_available(&self) {
        let mut changes = self.changes.subscribe();
        while self.slots().all.values().any(|slot| slot.current.is_none()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rebuilds the table for selecting certificates by server name. The caller holds the lock of the slots, so that
    /// tables are replaced in the right order.
    fn rebuild(&self, slots: &Slots) {
        let table = SniTable::new(slots.all.values().map(|slot| Entry {
            source: slot.source,
            configured_names: &slot.configured_names,
            current: slot.current.as_ref(),
            fallback: slot.fallback.as_ref(),
        }));
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737 §3: a validation offers only `acme-tls/1`, and gets the challenge certificate or none.
        let is_validation = client_hello
            .alpn()
            .is_some_and(|mut protocols| is_challenge(protocols.next()) && protocols.next().is_none());
        if is_validation {
            return self.challenges.get(&lowercase(client_hello.server_name()?));
        }
        let certificate = self.select(client_hello.server_name(), client_hello.signature_schemes())?;
        Some(certificate.key.clone())
    }
}
