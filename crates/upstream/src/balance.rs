//! Which of several backends a request goes to.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::request::Parts;

use crate::hash::HashKey;

/// How requests are spread over backends, each by its [weight](crate::Backend::weight). A backend that is down is passed
/// over.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Balance {
    /// In turn.
    #[default]
    RoundRobin,
    /// Of two at random the one with fewer requests in flight for its weight.
    LeastPending,
    /// Always the same for the same key; see [`by_key`](Self::by_key).
    Key(KeyOf),
}

impl Balance {
    /// Requests of the same key go to the same backend, by rendezvous hashing: when a backend comes or goes, only its
    /// share of the keys moves. Requests without a key are spread in turn.
    ///
    /// All workers of a process agree on the backend of a key. The hash has a secret key, so that no client can send all its
    /// requests to one backend. The key is random for each process, unless
    /// [`Builder::balance_secret`](crate::Builder::balance_secret) sets it.
    ///
    /// ```
    /// use rproxy_upstream::Balance;
    ///
    /// let balance = Balance::by_key(|head| head.headers.get("x-tenant").cloned());
    /// # let _ = balance;
    /// ```
    pub fn by_key<K>(key: impl Fn(&Parts) -> Option<K> + Send + Sync + 'static) -> Self
    where
        K: Hash,
    {
        Self::Key(KeyOf(Arc::new(move |head, mut hasher| key(head).map(|key| key.hash(&mut hasher)).is_some())))
    }

    pub(crate) fn has_key(&self) -> bool {
        matches!(self, Self::Key(_))
    }

    /// Returns the hash of the request's key.
    pub(crate) fn key(&self, head: &Parts, hash_key: HashKey) -> Option<u64> {
        let Self::Key(KeyOf(hash_of_key)) = self else { return None };
        let mut hasher = hash_key.hasher();
        hash_of_key(head, &mut hasher).then(|| hasher.finish())
    }

    pub(crate) fn counts_pending(&self) -> bool {
        matches!(self, Self::LeastPending)
    }
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "RoundRobin",
            Self::LeastPending => "LeastPending",
            Self::Key(_) => "Key",
        })
    }
}

/// What [`Balance::by_key`] was given.
#[derive(Clone)]
pub struct KeyOf(Arc<HashOfKey>);

/// Hashes the key of a request, and returns whether it has one.
type HashOfKey = dyn Fn(&Parts, &mut dyn Hasher) -> bool + Send + Sync;

impl fmt::Debug for KeyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyOf")
    }
}

/// A backend, as far as the choice is concerned.
pub(crate) trait Candidate {
    fn weight(&self) -> u16;

    /// Requests that it has not answered to the end.
    fn pending(&self) -> usize;

    /// Returns the hash that a key and this backend have together.
    fn hash_with(&self, key: u64) -> u64;
}

/// The turns of [`Balance::RoundRobin`], with the weights spread as evenly as they can be.
#[derive(Debug)]
pub(crate) struct Turns {
    order: Box<[u16]>,
    next: AtomicUsize,
}

impl Turns {
    pub(crate) fn new(weights: &[u16]) -> Self {
        let divisor = weights.iter().fold(0, |a, b| greatest_common_divisor(a, *b)).max(1);
        let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
        let total: i64 = weights.iter().sum();
        // nginx's smooth weighted round robin: each gains its weight, the richest has its turn and pays for all.
        let mut credit = vec![0; weights.len()];
        let order = (0..total).map(|_| {
            credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
            let richest = (0..credit.len()).rev().max_by_key(|index| credit[*index]).unwrap_or(0);
            credit[richest] -= total;
            richest as u16
        });
        Self { order: order.collect(), next: AtomicUsize::new(0) }
    }

    fn next(&self) -> usize {
        match self.order.len() {
            0 => 0,
            length => usize::from(self.order[self.next.fetch_add(1, Relaxed) % length]),
        }
    }
}

fn greatest_common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Chooses among the `candidates` that are `fit`; `None` if none is.
pub(crate) fn choose<C>(
    balance: &Balance,
    turns: &Turns,
    key: Option<u64>,
    candidates: &[C],
    mut fit: impl FnMut(usize) -> bool,
) -> Option<usize>
where
    C: Candidate,
{
    let count = candidates.len();
    let mut fit_from = |first: usize| (first..count).chain(0..first).find(|index| fit(*index));
    match (balance, key) {
        (Balance::LeastPending, _) => {
            let one = fit_from(fastrand::usize(..count))?;
            // Any but the first, which no turn can give twice.
            let other = fit_from((one + 1 + fastrand::usize(..count.max(2) - 1)) % count)?;
            let load = |index: usize| {
                let candidate = &candidates[index];
                // One more: the request that is to be sent.
                (candidate.pending() as u64 + 1) * u64::from(u16::MAX) / u64::from(candidate.weight().max(1))
            };
            Some(if load(other) < load(one) { other } else { one })
        }
        (_, Some(key)) => {
            let fit = (0..count).filter(|index| fit(*index));
            fit.map(|index| (index, score(key, &candidates[index])))
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .map(|best| best.0)
        }
        (_, None) => fit_from(turns.next()),
    }
}

/// Weighted rendezvous hashing: `-w / ln(h)` with `h` between 0 and 1.
fn score<C: Candidate>(key: u64, candidate: &C) -> f64 {
    // The 53 bits that a float holds, in the middle of their step, so that neither 0 nor 1 comes out.
    let uniform = ((candidate.hash_with(key) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(candidate.weight()) / uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Server {
        weight: u16,
        pending: usize,
        seed: u64,
    }

    impl Candidate for Server {
        fn weight(&self) -> u16 {
            self.weight
        }

        fn pending(&self) -> usize {
            self.pending
        }

        fn hash_with(&self, key: u64) -> u64 {
            HashKey::from_secret(b"test").hash((key, self.seed))
        }
    }

    fn servers(weights: &[u16]) -> Vec<Server> {
        let server = |(seed, weight): (u64, &u16)| Server { weight: *weight, pending: 0, seed };
        (0..).zip(weights).map(server).collect()
    }

    fn turns(weights: &[u16], count: usize) -> Vec<usize> {
        let turns = Turns::new(weights);
        let servers = servers(weights);
        (0..count).filter_map(|_| choose(&Balance::RoundRobin, &turns, None, &servers, |_| true)).collect()
    }

    #[test]
    fn turns_are_as_even_as_the_weights_allow() {
        for (weights, expected) in [
            (&[1, 1, 1][..], &[0, 1, 2, 0, 1, 2][..]),
            (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]),
            (&[100, 100], &[0, 1, 0, 1]),
            (&[2, 4], &[1, 0, 1]),
            (&[1], &[0, 0]),
        ] {
            assert_eq!(turns(weights, expected.len()), expected, "{weights:?}");
        }
    }

    #[test]
    fn who_is_not_fit_is_passed_over_and_nobody_is_nobody() {
        let key = Balance::by_key(|_| Some(1));
        for balance in [Balance::RoundRobin, Balance::LeastPending, key] {
            let (turns, servers) = (Turns::new(&[1, 1, 1]), servers(&[1, 1, 1]));
            for round in 0..20 {
                assert_eq!(choose(&balance, &turns, Some(round), &servers, |index| index == 1), Some(1));
            }
            assert_eq!(choose(&balance, &turns, Some(1), &servers, |_| false), None, "{balance:?}");
        }
    }

    #[test]
    fn the_less_loaded_of_two_is_chosen_for_its_weight() {
        let turns = Turns::new(&[1, 1]);
        for (weights, pending, expected) in [([1, 1], [3, 2], 1), ([4, 1], [5, 2], 0), ([1, 2], [0, 2], 0)] {
            let mut servers = servers(&weights);
            servers.iter_mut().zip(pending).for_each(|(server, pending)| server.pending = pending);
            for _ in 0..20 {
                assert_eq!(choose(&Balance::LeastPending, &turns, None, &servers, |_| true), Some(expected));
            }
        }
        let mut alone = servers(&[1]);
        alone[0].pending = 9;
        assert_eq!(choose(&Balance::LeastPending, &Turns::new(&[1]), None, &alone, |_| true), Some(0));
    }

    #[test]
    fn a_key_has_the_same_backend_in_every_process_with_the_same_secret() {
        let (balance, turns, servers) = (Balance::by_key(|_| Some(1)), Turns::new(&[1]), servers(&[1, 1, 2]));
        let places: Vec<_> =
            (0..12).filter_map(|key| choose(&balance, &turns, Some(key), &servers, |_| true)).collect();
        assert_eq!(places, [1, 2, 0, 1, 2, 2, 1, 2, 0, 0, 0, 2]);
        let (head, ()) = http::Request::new(()).into_parts();
        let key = |secret: &[u8]| Balance::by_key(|_| Some("tenant")).key(&head, HashKey::from_secret(secret));
        assert_eq!(key(b"a"), Some(HashKey::from_secret(b"a").hash("tenant")));
        assert_ne!(key(b"a"), key(b"b"));
        assert_eq!(Balance::by_key(|_| None::<u8>).key(&head, HashKey::from_secret(b"a")), None);
    }

    #[test]
    fn keys_stay_when_others_go_and_are_spread_by_weight() {
        let (balance, turns, servers) = (Balance::by_key(|_| Some(1)), Turns::new(&[1]), servers(&[1, 1, 2]));
        let place = |key, gone: Option<usize>| {
            choose(&balance, &turns, Some(key), &servers, |index| Some(index) != gone).unwrap()
        };
        let mut count = [0; 3];
        for key in 0..4000 {
            let at = place(key, None);
            count[at] += 1;
            for gone in (0..3).filter(|gone| *gone != at) {
                assert_eq!(place(key, Some(gone)), at);
            }
        }
        for (count, share) in count.into_iter().zip([1000, 1000, 2000]) {
            assert!((share - 150..share + 150).contains(&count), "{count} of {share}");
        }
    }
}
