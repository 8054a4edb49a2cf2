//! Certificates at the start and on a reload: several for one name, and those of new sites.

use std::path::Path;

use crate::running::rproxy;

/// A self-signed certificate and its key in files.
struct Files {
    cert: String,
    key: String,
}

impl Files {
    fn new(folder: &Path, file: &str, names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        let pair = rcgen::generate_simple_self_signed(names).unwrap();
        let path = |suffix: &str| folder.join(format!("{file}.{suffix}")).to_str().unwrap().to_owned();
        let files = Self { cert: path("pem"), key: path("key") };
        std::fs::write(&files.cert, pair.cert.pem()).unwrap();
        std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
        files
    }
}

#[test]
fn check_rejects_a_certificate_that_is_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let first = Files::new(folder.path(), "first", &["a.test", "b.test"]);
    let check = |second: &Files| {
        let (certs, keys) = (format!("{},{}", first.cert, second.cert), format!("{},{}", first.key, second.key));
        rproxy(&["--check", "--quiet"], &[("RPROXY_TLS_CERT", &certs), ("RPROXY_TLS_KEY", &keys)])
    };
    let duplicate = Files::new(folder.path(), "duplicate", &["b.test"]);
    let (code, _, err) = check(&duplicate);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains(&first.cert) && err.contains(&duplicate.cert) && err.contains("ecdsa-p256"), "{err}");

    let overlap = Files::new(folder.path(), "overlap", &["b.test", "c.test"]);
    let (code, _, err) = check(&overlap);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("WARN") && err.contains(&overlap.cert), "{err}");
}
