//! Certificates at the start and on a reload: several for one name, and those of new sites.

use std::path::Path;

use rproxy_upstream::PublicKeyPin;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::running::rproxy;
use crate::support::upstream::Nginx;
use crate::support::{Proxy, free_port, get, request};

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

#[test]
fn pins_differ_per_site_and_route_and_a_reload_applies_them() {
    let folder = tempfile::tempdir().unwrap();
    let [backend, other] = ["backend.test", "other.test"].map(|name| Files::new(folder.path(), name, &[name]));
    let port = free_port();
    let Some(_nginx) = Nginx::start(&format!(
        "listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; location / {{ return 200 ok; }}",
        backend.cert, backend.key
    )) else {
        return;
    };
    let pin = |files: &Files| {
        PublicKeyPin::of_certificate(&CertificateDer::from_pem_file(&files.cert).unwrap()).unwrap().to_string()
    };
    let (right, wrong) = (pin(&backend), pin(&other));
    let file = folder.path().join("rproxy.toml");
    let write = |default: &str, site: &str, route: &str| {
        let toml = format!(
            "upstream = \"https://127.0.0.1:{port}\"\nupstream_pin = \"{default}\"\n
             [[site]]\nhosts = \"site.example\"\nupstream_pin = \"{site}\"\n
             [[site.route]]\npaths = \"/route\"\nupstream_pin = \"{route}\"\n"
        );
        std::fs::write(&file, toml).unwrap();
    };
    write(&right, &wrong, &right);
    let proxy = Proxy::run(&["--config", file.to_str().unwrap(), "--listen", "127.0.0.1:0"], &[]);
    let statuses = || {
        let of_site = |path: &str| {
            let head = format!("GET {path} HTTP/1.1\r\nhost: site.example\r\nconnection: close\r\n\r\n");
            request(proxy.address, &head).status
        };
        (get(proxy.address, "/").status, of_site("/"), of_site("/route"))
    };
    assert_eq!(statuses(), (200, 502, 200));
    write(&wrong, &right, &wrong);
    proxy.signal("HUP");
    proxy.wait_for_logs("reloaded", 1);
    assert_eq!(statuses(), (502, 200, 502));
}
