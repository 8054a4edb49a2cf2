//! Stores for quotas that are shared by several processes.

use std::error::Error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::quota::Quota;

/// A store for quotas that are shared by several processes.
///
/// By default a [`RateLimitLayer`](crate::RateLimitLayer) counts in the memory of its process, which is faster than any
/// store. `RedisStore`, with the feature `redis`, is a store in Redis or Valkey.
///
/// # Examples
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use rproxy_rate_limit::{
///     Charge, ChargeOutcome, Quota, RateLimitLayer, RateLimitStore, StoreFallback, StoreFuture,
/// };
///
/// /// A store whose quotas never replenish.
/// #[derive(Default)]
/// struct OneTimeStore {
///     used: Mutex<HashMap<(String, Vec<u8>), u32>>,
/// }
///
/// impl RateLimitStore for OneTimeStore {
///     fn charge(&self, charges: &[Charge]) -> StoreFuture {
///         let mut used = self.used.lock().unwrap();
///         let outcomes: Vec<_> = charges
///             .iter()
///             .map(|charge| {
///                 let key = (charge.policy().to_owned(), charge.key().to_owned());
///                 let unused = charge.quota().burst_size().get() - used.get(&key).copied().unwrap_or(0);
///                 match unused.checked_sub(charge.cost().get()) {
///                     Some(remaining) => ChargeOutcome::Allowed { remaining },
///                     None => ChargeOutcome::Rejected { retry_after: std::time::Duration::from_secs(3600) },
///                 }
///             })
///             .collect();
///         // Charge all keys or none.
///         if outcomes.iter().all(|outcome| matches!(outcome, ChargeOutcome::Allowed { .. })) {
///             for charge in charges {
///                 *used.entry((charge.policy().to_owned(), charge.key().to_owned())).or_default() += charge.cost().get();
///             }
///         }
///         Box::pin(async { Ok(outcomes) })
///     }
/// }
///
/// let layer = RateLimitLayer::builder(Quota::per_second(100))
///     .store(OneTimeStore::default(), StoreFallback::Local)
///     .build()?;
/// # let _ = layer;
/// # Ok::<(), rproxy_rate_limit::RateLimitLayerError>(())
/// ```
pub trait RateLimitStore: Send + Sync + 'static {
    /// Atomically applies all charges of a request, or none if a charge exceeds its quota.
    ///
    /// The outcomes are in the order of the charges, one for each.
    ///
    /// The layer drops the future when the client disconnects, but does not limit its time: the store must apply its own
    /// timeout.
    fn charge(&self, charges: &[Charge]) -> StoreFuture;

    /// Reverts the charges of an allowed request in the background.
    ///
    /// The store must return at once, apply its own timeout, and pass the result to `observer`. A refund must not give a
    /// key more than its burst. By default nothing is refunded, so these requests count.
    ///
    /// The layer calls this for requests that [`refund`](crate::RateLimitLayerBuilder::refund) selects.
    fn refund(&self, charges: Vec<Charge>, observer: StoreObserver) {
        let _ = (charges, observer);
    }
}

/// The future returned by [`RateLimitStore::charge`].
pub type StoreFuture = Pin<Box<dyn Future<Output = Result<Vec<ChargeOutcome>, StoreError>> + Send>>;

/// An observer of store results, set by [`on_store_result`](crate::RateLimitLayerBuilder::on_store_result).
#[derive(Clone, Default)]
pub struct StoreObserver(Option<Arc<ObserveFn>>);

type ObserveFn = dyn Fn(Result<(), &StoreError>) + Send + Sync;

impl StoreObserver {
    pub(crate) fn new(observe: impl Fn(Result<(), &StoreError>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observe)))
    }

    /// Calls the observer with the result of a store request.
    pub fn observe(&self, result: Result<(), &StoreError>) {
        if let Some(observe) = &self.0 {
            observe(result);
        }
    }
}

impl fmt::Debug for StoreObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreObserver").finish_non_exhaustive()
    }
}

/// A charge for one request: the cost to subtract from the quota of one key under one policy.
#[derive(Clone)]
pub struct Charge {
    pub(crate) policy: Arc<str>,
    pub(crate) key: Box<[u8]>,
    pub(crate) quota: Quota,
    pub(crate) cost: NonZeroU32,
}

impl Charge {
    /// Returns the [name](crate::RateLimitLayerBuilder::name) of the policy.
    ///
    /// Equal keys of different policies are independent.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Returns the quota key as bytes, without the name of the policy. Equal keys have equal bytes.
    ///
    /// The bytes are those that the key's [`Hash`] implementation writes to a hasher, with numbers in little endian. They
    /// are the same in every process of the same build. The length is not limited: a client may choose it.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Returns the quota from which the cost is subtracted.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Returns the cost of the request, which is at most the burst of the quota.
    pub fn cost(&self) -> NonZeroU32 {
        self.cost
    }
}

/// Omits the key from the debug output, because it may be a token.
impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge")
            .field("policy", &self.policy)
            .field("quota", &self.quota)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

/// The outcome of one [`Charge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// The quota of the key allows the request.
    Allowed {
        /// The number of additional requests that the quota of the key allows immediately.
        remaining: u32,
    },
    /// The request exceeds the quota of the key.
    Rejected {
        /// The time until the quota of the key allows the request.
        retry_after: Duration,
    },
}

/// The fallback for requests that a [`RateLimitStore`] fails to charge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreFallback {
    /// Counts the requests in the memory of this process. Each process then grants the whole quota.
    #[default]
    Local,
    /// Forwards the requests without counting them.
    Open,
    /// Rejects the requests with 503.
    Closed,
}

/// The error of a [`RateLimitStore`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store did not respond in time.
    #[error("no response from the rate limit store within {0:?}")]
    TimedOut(Duration),
    /// The store is not connected, so the request to the store was not sent.
    #[error("not connected to the rate limit store")]
    NotConnected,
    /// Too many requests are waiting for the store, so this request to the store was not sent.
    #[error("too many pending requests to the rate limit store")]
    Overloaded,
    /// The store failed for another reason.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// Returns the bytes that the [`Hash`] implementation of the key writes.
pub(crate) fn key_bytes<K: Hash>(key: &K) -> Box<[u8]> {
    let mut recorder = KeyRecorder(Vec::with_capacity(TYPICAL_KEY_LEN));
    key.hash(&mut recorder);
    recorder.0.into()
}

/// A [`Hasher`] that records the bytes written to it.
struct KeyRecorder(Vec<u8>);

macro_rules! write_little_endian {
    ($($name:ident: $number:ty as $width:ty),*) => {
        $(fn $name(&mut self, number: $number) {
            self.0.extend_from_slice(&(number as $width).to_le_bytes());
        })*
    };
}

impl Hasher for KeyRecorder {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    write_little_endian! {
        write_u8: u8 as u8,
        write_u16: u16 as u16,
        write_u32: u32 as u32,
        write_u64: u64 as u64,
        write_u128: u128 as u128,
        write_usize: usize as u64,
        write_i8: i8 as i8,
        write_i16: i16 as i16,
        write_i32: i32 as i32,
        write_i64: i64 as i64,
        write_i128: i128 as i128,
        write_isize: isize as i64
    }

    fn finish(&self) -> u64 {
        // FNV-1a. Only key types that hash their parts separately, such as sets, call this.
        self.0.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    }
}

// Enough for an IPv6 address: its discriminant, its length and its bytes.
const TYPICAL_KEY_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn key_bytes_are_equal_only_if_the_keys_are_equal() {
        let address = |text: &str| key_bytes(&text.parse::<IpAddr>().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8:0::1"));
        let keys = [
            address("2001:db8::1"),
            address("2001:db8::2"),
            address("192.0.2.1"),
            address("::192.0.2.1"),
            key_bytes(&"192.0.2.1"),
            key_bytes(&("a", "bc")),
            key_bytes(&("ab", "c")),
            key_bytes(&http::HeaderValue::from_static("abc")),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(place + 1).all(|other| other != key), "{key:?}");
        }
    }

    #[test]
    fn ip_address_keys_are_not_longer_than_the_typical_key_length() {
        for address in ["192.0.2.1", "2001:db8::1"] {
            let key = key_bytes(&address.parse::<IpAddr>().unwrap());
            assert!(key.len() <= TYPICAL_KEY_LEN, "{}", key.len());
        }
    }

    #[test]
    fn charge_debug_output_omits_the_key() {
        let charge = Charge {
            policy: "default".into(),
            key: key_bytes(&"secret-token"),
            quota: Quota::per_second(1),
            cost: NonZeroU32::MIN,
        };
        assert!(!format!("{charge:?}").contains("115"), "{charge:?}");
    }
}
