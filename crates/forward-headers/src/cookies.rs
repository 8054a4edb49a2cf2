//! Merges several HTTP/2 `Cookie` field lines into one for HTTP/1.1.

use http::header::{COOKIE, HeaderMap, HeaderValue};

/// Joins several `Cookie` field lines, which only HTTP/2 allows, into one (RFC 9113 §8.2.3).
pub(crate) fn join(headers: &mut HeaderMap) {
    // The first condition is a fast path: if no name occurs twice, no search is needed.
    if headers.len() == headers.keys_len() || headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Always valid: it consists of valid values.
    if let Ok(cookie) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_cookie_field_lines_into_one() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2; c=3", "d=4"] {
            headers.append(COOKIE, HeaderValue::from_static(cookie));
        }
        join(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
    }
}
