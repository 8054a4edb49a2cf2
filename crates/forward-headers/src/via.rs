//! `Via` (RFC 9110 §7.6.3) and loop detection.

use http::Version;
use http::header::{HeaderMap, HeaderValue, VIA};

/// The `Via` entries of this proxy, one for each protocol version of received requests.
#[derive(Clone, Debug)]
pub(crate) struct Via {
    pseudonym: String,
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

/// The error for a request that has passed through this proxy too many times.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LoopDetected;

impl Via {
    /// Creates the `Via` entries for this proxy's pseudonym.
    ///
    /// Characters that are not allowed in a token are replaced by underscores.
    pub(crate) fn new(pseudonym: &str) -> Option<Self> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let pseudonym: String = pseudonym.chars().map(|c| if is_token(c) { c } else { '_' }).collect();
        let entry = |version| HeaderValue::try_from(format!("{version} {pseudonym}")).ok();
        Some(Self { http10: entry("1.0")?, http11: entry("1.1")?, http2: entry("2.0")?, pseudonym })
    }

    /// Appends the `Via` entry for the protocol version of a received request, or reports a loop.
    pub(crate) fn append_entry(&self, headers: &mut HeaderMap, received: Version) -> Result<(), LoopDetected> {
        let entry = match received {
            Version::HTTP_2 => &self.http2,
            Version::HTTP_11 => &self.http11,
            _ => &self.http10,
        };
        // Several field lines are one list (RFC 9110 §5.3).
        let has_been_forwarded = headers.append(VIA, entry.clone());
        if has_been_forwarded && self.is_loop(headers) { Err(LoopDetected) } else { Ok(()) }
    }

    /// Returns whether this proxy's pseudonym occurs too often in `Via`. A few times may be several proxies with one
    /// name.
    fn is_loop(&self, headers: &HeaderMap) -> bool {
        // The latest entries are at the end. A client may have forged those before.
        let lines = headers.get_all(VIA).iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b',')).take(MAX_ENTRIES);
        // RFC 9110 §7.6.3: received-protocol, received-by, and an optional comment.
        let received_by = |entry: &[u8]| {
            let by = entry.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1);
            by.is_some_and(|by| by.eq_ignore_ascii_case(self.pseudonym.as_bytes()))
        };
        entries.filter(|entry| received_by(entry)).count() > MAX_PASSES
    }
}

/// The maximum number of `Via` entries that are read, which is enough to detect a loop of 14 proxies.
const MAX_ENTRIES: usize = 128;

/// The maximum number of times that one request may pass through this proxy.
const MAX_PASSES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers_with(via: &str) -> HeaderMap {
        HeaderMap::from_iter([(VIA, HeaderValue::from_str(via).unwrap())])
    }

    #[test]
    fn detects_a_loop_if_a_request_passes_through_the_proxy_more_than_eight_times() {
        let via = Via::new("edge").unwrap();
        let mut headers = headers_with("1.1 other, HTTP/2.0 EDGE (comment)");
        for _ in 0..7 {
            via.append_entry(&mut headers, Version::HTTP_11).unwrap();
        }
        assert_eq!(via.append_entry(&mut headers, Version::HTTP_11), Err(LoopDetected));
        let mut long = headers_with(&"1.1 other, ".repeat(3000));
        for _ in 0..8 {
            via.append_entry(&mut long, Version::HTTP_11).unwrap();
        }
        assert_eq!(via.append_entry(&mut long, Version::HTTP_11), Err(LoopDetected));
        let mut others = headers_with(&"1.1 others, 1.1 edge.example, 1.1 edges, edge,".repeat(20));
        via.append_entry(&mut others, Version::HTTP_11).unwrap();
    }

    #[test]
    fn via_entry_contains_the_received_protocol_version() {
        let via = Via::new("my edge").unwrap();
        for (version, entry) in
            [(Version::HTTP_10, "1.0 my_edge"), (Version::HTTP_11, "1.1 my_edge"), (Version::HTTP_2, "2.0 my_edge")]
        {
            let mut headers = headers_with("1.0 fred");
            via.append_entry(&mut headers, version).unwrap();
            assert_eq!(headers.get_all(VIA).iter().collect::<Vec<_>>(), ["1.0 fred", entry]);
        }
    }
}
