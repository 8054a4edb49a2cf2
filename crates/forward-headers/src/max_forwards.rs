//! `Max-Forwards` (RFC 9110 §7.6.2): how far a `TRACE` or `OPTIONS` may go.

use http::header::{HOST, HeaderName, HeaderValue, MAX_FORWARDS, VIA};
use http::{Method, Request};

/// Who answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// Somebody further on: the field counts down.
    Next,
    /// This proxy: an `OPTIONS` ends here.
    Options,
    /// This proxy: a `TRACE` ends here, with this text.
    Trace(String),
}

/// Counts down, or says that the request has come far enough.
pub(crate) fn count_down<B>(request: &mut Request<B>) -> Recipient {
    // RFC 9110 §7.6.2: for other methods the field may be ignored.
    if request.method() != Method::OPTIONS && request.method() != Method::TRACE {
        return Recipient::Next;
    }
    let Some(left) = request.headers().get(MAX_FORWARDS).and_then(number) else { return Recipient::Next };
    match left.checked_sub(1) {
        Some(left) => {
            request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(left));
            Recipient::Next
        }
        None if request.method() == Method::OPTIONS => Recipient::Options,
        None => Recipient::Trace(reflected(request)),
    }
}

/// More than can be counted is as good as the most.
fn number(value: &HeaderValue) -> Option<u64> {
    let digits =
        value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// RFC 9110 §9.3.8: without what is nobody's business, such as cookies; what is left tells the way that it has come.
fn reflected<B>(request: &Request<B>) -> String {
    const TOLD: [HeaderName; 3] = [HOST, VIA, MAX_FORWARDS];
    let mut text = format!("{} {} {:?}\r\n", request.method(), request.uri(), request.version());
    for name in TOLD {
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
    fn it_counts_down_for_two_methods_and_ends_at_nothing() {
        for (method, value, recipient, left) in [
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
            assert_eq!(request.headers()[MAX_FORWARDS], left, "{method} {value}");
        }
    }

    #[test]
    fn a_trace_tells_its_way_and_no_secrets() {
        let request =
            Request::builder().method("TRACE").uri("/a").header(MAX_FORWARDS, "0").header("host", "a.example");
        let mut request = request.header("via", "1.1 edge").header("cookie", "secret").body(()).unwrap();
        let expected = "TRACE /a HTTP/1.1\r\nhost: a.example\r\nvia: 1.1 edge\r\nmax-forwards: 0\r\n\r\n";
        assert_eq!(count_down(&mut request), Recipient::Trace(expected.to_owned()));
    }
}
