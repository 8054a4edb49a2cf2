//! The policy for `Set-Cookie` in stored responses.

use std::fmt;
use std::str::FromStr;

/// The policy for storable responses that contain `Set-Cookie`.
///
/// By RFC 9111 §7.3, a cookie is stored and sent to every client like any other field, if `Cache-Control` allows
/// storing. Applications rarely intend that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetCookiePolicy {
    /// Stores a response with explicit freshness, but strips `Set-Cookie`. Does not store other responses.
    #[default]
    Strip,
    /// Stores `Set-Cookie` and sends it to every client, as RFC 9111 allows. For cookies that are the same for every
    /// client.
    Store,
    /// Does not store a response with `Set-Cookie`, unless a directive such as `private="set-cookie"` excludes that
    /// field.
    DoNotStore,
}

/// Parses a cookie policy: `strip`, `store` or `refuse`.
impl FromStr for SetCookiePolicy {
    type Err = SetCookiePolicyError;

    fn from_str(text: &str) -> Result<Self, SetCookiePolicyError> {
        match text.to_ascii_lowercase().as_str() {
            "strip" => Ok(Self::Strip),
            "store" => Ok(Self::Store),
            "refuse" => Ok(Self::DoNotStore),
            _ => Err(SetCookiePolicyError(text.to_owned())),
        }
    }
}

impl fmt::Display for SetCookiePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strip => "strip",
            Self::Store => "store",
            Self::DoNotStore => "refuse",
        })
    }
}

/// The error for text that is not a valid [`SetCookiePolicy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad cookie policy {0:?}: expected strip, store or refuse")]
pub struct SetCookiePolicyError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_cookie_policy_round_trips_through_text() {
        for policy in [SetCookiePolicy::Strip, SetCookiePolicy::Store, SetCookiePolicy::DoNotStore] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!("keep".parse::<SetCookiePolicy>().unwrap_err().to_string().contains("\"keep\""));
    }
}
