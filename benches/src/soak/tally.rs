//! What was done, and what of it went wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::disturbance::Windows;

/// Why something did not go as it should.
#[derive(Debug)]
pub(super) enum Wrong {
    /// As it may when a backend goes away: an error that says so, an answer cut short, a tunnel that ended.
    Upstream(anyhow::Error),
    /// Whatever the backends do, it must not be.
    Proxy(anyhow::Error),
}

impl Wrong {
    pub(super) fn proxy(error: impl Into<anyhow::Error>) -> Self {
        Self::Proxy(error.into())
    }

    pub(super) fn upstream(error: impl Into<anyhow::Error>) -> Self {
        Self::Upstream(error.into())
    }
}

/// Counts by kind of work.
#[derive(Debug)]
pub(super) struct Tally {
    kinds: Mutex<BTreeMap<&'static str, Count>>,
    windows: Arc<Windows>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    pub(super) right: u64,
    /// Refused, where refusing was right.
    pub(super) limited: u64,
    /// While a backend was away, and by its fault.
    pub(super) excused: u64,
    pub(super) wrong: u64,
    /// What went wrong first.
    pub(super) words: Vec<String>,
}

/// How much of what went wrong is kept in words.
const MOST_WORDS: usize = 5;

impl Tally {
    pub(super) fn new(windows: Arc<Windows>) -> Self {
        Self { kinds: Mutex::default(), windows }
    }

    pub(super) fn right(&self, kind: &'static str) {
        self.kinds().entry(kind).or_default().right += 1;
    }

    pub(super) fn limited(&self, kind: &'static str) {
        self.kinds().entry(kind).or_default().limited += 1;
    }

    /// Judges what has come of something that began at `began`.
    pub(super) fn judge(&self, kind: &'static str, began: Instant, done: Result<(), Wrong>) {
        let (is_excused, error) = match done {
            Ok(()) => return self.right(kind),
            Err(Wrong::Upstream(error)) => (self.windows.touch(began), error),
            Err(Wrong::Proxy(error)) => (false, error),
        };
        let mut kinds = self.kinds();
        let count = kinds.entry(kind).or_default();
        if is_excused {
            count.excused += 1;
            return;
        }
        count.wrong += 1;
        if count.words.len() < MOST_WORDS {
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
    fn only_what_a_backend_explains_is_excused_and_only_while_it_was_away() {
        let windows = Arc::new(Windows::default());
        let tally = Tally::new(Arc::clone(&windows));
        tally.judge("a", Instant::now(), Err(Wrong::upstream(anyhow!("502"))));
        windows.open();
        tally.judge("a", Instant::now(), Err(Wrong::upstream(anyhow!("502"))));
        tally.judge("a", Instant::now(), Err(Wrong::proxy(anyhow!("refused"))));
        tally.judge("a", Instant::now(), Ok(()));
        let count = &tally.counts()["a"];
        assert_eq!((count.right, count.excused, count.wrong), (1, 1, 2));
        assert_eq!(count.words, ["502", "refused"]);
    }
}
