//! A keyed hash that clients cannot predict. Processes with the same key compute the same hashes.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::OnceLock;

use siphasher::sip::SipHasher;

/// A secret key for hashing, which clients cannot predict.
///
/// Without a secret key, a client could find many values, such as paths, that are assigned to one backend.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct HashKey(u64, u64);

impl HashKey {
    /// Returns the random hash key of this process.
    pub(crate) fn of_process() -> Self {
        static KEY: OnceLock<HashKey> = OnceLock::new();
        *KEY.get_or_init(|| {
            let random = RandomState::new();
            Self(random.hash_one(0), random.hash_one(1))
        })
    }

    /// Derives a hash key from a secret.
    pub(crate) fn from_secret(secret: &[u8]) -> Self {
        Self(Self(0, 0).hash(secret), Self(0, 1).hash(secret))
    }

    /// Returns the keyed hash of a value.
    pub(crate) fn hash(self, value: impl Hash) -> u64 {
        let mut hasher = self.hasher();
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// Returns a hasher that uses this key.
    pub(crate) fn hasher(self) -> SipHasher {
        SipHasher::new_with_keys(self.0, self.1)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_secrets_give_different_hash_keys() {
        assert_eq!(HashKey::from_secret(b"a"), HashKey::from_secret(b"a"));
        assert_ne!(HashKey::from_secret(b"a"), HashKey::from_secret(b"b"));
        assert_ne!(HashKey::from_secret(b"a").hash("x"), HashKey::from_secret(b"b").hash("x"));
        assert_eq!(HashKey::of_process(), HashKey::of_process());
        assert!(!format!("{:?}", HashKey::from_secret(b"a")).contains(char::is_numeric));
    }
}
