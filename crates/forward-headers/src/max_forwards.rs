//! `Max-Forwards` (RFC 9110 §7.6.2), which limits the number of hops of a TRACE or OPTIONS request.

use http::header::{HOST, HeaderName, HeaderValue, MAX_FORWARDS, VIA};
use http::{Method, Request};

/// The recipient of a request with `Max-Forwards`: the next hop or this proxy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// The inner service is the recipient: the request is forwarded.
    Next,
    /// This proxy is the final recipient of an OPTIONS request.
    Options,
    /// This proxy is the final recipient of a TRACE request, and responds with this content.
    Trace(String),
}

/// Decrements `Max-Forwards`, and returns the recipient of the request.
pub(crate) fn count_down<B>(request: &mut Request<B>) -> Recipient {
    // RFC 9110 §7.6.2: for other methods the field may be ignored.
    if request.method() != Method::OPTIONS && request.method() != Method::TRACE {
        return Recipient::Next;
    }
    let Some(remaining) = request.headers().get(MAX_FORWARDS).and_then(number) else { return Recipient::Next };
    match remaining.checked_sub(1) {
        Some(remaining) => {
            request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(remaining));
            Recipient::Next
        }
        None if request.method() == Method::OPTIONS => Recipient::Options,
        None => Recipient::Trace(reflection(request)),
    }
}

/// Parses the value of `Max-Forwards`. Numbers above the maximum become the maximum.
fn number(value: &HeaderValue) -> Option<u64> {
    let digits =
        value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Formats the received request as the body of a response to `TRACE` (RFC 9110 §9.3.8).
///
/// Sensitive fields, such as cookies, are left out.
fn reflection<B>(request: &Request<B>) -> String {
    const REFLECTED_FIELDS: [HeaderName; 3] = [HOST, VIA, MAX_FORWARDS];
    let mut text = format!("{} {} {:?}\r\n", request.method(), request.uri(), request.version());
    for name in REFLECTED_FIELDS {
        for value in request.headers().get_all(&name) {
            text.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
        }
    }
    text.push_str("\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decrements_max_forwards_of_options_and_trace_until_zero() {
        for (method, value, recipient, remaining) in [
            ("OPTIONS", "5", Recipient::Next, "4"),
            ("TRACE", "1", Recipient::Next, "0"),
            ("OPTIONS", "0", Recipient::Options, "0"),
            ("OPTIONS", "99999999999999999999999", Recipient::Next, "18446744073709551614"),
            ("OPTIONS", "-1", Recipient::Next, "-1"),
            ("OPTIONS", "", Recipient::Next, ""),
            ("GET", "0", Recipient::Next, "0"),
        ] {
            let mut request = Request::builder().method(method).header(MAX_FORWARDS, value).body(()).unwrap();
            assert_eq!(count_down(&mut request), recipient, "{method} {value}");
            assert_eq!(request.headers()[MAX_FORWARDS], remaining, "{method} {value}");
        }
    }

    #[test]
    fn trace_response_contains_via_but_no_cookies() {
        let request =
            Request::builder().method("TRACE").uri("/a").header(MAX_FORWARDS, "0").header("host", "a.example");
        let mut request = request.header("via", "1.1 edge").header("cookie", "secret").body(()).unwrap();
        let expected = "TRACE /a HTTP/1.1\r\nhost: a.example\r\nvia: 1.1 edge\r\nmax-forwards: 0\r\n\r\n";
        assert_eq!(count_down(&mut request), Recipient::Trace(expected.to_owned()));
    }
}
