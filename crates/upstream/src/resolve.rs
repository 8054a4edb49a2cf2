//! The addresses of backends that have names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::time::{Instant, timeout};

use crate::error::{ProxyError, ProxyErrorKind};
use crate::last_known::LastKnown;

/// Who is asked for addresses.
#[derive(Clone)]
pub(crate) enum Resolver {
    /// The name servers of the system's configuration, or given ones; keeps answers as long as their TTL says.
    Dns(Box<TokioResolver>, LastKnown),
    /// The C library, each time; where the system has no such configuration.
    System,
}

/// What a name stands for.
pub(crate) struct Addresses {
    /// At least one.
    pub(crate) ips: Vec<IpAddr>,
    /// Until when a connection to one of them may be used for further requests.
    pub(crate) until: Instant,
}

impl Resolver {
    /// With these name servers; with the system's if there are none.
    pub(crate) fn new(name_servers: &[SocketAddr]) -> Self {
        let builder = match name_servers.is_empty() {
            true => TokioResolver::builder_tokio(),
            false => Ok(TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(name_servers.iter().map(name_server).collect()),
                TokioRuntimeProvider::default(),
            )),
        };
        match builder.map(both_families).and_then(ResolverBuilder::build) {
            Ok(resolver) => Self::Dns(Box::new(resolver), LastKnown::default()),
            Err(error) => {
                tracing::warn!("no name servers, the C library resolves names of backends: {error}");
                Self::System
            }
        }
    }

    pub(crate) async fn lookup(&self, host: &str) -> Result<Addresses, ProxyError> {
        match self {
            Self::Dns(resolver, last) => ask(resolver, last, host).await,
            Self::System => {
                let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| failed(error.to_string()))?;
                Addresses::new(host, found.map(|address| address.ip()), Duration::ZERO)
            }
        }
    }
}

impl Addresses {
    fn new(host: &str, ips: impl Iterator<Item = IpAddr>, ttl: Duration) -> Result<Self, ProxyError> {
        let ips: Vec<_> = ips.take(MOST).collect();
        if ips.is_empty() {
            return Err(failed(format!("{host} has no address")));
        }
        Ok(Self { ips, until: Instant::now() + ttl.clamp(SHORTEST, LONGEST) })
    }
}

/// Asks the name servers. While none of them answers, what they said last counts.
async fn ask(resolver: &TokioResolver, last: &LastKnown, host: &str) -> Result<Addresses, ProxyError> {
    if let Some(known) = last.unasked(host, Instant::now()) {
        return Ok(known);
    }
    // With something to fall back on there is no need to wait for long.
    let patience = if last.has(host) { PATIENCE } else { Duration::MAX };
    let error = match timeout(patience, resolver.lookup_ip(host)).await {
        Ok(Ok(found)) => {
            let ttl = Instant::from_std(found.valid_until()).saturating_duration_since(Instant::now());
            let addresses = Addresses::new(host, found.iter(), ttl)?;
            last.learn(host, &addresses.ips);
            return Ok(addresses);
        }
        // That is an answer.
        Ok(Err(error)) if error.is_no_records_found() => {
            last.forget(host);
            return Err(failed(error.to_string()));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    let Some(known) = last.instead(host, Instant::now()) else { return Err(failed(error)) };
    tracing::warn!(host, error, "no name server answers; the addresses that were known last stand in");
    Ok(known)
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(on_port);
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn both_families(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> ResolverBuilder<TokioRuntimeProvider> {
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder
}

fn failed(error: String) -> ProxyError {
    ProxyError::caused(ProxyErrorKind::DnsError, error)
}

/// How long name servers have for a name whose last addresses are known: less than any time for a whole connection.
const PATIENCE: Duration = Duration::from_secs(1);
/// More addresses than anybody has patience for.
const MOST: usize = 16;
/// A TTL of nothing would mean a connection for each request.
const SHORTEST: Duration = Duration::from_secs(5);
/// A name in a hosts file has no TTL.
const LONGEST: Duration = Duration::from_secs(5 * 60);
