//! What names stood for when somebody last knew: better than nothing while the name servers are out of reach.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::resolve::Addresses;

/// The addresses of every backend that has a name: as many as there are in the configuration.
#[derive(Clone, Default)]
pub(crate) struct LastKnown {
    names: Arc<Mutex<HashMap<String, Known>>>,
}

struct Known {
    ips: Vec<IpAddr>,
    /// Until when nobody need be asked, because it was in vain just now.
    unasked: Option<Instant>,
}

impl LastKnown {
    pub(crate) fn learn(&self, host: &str, ips: &[IpAddr]) {
        self.names().insert(host.to_owned(), Known { ips: ips.to_vec(), unasked: None });
    }

    /// The name servers say that there is none.
    pub(crate) fn forget(&self, host: &str) {
        self.names().remove(host);
    }

    pub(crate) fn has(&self, host: &str) -> bool {
        self.names().contains_key(host)
    }

    /// What to go by without asking.
    pub(crate) fn unasked(&self, host: &str, now: Instant) -> Option<Addresses> {
        let names = self.names();
        let known = names.get(host)?;
        let until = known.unasked.filter(|until| *until > now)?;
        Some(Addresses { ips: known.ips.clone(), until })
    }

    /// Nobody has answered: what to go by instead, and for some seconds without asking again, so that not every request
    /// waits for an answer that does not come.
    // RFC 8767 §5
    pub(crate) fn instead(&self, host: &str, now: Instant) -> Option<Addresses> {
        let mut names = self.names();
        let known = names.get_mut(host)?;
        let until = now + ASK_AGAIN;
        known.unasked = Some(until);
        Some(Addresses { ips: known.ips.clone(), until })
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const ASK_AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[tokio::test(start_paused = true)]
    async fn what_was_known_stands_in_for_some_seconds_at_a_time() {
        let (last, ips) = (LastKnown::default(), [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        let now = Instant::now();
        assert!(last.instead("a", now).is_none() && !last.has("a"));
        last.learn("a", &ips);
        assert!(last.unasked("a", now).is_none(), "whoever answers is asked");
        assert_eq!(last.instead("a", now).unwrap().ips, ips);
        assert_eq!(last.unasked("a", now + ASK_AGAIN / 2).unwrap().ips, ips);
        assert!(last.unasked("a", now + ASK_AGAIN).is_none());
        last.forget("a");
        assert!(last.instead("a", now).is_none());
    }
}
