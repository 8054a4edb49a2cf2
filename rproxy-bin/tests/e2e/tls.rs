//! Tests of TLS with certificates from files, from the local authority and from an ACME server.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::pebble::{Pebble, PebbleOptions};
use crate::support::upstream::{echo, ok, responding};
use crate::support::{Proxy, TIMEOUT, connect, curl, exchange, free_port, has, request};

/// Writes a self-signed certificate for `localhost` and its private key as PEM files.
fn files(folder: &Path) -> (String, String) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    (cert.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned())
}

fn over_tls(proxy: &Proxy, args: &[&str]) -> String {
    let resolve = format!("localhost:{0}:127.0.0.1", proxy.address.port());
    let url = format!("https://localhost:{}/", proxy.address.port());
    let args: Vec<&str> = ["-k", "--resolve", &resolve].iter().chain(args).copied().chain([url.as_str()]).collect();
    curl(&args)
}

#[test]
fn serves_http1_and_http2_over_tls_1_2_and_1_3_with_certificate_files() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path());
    let proxy =
        Proxy::start(echo(), &[("RPROXY_TLS_CERT", &cert), ("RPROXY_TLS_KEY", &key), ("RPROXY_HTTP_PORT", "0")]);
    for (args, version) in [
        (&["--http1.1"][..], "1.1"),
        (&["--http2"], "2"),
        (&["--tlsv1.3"], "2"),
        (&["--tls-max", "1.2", "--tlsv1.2"], "2"),
    ] {
        let args: Vec<&str> =
            args.iter().copied().chain(["-o", "/dev/null", "-w", "%{http_version} %{http_code}"]).collect();
        assert_eq!(over_tls(&proxy, &args), format!("{version} 200"), "{args:?}");
    }
    let seen = over_tls(&proxy, &["--http2", "-d", "body"]).to_ascii_lowercase();
    assert!(seen.starts_with("post / http/1.1") && seen.contains("x-forwarded-proto: https"), "{seen}");
    assert!(seen.contains(&format!("host: localhost:{}", proxy.address.port())), "{seen}");
    // HSTS for `localhost` would affect every other program that is developed on the machine.
    let head = over_tls(&proxy, &["-i"]).to_ascii_lowercase();
    assert!(!head.contains("strict-transport-security:"), "{head}");
}

#[test]
fn rejects_old_tls_versions_and_plain_text() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path());
    let proxy =
        Proxy::start(echo(), &[("RPROXY_TLS_CERT", &cert), ("RPROXY_TLS_KEY", &key), ("RPROXY_HTTP_PORT", "0")]);
    if has("openssl") {
        let address = proxy.address.to_string();
        let args = ["s_client", "-connect", &address, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
        let handshake = Command::new("openssl").args(args).stdin(Stdio::null()).output().unwrap();
        assert!(!handshake.status.success());
    }
    let response = exchange(proxy.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(!response.contains("HTTP/1.1 200"), "{response}");
}

#[test]
fn slow_handshake_does_not_delay_other_clients() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path());
    let settings = [
        ("RPROXY_TLS_CERT", cert.as_str()),
        ("RPROXY_TLS_KEY", &key),
        ("RPROXY_HTTP_PORT", "0"),
        ("RPROXY_WORKERS", "1"),
    ];
    let proxy = Proxy::start(echo(), &settings);
    let mut slow = connect(proxy.address);
    slow.write_all(&[0x16, 0x03, 0x01]).unwrap();
    assert_eq!(over_tls(&proxy, &["-o", "/dev/null", "-w", "%{http_code}"]), "200");
}

#[test]
fn sighup_reloads_changed_certificate_files() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path());
    let proxy =
        Proxy::start(echo(), &[("RPROXY_TLS_CERT", &cert), ("RPROXY_TLS_KEY", &key), ("RPROXY_HTTP_PORT", "0")]);
    let trusts = || {
        let resolve = format!("localhost:{0}:127.0.0.1", proxy.address.port());
        let url = format!("https://localhost:{}/", proxy.address.port());
        let args = ["-sS", "--cacert", &cert, "--resolve", &resolve, "-o", "/dev/null", &url];
        Command::new("curl").args(args).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(trusts());
    files(folder.path());
    proxy.signal("HUP");
    let deadline = Instant::now() + TIMEOUT;
    while !trusts() {
        assert!(Instant::now() < deadline, "still the old certificate");
    }
}

#[test]
fn local_authority_issues_certificates_for_localhost_and_persists_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().to_str().unwrap();
    let settings = [("RPROXY_TLS_LOCAL", "true"), ("RPROXY_TLS_CACHE_DIR", cache), ("RPROXY_HTTP_PORT", "0")];
    let ca = folder.path().join("local/ca.pem");
    let mut authority = None;
    for _ in 0..2 {
        let proxy = Proxy::start(echo(), &settings);
        let resolve = format!("localhost:{0}:127.0.0.1", proxy.address.port());
        let url = format!("https://localhost:{}/", proxy.address.port());
        curl(&["--cacert", ca.to_str().unwrap(), "--resolve", &resolve, "-o", "/dev/null", &url]);
        let pem = std::fs::read(&ca).unwrap();
        assert_eq!(*authority.get_or_insert_with(|| pem.clone()), pem);
    }
}

#[test]
fn http_port_redirects_to_https() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path());
    let port = free_port().to_string();
    let settings = [("RPROXY_TLS_CERT", cert.as_str()), ("RPROXY_TLS_KEY", &key), ("RPROXY_HTTP_PORT", &port)];
    let proxy = Proxy::start(echo(), &settings);
    // The main listener is bound first.
    proxy.wait_for_log("listening for plain HTTP");
    let plain = ([127, 0, 0, 1], port.parse().unwrap()).into();
    let there = format!("https://a.example:{}/x?y", proxy.address.port());
    // With the port of the listener in `Host`, and with the port to which a container publishes it.
    for (host, there) in [(format!("a.example:{port}"), &*there), ("a.example".to_owned(), "https://a.example/x?y")] {
        let response = request(plain, &format!("GET /x?y HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
        assert_eq!((response.status, response.header("location")), (301, Some(there)));
    }
    let head = curl(&[
        "-I",
        "--http2-prior-knowledge",
        "--connect-to",
        &format!("a.example:80:{plain}"),
        "http://a.example/x?y",
    ]);
    assert!(head.contains("location: https://a.example/x?y\r\n"), "{head}");
    let post = request(plain, "POST /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1\r\nconnection: close\r\n\r\na");
    assert_eq!(post.status, 308);
    assert_eq!(request(plain, "GET / HTTP/1.1\r\n\r\n").status, 400);
}

#[test]
fn http_port_redirects_to_the_configured_public_port() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path());
    let port = free_port();
    let path = folder.path().join("rproxy.toml");
    let write = |https_port: u16| {
        let process = format!("listen = \"127.0.0.1:0\"\nhttp_port = {port}\ntls_cert = {cert:?}\ntls_key = {key:?}\n");
        std::fs::write(&path, format!("{process}upstream = \"{}\"\nhttps_port = {https_port}\n", echo())).unwrap();
    };
    write(9443);
    let proxy = Proxy::run(&["--config", path.to_str().unwrap()], &[]);
    proxy.wait_for_log("listening for plain HTTP");
    let location = |host: &str| {
        let request_head = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        request(([127, 0, 0, 1], port).into(), &request_head).header("location").map(str::to_owned).unwrap()
    };
    assert_eq!(location("a.example"), "https://a.example:9443/");
    assert_eq!(location(&format!("a.example:{port}")), "https://a.example:9443/");
    write(443);
    proxy.signal("HUP");
    proxy.wait_for_logs("reloaded", 1);
    assert_eq!(location(&format!("a.example:{port}")), "https://a.example/");
}

#[test]
fn http_port_redirects_only_configured_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path());
    let port = free_port();
    let path = folder.path().join("rproxy.toml");
    let write = |host: &str| {
        let process = format!("listen = \"127.0.0.1:0\"\nhttp_port = {port}\ntls_cert = {cert:?}\ntls_key = {key:?}\n");
        std::fs::write(&path, format!("{process}[[site]]\nhosts = \"{host}\"\nupstream = \"{}\"\n", echo())).unwrap();
    };
    write("a.example");
    let proxy = Proxy::run(&["--config", path.to_str().unwrap()], &[]);
    proxy.wait_for_log("listening for plain HTTP");
    let plain = ([127, 0, 0, 1], port).into();
    let status =
        |host: &str| request(plain, &format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).status;
    assert_eq!((status("A.example:80"), status("b.example"), status("evil.example")), (301, 404, 404));
    assert_eq!(request(plain, "GET / HTTP/1.1\r\n\r\n").status, 400);

    write("b.example");
    proxy.signal("HUP");
    proxy.wait_for_logs("reloaded", 1);
    assert_eq!((status("a.example"), status("b.example")), (404, 301));
}

#[test]
fn acme_certificate_is_served_and_reused_after_a_restart() {
    let port = free_port();
    let Some(pebble) = Pebble::start(PebbleOptions { tls_port: port, ..PebbleOptions::default() }) else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("certs");
    let listen = format!("127.0.0.1:{port}");
    let ca = pebble.directory_ca();
    let settings = [
        ("RPROXY_LISTEN", listen.as_str()),
        ("RPROXY_HTTP_PORT", "0"),
        ("RPROXY_TLS_DOMAINS", "app.example"),
        ("RPROXY_TLS_EMAIL", "admin@app.example"),
        ("RPROXY_TLS_CACHE_DIR", cache.to_str().unwrap()),
        ("RPROXY_ACME_DIRECTORY", &pebble.directory()),
        ("RPROXY_ACME_CA", ca.to_str().unwrap()),
    ];
    let issuer = folder.path().join("issuer.pem");
    std::fs::write(&issuer, pebble.issuer_pem()).unwrap();
    let upstream = responding(|_| ok("secure")).to_string();
    let serve = || {
        let settings: Vec<_> = settings.iter().copied().chain([("RPROXY_UPSTREAM", upstream.as_str())]).collect();
        let began = Instant::now();
        let proxy = Proxy::run(&[], &settings);
        let resolve = format!("app.example:{port}:127.0.0.1");
        let url = format!("https://app.example:{port}/");
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let output = Command::new("curl")
                .args(["-sS", "--cacert", issuer.to_str().unwrap(), "--resolve", &resolve, &url])
                .output()
                .unwrap();
            if output.status.success() {
                assert_eq!(output.stdout, b"secure");
                eprintln!("the first request was served {:?} after the start", began.elapsed());
                assert!(began.elapsed() < Duration::from_secs(10));
                return proxy;
            }
            assert!(Instant::now() < deadline, "{}\n{}", String::from_utf8_lossy(&output.stderr), proxy.log());
        }
    };

    drop(serve());
    let orders = pebble.orders();
    assert!(orders >= 1);
    let mut folders = vec![cache.clone()];
    let mut kept = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => {
                    kept += 1;
                    assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
                }
            }
        }
    }
    assert!(kept >= 2, "account and certificate are stored");

    drop(serve());
    assert_eq!(pebble.orders(), orders, "a restart orders nothing");
}

#[test]
fn host_without_acme_certificate_gets_421() {
    let port = free_port();
    let Some(pebble) = Pebble::start(PebbleOptions { tls_port: port, ..PebbleOptions::default() }) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (listen, ca, upstream) = (format!("127.0.0.1:{port}"), pebble.directory_ca(), echo().to_string());
    let proxy = Proxy::run(
        &[],
        &[
            ("RPROXY_LISTEN", listen.as_str()),
            ("RPROXY_HTTP_PORT", "0"),
            ("RPROXY_UPSTREAM", &upstream),
            ("RPROXY_TLS_DOMAINS", "app.example,www.app.example"),
            ("RPROXY_TLS_CACHE_DIR", folder.path().to_str().unwrap()),
            ("RPROXY_ACME_DIRECTORY", &pebble.directory()),
            ("RPROXY_ACME_CA", ca.to_str().unwrap()),
        ],
    );
    proxy.wait_for_logs("certificate issued", 2);
    // The server name that is indicated, and the host.
    for (name, host, code) in [
        ("app.example", "app.example", "200"),
        ("www.app.example", "www.app.example", "200"),
        ("app.example", "foreign.test", "421"),
        ("app.example", "www.app.example", "421"),
        ("foreign.test", "foreign.test", "421"),
    ] {
        for version in ["--http1.1", "--http2"] {
            let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/"));
            let host = format!("Host: {host}");
            let args = ["-k", version, "--resolve", &resolve, "-H", &host, "-o", "/dev/null", "-w", "%{http_code}"];
            assert_eq!(curl(&[&args[..], &[&url]].concat()), code, "{name} {host} {version}");
        }
    }
}

#[test]
fn two_processes_with_one_certificate_directory_place_one_order() {
    let port = free_port();
    let Some(pebble) = Pebble::start(PebbleOptions { tls_port: port, ..PebbleOptions::default() }) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (ca, directory) = (pebble.directory_ca(), pebble.directory());
    let upstream = echo().to_string();
    let run = |listen: &str| {
        let settings = [
            ("RPROXY_LISTEN", listen),
            ("RPROXY_HTTP_PORT", "0"),
            ("RPROXY_UPSTREAM", &upstream),
            ("RPROXY_TLS_DOMAINS", "app.example"),
            ("RPROXY_TLS_CACHE_DIR", folder.path().to_str().unwrap()),
            ("RPROXY_ACME_DIRECTORY", &directory),
            ("RPROXY_ACME_CA", ca.to_str().unwrap()),
        ];
        Proxy::run(&[], &settings)
    };
    // The ACME server reaches the first process only, so the second one must load the certificate from the directory.
    let one = run(&format!("127.0.0.1:{port}"));
    one.wait_for_log("ordering a certificate");
    let two = run("127.0.0.1:0");
    one.wait_for_log("certificate issued");
    two.wait_for_log("certificate loaded");
    assert!(!two.log().contains("ordering"), "{}", two.log());
    assert_eq!(pebble.orders(), 1);
}

#[test]
fn places_no_acme_order_while_the_shared_redis_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let redis = format!("redis://:hush@127.0.0.1:{}/", free_port());
    let settings = [
        ("RPROXY_HTTP_PORT", "0"),
        ("RPROXY_TLS_DOMAINS", "app.example"),
        ("RPROXY_TLS_CACHE_DIR", folder.path().to_str().unwrap()),
        ("RPROXY_ACME_REDIS", &redis),
    ];
    let proxy = Proxy::start(echo(), &settings);
    proxy.wait_for_log("certificate order failed");
    let log = proxy.log();
    assert!(log.contains("Redis") && !log.contains("ordering") && !log.contains("hush"), "{log}");
}

/// Writes a certificate signed by `issuer`, and its private key, as PEM files.
fn signed(folder: &Path, name: &str, issuer: &rcgen::Issuer<'_, rcgen::KeyPair>) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let (cert_file, key_file) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    std::fs::write(&cert_file, params.signed_by(&key, issuer).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    (cert_file.to_str().unwrap().to_owned(), key_file.to_str().unwrap().to_owned())
}

#[test]
fn forwards_client_certificate_and_strips_spoofed_fields() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path());
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, params.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, authority_key);
    let (client, client_key) = signed(folder.path(), "client.test", &issuer);
    let mut settings = vec![("RPROXY_TLS_CERT", cert.as_str()), ("RPROXY_TLS_KEY", &key), ("RPROXY_HTTP_PORT", "0")];
    let claim = ["-H", "Client-Cert: :bWU=:", "-H", "Client-Cert-Chain: :bWU=:"];

    let proxy = Proxy::start(echo(), &settings);
    let seen = over_tls(&proxy, &claim).to_ascii_lowercase();
    assert!(!seen.contains("client-cert"), "spoofed fields are forwarded: {seen}");

    settings.extend([
        ("RPROXY_TLS_CLIENT_AUTH", "optional"),
        ("RPROXY_TLS_CLIENT_CA", ca.to_str().unwrap()),
        ("RPROXY_TLS_CLIENT_SUBJECT", "X-Client-Subject"),
        ("RPROXY_TLS_CLIENT_FINGERPRINT", "X-Client-Fingerprint"),
    ]);
    let claim = [&claim[..], &["-H", "X-Client-Subject: CN=root", "-H", "X-Client-Fingerprint: 00"]].concat();
    let proxy = Proxy::start(echo(), &settings);
    let fingerprint = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in", &client])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().replace(':', "").to_ascii_lowercase());
    for version in ["--http1.1", "--http2"] {
        let shows = ["--cert", &client, "--key", &client_key, version];
        let seen = over_tls(&proxy, &[&claim[..], &shows].concat()).to_ascii_lowercase();
        let fields: Vec<_> = seen.lines().filter(|line| line.starts_with("client-cert")).collect();
        assert!(matches!(fields[..], [field] if field.starts_with("client-cert: :mii")), "{fields:?}");
        let subject: Vec<_> = seen.lines().filter(|line| line.starts_with("x-client-subject")).collect();
        assert_eq!(subject, ["x-client-subject: cn=rcgen self signed cert"]);
        let value = seen.lines().find_map(|line| line.strip_prefix("x-client-fingerprint: ")).unwrap();
        if let Ok(fingerprint) = &fingerprint {
            assert!(fingerprint.ends_with(value) && value.len() == 64, "{fingerprint} {value}");
        }
        let seen = over_tls(&proxy, &[&claim[..], &[version]].concat()).to_ascii_lowercase();
        assert!(!seen.contains("client-cert") && !seen.contains("x-client"), "{seen}");
    }
}

#[test]
fn rejects_hosts_without_certificate_with_421_unless_listed_in_tls_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path());
    let cache = folder.path().to_str().unwrap();
    let own = [("RPROXY_TLS_CERT", cert.as_str()), ("RPROXY_TLS_KEY", &key)];
    let local = [("RPROXY_TLS_LOCAL", "true"), ("RPROXY_TLS_CACHE_DIR", cache)];
    for mode in [own, local] {
        for (hosts, foreign) in [("", "421"), ("other.test", "421"), ("foreign.test", "200"), ("*", "200")] {
            let settings = [&mode[..], &[("RPROXY_HTTP_PORT", "0"), ("RPROXY_TLS_HOSTS", hosts)]].concat();
            let proxy = Proxy::start(echo(), &settings);
            let port = proxy.address.port();
            // The server name indication, none for an address; and the host.
            for (name, host, code) in [
                ("localhost", "localhost", "200"),
                ("localhost", "foreign.test", foreign),
                ("foreign.test", "foreign.test", foreign),
                ("127.0.0.1", "foreign.test", foreign),
                ("127.0.0.1", "127.0.0.1", "200"),
                ("127.0.0.1", "localhost", "200"),
            ] {
                for version in ["--http1.1", "--http2"] {
                    let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/"));
                    let host = format!("Host: {host}");
                    let output = ["-o", "/dev/null", "-w", "%{http_code}"];
                    let args = [&["-k", version, "--resolve", &resolve, "-H", &host][..], &output, &[&url]].concat();
                    assert_eq!(curl(&args), code, "{mode:?} {hosts:?}: {name} {host} {version}");
                }
            }
        }
    }
}

// RFC 9112 §3.2: HTTP/1.0 requests, such as health checks of load balancers, may have no Host.
#[test]
fn accepts_http_1_0_request_without_host() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path());
    let proxy =
        Proxy::start(echo(), &[("RPROXY_TLS_CERT", &cert), ("RPROXY_TLS_KEY", &key), ("RPROXY_HTTP_PORT", "0")]);
    let args = ["--http1.0", "--no-alpn", "-H", "Host:", "-o", "/dev/null", "-w", "%{http_code}"];
    assert_eq!(over_tls(&proxy, &args), "200");
}

#[test]
fn selects_certificate_by_server_name_and_rejects_other_hosts_with_421() {
    let folder = tempfile::tempdir().unwrap();
    let params = rcgen::CertificateParams::default();
    let issuer = rcgen::Issuer::new(params, rcgen::KeyPair::generate().unwrap());
    let (one, one_key) = signed(folder.path(), "one.test", &issuer);
    let (two, two_key) = signed(folder.path(), "two.test", &issuer);
    let (certs, keys) = (format!("{one},{two}"), format!("{one_key},{two_key}"));
    let settings = [("RPROXY_TLS_CERT", certs.as_str()), ("RPROXY_TLS_KEY", &keys), ("RPROXY_HTTP_PORT", "0")];
    let proxy = Proxy::start(echo(), &settings);
    let port = proxy.address.port();
    for (name, host, code) in
        [("one.test", "one.test", "200"), ("two.test", "two.test", "200"), ("one.test", "two.test", "421")]
    {
        for version in ["--http1.1", "--http2"] {
            let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/"));
            let host = format!("Host: {host}");
            let args = ["-k", version, "--resolve", &resolve, "-H", &host, "-o", "/dev/null", "-w", "%{http_code}"];
            assert_eq!(curl(&[&args[..], &[&url]].concat()), code, "{name} {host} {version}");
        }
    }
    if has("openssl") {
        let shown = |name: &str| {
            let address = proxy.address.to_string();
            let args = ["s_client", "-connect", &address, "-servername", name];
            let output = Command::new("openssl").args(args).stdin(Stdio::null()).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let [one, other] = ["one.test", "unknown.test"].map(shown);
        let pem = |text: &str| text.split("-----").nth(2).map(str::to_owned);
        assert_eq!(pem(&one), pem(&other), "the first pair is the default");
        assert_ne!(pem(&one), pem(&shown("two.test")));
    }
}

#[test]
fn http2_passes_the_conformance_tests() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("RPROXY_TLS_LOCAL", "true"),
        ("RPROXY_TLS_CACHE_DIR", folder.path().to_str().unwrap()),
        ("RPROXY_HTTP_PORT", "0"),
        ("RPROXY_RATE_LIMIT_ENABLED", "false"),
    ];
    let proxy = Proxy::start(responding(|_| ok("conformance")), &settings);
    let client = crate::h2::client(&folder.path().join("local/ca.pem"));
    crate::conformance::run(|| crate::h2::Client::connect(proxy.address, &client));
}

/// A certificate authority with an OCSP responder, both implemented with the `openssl` command.
struct Responder<'a>(&'a Path);

impl Responder<'_> {
    fn openssl(&self, args: &str) -> String {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(self.0).output().unwrap();
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Creates the authority `ca.pem` and the certificate `leaf.pem` with the private key `leaf.key`.
    fn issue(&self) {
        self.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca");
        self.openssl("req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=localhost");
        self.openssl("x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 4711 -days 2 -out leaf.pem");
    }

    /// Writes an OCSP response with the certificate status `V` (valid) or `R` (revoked).
    fn respond(&self, status: &str) {
        let revoked = if status == "R" { "250101000000Z" } else { "" };
        // ca(1): status, end, revocation, serial, file, subject.
        let index = format!("{status}\t490101000000Z\t{revoked}\t1267\tunknown\t/CN=localhost\n");
        std::fs::write(self.0.join("index"), index).unwrap();
        self.openssl("ocsp -issuer ca.pem -cert leaf.pem -no_nonce -reqout request.der");
        self.openssl(
            "ocsp -index index -CA ca.pem -rsigner ca.pem -rkey ca.key -reqin request.der -respout new.der -ndays 1",
        );
        std::fs::rename(self.0.join("new.der"), self.0.join("ocsp.der")).unwrap();
    }

    fn stapled(&self, proxy: &Proxy) -> bool {
        let seen = self.openssl_in(&format!("s_client -connect {} -status -CAfile ca.pem", proxy.address));
        assert!(seen.contains("OCSP response: no response sent") || seen.contains("OCSP Response Status: successful"));
        seen.contains("Cert Status: good")
    }

    fn openssl_in(&self, args: &str) -> String {
        let args = args.split(' ');
        let output = Command::new("openssl").args(args).current_dir(self.0).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn staples_ocsp_response_while_its_status_is_good() {
    if !has("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let responder = Responder(folder.path());
    responder.issue();
    let [cert, key, ocsp] = ["leaf.pem", "leaf.key", "ocsp.der"].map(|file| folder.path().join(file));
    let settings = [
        ("RPROXY_TLS_CERT", cert.to_str().unwrap()),
        ("RPROXY_TLS_KEY", key.to_str().unwrap()),
        ("RPROXY_TLS_OCSP", ocsp.to_str().unwrap()),
        ("RPROXY_HTTP_PORT", "0"),
    ];
    let proxy = Proxy::start(echo(), &settings);
    proxy.wait_for_log("unusable OCSP response");
    assert!(!responder.stapled(&proxy));
    let eventually = |stapled: bool| {
        let deadline = Instant::now() + TIMEOUT;
        while responder.stapled(&proxy) != stapled {
            assert!(Instant::now() < deadline, "stapled: {}", !stapled);
        }
    };
    // Detected without a signal.
    responder.respond("V");
    eventually(true);
    responder.respond("R");
    eventually(false);
    assert!(proxy.log().contains("the certificate is revoked"), "{}", proxy.log());
}

#[test]
fn http2_client_sends_all_requests_on_one_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = files(folder.path());
    let proxy =
        Proxy::start(echo(), &[("RPROXY_TLS_CERT", &cert), ("RPROXY_TLS_KEY", &key), ("RPROXY_HTTP_PORT", "0")]);
    let resolve = format!("localhost:{0}:127.0.0.1", proxy.address.port());
    let url = format!("https://localhost:{}/[1-20]", proxy.address.port());
    let codes =
        curl(&["-k", "--http2", "--resolve", &resolve, "-o", "/dev/null", "-w", "%{http_code}:%{num_connects} ", &url]);
    assert_eq!(codes.trim(), format!("200:1 {}", "200:0 ".repeat(19)).trim());
}
