//! Rate limits beyond a rate and a burst: tiers of networks, and where quotas are kept.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

#[cfg(feature = "redis")]
use rproxy_rate_limit::{RedisStore, StoreFallback};

use super::choice::Secret;
use super::value::{ParseError, ipv6_prefix, presentable, rate};

/// Quotas of IPv6 networks that are larger than a client: `56:400,48:1600:3200` is 400 requests per second for each
/// /56, and 1600 for each /48, of which it may make 3200 at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipv6Tiers(Vec<Ipv6Tier>);

/// The quota of each IPv6 network of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ipv6Tier {
    /// The length of the networks' prefix, 1 to 128.
    pub prefix: u8,
    /// Requests per second.
    pub rate: NonZeroU32,
    /// Requests at once: twice the rate where nobody says otherwise.
    pub burst: NonZeroU32,
}

impl Ipv6Tiers {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Ipv6Tier> {
        self.0.iter().copied()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Ipv6Tiers {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut tiers: Vec<Ipv6Tier> = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let tier: Ipv6Tier = entry.parse()?;
            if tiers.iter().any(|other| other.prefix == tier.prefix) {
                return Err(ParseError::new(TIERS, text, format!("/{} is there twice", tier.prefix)));
            }
            tiers.push(tier);
        }
        match tiers.is_empty() {
            true => Err(ParseError::new(TIERS, text, "empty")),
            false => Ok(Self(tiers)),
        }
    }
}

impl FromStr for Ipv6Tier {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut parts = text.split(':').map(str::trim);
        let (Some(prefix), Some(per_second), burst, None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ParseError::new("tier", text, "not of the form PREFIX:RATE or PREFIX:RATE:BURST"));
        };
        let (prefix, per_second) = (ipv6_prefix(prefix)?, rate(per_second)?);
        let burst = burst.map(rate).transpose()?.unwrap_or(per_second.saturating_add(per_second.get()));
        Ok(Self { prefix, rate: per_second, burst })
    }
}

impl fmt::Display for Ipv6Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Ipv6Tier { prefix, rate, burst }) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{prefix}:{rate}:{burst}")?;
        }
        Ok(())
    }
}

/// Where quotas are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitStorage {
    /// In the memory of the process.
    #[default]
    Memory,
    /// In the Redis or Valkey server at this URL.
    Redis(Secret),
}

impl FromStr for RateLimitStorage {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.eq_ignore_ascii_case("memory") {
            return Ok(Self::Memory);
        }
        #[cfg(feature = "redis")]
        let _ = RedisStore::new(text).map_err(|error| ParseError::new("store", text, error.to_string()))?;
        Ok(Self::Redis(Secret::new(text)))
    }
}

/// Without user and password.
impl fmt::Display for RateLimitStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Redis(url) => f.write_str(&presentable(url.expose())),
        }
    }
}

/// What becomes of requests while the store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitFallback {
    /// Each process counts for itself.
    #[default]
    Local,
    /// They pass.
    Open,
    /// They are answered 503.
    Closed,
}

#[cfg(feature = "redis")]
impl RateLimitFallback {
    pub(crate) fn to_fallback(self) -> StoreFallback {
        match self {
            Self::Local => StoreFallback::Local,
            Self::Open => StoreFallback::Open,
            Self::Closed => StoreFallback::Closed,
        }
    }
}

impl FromStr for RateLimitFallback {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "local" => Ok(Self::Local),
            "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            _ => Err(ParseError::new("fallback", text, "no such way")),
        }
    }
}

impl fmt::Display for RateLimitFallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Open => "open",
            Self::Closed => "closed",
        })
    }
}

const TIERS: &str = "list of tiers";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_networks_with_quotas() {
        for (text, written) in [
            ("56:400", "56:400:800"),
            ("/56:400, /48:1600:5000", "56:400:800,48:1600:5000"),
            ("32:4294967295", "32:4294967295:4294967295"),
        ] {
            let tiers: Ipv6Tiers = text.parse().unwrap();
            assert_eq!(tiers.to_string(), written);
            assert_eq!(written.parse(), Ok(tiers));
        }
        for (text, message) in [
            ("", "bad list of tiers \"\": empty"),
            ("56", "bad tier \"56\": not of the form PREFIX:RATE or PREFIX:RATE:BURST"),
            ("56:1:2:3", "bad tier \"56:1:2:3\": not of the form PREFIX:RATE or PREFIX:RATE:BURST"),
            ("129:1", "bad IPv6 prefix length \"129\": not a whole number from 1 to 128"),
            ("56:0", "bad number \"0\": must be 1 or more"),
            ("56:1,56:2", "bad list of tiers \"56:1,56:2\": /56 is there twice"),
        ] {
            assert_eq!(text.parse::<Ipv6Tiers>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_store_shows_no_password() {
        let store: RateLimitStorage = "redis://me:secret@cache.internal:6379/2".parse().unwrap();
        assert_eq!(store.to_string(), "redis://***@cache.internal:6379/2");
        assert!(!format!("{store:?}").contains("secret"));
        assert_eq!("Memory".parse(), Ok(RateLimitStorage::Memory));
        let error = "http://me:secret@cache.internal".parse::<RateLimitStorage>().unwrap_err().to_string();
        assert!(error.starts_with("bad store \"http://***@cache.internal\": ") && !error.contains("secret"), "{error}");
    }
}
