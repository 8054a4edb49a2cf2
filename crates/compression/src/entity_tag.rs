//! Entity tags of compressed variants (RFC 9110 §8.8.3).
//!
//! A strong tag of the inner service identifies the uncompressed representation, so each compressed variant gets a separate
//! tag: `"v1"` becomes `"v1-br"`. If the inner service's tag itself ends in such a suffix, the tag of the uncompressed
//! variant gets `-identity`. The last suffix that a client sees is therefore always that of the layer, and each tag can be
//! mapped back without ambiguity.

use http::HeaderValue;

use crate::coding::Coding;

/// A variant of the inner service's representation: compressed or unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Coded(Coding),
    Identity,
}

impl Variant {
    const ALL: [Self; 4] =
        [Self::Coded(Coding::Zstd), Self::Coded(Coding::Brotli), Self::Coded(Coding::Gzip), Self::Identity];

    fn suffix(self) -> &'static [u8] {
        match self {
            Self::Coded(Coding::Zstd) => b"-zstd",
            Self::Coded(Coding::Brotli) => b"-br",
            Self::Coded(Coding::Gzip) => b"-gzip",
            Self::Identity => b"-identity",
        }
    }
}

/// A strong entity tag, split into its opaque text and its quotes.
///
/// Some applications omit the quotes. Such a tag is not valid, but clients send it back, so it is treated like the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StrongTag<'a> {
    opaque: &'a [u8],
    is_quoted: bool,
}

impl<'a> StrongTag<'a> {
    /// Parses a strong entity tag. Returns `None` for a weak or malformed tag, a date, and `*`.
    pub(crate) fn parse(tag: &'a [u8]) -> Option<Self> {
        match tag {
            [b'"', opaque @ .., b'"'] if !opaque.contains(&b'"') => Some(Self { opaque, is_quoted: true }),
            [b'W', b'/', ..] | b"*" | b"" => None,
            _ if tag.iter().any(|byte| matches!(byte, b'"' | b',' | b' ' | b'\t')) => None,
            opaque => Some(Self { opaque, is_quoted: false }),
        }
    }

    /// Splits an entity tag with a variant suffix into the inner service's entity tag and the variant.
    pub(crate) fn split(self) -> Option<(Self, Variant)> {
        Variant::ALL.into_iter().find_map(|variant| {
            let opaque = self.opaque.strip_suffix(variant.suffix())?;
            // Without quotes, the remainder can be empty or `*`, neither of which is a tag.
            let own = if self.is_quoted { Self { opaque, is_quoted: true } } else { Self::parse(opaque)? };
            Some((own, variant))
        })
    }

    /// Returns the entity tag of a variant, or `None` if the inner service's tag is used unchanged.
    pub(crate) fn of_variant(self, variant: Variant) -> Option<HeaderValue> {
        if variant == Variant::Identity && self.split().is_none() {
            return None;
        }
        let mut tag = self.to_bytes();
        let end = tag.len() - usize::from(self.is_quoted);
        tag.splice(end..end, variant.suffix().iter().copied());
        HeaderValue::from_bytes(&tag).ok()
    }

    /// Returns the entity tag as a field value.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let quote: &[u8] = if self.is_quoted { b"\"" } else { b"" };
        [quote, self.opaque, quote].concat()
    }
}

/// Returns whether an entity tag of the inner service ends with the suffix of a compressed variant.
pub(crate) fn has_suffix(etag: &HeaderValue) -> bool {
    // Few tags end in the last letter of a suffix, so that most responses need no more than this.
    let opaque = etag.as_bytes().strip_suffix(b"\"").unwrap_or(etag.as_bytes());
    matches!(opaque.last(), Some(b'd' | b'r' | b'p' | b'y'))
        && StrongTag::parse(etag.as_bytes()).and_then(StrongTag::split).is_some()
}

/// Returns the members of a list of entity tags, such as the value of `If-Match`.
///
/// A comma within quotes is part of a tag. Unlike in other lists, a backslash is not an escape.
pub(crate) fn members(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while !list.is_empty() {
            let mut is_quoted = false;
            let end = list.iter().position(|&byte| {
                is_quoted ^= byte == b'"';
                byte == b',' && !is_quoted
            });
            let (member, rest) = end.map_or((list, &b""[..]), |end| (&list[..end], &list[end + 1..]));
            list = rest;
            let member = member.trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_variant(tag: &str, variant: Variant) -> Option<String> {
        let tag = StrongTag::parse(tag.as_bytes())?.of_variant(variant)?;
        Some(tag.to_str().unwrap().to_owned())
    }

    #[test]
    fn variants_of_a_strong_entity_tag_have_distinct_entity_tags() {
        for (tag, coding, coded, identity) in [
            ("\"v1\"", Coding::Brotli, "\"v1-br\"", None),
            ("\"v1\"", Coding::Gzip, "\"v1-gzip\"", None),
            ("\"a,b\"", Coding::Zstd, "\"a,b-zstd\"", None),
            ("\"\"", Coding::Gzip, "\"-gzip\"", None),
            ("v1", Coding::Gzip, "v1-gzip", None),
            ("\"v1-br\"", Coding::Gzip, "\"v1-br-gzip\"", Some("\"v1-br-identity\"")),
            ("\"v1-br\"", Coding::Brotli, "\"v1-br-br\"", Some("\"v1-br-identity\"")),
            ("\"v1-identity\"", Coding::Gzip, "\"v1-identity-gzip\"", Some("\"v1-identity-identity\"")),
            ("\"-gzip\"", Coding::Gzip, "\"-gzip-gzip\"", Some("\"-gzip-identity\"")),
            ("v1-gzip", Coding::Gzip, "v1-gzip-gzip", Some("v1-gzip-identity")),
        ] {
            assert_eq!(of_variant(tag, Variant::Coded(coding)).as_deref(), Some(coded), "{tag}");
            assert_eq!(of_variant(tag, Variant::Identity).as_deref(), identity, "{tag}");
            for (sent, variant) in [(coded, Variant::Coded(coding)), (identity.unwrap_or(tag), Variant::Identity)] {
                let sent = StrongTag::parse(sent.as_bytes()).unwrap();
                let (own, split) = sent.split().unwrap_or((sent, Variant::Identity));
                assert_eq!((own.to_bytes(), split), (tag.as_bytes().to_vec(), variant));
            }
        }
    }

    #[test]
    fn weak_and_malformed_entity_tags_have_no_variants() {
        for tag in ["W/\"v1\"", "W/\"v1-br\"", "*", "", "\"", "\"a\"b-br\"", "a\"-br", "Sun, 06 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(StrongTag::parse(tag.as_bytes()), None, "{tag}");
        }
    }

    #[test]
    fn does_not_split_an_unquoted_entity_tag_if_the_remainder_is_invalid() {
        for tag in ["-br", "*-gzip"] {
            assert_eq!(StrongTag::parse(tag.as_bytes()).unwrap().split(), None, "{tag}");
        }
    }

    #[test]
    fn splits_entity_tag_lists_at_commas_outside_quotes() {
        for (list, expected) in [
            ("\"a\", W/\"b\" ,\"c\"", &["\"a\"", "W/\"b\"", "\"c\""][..]),
            ("\"a,b\",c", &["\"a,b\"", "c"]),
            (" , ,\"a\\\",\"b\",", &["\"a\\\"", "\"b\""]),
            ("\"a, b", &["\"a, b"]),
            ("*", &["*"]),
            ("", &[]),
        ] {
            let expected: Vec<&[u8]> = expected.iter().map(|member| member.as_bytes()).collect();
            assert_eq!(members(list.as_bytes()).collect::<Vec<_>>(), expected, "{list}");
        }
    }
}
