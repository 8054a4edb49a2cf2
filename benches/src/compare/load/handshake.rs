//! A load of new connections, each with a TLS handshake and one request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustls::HandshakeKind;
use rustls::client::{ClientSessionMemoryCache, Resumption};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::http1::Connection;
use super::{Tally, Target};
use crate::compare::certificate::HOST;

const CLIENTS: usize = 16;

pub(super) async fn run(target: &Target, resumed: bool, duration: Duration) -> Result<Tally> {
    let certificate = target.certificate.as_ref().context("a handshake needs TLS")?;
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        // A store per client, since a ticket is used for one connection (RFC 8446 §C.4).
        let sessions = match resumed {
            true => Resumption::store(Arc::new(ClientSessionMemoryCache::new(8))),
            false => Resumption::disabled(),
        };
        let connector = certificate.connector(sessions)?;
        clients.spawn(client(target.clone(), connector, number, resumed, started + duration));
    }
    let mut requests = 0;
    while let Some(one) = clients.join_next().await {
        requests += one??;
    }
    Ok(Tally::new(requests, started.elapsed()))
}

/// Runs one client that opens connections until the deadline. Returns its number of requests.
async fn client(target: Target, tls: TlsConnector, number: usize, resumed: bool, end: Instant) -> Result<u64> {
    let request = target.get();
    let mut requests = 0;
    while Instant::now() < end {
        let stream = target.tcp(number + CLIENTS * (requests as usize % 4)).await?;
        let mut connection = Connection::new(tls.connect(HOST.try_into()?, stream).await?);
        connection.exchange(&request).await?;
        let kind = connection.get_mut().get_ref().1.handshake_kind();
        let expected = match resumed && requests > 0 {
            true => HandshakeKind::Resumed,
            false => HandshakeKind::Full,
        };
        ensure!(kind == Some(expected), "a handshake was {kind:?} instead of {expected:?}");
        connection.get_mut().shutdown().await?;
        requests += 1;
    }
    Ok(requests)
}
