//! The addresses of backends that have names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::time::Instant;

use crate::error::{ProxyError, ProxyErrorKind};

/// Who is asked for addresses.
#[derive(Clone)]
pub(crate) enum Resolver {
    /// The name servers of the system's configuration, or given ones; keeps answers as long as their TTL says.
    Dns(Box<TokioResolver>),
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
            Ok(resolver) => Self::Dns(Box::new(resolver)),
            Err(error) => {
                tracing::warn!("no name servers, the C library resolves names of backends: {error}");
                Self::System
            }
        }
    }

    pub(crate) async fn lookup(&self, host: &str) -> Result<Addresses, ProxyError> {
        let (ips, ttl) = match self {
            Self::Dns(resolver) => {
                let found = resolver.lookup_ip(host).await.map_err(|error| failed(error.to_string()))?;
                let until = Instant::from_std(found.valid_until());
                (found.iter().take(MOST).collect(), until.saturating_duration_since(Instant::now()))
            }
            Self::System => {
                let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| failed(error.to_string()))?;
                (found.map(|address| address.ip()).take(MOST).collect::<Vec<_>>(), Duration::ZERO)
            }
        };
        if ips.is_empty() {
            return Err(failed(format!("{host} has no address")));
        }
        Ok(Addresses { ips, until: Instant::now() + ttl.clamp(SHORTEST, LONGEST) })
    }
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

/// More addresses than anybody has patience for.
const MOST: usize = 16;
/// A TTL of nothing would mean a connection for each request.
const SHORTEST: Duration = Duration::from_secs(5);
/// A name in a hosts file has no TTL.
const LONGEST: Duration = Duration::from_secs(5 * 60);
