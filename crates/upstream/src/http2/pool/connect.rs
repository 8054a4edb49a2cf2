//! Connection attempts of the HTTP/2 pool, including the HTTP/2 handshake.

use std::net::IpAddr;

use tokio::time::{Instant, timeout};

use crate::backend_state::BackendState;
use crate::connector::{AllowedProtocols, Connected};
use crate::error::{ProxyError, ProxyErrorKind};
use crate::http2::connection::{Connection, Driver, handshake};
use crate::settings::Settings;

/// The outcome of a connection attempt to a backend.
pub(super) enum ConnectOutcome {
    /// No connection was opened, because each backend address already has one. No request depends on this.
    NoAddress,
    Http1(Connected),
    Http2(Box<NewConnection>),
}

/// A new connection after the HTTP/2 handshake.
pub(super) struct NewConnection {
    pub(super) connection: Connection,
    pub(super) driver: Driver,
    pub(super) expires: Option<Instant>,
    pub(super) address: Option<IpAddr>,
    pub(super) addresses: Vec<IpAddr>,
}

/// Connects to the backend, preferably to an address that is not in `in_use`.
pub(super) async fn connect(
    settings: &Settings,
    backend: &BackendState,
    in_use: &[IpAddr],
) -> Result<ConnectOutcome, ProxyError> {
    let connecting = async {
        let connected = settings.connector.connect(&backend.config, AllowedProtocols::Any, in_use).await?;
        handshake_if_http2(connected).await
    };
    match timeout(settings.connector.timeout, connecting).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionTimeout)),
    }
}

/// Connects to an address of the backend that is not in `in_use`. Returns `None` if there is no such address.
pub(super) async fn connect_to_new_address(
    settings: &Settings,
    backend: &BackendState,
    in_use: &[IpAddr],
) -> Result<Option<ConnectOutcome>, ProxyError> {
    let connecting = async {
        match settings.connector.connect_to_new_address(&backend.config, in_use).await? {
            Some(connected) => handshake_if_http2(connected).await.map(Some),
            None => Ok(None),
        }
    };
    match timeout(settings.connector.timeout, connecting).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionTimeout)),
    }
}

/// Performs the HTTP/2 handshake, if the backend selected HTTP/2.
async fn handshake_if_http2(connected: Connected) -> Result<ConnectOutcome, ProxyError> {
    if !connected.is_http2 {
        return Ok(ConnectOutcome::Http1(connected));
    }
    let Connected { socket, expires, address, addresses, .. } = connected;
    let (connection, driver) = handshake(socket).await?;
    Ok(ConnectOutcome::Http2(Box::new(NewConnection { connection, driver, expires, address, addresses })))
}
