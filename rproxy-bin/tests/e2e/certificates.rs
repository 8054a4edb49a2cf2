//! Certificates at the start and on a reload: several for one name, and those of new sites.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rproxy_upstream::PublicKeyPin;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::pebble::{Pebble, PebbleOptions};
use crate::running::rproxy;
use crate::support::upstream::{Nginx, ok, responding};
use crate::support::{Proxy, TIMEOUT, free_port, get, request};

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

/// Returns the body that curl gets from `https://NAME`, or its error. It trusts only the authorities in the file `ca`.
fn https(port: u16, name: &str, ca: &Path) -> Result<String, String> {
    let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/"));
    let args = ["-sS", "--max-time", "20", "--cacert", ca.to_str().unwrap(), "--resolve", &resolve, &url];
    let output = Command::new("curl").args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A file with sites, each with the same backend.
struct Sites {
    folder: tempfile::TempDir,
    upstream: SocketAddr,
    top: String,
}

impl Sites {
    fn new(top: &str) -> Self {
        let (folder, upstream) = (tempfile::tempdir().unwrap(), responding(|_| ok("site")));
        let cache = folder.path().join("certs");
        Self { top: format!("{top}\ntls_cache_dir = {cache:?}\nhttp_port = 0\n"), folder, upstream }
    }

    fn write(&self, hosts: &[&str]) {
        let site = |host: &&str| format!("[[site]]\nhosts = \"{host}\"\nupstream = \"{}\"\n", self.upstream);
        let text = format!("{}{}", self.top, hosts.iter().map(site).collect::<String>());
        std::fs::write(self.file(), text).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("rproxy.toml")
    }

    fn start(&self) -> Proxy {
        Proxy::run(&["--config", self.file().to_str().unwrap()], &[])
    }
}

#[test]
fn reload_certifies_new_sites_by_the_local_authority() {
    let port = free_port();
    let sites = Sites::new(&format!("listen = \"127.0.0.1:{port}\"\ntls_local = true"));
    sites.write(&["a.test"]);
    let proxy = sites.start();
    let ca = sites.folder.path().join("certs/local/ca.pem");
    assert_eq!(https(port, "a.test", &ca).as_deref(), Ok("site"));
    assert!(https(port, "b.test", &ca).is_err());

    sites.write(&["a.test", "b.test", "*.c.test"]);
    proxy.signal("HUP");
    proxy.wait_for_logs("configuration reloaded", 1);
    for name in ["a.test", "b.test", "x.c.test"] {
        assert_eq!(https(port, name, &ca).as_deref(), Ok("site"), "{name}");
    }
    assert!(https(port, "localhost", &ca).is_ok());
    assert!(!proxy.log().contains("restart required"), "{}", proxy.log());
}

#[test]
fn reload_orders_certificates_of_new_sites() {
    let port = free_port();
    let Some(pebble) = Pebble::start(PebbleOptions { tls_port: port, ..PebbleOptions::default() }) else { return };
    let sites = Sites::new(&format!(
        "listen = \"127.0.0.1:{port}\"\ntls_email = \"admin@a.example\"\nacme_directory = \"{}\"\nacme_ca = {:?}",
        pebble.directory(),
        pebble.directory_ca()
    ));
    let issuer = sites.folder.path().join("issuer.pem");
    std::fs::write(&issuer, pebble.issuer_pem()).unwrap();
    let served = |proxy: &Proxy, name: &str| {
        let deadline = Instant::now() + TIMEOUT;
        while let Err(error) = https(port, name, &issuer) {
            assert!(Instant::now() < deadline, "{name}: {error}\n{}", proxy.log());
        }
    };
    sites.write(&["a.example"]);
    let proxy = sites.start();
    served(&proxy, "a.example");

    sites.write(&["a.example", "b.example"]);
    proxy.signal("HUP");
    served(&proxy, "b.example");
    assert_eq!(https(port, "a.example", &issuer).as_deref(), Ok("site"));
    assert!(!proxy.log().contains("restart required"), "{}", proxy.log());

    // Without any name, ACME would be off, which only a restart can do.
    sites.write(&[]);
    proxy.signal("HUP");
    proxy.wait_for_log("restart required to apply: RPROXY_TLS_DOMAINS");
    assert!(https(port, "a.example", &issuer).is_ok());
}
