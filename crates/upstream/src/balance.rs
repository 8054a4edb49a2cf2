//! Load balancing: the selection of a backend for each request.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::request::Parts;

use crate::hash::HashKey;

/// A load balancing policy.
///
/// Each policy respects the [weights](crate::Backend::weight) and skips backends that are unhealthy or ejected.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Balance {
    /// Selects the backends cyclically, in proportion to their weights (weighted round robin).
    #[default]
    RoundRobin,
    /// Selects, from two random backends, the one with fewer in-flight requests per weight (power of two choices).
    LeastPending,
    /// Selects the backend by consistent hashing of a key, see [`by_key`](Self::by_key).
    Key(KeyFunction),
}

impl Balance {
    /// Creates a policy that sends all requests with the same key to the same backend.
    ///
    /// The policy uses rendezvous hashing: when a backend is added or removed, only its share of the keys changes.
    /// Requests for which `key` returns `None` are distributed by round robin.
    ///
    /// All workers of a process select the same backend for a key. The hash has a secret, so that a client cannot
    /// direct all its requests to one backend. The secret is random for each process, unless
    /// [`Builder::balance_secret`](crate::Builder::balance_secret) sets it.
    ///
    /// # Examples
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
        Self::Key(KeyFunction(Arc::new(move |head, mut hasher| key(head).map(|key| key.hash(&mut hasher)).is_some())))
    }

    /// Returns whether the policy needs a key for each request.
    pub(crate) fn has_key(&self) -> bool {
        matches!(self, Self::Key(_))
    }

    /// Returns the hash of a request's key, if the request has a key.
    pub(crate) fn key(&self, head: &Parts, hash_key: HashKey) -> Option<u64> {
        let Self::Key(KeyFunction(hash_key_of)) = self else { return None };
        let mut hasher = hash_key.hasher();
        hash_key_of(head, &mut hasher).then(|| hasher.finish())
    }

    /// Returns whether the policy needs the number of in-flight requests per backend.
    pub(crate) fn counts_in_flight(&self) -> bool {
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

/// The function that [`Balance::by_key`] uses to compute the key of a request.
#[derive(Clone)]
pub struct KeyFunction(Arc<HashKeyFn>);

/// A function that writes a request's key to a hasher, and returns whether the request has a key.
type HashKeyFn = dyn Fn(&Parts, &mut dyn Hasher) -> bool + Send + Sync;

impl fmt::Debug for KeyFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyOf")
    }
}

/// A backend that a load balancing policy can select.
pub(crate) trait Candidate {
    /// Returns the weight of the backend.
    fn weight(&self) -> u16;

    /// Returns the number of in-flight requests to the backend.
    fn in_flight(&self) -> usize;

    /// Returns the combined hash of a key and this backend.
    fn hash_with(&self, key: u64) -> u64;
}

/// The selection order for [`Balance::RoundRobin`], with each backend in proportion to its weight.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    order: Box<[u16]>,
    next: AtomicUsize,
}

impl RoundRobin {
    pub(crate) fn new(weights: &[u16]) -> Self {
        let divisor = weights.iter().fold(0, |a, b| greatest_common_divisor(a, *b)).max(1);
        let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
        let total: i64 = weights.iter().sum();
        // The smooth weighted round robin of nginx: each backend gains its weight, and the one with the largest
        // credit is selected and pays the total.
        let mut credit = vec![0; weights.len()];
        let order = (0..total).map(|_| {
            credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
            let largest = (0..credit.len()).rev().max_by_key(|index| credit[*index]).unwrap_or(0);
            credit[largest] -= total;
            largest as u16
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

/// Selects one of the eligible backends according to the load balancing policy. Returns `None` if there is none.
pub(crate) fn select<C>(
    balance: &Balance,
    round_robin: &RoundRobin,
    key: Option<u64>,
    candidates: &[C],
    mut is_eligible: impl FnMut(usize) -> bool,
) -> Option<usize>
where
    C: Candidate,
{
    let count = candidates.len();
    let mut next_eligible = |first: usize| (first..count).chain(0..first).find(|index| is_eligible(*index));
    match (balance, key) {
        (Balance::LeastPending, _) => {
            let first = next_eligible(fastrand::usize(..count))?;
            // Any index except the first one. The modulus excludes it.
            let second = next_eligible((first + 1 + fastrand::usize(..count.max(2) - 1)) % count)?;
            let load = |index: usize| {
                let candidate = &candidates[index];
                // Plus the request that is about to be sent.
                (candidate.in_flight() as u64 + 1) * u64::from(u16::MAX) / u64::from(candidate.weight().max(1))
            };
            Some(if load(second) < load(first) { second } else { first })
        }
        (_, Some(key)) => {
            let eligible = (0..count).filter(|index| is_eligible(*index));
            eligible
                .map(|index| (index, score(key, &candidates[index])))
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .map(|best| best.0)
        }
        (_, None) => next_eligible(round_robin.next()),
    }
}

/// Returns the score of weighted rendezvous hashing: `-w / ln(h)` with `h` between 0 and 1.
fn score<C: Candidate>(key: u64, candidate: &C) -> f64 {
    // The 53 bits of a float's mantissa, plus a half, so that the result is neither 0 nor 1.
    let uniform = ((candidate.hash_with(key) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(candidate.weight()) / uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Server {
        weight: u16,
        in_flight: usize,
        seed: u64,
    }

    impl Candidate for Server {
        fn weight(&self) -> u16 {
            self.weight
        }

        fn in_flight(&self) -> usize {
            self.in_flight
        }

        fn hash_with(&self, key: u64) -> u64 {
            HashKey::from_secret(b"test").hash((key, self.seed))
        }
    }

    fn servers(weights: &[u16]) -> Vec<Server> {
        let server = |(seed, weight): (u64, &u16)| Server { weight: *weight, in_flight: 0, seed };
        (0..).zip(weights).map(server).collect()
    }

    fn round_robin(weights: &[u16], count: usize) -> Vec<usize> {
        let round_robin = RoundRobin::new(weights);
        let servers = servers(weights);
        (0..count).filter_map(|_| select(&Balance::RoundRobin, &round_robin, None, &servers, |_| true)).collect()
    }

    #[test]
    fn round_robin_distributes_requests_in_proportion_to_the_weights() {
        for (weights, expected) in [
            (&[1, 1, 1][..], &[0, 1, 2, 0, 1, 2][..]),
            (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]),
            (&[100, 100], &[0, 1, 0, 1]),
            (&[2, 4], &[1, 0, 1]),
            (&[1], &[0, 0]),
        ] {
            assert_eq!(round_robin(weights, expected.len()), expected, "{weights:?}");
        }
    }

    #[test]
    fn balancing_skips_ineligible_backends() {
        let key = Balance::by_key(|_| Some(1));
        for balance in [Balance::RoundRobin, Balance::LeastPending, key] {
            let (round_robin, servers) = (RoundRobin::new(&[1, 1, 1]), servers(&[1, 1, 1]));
            for round in 0..20 {
                assert_eq!(select(&balance, &round_robin, Some(round), &servers, |index| index == 1), Some(1));
            }
            assert_eq!(select(&balance, &round_robin, Some(1), &servers, |_| false), None, "{balance:?}");
        }
    }

    #[test]
    fn least_pending_selects_the_backend_with_the_lower_load_per_weight() {
        let round_robin = RoundRobin::new(&[1, 1]);
        for (weights, in_flight, expected) in [([1, 1], [3, 2], 1), ([4, 1], [5, 2], 0), ([1, 2], [0, 2], 0)] {
            let mut servers = servers(&weights);
            servers.iter_mut().zip(in_flight).for_each(|(server, in_flight)| server.in_flight = in_flight);
            for _ in 0..20 {
                assert_eq!(select(&Balance::LeastPending, &round_robin, None, &servers, |_| true), Some(expected));
            }
        }
        let mut alone = servers(&[1]);
        alone[0].in_flight = 9;
        assert_eq!(select(&Balance::LeastPending, &RoundRobin::new(&[1]), None, &alone, |_| true), Some(0));
    }

    #[test]
    fn consistent_hashing_with_the_same_secret_selects_the_same_backend() {
        let (balance, round_robin, servers) =
            (Balance::by_key(|_| Some(1)), RoundRobin::new(&[1]), servers(&[1, 1, 2]));
        let assignments: Vec<_> =
            (0..12).filter_map(|key| select(&balance, &round_robin, Some(key), &servers, |_| true)).collect();
        assert_eq!(assignments, [1, 2, 0, 1, 2, 2, 1, 2, 0, 0, 0, 2]);
        let (head, ()) = http::Request::new(()).into_parts();
        let key = |secret: &[u8]| Balance::by_key(|_| Some("tenant")).key(&head, HashKey::from_secret(secret));
        assert_eq!(key(b"a"), Some(HashKey::from_secret(b"a").hash("tenant")));
        assert_ne!(key(b"a"), key(b"b"));
        assert_eq!(Balance::by_key(|_| None::<u8>).key(&head, HashKey::from_secret(b"a")), None);
    }

    #[test]
    fn removing_a_backend_reassigns_only_its_keys() {
        let (balance, round_robin, servers) =
            (Balance::by_key(|_| Some(1)), RoundRobin::new(&[1]), servers(&[1, 1, 2]));
        let backend_of = |key, removed: Option<usize>| {
            select(&balance, &round_robin, Some(key), &servers, |index| Some(index) != removed).unwrap()
        };
        let mut count = [0; 3];
        for key in 0..4000 {
            let at = backend_of(key, None);
            count[at] += 1;
            for removed in (0..3).filter(|removed| *removed != at) {
                assert_eq!(backend_of(key, Some(removed)), at);
            }
        }
        for (count, share) in count.into_iter().zip([1000, 1000, 2000]) {
            assert!((share - 150..share + 150).contains(&count), "{count} of {share}");
        }
    }
}
