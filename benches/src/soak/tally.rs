//! Counts of the clients' results, by type of client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::disturbance::Outages;

/// The cause of a failed exchange.
#[derive(Debug)]
pub(super) enum Failure {
    /// A failure explained by a backend outage, such as an error response or a closed tunnel.
    Upstream(anyhow::Error),
    /// An internal error of the proxy, not caused by a backend.
    Proxy(anyhow::Error),
}

impl Failure {
    pub(super) fn proxy(error: impl Into<anyhow::Error>) -> Self {
        Self::Proxy(error.into())
    }

    pub(super) fn upstream(error: impl Into<anyhow::Error>) -> Self {
        Self::Upstream(error.into())
    }
}

/// The counts of results for one type of client.
#[derive(Debug)]
pub(super) struct Tally {
    kinds: Mutex<BTreeMap<&'static str, Count>>,
    outages: Arc<Outages>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    pub(super) right: u64,
    /// The number of requests correctly rejected by the rate limit.
    pub(super) limited: u64,
    /// The number of failures explained by a backend outage.
    pub(super) excused: u64,
    pub(super) wrong: u64,
    /// The first error messages of each type of client.
    pub(super) words: Vec<String>,
}

/// The maximum number of stored error messages.
const MAX_MESSAGES: usize = 5;

impl Tally {
    pub(super) fn new(outages: Arc<Outages>) -> Self {
        Self { kinds: Mutex::default(), outages }
    }

    pub(super) fn right(&self, kind: &'static str) {
        self.kinds().entry(kind).or_default().right += 1;
    }

    pub(super) fn limited(&self, kind: &'static str) {
        self.kinds().entry(kind).or_default().limited += 1;
    }

    /// Records the result of an exchange that began at `began`.
    pub(super) fn record(&self, kind: &'static str, began: Instant, done: Result<(), Failure>) {
        let (is_excused, error) = match done {
            Ok(()) => return self.right(kind),
            Err(Failure::Upstream(error)) => (self.outages.overlap(began), error),
            Err(Failure::Proxy(error)) => (false, error),
        };
        let mut kinds = self.kinds();
        let count = kinds.entry(kind).or_default();
        if is_excused {
            count.excused += 1;
            return;
        }
        count.wrong += 1;
        if count.words.len() < MAX_MESSAGES {
            count.words.push(format!("{error:#}"));
            eprintln!("{kind}: {error:#}");
        }
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, Count> {
        self.kinds().clone()
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<&'static str, Count>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn excuses_upstream_errors_only_during_an_outage() {
        let outages = Arc::new(Outages::default());
        let tally = Tally::new(Arc::clone(&outages));
        tally.record("a", Instant::now(), Err(Failure::upstream(anyhow!("502"))));
        outages.open();
        tally.record("a", Instant::now(), Err(Failure::upstream(anyhow!("502"))));
        tally.record("a", Instant::now(), Err(Failure::proxy(anyhow!("refused"))));
        tally.record("a", Instant::now(), Ok(()));
        let count = &tally.counts()["a"];
        assert_eq!((count.right, count.excused, count.wrong), (1, 1, 2));
        assert_eq!(count.words, ["502", "refused"]);
    }
}
