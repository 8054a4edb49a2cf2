//! Attempts to connect to the backend of a pool.

use std::net::IpAddr;

use tokio::time::{Instant, timeout};

use crate::builder::Settings;
use crate::connect::{Connected, Speak};
use crate::error::{ProxyError, ProxyErrorKind};
use crate::http2::connection::{Connection, Driver, handshake};
use crate::service::Member;

/// The outcome of an attempt to connect.
pub(super) enum Made {
    /// Nothing, which concerns no request.
    Nothing,
    Http1(Connected),
    Http2(Box<Ready>),
}

pub(super) struct Ready {
    pub(super) connection: Connection,
    pub(super) driver: Driver,
    pub(super) until: Option<Instant>,
    pub(super) address: Option<IpAddr>,
    pub(super) addresses: Vec<IpAddr>,
}

/// Connects to the backend, preferably to an address that is not in `have`.
pub(super) async fn make(settings: &Settings, member: &Member, have: &[IpAddr]) -> Result<Made, ProxyError> {
    let making = async {
        let connected = settings.connector.connect(&member.backend, Speak::Any, have).await?;
        ready(connected).await
    };
    match timeout(settings.connector.timeout, making).await {
        Ok(made) => made,
        Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionTimeout)),
    }
}

/// Connects to an address that is not in `have`, if there is one.
pub(super) async fn make_elsewhere(
    settings: &Settings,
    member: &Member,
    have: &[IpAddr],
) -> Result<Option<Made>, ProxyError> {
    let making = async {
        match settings.connector.connect_elsewhere(&member.backend, have).await? {
            Some(connected) => ready(connected).await.map(Some),
            None => Ok(None),
        }
    };
    match timeout(settings.connector.timeout, making).await {
        Ok(made) => made,
        Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionTimeout)),
    }
}

async fn ready(connected: Connected) -> Result<Made, ProxyError> {
    if !connected.is_http2 {
        return Ok(Made::Http1(connected));
    }
    let Connected { socket, until, address, addresses, .. } = connected;
    let (connection, driver) = handshake(socket).await?;
    Ok(Made::Http2(Box::new(Ready { connection, driver, until, address, addresses })))
}
