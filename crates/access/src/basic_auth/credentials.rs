//! The credentials in `Authorization` (RFC 7617 §2).

use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The user name, a colon and the password, without control characters.
    decoded: Vec<u8>,
    colon: usize,
}

/// The reason why a request has no credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingCredentials {
    /// There is no `Authorization`, or it has another scheme.
    Absent,
    Malformed,
}

impl Credentials {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, MissingCredentials> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let field = fields.next().ok_or(MissingCredentials::Absent)?.as_bytes();
        if fields.next().is_some() {
            // Servers disagree on which one counts.
            return Err(MissingCredentials::Malformed);
        }
        let scheme = field.split(|&byte| byte == b' ').next().unwrap_or(field);
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return Err(MissingCredentials::Absent);
        }
        let token = field[scheme.len()..].trim_ascii();
        Self::decode(token).ok_or(MissingCredentials::Malformed)
    }

    fn decode(token: &[u8]) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let decoded = BASE64.decode(token).ok()?;
        if decoded.iter().any(u8::is_ascii_control) {
            return None;
        }
        let colon = decoded.iter().position(|&byte| byte == b':')?;
        Some(Self { decoded, colon })
    }

    /// Returns the user name, or an empty one if it is not UTF-8.
    pub(crate) fn user(&self) -> &str {
        str::from_utf8(&self.decoded[..self.colon]).unwrap_or_default()
    }

    pub(crate) fn password(&self) -> &[u8] {
        &self.decoded[self.colon + 1..]
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.decoded
    }
}

/// Omits the credentials.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// The maximum length of the encoded credentials. It also limits the work of Argon2, which reads the whole password.
const MAX_TOKEN: usize = 2048;

/// Some clients omit the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn credentials(fields: &[&[u8]]) -> Result<(String, Vec<u8>), MissingCredentials> {
        let values = fields.iter().map(|field| (AUTHORIZATION, HeaderValue::from_bytes(field).unwrap()));
        Credentials::of(&values.collect()).map(|found| (found.user().to_owned(), found.password().to_vec()))
    }

    fn of(user: &str, password: &[u8]) -> Result<(String, Vec<u8>), MissingCredentials> {
        Ok((user.to_owned(), password.to_vec()))
    }

    #[test]
    fn parses_user_name_and_password() {
        for (field, expected) in [
            // RFC 7617 §2
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", of("Aladdin", b"open sesame")),
            ("bAsIc   QWxhZGRpbjpvcGVuIHNlc2FtZQ", of("Aladdin", b"open sesame")),
            // RFC 7617 §2.1
            ("Basic dGVzdDoxMjPCow==", of("test", "123\u{a3}".as_bytes())),
            ("Basic dGVzdDoxMjOj", of("test", b"123\xa3")),
            ("Basic YTpiOmM=", of("a", b"b:c")),
            ("Basic Og==", of("", b"")),
            ("Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Err(MissingCredentials::Absent)),
            ("", Err(MissingCredentials::Absent)),
            ("Basic", Err(MissingCredentials::Malformed)),
            ("Basic YWxpY2U=", Err(MissingCredentials::Malformed)),
            ("Basic YTpi YTpi", Err(MissingCredentials::Malformed)),
            ("Basic !!!!", Err(MissingCredentials::Malformed)),
            // A line feed in the user name.
            ("Basic YQpiOmM=", Err(MissingCredentials::Malformed)),
        ] {
            assert_eq!(credentials(&[field.as_bytes()]), expected, "{field}");
        }
        assert_eq!(credentials(&[]), Err(MissingCredentials::Absent));
        assert_eq!(credentials(&[b"Basic YTpi", b"Basic YTpi"]), Err(MissingCredentials::Malformed));
        let long = format!("Basic {}", "YTpi".repeat(600));
        assert_eq!(credentials(&[long.as_bytes()]), Err(MissingCredentials::Malformed));
    }

    proptest! {
        #[test]
        fn never_panics(field in prop::collection::vec((0x20u8..=0xff).prop_filter("DEL", |b| *b != 0x7f), 0..60)) {
            let _ = credentials(&[&[b"Basic ", &field[..]].concat()]);
            let token = BASE64_STANDARD.encode(&field);
            if let Ok((user, password)) = credentials(&[format!("Basic {token}").as_bytes()]) {
                prop_assert!(!user.contains(':'));
                prop_assert!(field.ends_with(&password));
            }
        }
    }
}
