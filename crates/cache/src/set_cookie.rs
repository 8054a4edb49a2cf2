//! What becomes of cookies in responses that are stored.

use std::fmt;
use std::str::FromStr;

/// What is done with `Set-Cookie` where the response may otherwise be stored.
///
/// RFC 9111 §7.3 leaves it to the origin's `Cache-Control`: a cookie is stored, and sent to everybody, as any other field.
/// That is hardly ever what those mean who set it, so a shared cache does well to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetCookie {
    /// A response that says for itself how long it is fresh is stored without the cookie, which is for the one client that
    /// it was made for. Any other is not stored.
    #[default]
    Strip,
    /// The cookie is stored and sent to everybody, as RFC 9111 has it. For origins whose cookies are nobody's in particular.
    Store,
    /// A response with a cookie is not stored, unless it names it in `no-cache="set-cookie"` or `private="set-cookie"`.
    Refuse,
}

/// `strip`, `store` or `refuse`.
impl FromStr for SetCookie {
    type Err = SetCookieError;

    fn from_str(text: &str) -> Result<Self, SetCookieError> {
        match text.to_ascii_lowercase().as_str() {
            "strip" => Ok(Self::Strip),
            "store" => Ok(Self::Store),
            "refuse" => Ok(Self::Refuse),
            _ => Err(SetCookieError(text.to_owned())),
        }
    }
}

impl fmt::Display for SetCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strip => "strip",
            Self::Store => "store",
            Self::Refuse => "refuse",
        })
    }
}

/// A word that is none of [`SetCookie`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad word for cookies {0:?}: expected strip, store or refuse")]
pub struct SetCookieError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_are_written() {
        for policy in [SetCookie::Strip, SetCookie::Store, SetCookie::Refuse] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!("keep".parse::<SetCookie>().unwrap_err().to_string().contains("\"keep\""));
    }
}
