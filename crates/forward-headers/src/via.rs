//! `Via` (RFC 9110 §7.6.3): which way a request has come, and whether it goes round in circles.

use http::Version;
use http::header::{HeaderMap, HeaderValue, VIA};

/// The entries of this proxy, by the protocol that a request came in.
#[derive(Clone, Debug)]
pub(crate) struct Via {
    pseudonym: String,
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

/// A request that comes back again and again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loop;

impl Via {
    /// A pseudonym is a token; anything else in it is replaced by `_`.
    pub(crate) fn new(pseudonym: &str) -> Option<Self> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let pseudonym: String = pseudonym.chars().map(|c| if is_token(c) { c } else { '_' }).collect();
        let entry = |version| HeaderValue::try_from(format!("{version} {pseudonym}")).ok();
        Some(Self { http10: entry("1.0")?, http11: entry("1.1")?, http2: entry("2.0")?, pseudonym })
    }

    /// Adds the entry for a request that was `received` in this version.
    pub(crate) fn pass(&self, headers: &mut HeaderMap, received: Version) -> Result<(), Loop> {
        let entry = match received {
            Version::HTTP_2 => &self.http2,
            Version::HTTP_11 => &self.http11,
            _ => &self.http10,
        };
        // A line of its own is an entry of the same list (RFC 9110 §5.3).
        let has_been_forwarded = headers.append(VIA, entry.clone());
        if has_been_forwarded && self.is_loop(headers) { Err(Loop) } else { Ok(()) }
    }

    /// Whether this proxy's pseudonym is there more often than proxies of one name stand behind each other. One time
    /// alone shows no loop: two of them may well call themselves the same.
    fn is_loop(&self, headers: &HeaderMap) -> bool {
        // The latest entries are at the end. What stands before them, a client may have made up.
        let lines = headers.get_all(VIA).iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b',')).take(MAX_ENTRIES);
        // RFC 9110 §7.6.3: received-protocol, received-by, perhaps a comment.
        let received_by = |entry: &[u8]| {
            let by = entry.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1);
            by.is_some_and(|by| by.eq_ignore_ascii_case(self.pseudonym.as_bytes()))
        };
        entries.filter(|entry| received_by(entry)).count() > MOST_PASSES
    }
}

/// Entries that are read. A loop of up to fourteen proxies shows in them.
const MAX_ENTRIES: usize = 128;

/// How often a request may come by.
const MOST_PASSES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(via: &str) -> HeaderMap {
        HeaderMap::from_iter([(VIA, HeaderValue::from_str(via).unwrap())])
    }

    #[test]
    fn a_request_may_come_by_a_few_times_but_not_for_ever() {
        let via = Via::new("edge").unwrap();
        let mut coming = headers("1.1 other, HTTP/2.0 EDGE (comment)");
        for _ in 0..7 {
            via.pass(&mut coming, Version::HTTP_11).unwrap();
        }
        assert_eq!(via.pass(&mut coming, Version::HTTP_11), Err(Loop));
        let mut long = headers(&"1.1 other, ".repeat(3000));
        for _ in 0..8 {
            via.pass(&mut long, Version::HTTP_11).unwrap();
        }
        assert_eq!(via.pass(&mut long, Version::HTTP_11), Err(Loop));
        let mut others = headers(&"1.1 others, 1.1 edge.example, 1.1 edges, edge,".repeat(20));
        via.pass(&mut others, Version::HTTP_11).unwrap();
    }

    #[test]
    fn it_is_continued_with_the_protocol_that_was_received() {
        let via = Via::new("my edge").unwrap();
        for (version, entry) in
            [(Version::HTTP_10, "1.0 my_edge"), (Version::HTTP_11, "1.1 my_edge"), (Version::HTTP_2, "2.0 my_edge")]
        {
            let mut coming = headers("1.0 fred");
            via.pass(&mut coming, version).unwrap();
            assert_eq!(coming.get_all(VIA).iter().collect::<Vec<_>>(), ["1.0 fred", entry]);
        }
    }
}
