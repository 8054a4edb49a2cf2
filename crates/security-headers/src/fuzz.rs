//! What the fuzzers call: any bytes, and what must hold of them.

use http::header::{HeaderMap, HeaderValue, SET_COOKIE};

use crate::Cookies;

/// A cookie keeps what it says, and gets what it lacks once.
pub fn cookies(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(SET_COOKIE, value);
        }
    }
    let before = headers.clone();
    Cookies::hardened().http_only(true).apply(&mut headers, true);
    let lines = || headers.get_all(SET_COOKIE).iter();
    assert_eq!(lines().count(), before.get_all(SET_COOKIE).iter().count());
    for (said, now) in before.get_all(SET_COOKIE).iter().zip(lines()) {
        assert!(now.as_bytes().starts_with(said.as_bytes().trim_ascii_end()), "{said:?}: {now:?}");
    }
    let once = headers.clone();
    Cookies::hardened().http_only(true).apply(&mut headers, true);
    assert_eq!(headers, once);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    #[test]
    fn cookies_hold_near_their_seeds() {
        run(env!("CARGO_MANIFEST_DIR"), "cookies", cookies);
    }
}
