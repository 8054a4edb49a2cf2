//! The resolution of backend host names to addresses.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::time::{Instant, timeout};

use crate::addresses::Addresses;
use crate::error::{ProxyError, ProxyErrorKind};
use crate::stale_addresses::StaleAddresses;

/// A DNS resolver for backend host names.
#[derive(Clone)]
pub(crate) enum Resolver {
    /// A resolver that queries name servers, caches addresses for their TTL, and retains the last known addresses.
    Dns(Box<TokioResolver>, StaleAddresses),
    /// The uncached resolver of the C library, for systems without a name server configuration.
    System,
}

impl Resolver {
    /// Creates a resolver with these name servers, or with the name servers of the system if the list is empty.
    pub(crate) fn new(name_servers: &[SocketAddr]) -> Self {
        let builder = match name_servers.is_empty() {
            true => TokioResolver::builder_tokio(),
            false => Ok(TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(name_servers.iter().map(name_server).collect()),
                TokioRuntimeProvider::default(),
            )),
        };
        match builder.map(both_families).and_then(ResolverBuilder::build) {
            Ok(resolver) => Self::Dns(Box::new(resolver), StaleAddresses::default()),
            Err(error) => {
                tracing::warn!(
                    "cannot read the name servers of the system, resolving names with the C library: {error}"
                );
                Self::System
            }
        }
    }

    /// Looks up the addresses of a host name.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Addresses, ProxyError> {
        match self {
            Self::Dns(resolver, stale) => query(resolver, stale, host).await,
            Self::System => {
                let addresses =
                    tokio::net::lookup_host((host, 0)).await.map_err(|error| dns_error(error.to_string()))?;
                Addresses::new(host, addresses.map(|address| address.ip()), Duration::ZERO)
            }
        }
    }
}

/// Queries the name servers for the addresses of a host name. If there is no response, the last known addresses are
/// used.
async fn query(resolver: &TokioResolver, stale: &StaleAddresses, host: &str) -> Result<Addresses, ProxyError> {
    if let Some(addresses) = stale.get_during_back_off(host, Instant::now()) {
        return Ok(addresses);
    }
    // With known addresses, a short timeout is sufficient.
    let query_timeout = if stale.contains(host) { STALE_TIMEOUT } else { Duration::MAX };
    let error = match timeout(query_timeout, resolver.lookup_ip(host)).await {
        Ok(Ok(response)) => {
            let ttl = Instant::from_std(response.valid_until()).saturating_duration_since(Instant::now());
            let addresses = Addresses::new(host, response.iter(), ttl)?;
            stale.store(host, &addresses.ips);
            return Ok(addresses);
        }
        // A negative response removes the known addresses.
        Ok(Err(error)) if error.is_no_records_found() => {
            stale.remove(host);
            return Err(dns_error(error.to_string()));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "timeout waiting for the name servers".to_owned(),
    };
    let Some(addresses) = stale.begin_back_off(host, Instant::now()) else { return Err(dns_error(error)) };
    tracing::warn!(host, error, "no response from the name servers, using the last known addresses of the backend");
    Ok(addresses)
}

/// Returns the configuration of a name server that is queried over UDP and TCP.
fn name_server(address: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(on_port);
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// Enables lookups of both IPv4 and IPv6 addresses.
fn both_families(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> ResolverBuilder<TokioRuntimeProvider> {
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder
}

fn dns_error(error: String) -> ProxyError {
    ProxyError::caused(ProxyErrorKind::DnsError, error)
}

/// The timeout of a DNS query if the last known addresses can be used instead. It is less than any connect timeout.
const STALE_TIMEOUT: Duration = Duration::from_secs(1);
