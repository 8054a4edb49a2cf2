//! Precompressed variants of files, and the choice between them.

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};

/// A content coding for which a precompressed variant can exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

impl Coding {
    /// All codings, in the order of preference: variants are compressed once, and Brotli is usually the smallest.
    const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Returns the extension of a variant, which is appended to the name of the file.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zst",
            Self::Gzip => "gz",
        }
    }

    /// Returns the value of `Content-Encoding`.
    pub(crate) fn field(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        })
    }

    fn from_token(token: &[u8]) -> Option<Self> {
        match token {
            _ if token.eq_ignore_ascii_case(b"br") => Some(Self::Brotli),
            _ if token.eq_ignore_ascii_case(b"zstd") => Some(Self::Zstd),
            _ if token.eq_ignore_ascii_case(b"gzip") || token.eq_ignore_ascii_case(b"x-gzip") => Some(Self::Gzip),
            _ => None,
        }
    }
}

/// The codings that a client accepts, the preferred one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AcceptedCodings([Option<Coding>; 3]);

impl AcceptedCodings {
    /// Reads `Accept-Encoding` (RFC 9110 §12.5.3). A coding with a lower weight than `identity` is not accepted.
    pub(crate) fn of_request(headers: &HeaderMap) -> Self {
        let mut weights = [None; 3];
        let (mut identity, mut others) = (None, None);
        for (token, weight) in weighted(headers.get_all(ACCEPT_ENCODING)) {
            if let Some(coding) = Coding::from_token(token) {
                weights[coding as usize] = Some(weight);
            } else if token == b"*" {
                others = Some(weight);
            } else if token.eq_ignore_ascii_case(b"identity") {
                identity = Some(weight);
            }
        }
        let weight = |coding: Coding| weights[coding as usize].or(others).unwrap_or(0);
        let least = identity.unwrap_or(0).max(1);
        let mut accepted = Coding::ALL.map(|coding| Some(coding).filter(|coding| weight(*coding) >= least));
        // The sort is stable, so that the order of preference decides between equal weights.
        accepted.sort_by_key(|coding| std::cmp::Reverse(coding.map_or(0, weight)));
        Self(accepted)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Coding> {
        self.0.into_iter().flatten()
    }
}

/// Returns the members of a list with weights (RFC 9110 §12.4.2), in thousandths. An invalid weight is 0.
pub(crate) fn weighted<'h>(values: impl IntoIterator<Item = &'h HeaderValue>) -> impl Iterator<Item = (&'h [u8], u16)> {
    let members = values.into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members.map(|member| {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let token = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        (token, weight.map_or(1000, thousandths))
    })
}

fn thousandths(weight: &[u8]) -> u16 {
    let (whole, decimals) = match weight {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return 0,
    };
    if !matches!(whole, b'0' | b'1') || !decimals.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let digits = (0..3).map(|index| decimals.get(index).map_or(0, |digit| u16::from(digit - b'0')));
    let weight = digits.fold(u16::from(whole - b'0'), |weight, digit| weight * 10 + digit);
    if weight > 1000 { 0 } else { weight }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_accepted_by_weight_and_then_by_preference() {
        for (field, expected) in [
            ("gzip, deflate, br, zstd", &["br", "zst", "gz"][..]),
            ("gzip", &["gz"]),
            ("X-GZIP", &["gz"]),
            ("gzip;q=1.0, br;q=0.5", &["gz", "br"]),
            ("gzip; q=0, br", &["br"]),
            ("*", &["br", "zst", "gz"]),
            ("*;q=0.5, gzip", &["gz", "br", "zst"]),
            ("br;q=0, *", &["zst", "gz"]),
            ("identity, gzip;q=0.5", &[]),
            ("identity;q=0.5, gzip;q=0.5", &["gz"]),
            ("identity;q=0", &[]),
            ("gzip;q=1.001", &[]),
            ("gzip;q=0.0001", &[]),
            ("gzip;q=x, br;q=0.001", &["br"]),
            ("deflate", &[]),
            ("", &[]),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(field));
            let accepted: Vec<_> = AcceptedCodings::of_request(&headers).iter().map(Coding::extension).collect();
            assert_eq!(accepted, expected, "{field}");
        }
        assert_eq!(AcceptedCodings::of_request(&HeaderMap::new()), AcceptedCodings::default());
    }
}
