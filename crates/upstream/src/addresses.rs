//! The addresses of a backend.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{ProxyError, ProxyErrorKind};

/// The resolved addresses of a host name.
pub(crate) struct Addresses {
    /// The non-empty list of resolved addresses.
    pub(crate) ips: Vec<IpAddr>,
    /// The time after which no new requests are sent on connections to these addresses.
    pub(crate) expires: Instant,
}

impl Addresses {
    /// Creates the addresses of a host name, which must have at least one.
    pub(crate) fn new(host: &str, ips: impl Iterator<Item = IpAddr>, ttl: Duration) -> Result<Self, ProxyError> {
        let ips: Vec<_> = ips.take(MAX_ADDRESSES).collect();
        if ips.is_empty() {
            let error = format!("the host name {host} has no addresses");
            return Err(ProxyError::caused(ProxyErrorKind::DnsError, error));
        }
        Ok(Self { ips, expires: Instant::now() + ttl.clamp(MIN_TTL, MAX_TTL) })
    }
}

/// The maximum number of addresses that are used per host name.
const MAX_ADDRESSES: usize = 16;
/// The minimum time that resolved addresses are used, if their TTL is shorter. With a TTL of 0, each request would need
/// a new connection.
const MIN_TTL: Duration = Duration::from_secs(5);
/// The maximum time that resolved addresses are used, if their TTL is longer. Names in `/etc/hosts` have none.
const MAX_TTL: Duration = Duration::from_secs(5 * 60);
