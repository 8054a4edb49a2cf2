//! Functions for the fuzz targets: each checks invariants for arbitrary input bytes.

use http::header::{HeaderMap, HeaderValue, SET_COOKIE};

use crate::CookieAttributes;

/// Checks that adding attributes to a cookie keeps the original cookie, and is idempotent.
pub fn cookies(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(SET_COOKIE, value);
        }
    }
    let before = headers.clone();
    CookieAttributes::hardened().http_only(true).apply(&mut headers, true);
    let lines = || headers.get_all(SET_COOKIE).iter();
    assert_eq!(lines().count(), before.get_all(SET_COOKIE).iter().count());
    for (original, hardened) in before.get_all(SET_COOKIE).iter().zip(lines()) {
        assert!(hardened.as_bytes().starts_with(original.as_bytes().trim_ascii_end()), "{original:?}: {hardened:?}");
    }
    let once = headers.clone();
    CookieAttributes::hardened().http_only(true).apply(&mut headers, true);
    assert_eq!(headers, once);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    #[test]
    fn hardening_preserves_cookies_for_mutated_seeds() {
        run(env!("CARGO_MANIFEST_DIR"), "cookies", cookies);
    }
}
