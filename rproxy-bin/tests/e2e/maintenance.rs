//! Tests of the maintenance of sites, by file and by the admin listener.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::running::check;
use crate::support::upstream::{Nginx, ok, read_head, responding, scripted};
use crate::support::{Proxy, Response, TIMEOUT, connect, curl, free_port, get, read_response, request};

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn get_with(address: SocketAddr, target: &str, fields: &str) -> Response {
    request(address, &format!("GET {target} HTTP/1.1\r\nhost: a.example\r\n{fields}connection: close\r\n\r\n"))
}

fn get_from(address: SocketAddr, host: &str) -> u16 {
    request(address, &format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).status
}

/// Waits until a request has this status.
fn wait_for_status(address: SocketAddr, status: u16) {
    let deadline = Instant::now() + TIMEOUT;
    while get(address, "/").status != status {
        assert!(Instant::now() < deadline, "no {status}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// The admin listener of a proxy.
struct Admin {
    address: SocketAddr,
}

impl Admin {
    fn new() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], free_port())) }
    }

    /// Sends a POST request, and returns the status and the body.
    fn post(&self, query: &str) -> (u16, String) {
        let head = format!(
            "POST /maintenance?{query} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let response = request(self.address, &head);
        (response.status, response.body)
    }

    fn get(&self, target: &str) -> String {
        curl(&[&format!("http://{}{target}", self.address)])
    }
}

#[test]
fn file_puts_the_site_into_maintenance_while_it_exists() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("maintenance");
    fs::write(&file, "").unwrap();
    fs::create_dir(folder.path().join("pages")).unwrap();
    fs::write(folder.path().join("pages/maintenance.html"), "<h1>Back soon</h1>").unwrap();
    let admin = Admin::new();
    let settings = [
        ("RPROXY_MAINTENANCE_FILE", file.to_str().unwrap()),
        ("RPROXY_MAINTENANCE_RETRY_AFTER", "90s"),
        ("RPROXY_MAINTENANCE_ALLOW", "192.0.2.0/24"),
        ("RPROXY_TRUSTED_PROXIES", "loopback"),
        ("RPROXY_ERROR_PAGES", &folder.path().join("pages").display().to_string()),
        ("RPROXY_BASIC_AUTH_REALM", "unused"),
        ("RPROXY_ADMIN_LISTEN", &admin.address.to_string()),
        ("RPROXY_ACCESS_LOG", "json"),
    ];
    let proxy = Proxy::start(responding(|_| ok("served")), &settings);
    // The first request sees the file that existed at the start.
    let response = get(proxy.address, "/");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("90")));
    assert_eq!(response.body, "Service Unavailable: in maintenance\n");
    assert_eq!(response.header("proxy-status"), Some("rproxy; error=proxy_internal_error"));
    proxy.wait_for_output("\"maintenance\"");
    proxy.wait_for_log("maintenance is on");

    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let url = format!("http://{}/", proxy.address);
        let page = curl(&[version, "-i", "-H", "accept: text/html", &url]).to_ascii_lowercase();
        assert!(page.ends_with("<h1>back soon</h1>") && page.contains("retry-after: 90\r\n"), "{page}");
        let json = curl(&[version, "-H", "accept: application/json", &url]);
        assert!(json.contains(r#""status":503,"detail":"This site is in maintenance"#), "{json}");
        let head = curl(&[version, "-I", "-H", "accept: text/html", &url]).to_ascii_lowercase();
        assert!(head.contains("content-length: 18\r\n"), "{head}");
    }
    // Exempt clients, by their address behind the trusted proxy.
    assert_eq!(get_with(proxy.address, "/", "x-forwarded-for: 192.0.2.7\r\n").body, "served");
    assert_eq!(get_with(proxy.address, "/", "x-forwarded-for: 203.0.113.9\r\n").status, 503);
    // Malformed requests are rejected as ever, and the proxy itself is healthy.
    assert_eq!(get_with(proxy.address, "/", "content-length: 1\r\ncontent-length: 2\r\n").status, 400);
    assert_eq!((&*admin.get("/healthz"), &*admin.get("/readyz")), ("ok\n", "ready\n"));
    assert!(admin.get("/metrics").contains("rproxy_maintenance{site=\"default\"} 1\n"), "{}", admin.get("/metrics"));

    fs::remove_file(&file).unwrap();
    wait_for_status(proxy.address, 200);
    proxy.wait_for_log("maintenance is off");
    assert!(admin.get("/metrics").contains("rproxy_maintenance{site=\"default\"} 0\n"));
    fs::write(&file, "").unwrap();
    wait_for_status(proxy.address, 503);
}

#[test]
fn admin_listener_switches_sites_and_the_state_survives_a_reload() {
    let (folder, admin) = (tempfile::tempdir().unwrap(), Admin::new());
    let (config, file) = (folder.path().join("rproxy.toml"), folder.path().join("on"));
    let write = |settings: &str| {
        let text = format!(
            "listen = '127.0.0.1:0'\nadmin_listen = '{}'\n{settings}\n\
             [[site]]\nhosts = 'a.example, www.a.example'\nupstream = '{upstream}'\nmaintenance_file = '{}'\n\
             [[site.route]]\npaths = '/x/**'\nrate_limit = 7\n\
             [[site]]\nhosts = '*.b.example'\nupstream = '{upstream}'\n",
            admin.address,
            file.display(),
            upstream = responding(|_| ok("served"))
        );
        fs::write(&config, text).unwrap();
    };
    write("");
    let proxy = Proxy::run(&["--config", config.to_str().unwrap()], &[]);
    let statuses = || ["a.example", "www.a.example", "x.b.example"].map(|host| get_from(proxy.address, host));
    assert_eq!(statuses(), [200, 200, 200]);

    // By any host of the site, for all of its routes.
    let (status, body) = admin.post("site=WWW.a.example&on=true&retry_after=2m");
    assert_eq!(
        (status, &*body),
        (200, "{\"sites\":[{\"by\":[\"admin\"],\"on\":true,\"retry_after\":120,\"site\":\"a.example\"}]}\n")
    );
    proxy.wait_for_log("maintenance is on");
    assert_eq!(statuses(), [503, 503, 200]);
    let response = get(proxy.address, "/x/1");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("120")));

    // A reload keeps the state, and applies other settings.
    write("maintenance_allow = '127.0.0.1'");
    proxy.signal("HUP");
    proxy.wait_for_logs("configuration reloaded", 1);
    assert_eq!(statuses(), [200, 200, 200], "the client is exempt now");
    write("maintenance_retry_after = '10s'");
    proxy.signal("HUP");
    proxy.wait_for_logs("configuration reloaded", 2);
    assert_eq!(statuses(), [503, 503, 200]);
    assert_eq!(get(proxy.address, "/").header("retry-after"), Some("120"), "that of the switch");
    admin.post("site=a.example&on=true");
    assert_eq!(get(proxy.address, "/").header("retry-after"), Some("10"));

    // The file holds the site in maintenance.
    fs::write(&file, "").unwrap();
    proxy.wait_for_log("maintenance stays on");
    let (status, body) = admin.post("all&on=false");
    let expected = format!("site a.example stays in maintenance while the file {} exists\n", file.display());
    assert_eq!((status, body), (409, expected));
    assert_eq!(statuses(), [503, 503, 200]);

    // Another file, which does not exist.
    let text = fs::read_to_string(&config).unwrap().replace(&file.display().to_string(), "/missing/file");
    fs::write(&config, text).unwrap();
    proxy.signal("HUP");
    proxy.wait_for_logs("configuration reloaded", 3);
    assert_eq!(statuses(), [200, 200, 200]);
    assert_eq!(admin.post("site=*.b.example&on=true").0, 200);
    assert_eq!(statuses(), [200, 200, 503]);
    let states = admin.get("/maintenance");
    assert!(states.contains("\"site\":\"a.example\"") && !states.contains("default"), "{states}");
}

#[test]
fn maintenance_comes_before_authentication_cache_redirects_and_blocked_paths() {
    let (admin, requests) = (Admin::new(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&requests);
    let backend = responding(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 2\r\n\r\nok".to_owned()
    });
    let auth = format!("http://{}/", responding(|_| ok("")));
    let settings = [
        ("RPROXY_ADMIN_LISTEN", &*admin.address.to_string()),
        ("RPROXY_CACHE_PATHS", "/**"),
        ("RPROXY_FORWARD_AUTH", &auth),
        ("RPROXY_REDIRECTS", "/old -> /new"),
        ("RPROXY_RATE_LIMIT", "30/h"),
        ("RPROXY_DENY", "192.0.2.0/24"),
        ("RPROXY_TRUSTED_PROXIES", "loopback"),
    ];
    let proxy = Proxy::start(backend, &settings);
    assert_eq!(get(proxy.address, "/a.css").status, 200);
    assert_eq!(admin.post("all&on=true").0, 200);
    for target in ["/a.css", "/old", "/.env"] {
        assert_eq!(get(proxy.address, target).status, 503, "{target}");
    }
    assert_eq!(get_with(proxy.address, "/", "x-forwarded-for: 192.0.2.1\r\n").status, 403);
    // Rejected requests count towards the rate limit.
    let statuses: Vec<u16> = (0..40).map(|_| get(proxy.address, "/").status).collect();
    assert_eq!((statuses[0], statuses[39]), (503, 429));
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[test]
fn open_websocket_continues_during_maintenance_and_new_ones_are_rejected() {
    let backend = scripted(|mut stream| {
        read_head(&mut stream);
        let response = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(response.as_bytes()).unwrap();
        let mut byte = [0];
        while let Ok(1) = stream.read(&mut byte) {
            let _ = stream.write_all(&byte);
        }
    });
    let admin = Admin::new();
    let proxy = Proxy::start(backend, &[("RPROXY_ADMIN_LISTEN", &admin.address.to_string())]);
    let mut open = connect(proxy.address);
    open.write_all(HANDSHAKE.as_bytes()).unwrap();
    assert_eq!(read_response(&mut open).unwrap().status, 101);
    let mut echoes = |byte: u8| {
        open.write_all(&[byte]).unwrap();
        let mut received = [0];
        open.read_exact(&mut received).unwrap();
        received == [byte]
    };
    assert!(echoes(b'1'));

    admin.post("all&on=true");
    let mut rejected = connect(proxy.address);
    rejected.write_all(HANDSHAKE.as_bytes()).unwrap();
    let response = read_response(&mut rejected).unwrap();
    assert_eq!((response.status, response.header("retry-after")), (503, Some("300")));
    assert!(echoes(b'2'));
}

#[test]
fn check_and_explain_show_the_settings() {
    let (code, text) =
        check(&[("RPROXY_MAINTENANCE_FILE", "/run/x"), ("RPROXY_MAINTENANCE_ALLOW", "10.0.0.0/8, loopback")]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Maintenance      503 while /run/x exists; exempt 10.0.0.0/8, loopback\n"), "{text}");
    for (name, value, says) in [
        ("RPROXY_MAINTENANCE_ALLOW", "office", "unknown address range \"office\""),
        ("RPROXY_MAINTENANCE_RETRY_AFTER", "0", "must be longer than 0"),
    ] {
        let (code, text) = check(&[(name, value)]);
        assert!(code == Some(2) && text.contains(name) && text.contains(says), "{text}");
    }
}

/// The usual maintenance mode of nginx: a file, an exempt network, and a page with 503.
#[test]
fn maintenance_matches_that_of_nginx() {
    let folder = tempfile::tempdir().unwrap();
    let (root, backend) = (folder.path().display().to_string(), responding(|_| ok("served")));
    fs::create_dir(folder.path().join("pages")).unwrap();
    fs::write(folder.path().join("pages/maintenance.html"), "<h1>Back soon</h1>").unwrap();
    let server = format!(
        "set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;
         error_page 503 @maintenance;
         location @maintenance {{ root {root}/pages; types {{ }} default_type 'text/html; charset=utf-8'; add_header Retry-After 90 always; rewrite ^ /maintenance.html break; }}
         location / {{
             set $closed '';
             if (-f {root}/on) {{ set $closed 1; }}
             if ($remote_addr ~ '^192\\.0\\.2\\.') {{ set $closed ''; }}
             if ($closed) {{ return 503; }}
             proxy_pass http://{backend};
         }}"
    );
    let Some(nginx) = Nginx::start(&server) else { return };
    let settings = [
        ("RPROXY_MAINTENANCE_FILE", format!("{root}/on")),
        ("RPROXY_MAINTENANCE_RETRY_AFTER", "90s".to_owned()),
        ("RPROXY_MAINTENANCE_ALLOW", "192.0.2.0/24".to_owned()),
        ("RPROXY_ERROR_PAGES", format!("{root}/pages")),
        ("RPROXY_TRUSTED_PROXIES", "127.0.0.1".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let proxy = Proxy::start(backend, &settings);
    for is_on in [false, true] {
        if is_on {
            fs::write(folder.path().join("on"), "").unwrap();
            wait_for_status(proxy.address, 503);
        }
        for client in ["192.0.2.7", "203.0.113.9"] {
            let fields = format!("accept: text/html\r\nx-forwarded-for: {client}\r\n");
            let [nginx, own] = [nginx.address, proxy.address].map(|address| {
                let response = get_with(address, "/page", &fields);
                let fields = ["content-type", "retry-after"].map(|name| response.header(name).map(str::to_owned));
                (response.status, response.body, fields)
            });
            assert_eq!(own, nginx, "{is_on} {client}");
            assert_eq!(own.0, if is_on && client == "203.0.113.9" { 503 } else { 200 });
        }
    }
}
