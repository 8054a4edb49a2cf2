//! Where quotas are kept, if not in this process: so that several processes and machines share them.

use std::error::Error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::quota::Quota;

/// Keeps what is left of each key's quota, where others can ask for it, too.
///
/// Without one, a [`RateLimitLayer`](crate::RateLimitLayer) counts in the memory of its process: no store is faster, and
/// none is needed by a single process. `RedisStore`, with the feature `redis`, is one for several.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use rproxy_rate_limit::{Charge, Fallback, Left, Quota, RateLimitLayer, RateLimitStore, StoreError, StoreFuture};
///
/// /// Never gives anything back.
/// #[derive(Default)]
/// struct Once {
///     taken: Mutex<HashMap<(String, Vec<u8>), u32>>,
/// }
///
/// impl RateLimitStore for Once {
///     fn charge(&self, charges: &[Charge]) -> StoreFuture {
///         let mut taken = self.taken.lock().unwrap();
///         let left: Vec<_> = charges
///             .iter()
///             .map(|charge| {
///                 let key = (charge.policy().to_owned(), charge.key().to_owned());
///                 let left = charge.quota().burst_size().get() - taken.get(&key).copied().unwrap_or(0);
///                 match left.checked_sub(charge.cost().get()) {
///                     Some(remaining) => Left::Remaining(remaining),
///                     None => Left::Nothing { retry_after: std::time::Duration::from_secs(3600) },
///                 }
///             })
///             .collect();
///         // All of them or none.
///         if left.iter().all(|left| matches!(left, Left::Remaining(_))) {
///             for charge in charges {
///                 *taken.entry((charge.policy().to_owned(), charge.key().to_owned())).or_default() += charge.cost().get();
///             }
///         }
///         Box::pin(async { Ok(left) })
///     }
/// }
///
/// let layer = RateLimitLayer::new(Quota::per_second(100)).store(Once::default(), Fallback::Local);
/// # let _ = layer;
/// ```
pub trait RateLimitStore: Send + Sync + 'static {
    /// Charges a request to all of these, in one step that no other request can come between; if one of them denies it,
    /// to none. The answer has, for each charge and in their order, what is left.
    ///
    /// The future is dropped when the client goes away, and is not held to any time: the store has to give up by
    /// itself.
    fn charge(&self, charges: &[Charge]) -> StoreFuture;
}

/// The answer of a [`RateLimitStore`], on its way.
pub type StoreFuture = Pin<Box<dyn Future<Output = Result<Vec<Left>, StoreError>> + Send>>;

/// One request of one key, to be counted under one policy.
#[derive(Clone)]
pub struct Charge {
    pub(crate) policy: Arc<str>,
    pub(crate) key: Box<[u8]>,
    pub(crate) quota: Quota,
    pub(crate) cost: NonZeroU32,
}

impl Charge {
    /// The [name](crate::RateLimitLayer::name) of the policy. Keys of different policies have nothing to do with each
    /// other.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The key, as bytes that are equal where keys are: what the key's [`Hash`] feeds to a hasher, numbers in little
    /// endian. They are the same in every process of the same build. As long as the key is, so that a client may have
    /// chosen the length.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// How many requests in how much time.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// How many requests this one counts for: never more than the burst.
    pub fn cost(&self) -> NonZeroU32 {
        self.cost
    }
}

/// Without the key: it may be somebody's token.
impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge")
            .field("policy", &self.policy)
            .field("quota", &self.quota)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

/// What is left of a key's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The request may pass, and so many more could follow at once.
    Remaining(u32),
    /// The request may not pass.
    Nothing {
        /// When it could.
        retry_after: Duration,
    },
}

/// What becomes of requests when a [`RateLimitStore`] does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fallback {
    /// They are counted in this process alone, each of several processes giving the whole quota.
    #[default]
    Local,
    /// They pass uncounted.
    Open,
    /// They are answered 503.
    Closed,
}

/// A [`RateLimitStore`] did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// There is no connection, and nobody waits for one.
    #[error("not connected")]
    NotConnected,
    /// It failed.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// The bytes that stand for a key.
pub(crate) fn bytes_of<K: Hash>(key: &K) -> Box<[u8]> {
    let mut written = Written(Vec::with_capacity(TYPICAL));
    key.hash(&mut written);
    written.0.into()
}

/// Keeps what it is fed.
struct Written(Vec<u8>);

macro_rules! write_little_endian {
    ($($name:ident: $number:ty as $portable:ty),*) => {
        $(fn $name(&mut self, number: $number) {
            self.0.extend_from_slice(&(number as $portable).to_le_bytes());
        })*
    };
}

impl Hasher for Written {
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
        // Of use to none of the keys that there are: it is asked for by what hashes parts apart, such as a set.
        self.0.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    }
}

// An IPv6 address: what it is, its length, and itself.
const TYPICAL: usize = 32;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn keys_are_equal_as_bytes_where_they_are_equal() {
        let address = |text: &str| bytes_of(&text.parse::<IpAddr>().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8:0::1"));
        let keys = [
            address("2001:db8::1"),
            address("2001:db8::2"),
            address("192.0.2.1"),
            address("::192.0.2.1"),
            bytes_of(&"192.0.2.1"),
            bytes_of(&("a", "bc")),
            bytes_of(&("ab", "c")),
            bytes_of(&http::HeaderValue::from_static("abc")),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(place + 1).all(|other| other != key), "{key:?}");
        }
    }

    #[test]
    fn an_address_takes_few_bytes() {
        for address in ["192.0.2.1", "2001:db8::1"] {
            let key = bytes_of(&address.parse::<IpAddr>().unwrap());
            assert!(key.len() <= TYPICAL, "{}", key.len());
        }
    }

    #[test]
    fn a_charge_does_not_show_its_key() {
        let charge = Charge {
            policy: "default".into(),
            key: bytes_of(&"secret-token"),
            quota: Quota::per_second(1),
            cost: NonZeroU32::MIN,
        };
        assert!(!format!("{charge:?}").contains("115"), "{charge:?}");
    }
}
