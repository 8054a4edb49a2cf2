//! Tests of the built binary: the command line, the demo, the logs, the admin listener and the reload.

use std::process::Command;
use std::time::Instant;

use crate::support::upstream::{echo, ok, responding};
use crate::support::{Proxy, TIMEOUT, curl, get, has, request};

/// Runs the binary until it exits, and returns its exit code, output and log.
pub(crate) fn rproxy(args: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rproxy"))
        .args(args)
        .env_clear()
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Returns the exit code of `--check` with these settings, and its output and errors.
pub(crate) fn check(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let settings = [&[("RPROXY_LISTEN", "127.0.0.1:0")], settings].concat();
    let (code, out, err) = rproxy(&["--check"], &settings);
    (code, out + &err)
}

#[test]
fn prints_help_and_version() {
    let (code, out, _) = rproxy(&["--help"], &[]);
    assert_eq!(code, Some(0));
    for word in ["--upstream", "RPROXY_RATE_LIMIT", "--check", "demo"] {
        assert!(out.contains(word), "{word} in {out}");
    }
    let (code, out, _) = rproxy(&["--version"], &[]);
    assert_eq!((code, out.trim()), (Some(0), concat!("rproxy ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn check_prints_the_layers_in_order() {
    let (code, out, err) = rproxy(&["--check"], &[("RPROXY_CACHE_ENABLED", "false")]);
    assert_eq!(code, Some(0), "{err}");
    let (_, layers) = out.split_once("# Layers").unwrap();
    let place = |layer: &str| layers.find(layer).unwrap_or_else(|| panic!("{layer} in {layers}"));
    let order =
        ["ClientIp", "SecurityHeaders", "RateLimit", "PathFilter", "WsPassthrough", "ForwardHeaders", "Upstream"];
    assert!(order.map(place).is_sorted(), "{layers}");
    assert!(!layers.contains("Cache "), "the cache is off: {out}");
}

#[test]
fn reports_all_problems_of_an_invalid_configuration() {
    let (code, _, err) =
        rproxy(&[], &[("RPROXY_UPSTRAEM", "a:1"), ("RPROXY_RATE_LIMIT", "many"), ("RPROXY_BLOCKED_PATHS", "/a/[")]);
    assert_eq!(code, Some(2));
    for part in ["RPROXY_UPSTRAEM", "RPROXY_UPSTREAM", "RPROXY_RATE_LIMIT", "many"] {
        assert!(err.contains(part), "{part} in {err}");
    }
    let (code, _, err) = rproxy(&["--check"], &[("RPROXY_BLOCKED_PATHS", "/a/[")]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("RPROXY_BLOCKED_PATHS") && err.contains("/a/["), "{err}");
}

#[test]
fn check_rejects_certificate_with_a_mismatched_private_key() {
    let folder = tempfile::tempdir().unwrap();
    let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key, other) = (path("cert.pem"), path("key.pem"), path("other.pem"));
    let certified = pair();
    std::fs::write(&cert, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    std::fs::write(&other, pair().signing_key.serialize_pem()).unwrap();
    let (code, _, err) = rproxy(&["--check"], &[("RPROXY_TLS_CERT", &cert), ("RPROXY_TLS_KEY", &key)]);
    assert_eq!(code, Some(0), "{err}");
    let (code, _, err) = rproxy(&["--check"], &[("RPROXY_TLS_CERT", &cert), ("RPROXY_TLS_KEY", &other)]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains(&other), "{err}");
}

#[test]
fn reports_port_in_use_with_its_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = rproxy(&[], &[("RPROXY_LISTEN", &address)]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&address) && err.contains("in use") && err.contains("RPROXY_LISTEN"), "{err}");
    let (code, _, err) = rproxy(&[], &[("RPROXY_LISTEN", "127.0.0.1:0"), ("RPROXY_ADMIN_LISTEN", &address)]);
    assert_eq!(code, Some(1));
    assert!(err.contains("RPROXY_ADMIN_LISTEN") && err.contains("or set RPROXY_ADMIN_LISTEN to another port"), "{err}");
}

#[test]
fn reports_an_unusable_certificate_directory_with_its_setting_and_a_fix() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let certs = file.join("certs");
    let settings = [
        ("RPROXY_LISTEN", "127.0.0.1:0"),
        ("RPROXY_HTTP_PORT", "0"),
        ("RPROXY_TLS_LOCAL", "true"),
        ("RPROXY_TLS_CACHE_DIR", certs.to_str().unwrap()),
    ];
    let (code, _, err) = rproxy(&[], &settings);
    assert_eq!(code, Some(1));
    assert!(err.contains("RPROXY_TLS_CACHE_DIR: cannot use certificate folder"), "{err}");
    assert!(err.contains(certs.to_str().unwrap()) && err.contains("set RPROXY_TLS_CACHE_DIR to another path"), "{err}");
}

#[test]
fn first_log_line_has_version_url_and_upstream() {
    let upstream = echo();
    let proxy = Proxy::start(upstream, &[("RPROXY_RATE_LIMIT_FALLBACK", "open")]);
    proxy.wait_for_log("all backends accept connections");
    let (log, port) = (proxy.log(), proxy.address.port());
    let first = log.lines().next().unwrap();
    for part in [
        format!("version=\"{}\"", env!("CARGO_PKG_VERSION")),
        format!("url=http://localhost:{port} "),
        format!("upstream=http://{upstream}"),
    ] {
        assert!(first.contains(&part), "{part} in {log}");
    }
    assert_eq!(log.matches(" WARN ").count(), 1, "of the setting without effect: {log}");
}

#[test]
fn warns_about_backends_that_do_not_accept_connections() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unused = listener.local_addr().unwrap();
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rproxy.toml");
    // The default upstream is not used, and each backend is reported once.
    let site = |host: &str, upstream: &str| format!("[[site]]\nhosts = [\"{host}\"]\nupstream = \"{upstream}\"\n");
    let (refused, missing) = (unused.to_string(), "unix:/nowhere/app.sock");
    let sites = [site("a", &refused), site("b", &refused), site("c", missing), site("d", &echo().to_string())];
    std::fs::write(&file, format!("listen = \"127.0.0.1:0\"\n{}", sites.concat())).unwrap();
    let proxy = Proxy::run(&["--config", file.to_str().unwrap()], &[]);
    for backend in [&*format!("http://{refused}"), missing] {
        let line = proxy.wait_for_log(&format!("backend {backend} does not accept connections: "));
        assert!(
            line.contains(" WARN ") && line.contains("start the backend, or set upstream, or the upstream of its"),
            "{line}"
        );
    }
    assert_eq!(proxy.log().matches("does not accept").count(), 2, "{}", proxy.log());
    assert!(!proxy.log().contains("all backends"), "{}", proxy.log());
}

#[test]
fn trust_command_adds_the_local_authority_to_a_new_nss_database() {
    if !has("certutil") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let certs = home.path().join("certs");
    std::fs::create_dir_all(certs.join("local")).unwrap();
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(certs.join("local/ca.pem"), authority.cert.pem()).unwrap();
    let path = std::env::var("PATH").unwrap();
    let settings = |path: &str| {
        [("RPROXY_TLS_CACHE_DIR", certs.to_str().unwrap()), ("HOME", home.path().to_str().unwrap()), ("PATH", path)]
            .map(|(name, value)| (name, value.to_owned()))
    };
    let trust = |args: &[&str], path: &str| {
        let settings = settings(path);
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        rproxy(&[&["trust"], args].concat(), &settings)
    };
    let (code, _, err) = trust(&["--install", "--browser"], "/nonexistent");
    assert_eq!(code, Some(1));
    assert!(err.contains("certutil is not installed: install libnss3-tools"), "{err}");
    let listed = || {
        let database = format!("sql:{}", home.path().join(".pki/nssdb").display());
        let output = Command::new("certutil").args(["-L", "-d", &database]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // The second time, the database exists.
    for _ in 0..2 {
        let (code, out, err) = trust(&["--install", "--browser"], &path);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("nssdb trusts "), "{out}");
        assert!(listed().contains("rproxy-local"), "{}", listed());
    }
    let (code, out, err) = trust(&["--remove", "--browser"], &path);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("no longer trusts") && !listed().contains("rproxy-local"), "{out}");
}

#[test]
fn writes_access_log_as_text_or_json() {
    let upstream = responding(|_| ok("logged"));
    let proxy = Proxy::start(upstream, &[("RPROXY_ACCESS_LOG", "json")]);
    get(proxy.address, "/a?b");
    let line: serde_json::Value = serde_json::from_str(&proxy.wait_for_output("\"/a")).unwrap();
    for (key, value) in [
        ("client", serde_json::json!("127.0.0.1")),
        ("method", "GET".into()),
        ("status", 200.into()),
        ("bytes", 6.into()),
        ("host", "a.example".into()),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    assert_eq!(line["request_id"].as_str().unwrap().len(), 36, "{line}");
    get(proxy.address, "/.env");
    assert!(proxy.wait_for_output("/.env").contains("env"), "the rule is named");

    let proxy = Proxy::start(upstream, &[("RPROXY_ACCESS_LOG", "text")]);
    request(proxy.address, "GET /t HTTP/1.1\r\nhost: a\r\nuser-agent: \"x\\y\r\nconnection: close\r\n\r\n");
    let line = proxy.wait_for_output("/t");
    assert!(line.contains("\"GET /t HTTP/1.1\" 200"), "{line}");
}

#[test]
fn sigusr1_and_sigusr2_do_not_end_the_process() {
    let mut proxy = Proxy::start(responding(|_| ok("x")), &[]);
    for signal in ["USR1", "USR2"] {
        proxy.signal(signal);
        assert_eq!(get(proxy.address, "/").status, 200, "{signal}");
    }
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn flushes_access_log_on_exit() {
    let mut proxy = Proxy::start(responding(|_| ok("x")), &[("RPROXY_ACCESS_LOG", "json")]);
    for number in 0..50 {
        get(proxy.address, &format!("/{number}"));
    }
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
    proxy.wait_for_output("\"/49\"");
}

#[test]
fn admin_listener_serves_health_metrics_and_purge() {
    let upstream = responding(|_| {
        "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-type: text/css\r\ncontent-length: 4\r\n\r\nbody"
            .into()
    });
    let settings =
        [("RPROXY_ADMIN_LISTEN", "127.0.0.1:0"), ("RPROXY_ADMIN_HOSTS", "a.example"), ("RPROXY_CACHE_PATHS", "/**")];
    let proxy = Proxy::start(upstream, &settings);
    let admin = proxy.address_of("admin requests");
    assert_eq!(get(admin, "/healthz").status, 200);
    assert_eq!(get(admin, "/readyz").status, 200);
    assert_eq!(get(proxy.address, "/metrics").body, "body", "never on the public listener");

    let status = || get(proxy.address, "/a.css").header("cache-status").unwrap().to_owned();
    assert!(!status().contains("hit"));
    assert!(status().contains("hit"));
    let purged = request(
        admin,
        "POST /cache/purge?url=http://a.example/a.css HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(purged.status, 200, "{}", purged.body);
    assert!(!status().contains("hit"));

    let metrics = curl(&[&format!("http://{admin}/metrics")]);
    for name in ["rproxy_requests_total", "rproxy_cache", "rproxy_connections"] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
}

#[test]
fn admin_listener_rejects_unknown_hosts_with_421() {
    let proxy = Proxy::start(echo(), &[("RPROXY_ADMIN_LISTEN", "127.0.0.1:0")]);
    let admin = proxy.address_of("admin requests");
    for (host, status) in [("evil.example:9901", 421), ("127.0.0.1", 200), ("localhost:9901", 200), ("[::1]", 200)] {
        let head = format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert_eq!(request(admin, &head).status, status, "{host}");
    }
}

#[test]
fn sighup_reloads_the_configuration_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rproxy.toml");
    let upstream = echo();
    let write = |blocked: &str| {
        std::fs::write(
            &file,
            format!("listen = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\nblocked_paths = \"{blocked}\"\n"),
        )
        .unwrap();
    };
    write("/one");
    let proxy = Proxy::run(&["--config", file.to_str().unwrap()], &[]);
    assert_eq!((get(proxy.address, "/one").status, get(proxy.address, "/two").status), (404, 200));
    write("/two");
    proxy.signal("HUP");
    let deadline = Instant::now() + TIMEOUT;
    while get(proxy.address, "/two").status != 404 {
        assert!(Instant::now() < deadline, "{}", proxy.log());
    }
    assert_eq!(get(proxy.address, "/one").status, 200);
    // A reload applies these; only the number of workers needs a restart.
    write("/two\"\nrate_limit = 7\nrate_burst = 1000\nworkers = 7\naccess_log = \"json");
    proxy.signal("HUP");
    let warning = proxy.wait_for_log("restart");
    assert!(warning.ends_with(": RPROXY_WORKERS"), "{warning}");
    let response = get(proxy.address, "/logged");
    assert!(response.header("ratelimit-policy").is_some_and(|policy| policy.contains("q=1000")));
    proxy.wait_for_output("\"target\":\"/logged\"");
    std::fs::write(&file, "rate_limit = \"many\"\n").unwrap();
    proxy.signal("HUP");
    proxy.wait_for_log("rate_limit");
    assert_eq!(get(proxy.address, "/two").status, 404, "the current configuration stays in use");
}
