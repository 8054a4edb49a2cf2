//! What the fuzzers call: any bytes, and what must hold of them.

use crate::certified::Certified;
use crate::names::{Host, acme_name, local_name, lowercase, wildcard_parent};

/// A chain with its key, in any text: refused, or a certificate that says what it is for.
pub fn pem(bytes: &[u8]) {
    if let Ok(certified) = Certified::from_pem(bytes, bytes) {
        assert!(!certified.key.cert.is_empty());
        for name in certified.names.to_strings() {
            let _ = certified.names.cover(&Host::parse(&name));
        }
    }
}

/// Names in the form in which they are compared are in it already.
pub fn names(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = wildcard_parent(text);
    assert_eq!(lowercase(text), text.to_ascii_lowercase());
    for parse in [acme_name, local_name] {
        if let Ok(name) = parse(text) {
            assert_eq!(parse(&name).ok().as_ref(), Some(&name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn pem_holds_near_its_seeds() {
        run(CRATE, "pem", pem);
    }

    #[test]
    fn names_hold_near_their_seeds() {
        run(CRATE, "names", names);
    }
}
