use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use crate::{
    CertificateStatus, Source,
    acme::Challenges,
    certified::Certified,
    is_challenge,
    names::{Host, Names, lowercase},
    table::{Row, Table},
};

/// All certificates of one server. The sources put them here, handshakes take them from here.
#[derive(Debug)]
pub(crate) struct Shelf {
    slots: Mutex<Vec<Slot>>,
    /// Replaced as a whole, so that a handshake sees one state or the next, never a mixture.
    table: RwLock<Arc<Table>>,
    challenges: Arc<Challenges>,
    changes: watch::Sender<()>,
}

/// The place of one certificate, whether it is there yet or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotId(usize);

#[derive(Debug)]
struct Slot {
    source: Source,
    wanted: Vec<String>,
    current: Option<Arc<Certified>>,
    /// Serves as long as there is none.
    stand_in: Option<Arc<Certified>>,
    last_error: Option<String>,
}

impl Shelf {
    pub(crate) fn new() -> Self {
        Self {
            slots: Mutex::default(),
            table: RwLock::default(),
            challenges: Arc::default(),
            changes: watch::Sender::new(()),
        }
    }

    pub(crate) fn reserve(&self, source: Source, wanted: Vec<String>) -> SlotId {
        let mut slots = self.slots();
        slots.push(Slot { source, wanted, current: None, stand_in: None, last_error: None });
        self.rebuild(&slots);
        SlotId(slots.len() - 1)
    }

    /// From here on, handshakes get this certificate.
    pub(crate) fn publish(&self, id: SlotId, certified: Certified) {
        let mut slots = self.slots();
        if let Some(slot) = slots.get_mut(id.0) {
            slot.current = Some(Arc::new(certified));
            slot.stand_in = None;
            slot.last_error = None;
        }
        self.rebuild(&slots);
        drop(slots);
        self.changes.send_replace(());
    }

    /// Until there is a certificate, handshakes get this one.
    pub(crate) fn stand_in(&self, id: SlotId, certified: Certified) {
        let mut slots = self.slots();
        if let Some(slot) = slots.get_mut(id.0) {
            slot.stand_in = Some(Arc::new(certified));
        }
        self.rebuild(&slots);
    }

    /// Remembers why there is no newer certificate; what is served stays.
    pub(crate) fn report(&self, id: SlotId, error: Option<String>) {
        if let Some(slot) = self.slots().get_mut(id.0) {
            slot.last_error = error;
        }
    }

    pub(crate) fn current(&self, id: SlotId) -> Option<Arc<Certified>> {
        self.slots().get(id.0)?.current.clone()
    }

    pub(crate) fn select(&self, server_name: Option<&str>) -> Option<Arc<Certified>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.select(server_name).cloned()
    }

    pub(crate) fn covers(&self, server_name: Option<&str>, host: &str) -> bool {
        let host = Host::parse(host);
        let table = Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner));
        let (is_local, name) = match &host {
            Host::Ip(_) => (true, None),
            Host::Dns(name) => (&**name == "localhost", Some(&**name)),
        };
        let is_indicated = server_name.is_some_and(|indicated| name == Some(&*lowercase(indicated)));
        // RFC 6066 §3: an address is never sent as a server name, so its absence is no mismatch.
        if is_local && (server_name.is_none() || is_indicated) {
            return true;
        }
        if is_indicated && name.is_some_and(|name| table.names(name)) {
            return true;
        }
        // One that names nobody, such as a self-signed one with a common name alone, contradicts nobody.
        let covers = |names: &Names| names.cover(&host) || names.dns.is_empty() && names.ips.is_empty();
        table.select(server_name).is_some_and(|certified| covers(&certified.names))
    }

    pub(crate) fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    pub(crate) fn status(&self) -> Vec<CertificateStatus> {
        let slots = self.slots();
        let statuses = slots.iter().map(|slot| CertificateStatus {
            names: match &slot.current {
                Some(certified) => certified.names.to_strings(),
                None => slot.wanted.clone(),
            },
            source: slot.source,
            not_after: slot.current.as_ref().map(|certified| certified.validity.not_after),
            last_error: slot.last_error.clone(),
        });
        statuses.collect()
    }

    /// Waits until every slot has a certificate.
    pub(crate) async fn filled(&self) {
        let mut changes = self.changes.subscribe();
        while self.slots().iter().any(|slot| slot.current.is_none()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called with the slots locked, so that tables are put up in the order of the changes.
    fn rebuild(&self, slots: &[Slot]) {
        let table = Table::new(slots.iter().map(|slot| Row {
            source: slot.source,
            wanted: &slot.wanted,
            current: slot.current.as_ref(),
            stand_in: slot.stand_in.as_ref(),
        }));
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }
}

impl ResolvesServerCert for Shelf {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737 §3: a challenge offers `acme-tls/1` and nothing else, and gets the challenge certificate or nothing.
        let asks_for_challenge = client_hello
            .alpn()
            .is_some_and(|mut protocols| is_challenge(protocols.next()) && protocols.next().is_none());
        if asks_for_challenge {
            return self.challenges.get(&lowercase(client_hello.server_name()?));
        }
        let certified = self.select(client_hello.server_name())?;
        Some(certified.key.clone())
    }
}
