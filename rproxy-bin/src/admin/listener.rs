//! The admin listener, which a reload can move, open and close.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rproxy_request_guard::RequestGuardLayer;
use rproxy_server::{Handle, InheritedSockets, ListenAddr, RunningServer, Server, ServerError, ServerSockets};
use tokio::time::timeout;
use tower::{Layer, service_fn};

use super::Admin;
use crate::layers::ProcessSettings;
use crate::values::listen::collide;

/// The admin service, and its listener if it has one.
pub(crate) struct AdminListener {
    admin: Admin,
    inherited: Arc<InheritedSockets>,
    listener: Mutex<Option<Listener>>,
    closing: Closing,
}

/// A listener that accepts requests. Dropping it drains it.
struct Listener {
    address: ListenAddr,
    server: Option<RunningServer>,
    closing: Closing,
}

/// The former listeners, whose sockets may still be open.
type Closing = Arc<Mutex<Vec<(ListenAddr, Handle)>>>;

/// A change of the address, which takes effect when it is [applied](AdminListener::apply).
#[must_use]
pub(crate) enum AddressChange {
    /// The address stays the same.
    None,
    /// The new listener, or none.
    Replace(Option<NewListener>),
    /// Only a restart can open the new address.
    NeedsRestart,
}

/// A listener that is bound, but not yet in use.
pub(crate) struct NewListener(Listener);

impl AdminListener {
    /// Binds the address of the listener, if one is set, before its [start](Self::start).
    pub(crate) fn bind_now(
        settings: &ProcessSettings,
        inherited: &Arc<InheritedSockets>,
    ) -> Result<Option<ServerSockets>, ServerError> {
        let address = settings.admin_listen.as_ref();
        let bind = |address| server(address, settings.drain_timeout).inherit(Arc::clone(inherited)).bind_now();
        address.map(bind).transpose()
    }

    /// Starts the listener on its sockets, if an address is set.
    pub(crate) fn start(
        admin: Admin,
        inherited: Arc<InheritedSockets>,
        settings: &ProcessSettings,
        sockets: Option<ServerSockets>,
    ) -> Result<Self, ServerError> {
        let admin = Self { admin, inherited, listener: Mutex::default(), closing: Closing::default() };
        if let (Some(address), Some(sockets)) = (&settings.admin_listen, sockets) {
            let listener = admin.serve(address, settings.drain_timeout, sockets)?;
            *admin.listener() = Some(listener);
        }
        Ok(admin)
    }

    fn bind(&self, address: &ListenAddr, drain_timeout: Duration) -> Result<Listener, ServerError> {
        let sockets = server(address, drain_timeout).inherit(Arc::clone(&self.inherited)).bind_now()?;
        self.serve(address, drain_timeout, sockets)
    }

    fn serve(
        &self,
        address: &ListenAddr,
        drain_timeout: Duration,
        sockets: ServerSockets,
    ) -> Result<Listener, ServerError> {
        let admin = self.admin.clone();
        let answer = service_fn(move |request| admin.clone().answer(request));
        let server = server(address, drain_timeout);
        let server = server.start_on(sockets, move |_| RequestGuardLayer::new().layer(answer.clone()))?;
        for address in server.local_addrs() {
            tracing::info!(%address, "listening for admin requests");
        }
        Ok(Listener { address: address.clone(), server: Some(server), closing: Arc::clone(&self.closing) })
    }

    /// Binds the new address, if it differs.
    ///
    /// Two addresses need a restart: one that overlaps with the current address, which is in use until then, and a port
    /// that needs privileges which the process has given up.
    pub(crate) async fn prepare(&self, settings: &ProcessSettings) -> Result<AddressChange, ServerError> {
        let address = settings.admin_listen.as_ref();
        let current = self.listener().as_ref().map(|listener| listener.address.clone());
        let Some(address) = address else {
            return Ok(if current.is_some() { AddressChange::Replace(None) } else { AddressChange::None });
        };
        match &current {
            Some(current) if current == address => return Ok(AddressChange::None),
            Some(current) if collide(current, address) => return Ok(AddressChange::NeedsRestart),
            _ => {}
        }
        self.wait_until_closed(address).await;
        match self.bind(address, settings.drain_timeout) {
            Ok(listener) => Ok(AddressChange::Replace(Some(NewListener(listener)))),
            Err(ServerError::Bind { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                Ok(AddressChange::NeedsRestart)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until former listeners at this address have closed their sockets, which takes a moment.
    async fn wait_until_closed(&self, address: &ListenAddr) {
        let former = std::mem::take(&mut *lock(&self.closing));
        let overlapping = former.into_iter().filter(|(former, _)| former == address || collide(former, address));
        for (_, handle) in overlapping {
            // If the worker does not close the socket, the error of binding the address says so.
            let _ = timeout(CLOSE_TIMEOUT, handle.stopped_listening()).await;
        }
    }

    /// Uses the new address and settings. The previous listener finishes its requests.
    pub(crate) fn apply(&self, change: AddressChange, settings: &ProcessSettings) {
        self.admin.set_hosts(&settings.admin_hosts);
        match change {
            AddressChange::Replace(listener) => *self.listener() = listener.map(|NewListener(listener)| listener),
            AddressChange::None | AddressChange::NeedsRestart => self.set_drain_timeout(settings.drain_timeout),
        }
    }

    fn set_drain_timeout(&self, drain_timeout: Duration) {
        if let Some(Listener { address, server: Some(running), .. }) = &*self.listener() {
            running.update(server(address, drain_timeout));
        }
    }

    /// Returns copies of the listening sockets.
    pub(crate) fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let listener = self.listener();
        let server = listener.as_ref().and_then(|listener| listener.server.as_ref());
        server.map_or_else(|| Ok(Vec::new()), |server| server.handle().listeners())
    }

    /// Starts to drain the listener.
    pub(crate) fn drain(&self) {
        if let Some(server) = self.listener().as_ref().and_then(|listener| listener.server.as_ref()) {
            server.handle().drain();
        }
    }

    /// Drains the listener, and waits for at most `time` until it has finished its requests.
    pub(crate) async fn drained(&self, time: Duration) {
        self.set_drain_timeout(time);
        let server = self.listener().as_mut().and_then(|listener| listener.server.take());
        if let Some(server) = server {
            server.handle().drain();
            server.wait().await;
        }
    }

    fn listener(&self) -> MutexGuard<'_, Option<Listener>> {
        lock(&self.listener)
    }
}

/// Returns the server of a listener at `address`.
fn server(address: &ListenAddr, drain_timeout: Duration) -> Server {
    Server::bind(address.clone()).workers(1).h2c(false).drain_timeout(drain_timeout)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The maximum time in which a former listener closes its sockets.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.handle().drain();
            lock(&self.closing).push((self.address.clone(), server.handle()));
        }
    }
}
