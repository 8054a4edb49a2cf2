//! Hashes of passwords: bcrypt and Argon2.

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params};
use bcrypt::HashParts;

/// The hash of a password, whose parameters are within the limits.
#[derive(Clone)]
pub(crate) enum PasswordHash {
    Bcrypt(Box<str>),
    Argon2(Box<phc::PasswordHash>),
}

/// The reason why a hash is rejected. It does not contain the hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HashError {
    #[error("{0}, which is not supported")]
    Unsupported(&'static str),
    #[error("a malformed {0} hash")]
    Malformed(&'static str),
    #[error("a bcrypt hash of cost {0}: each check would take seconds, and the maximum is {MAX_BCRYPT_COST}")]
    BcryptCost(u32),
    #[error("an Argon2 hash with m={0},t={1}: the maxima are m={MAX_ARGON2_MEMORY} and m times t = {MAX_ARGON2_WORK}")]
    Argon2Cost(u32, u32),
}

/// A check takes about a second at this cost. `htpasswd` accepts up to 17.
const MAX_BCRYPT_COST: u32 = 14;

/// 256 MiB for each check, in KiB.
const MAX_ARGON2_MEMORY: u32 = 1 << 18;

/// The maximum number of KiB that a check fills, which takes about a second.
const MAX_ARGON2_WORK: u64 = 1 << 20;

/// The number of bytes of a password that bcrypt uses.
const MAX_BCRYPT_PASSWORD: usize = 72;

impl PasswordHash {
    pub(crate) fn parse(text: &str) -> Result<Self, HashError> {
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            let cost = text.parse().map(|parts: HashParts| parts.get_cost());
            return match cost {
                Ok(cost) if cost > MAX_BCRYPT_COST => Err(HashError::BcryptCost(cost)),
                Ok(4..) => Ok(Self::Bcrypt(text.into())),
                _ => Err(HashError::Malformed("bcrypt")),
            };
        }
        if text.starts_with("$argon2") {
            return Self::parse_argon2(text);
        }
        Err(HashError::Unsupported(kind(text)))
    }

    fn parse_argon2(text: &str) -> Result<Self, HashError> {
        let malformed = HashError::Malformed("Argon2");
        let Ok(hash) = phc::PasswordHash::new(text) else { return Err(malformed) };
        let (Ok(_), Ok(params)) = (Algorithm::try_from(hash.algorithm.as_str()), Params::try_from(&hash)) else {
            return Err(malformed);
        };
        if hash.salt.is_none() || hash.hash.is_none() || hash.version.is_some_and(|version| !matches!(version, 16 | 19))
        {
            return Err(malformed);
        }
        let (memory, passes) = (params.m_cost(), params.t_cost());
        if memory > MAX_ARGON2_MEMORY || u64::from(memory) * u64::from(passes) > MAX_ARGON2_WORK {
            return Err(HashError::Argon2Cost(memory, passes));
        }
        Ok(Self::Argon2(Box::new(hash)))
    }

    /// Returns whether this is the hash of `password`. It takes the same time for a right and a wrong
    /// password, usually tens of milliseconds.
    ///
    /// bcrypt ignores all but the first 72 bytes. A longer password never matches: two passwords must not be the same one.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => {
                let is_complete = password.len() <= MAX_BCRYPT_PASSWORD;
                bcrypt::verify(password, hash).unwrap_or(false) && is_complete
            }
            Self::Argon2(hash) => Argon2::default().verify_password(password, &**hash).is_ok(),
        }
    }
}

/// Returns the kind of a hash that is not supported.
fn kind(text: &str) -> &'static str {
    const KINDS: [(&str, &str); 16] = [
        ("{SHA}", "an unsalted SHA-1 hash ({SHA})"),
        ("{SSHA}", "a SHA-1 hash ({SSHA})"),
        ("{PLAIN}", "a password in plain text ({PLAIN})"),
        ("$apr1$", "an MD5 hash ($apr1$)"),
        ("$1$", "an MD5 hash ($1$)"),
        ("$2x$", "a hash of a faulty bcrypt ($2x$)"),
        ("$2$", "a hash of the first bcrypt ($2$)"),
        ("$5$", "a SHA-256 crypt hash ($5$)"),
        ("$6$", "a SHA-512 crypt hash ($6$)"),
        ("$7$", "an scrypt hash ($7$)"),
        ("$scrypt$", "an scrypt hash ($scrypt$)"),
        ("$y$", "a yescrypt hash ($y$)"),
        ("$gy$", "a yescrypt hash ($gy$)"),
        ("$pbkdf2", "a PBKDF2 hash"),
        ("$", "a hash of an unknown kind"),
        ("{", "a hash of an unknown kind"),
    ];
    let known = KINDS.iter().find(|(prefix, _)| text.starts_with(prefix)).map(|(_, kind)| *kind);
    known.unwrap_or("a DES crypt hash, or a password in plain text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bcrypt_of(password: &str) -> String {
        bcrypt::hash(password, 4).unwrap()
    }

    fn argon2_of(password: &str, params: &str) -> String {
        let [m, t, p]: [u32; 3] = params.split(',').map(|n| n.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
        let argon2 = Argon2::from(Params::new(m, t, p, None).unwrap());
        argon2::PasswordHasher::hash_password_with_salt(&argon2, password.as_bytes(), b"salt of 16 bytes")
            .unwrap()
            .to_string()
    }

    #[test]
    fn verifies_bcrypt_and_argon2_hashes() {
        for hash in [bcrypt_of("open sesame"), argon2_of("open sesame", "64,1,2")] {
            for prefix in if hash.starts_with("$2") { &["$2a$", "$2b$", "$2y$"][..] } else { &[""] } {
                let hash = format!("{prefix}{}", &hash[prefix.len()..]);
                let parsed = PasswordHash::parse(&hash).unwrap();
                assert!(parsed.verify(b"open sesame"), "{hash}");
                for wrong in [&b""[..], b"open sesame ", b"Open sesame"] {
                    assert!(!parsed.verify(wrong), "{hash}");
                }
            }
        }
    }

    /// A test vector of crypt_blowfish.
    #[test]
    fn verifies_a_hash_of_crypt_blowfish() {
        let parsed = PasswordHash::parse("$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW").unwrap();
        assert!(parsed.verify(b"U*U"));
        assert!(!parsed.verify(b"U*V"));
    }

    #[test]
    fn password_longer_than_bcrypt_reads_does_not_match() {
        let (read, long) = ("a".repeat(72), "a".repeat(73));
        let parsed = PasswordHash::parse(&bcrypt_of(&read)).unwrap();
        assert!(parsed.verify(read.as_bytes()) && !parsed.verify(long.as_bytes()));
        let argon2 = PasswordHash::parse(&argon2_of(&long, "64,1,1")).unwrap();
        assert!(argon2.verify(long.as_bytes()) && !argon2.verify(read.as_bytes()));
    }

    #[test]
    fn rejects_other_kinds_of_hashes_by_name() {
        for (text, named) in [
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
            ("{SSHA}abc", "SHA-1"),
            ("$apr1$abc$def", "MD5"),
            ("$1$abc$def", "MD5"),
            ("$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "faulty bcrypt"),
            ("$5$abc", "SHA-256 crypt"),
            ("$6$abc", "SHA-512 crypt"),
            ("$y$j9T$abc", "yescrypt"),
            ("$9$abc", "unknown kind"),
            ("rqXexS6ZhobKA", "DES crypt"),
            ("secret", "plain text"),
            ("", "plain text"),
            ("$2y$05$short", "malformed bcrypt"),
            ("$argon2id$v=19$m=65536", "malformed Argon2"),
            ("$argon2x$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g", "malformed Argon2"),
        ] {
            let message = PasswordHash::parse(text).err().unwrap().to_string();
            assert!(message.contains(named), "{text}: {message}");
            assert!(text.len() < 8 || !message.contains(text), "{message}");
        }
    }

    #[test]
    fn rejects_hashes_that_take_too_much_time_or_memory() {
        let costly = bcrypt_of("a").replace("$04$", "$15$");
        assert_eq!(PasswordHash::parse(&costly).err(), Some(HashError::BcryptCost(15)));
        let cheap = bcrypt_of("a").replace("$04$", "$03$");
        assert_eq!(PasswordHash::parse(&cheap).err(), Some(HashError::Malformed("bcrypt")));
        let argon2 = argon2_of("a", "64,1,1");
        for (params, is_accepted) in [
            ("m=19456,t=2,p=1", true),
            ("m=262144,t=4,p=4", true),
            ("m=262145,t=1,p=1", false),
            ("m=262144,t=5,p=1", false),
            ("m=8,t=4294967295,p=1", false),
        ] {
            let parsed = PasswordHash::parse(&argon2.replace("m=64,t=1,p=1", params));
            assert_eq!(parsed.is_ok(), is_accepted, "{params}");
        }
    }
}
