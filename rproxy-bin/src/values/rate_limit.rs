//! Rate limit settings: IPv6 tiers, the quota store and its fallback.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

#[cfg(feature = "redis")]
use rproxy_rate_limit::{RedisStore, StoreFallback};

use super::choice::Secret;
use super::value::{ParseError, ipv6_prefix, presentable, rate};

/// Additional quotas for IPv6 networks that contain several clients.
///
/// `56:400,48:1600:3200` limits each /56 to 400 requests per second, and each /48 to 1600 with a burst of 3200.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipv6Tiers(Vec<Ipv6Tier>);

/// The quota of each IPv6 network with a certain prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ipv6Tier {
    /// The prefix length of the IPv6 networks, from 1 to 128.
    pub prefix: u8,
    /// The number of requests per second that each network may send.
    pub rate: NonZeroU32,
    /// The burst: the number of requests that a network can send at once. The default is twice the rate.
    pub burst: NonZeroU32,
}

impl Ipv6Tiers {
    /// Returns an iterator over the IPv6 tiers.
    pub fn iter(&self) -> impl Iterator<Item = Ipv6Tier> {
        self.0.iter().copied()
    }

    /// Returns whether there are no IPv6 tiers.
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
                return Err(ParseError::new(
                    TIERS,
                    text,
                    format!("the prefix length /{} is listed twice", tier.prefix),
                ));
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

/// The store that contains the rate limit quotas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitStorage {
    /// Stores quotas in the memory of the process.
    #[default]
    Memory,
    /// Stores quotas in the Redis or Valkey server with this URL.
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

/// Formats the store; a URL is shown without user and password.
impl fmt::Display for RateLimitStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Redis(url) => f.write_str(&presentable(url.expose())),
        }
    }
}

/// The handling of requests while the quota store is unavailable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitFallback {
    /// Each process enforces the rate limit separately while the quota store is unavailable.
    #[default]
    Local,
    /// All requests are allowed while the quota store is unavailable.
    Open,
    /// All requests are rejected with 503 while the quota store is unavailable.
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
            _ => Err(ParseError::new("fallback", text, "unknown mode")),
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

const TIERS: &str = "list of IPv6 tiers";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_ipv6_tiers() {
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
            ("", "bad list of IPv6 tiers \"\": empty"),
            ("56", "bad tier \"56\": not of the form PREFIX:RATE or PREFIX:RATE:BURST"),
            ("56:1:2:3", "bad tier \"56:1:2:3\": not of the form PREFIX:RATE or PREFIX:RATE:BURST"),
            ("129:1", "bad IPv6 prefix length \"129\": not a whole number from 1 to 128"),
            ("56:0", "bad number \"0\": must be 1 or more"),
            ("56:1,56:2", "bad list of IPv6 tiers \"56:1,56:2\": the prefix length /56 is listed twice"),
        ] {
            assert_eq!(text.parse::<Ipv6Tiers>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn store_url_is_printed_without_password() {
        let store: RateLimitStorage = "redis://me:secret@cache.internal:6379/2".parse().unwrap();
        assert_eq!(store.to_string(), "redis://***@cache.internal:6379/2");
        assert!(!format!("{store:?}").contains("secret"));
        assert_eq!("Memory".parse(), Ok(RateLimitStorage::Memory));
        let error = "http://me:secret@cache.internal".parse::<RateLimitStorage>().unwrap_err().to_string();
        assert!(error.starts_with("bad store \"http://***@cache.internal\": ") && !error.contains("secret"), "{error}");
    }
}
