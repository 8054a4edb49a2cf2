//! The last known addresses of host names, for use while the name servers do not respond (RFC 8767).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::addresses::Addresses;

/// The last known addresses of the backends' host names.
#[derive(Clone, Default)]
pub(crate) struct StaleAddresses {
    names: Arc<Mutex<HashMap<String, Entry>>>,
}

/// The last known addresses of one host name.
struct Entry {
    ips: Vec<IpAddr>,
    /// The end of the back-off after a query without a response.
    back_off_until: Option<Instant>,
}

impl StaleAddresses {
    /// Stores the addresses of a host name, and ends its back-off.
    pub(crate) fn store(&self, host: &str, ips: &[IpAddr]) {
        self.names().insert(host.to_owned(), Entry { ips: ips.to_vec(), back_off_until: None });
    }

    /// Removes a host name after a negative DNS response.
    pub(crate) fn remove(&self, host: &str) {
        self.names().remove(host);
    }

    /// Returns whether addresses of a host name are known.
    pub(crate) fn contains(&self, host: &str) -> bool {
        self.names().contains_key(host)
    }

    /// Returns the last known addresses of a host name, if queries for it are in back-off.
    pub(crate) fn get_during_back_off(&self, host: &str, now: Instant) -> Option<Addresses> {
        let names = self.names();
        let entry = names.get(host)?;
        let expires = entry.back_off_until.filter(|expires| *expires > now)?;
        Some(Addresses { ips: entry.ips.clone(), expires })
    }

    /// Begins a back-off after a query without a response, and returns the last known addresses (RFC 8767 §5).
    ///
    /// During the back-off, requests do not wait for queries.
    pub(crate) fn begin_back_off(&self, host: &str, now: Instant) -> Option<Addresses> {
        let mut names = self.names();
        let entry = names.get_mut(host)?;
        let expires = now + QUERY_BACK_OFF;
        entry.back_off_until = Some(expires);
        Some(Addresses { ips: entry.ips.clone(), expires })
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duration of the back-off after a query without a response.
const QUERY_BACK_OFF: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[tokio::test(start_paused = true)]
    async fn returns_the_last_known_dns_addresses_during_a_back_off() {
        let (addresses, ips) = (StaleAddresses::default(), [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        let now = Instant::now();
        assert!(addresses.begin_back_off("a", now).is_none() && !addresses.contains("a"));
        addresses.store("a", &ips);
        assert!(addresses.get_during_back_off("a", now).is_none(), "no back-off after a response");
        assert_eq!(addresses.begin_back_off("a", now).unwrap().ips, ips);
        assert_eq!(addresses.get_during_back_off("a", now + QUERY_BACK_OFF / 2).unwrap().ips, ips);
        assert!(addresses.get_during_back_off("a", now + QUERY_BACK_OFF).is_none());
        addresses.remove("a");
        assert!(addresses.begin_back_off("a", now).is_none());
    }
}
