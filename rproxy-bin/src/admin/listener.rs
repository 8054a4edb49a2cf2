//! The admin listener, which a reload can move, open and close.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rproxy_request_guard::RequestGuardLayer;
use rproxy_server::{InheritedSockets, ListenAddr, RunningServer, Server, ServerError};
use tower::{Layer, service_fn};

use super::Admin;
use crate::values::listen::collide;

/// The admin service, and its listener if it has one.
pub(crate) struct AdminListener {
    admin: Admin,
    inherited: Arc<InheritedSockets>,
    listener: Mutex<Option<Listener>>,
}

/// A listener that accepts requests. Dropping it drains it.
struct Listener {
    address: ListenAddr,
    server: Option<RunningServer>,
}

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
    /// Binds the listener at `address`, if there is one.
    pub(crate) fn start(
        admin: Admin,
        inherited: Arc<InheritedSockets>,
        address: Option<&ListenAddr>,
    ) -> Result<Self, ServerError> {
        let admin = Self { admin, inherited, listener: Mutex::default() };
        let listener = address.map(|address| admin.bind(address)).transpose()?;
        *admin.listener() = listener;
        Ok(admin)
    }

    fn bind(&self, address: &ListenAddr) -> Result<Listener, ServerError> {
        let admin = self.admin.clone();
        let answer = service_fn(move |request| admin.clone().answer(request));
        let server = Server::bind(address.clone()).workers(1).h2c(false).inherit(Arc::clone(&self.inherited));
        let server = server.start(move |_| RequestGuardLayer::new().layer(answer.clone()))?;
        for address in server.local_addrs() {
            tracing::info!(%address, "listening for admin requests");
        }
        Ok(Listener { address: address.clone(), server: Some(server) })
    }

    /// Binds the new address, if it differs.
    ///
    /// Two addresses need a restart: one that overlaps with the current address, which is in use until then, and a port
    /// that needs privileges which the process has given up.
    pub(crate) fn prepare(&self, address: Option<&ListenAddr>) -> Result<AddressChange, ServerError> {
        let current = self.listener().as_ref().map(|listener| listener.address.clone());
        let Some(address) = address else {
            return Ok(if current.is_some() { AddressChange::Replace(None) } else { AddressChange::None });
        };
        match &current {
            Some(current) if current == address => return Ok(AddressChange::None),
            Some(current) if collide(current, address) => return Ok(AddressChange::NeedsRestart),
            _ => {}
        }
        match self.bind(address) {
            Ok(listener) => Ok(AddressChange::Replace(Some(NewListener(listener)))),
            Err(ServerError::Bind { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                Ok(AddressChange::NeedsRestart)
            }
            Err(error) => Err(error),
        }
    }

    /// Uses the new address and these host names. The previous listener finishes its requests.
    pub(crate) fn apply(&self, change: AddressChange, hosts: &[String]) {
        self.admin.set_hosts(hosts);
        if let AddressChange::Replace(listener) = change {
            *self.listener() = listener.map(|NewListener(listener)| listener);
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

    /// Drains the listener, and waits until it has finished its requests.
    pub(crate) async fn drained(&self) {
        let server = self.listener().as_mut().and_then(|listener| listener.server.take());
        if let Some(server) = server {
            server.handle().drain();
            server.wait().await;
        }
    }

    fn listener(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.handle().drain();
        }
    }
}
