//! Tests of certificates at startup and after a reload: several certificates for one name, and new sites.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rproxy_upstream::PublicKeyPin;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::pebble::{Pebble, PebbleOptions};
use crate::running::rproxy;
use crate::support::upstream::{Nginx, ok, responding};
use crate::support::{Proxy, TIMEOUT, free_port, get, has, request};

/// The files of a self-signed certificate and its private key.
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
fn public_key_pins_apply_per_site_and_route_and_after_a_reload() {
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

/// Returns the response body that curl gets from `https://NAME`, or the error message of curl. It trusts only the
/// authorities in the file `ca`.
fn https(port: u16, name: &str, ca: &Path) -> Result<String, String> {
    let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/"));
    let args = ["-sS", "--max-time", "20", "--cacert", ca.to_str().unwrap(), "--resolve", &resolve, &url];
    let output = Command::new("curl").args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A configuration file with several sites that have the same backend.
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
fn reload_issues_local_certificates_for_new_sites() {
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
fn reload_orders_certificates_for_new_sites() {
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

/// Runs the binary as user 65534 without capabilities until it exits, and returns its exit code and log.
///
/// Returns `None` if this test does not run as root, or if low ports need no privilege here.
fn rproxy_as_ordinary_user(settings: &[(&str, &str)]) -> Option<(Option<i32>, String)> {
    let first_port = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    let is_root = rustix::process::getuid().is_root();
    if !is_root || first_port.trim() != "1024" || !has("setpriv") {
        eprintln!("skipped: needs root, setpriv and privileged ports");
        return None;
    }
    // The build folder may be unreadable for other users.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("rproxy");
    std::fs::copy(env!("CARGO_BIN_EXE_rproxy"), &binary).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
        .arg(&binary)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    Some((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn startup_as_unprivileged_user_reports_all_unmet_requirements_together() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let files = Files::new(folder.path(), "site", &["site.test"]);
    std::fs::set_permissions(&files.key, Permissions::from_mode(0o600)).unwrap();
    let cache = folder.path().join("state/certs");
    let all = [
        ("RPROXY_LISTEN", "127.0.0.1:443"),
        ("RPROXY_TLS_CERT", &*files.cert),
        ("RPROXY_TLS_KEY", &*files.key),
        ("RPROXY_TLS_LOCAL", "true"),
        ("RPROXY_TLS_CACHE_DIR", cache.to_str().unwrap()),
    ];
    let ports = "RPROXY_LISTEN: 127.0.0.1:443, 127.0.0.1:80 cannot be bound: ports below 1024 need a privilege";
    let directory = format!("RPROXY_TLS_CACHE_DIR: {} is not writable", folder.path().display());
    let key = format!("RPROXY_TLS_KEY: {} cannot be read: Permission denied", files.key);
    let commands = ["sudo setcap cap_net_bind_service=+ep ", "sudo install -d -m 0700 ", "sudo chgrp \"$(id -gn)\" "];

    let Some((code, log)) = rproxy_as_ordinary_user(&all) else { return };
    assert_eq!(code, Some(2), "{log}");
    for part in [ports, &directory, &key].into_iter().chain(commands) {
        assert!(log.contains(part), "{part:?} in {log}");
    }

    // With a readable key, the configuration is valid, and the start fails with the rest.
    std::fs::set_permissions(&files.key, Permissions::from_mode(0o644)).unwrap();
    let (code, log) = rproxy_as_ordinary_user(&all).unwrap();
    assert_eq!(code, Some(1), "{log}");
    for part in [ports, &directory, commands[0], commands[1]] {
        assert!(log.contains(part), "{part:?} in {log}");
    }
    assert_eq!(log.lines().count(), 2, "{log}");
}
