//! Tests that measure rate limits from the client side, with one process and with several processes.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::redis::Server;
use crate::support::upstream::{ok, read_head, responding, scripted};
use crate::support::{Proxy, connect, curl, get, read_response, request};

fn from(client: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\nConnection: close\r\n\r\n")
}

fn statuses(proxy: &Proxy, client: &str, path: &str, requests: usize) -> Vec<u16> {
    (0..requests).map(|_| request(proxy.address, &from(client, path)).status).collect()
}

#[test]
fn ipv6_tiers_limit_requests_per_network() {
    let settings = [
        ("RPROXY_TRUSTED_PROXIES", "loopback"),
        ("RPROXY_RATE_LIMIT", "1"),
        ("RPROXY_RATE_BURST", "10"),
        ("RPROXY_RATE_IPV6_TIERS", "56:1:4,48:1:6"),
    ];
    let proxy = Proxy::start(responding(|_| ok("served")), &settings);
    let each_64_once = |network: &str| -> usize {
        let clients = (0..10).map(|subnet| format!("2001:db8:0:{network}{subnet}::1"));
        clients.filter(|client| statuses(&proxy, client, "/", 1) == [200]).count()
    };
    // A request or two may be refilled in the meantime.
    assert!((4..=6).contains(&each_64_once("1")), "a /56");
    assert!((2..=6).contains(&each_64_once("201")), "another one of the same /48");
    assert_eq!(statuses(&proxy, "2001:db8:1::1", "/", 1), [200]);
    assert_eq!(statuses(&proxy, "192.0.2.1", "/", 10), [200; 10], "tiers do not apply to IPv4");
}

/// Returns the log lines that contain `text`, after the proxy has logged all previous requests.
fn logged(proxy: &Proxy, text: &str, reloads: usize) -> Vec<String> {
    proxy.signal("HUP");
    proxy.wait_for_logs("configuration reloaded", reloads);
    proxy.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[test]
fn warns_once_about_an_untrusted_proxy_whose_clients_share_a_rate_limit() {
    let proxy = Proxy::start(responding(|_| ok("served")), &[("RPROXY_RATE_LIMIT", "1"), ("RPROXY_RATE_BURST", "2")]);
    assert!(statuses(&proxy, "192.0.2.1", "/", 9).contains(&429));
    let lines = logged(&proxy, "RPROXY_TRUSTED_PROXIES", 1);
    assert!(matches!(&lines[..], [line] if line.contains(" WARN ") && line.contains("peer=127.0.0.1")), "{lines:?}");
    // The other protocol, fields and workers share the hour, and so does the configuration after the reload.
    let url = format!("http://{}/", proxy.address);
    for _ in 0..4 {
        curl(&["--http2-prior-knowledge", "-H", "Forwarded: for=192.0.2.2", &url]);
    }
    assert_eq!(logged(&proxy, "RPROXY_TRUSTED_PROXIES", 2).len(), 1);
}

#[test]
fn does_not_warn_about_trusted_proxies_direct_clients_or_uncounted_requests() {
    for (settings, client) in [
        (&[("RPROXY_TRUSTED_PROXIES", "loopback"), ("RPROXY_RATE_BURST", "1")][..], "X-Forwarded-For: 192.0.2.1\r\n"),
        (&[("RPROXY_RATE_BURST", "1")], ""),
        (&[("RPROXY_RATE_LIMIT_ENABLED", "false")], "X-Forwarded-For: 192.0.2.1\r\n"),
    ] {
        let proxy = Proxy::start(responding(|_| ok("served")), settings);
        for _ in 0..5 {
            request(proxy.address, &format!("GET / HTTP/1.1\r\nHost: a\r\n{client}Connection: close\r\n\r\n"));
        }
        assert_eq!(logged(&proxy, "RPROXY_TRUSTED_PROXIES", 1), [""; 0], "{settings:?}");
    }
}

#[test]
fn logs_the_first_rejection_per_minute_with_the_responsible_setting() {
    let settings = [("RPROXY_RATE_LIMIT", "1/h"), ("RPROXY_RATE_BURST", "5"), ("RPROXY_WORKERS", "2")];
    let proxy = Proxy::start(responding(|_| ok("served")), &settings);
    for path in ["/.env", "/.git/config", "/", "/", "/", "/", "/", "/"] {
        get(proxy.address, path);
    }
    for (text, setting) in
        [("rejected with 404", ".env; RPROXY_BLOCKED_PATHS"), ("rejected with 429", "RPROXY_RATE_LIMIT")]
    {
        let reloads = 1 + usize::from(text.contains("429"));
        let lines = logged(&proxy, text, reloads);
        let is_expected =
            |line: &String| line.contains(" INFO ") && line.contains(setting) && line.contains("client=127.0.0.1");
        assert!(matches!(&lines[..], [line] if is_expected(line)), "{lines:?}");
    }
}

#[test]
fn exempt_paths_use_no_quota_but_their_ambiguous_spellings_do() {
    let settings = [
        ("RPROXY_RATE_LIMIT", "1"),
        ("RPROXY_RATE_BURST", "1"),
        ("RPROXY_RATE_EXEMPT_PATHS", "/healthz,/static/**"),
        ("RPROXY_RATE_EXEMPT", "192.0.2.0/24"),
        ("RPROXY_TRUSTED_PROXIES", "loopback"),
    ];
    let proxy = Proxy::start(responding(|_| ok("served")), &settings);
    for path in ["/healthz", "/static/a/b.css?v=1"] {
        assert_eq!(statuses(&proxy, "203.0.113.1", path, 5), [200; 5], "{path}");
    }
    assert_eq!(statuses(&proxy, "192.0.2.1", "/", 5), [200; 5]);
    for (client, path) in [
        ("203.0.113.2", "/"),
        ("203.0.113.3", "/static/../login"),
        ("203.0.113.4", "/static/%2e%2e/login"),
        ("203.0.113.5", "/static/..%2flogin"),
        ("203.0.113.6", "/static/..;/login"),
    ] {
        let statuses = statuses(&proxy, client, path, 20);
        assert!(statuses.iter().filter(|status| **status == 429).count() > 10, "{path}: {statuses:?}");
    }
}

#[test]
fn limits_concurrent_requests_per_client() {
    let upstream = scripted(|mut stream| {
        // Sends the first half of a response, and nothing more.
        while read_head(&mut stream).is_some() {
            let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
            if stream.write_all(half.as_bytes()).is_err() {
                return;
            }
        }
    });
    let proxy = Proxy::start(upstream, &[("RPROXY_RATE_MAX_IN_FLIGHT", "2")]);
    let begin = || {
        let mut stream = connect(proxy.address);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert_eq!(&read_head(&mut stream).unwrap()[..15], "HTTP/1.1 200 OK");
        stream
    };
    let (first, _second) = (begin(), begin());
    let refused = get(proxy.address, "/");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    // The client disconnects.
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut stream = connect(proxy.address);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        if read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn one_process_enforces_the_rate_within_one_percent() {
    // With a burst of one second's requests, a shorter pause of the machine loses none.
    let settings = [("RPROXY_RATE_LIMIT", "200"), ("RPROXY_RATE_BURST", "200")];
    let proxy = Proxy::start(responding(|_| ok("served")), &settings);
    let rate = measured(&[proxy.address]);
    assert!((198.0..=202.0).contains(&rate), "{rate}/s");
}

#[test]
fn two_processes_with_one_store_enforce_the_rate_within_three_percent() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    let settings = [
        ("RPROXY_RATE_LIMIT", "200"),
        ("RPROXY_RATE_BURST", "200"),
        ("RPROXY_RATE_LIMIT_STORE", &*url),
        // A local fallback would distort the measurement.
        ("RPROXY_RATE_LIMIT_FALLBACK", "closed"),
        ("RPROXY_RATE_LIMIT_STORE_TIMEOUT", "5s"),
    ];
    let proxies = [(); 2].map(|()| Proxy::start(responding(|_| ok("served")), &settings));
    let rate = measured(&[proxies[0].address, proxies[1].address]);
    assert!((194.0..=206.0).contains(&rate), "{rate}/s");
}

/// Returns the rate of allowed requests while clients send 2,000 requests per second to `proxies` for ten seconds.
///
/// The measured interval starts and ends with a rejection, when the quota is used up, so that pauses of the machine
/// do not distort the rate.
fn measured(proxies: &[SocketAddr]) -> f64 {
    const CLIENTS: u32 = 8;
    const OFFERED: u32 = 2000;
    const WARM_UP: Duration = Duration::from_secs(2);
    const TIME: Duration = Duration::from_secs(10);
    let start = Instant::now();
    let client = |number: u32| {
        let mut stream = connect(proxies[number as usize % proxies.len()]);
        let interval = Duration::from_secs(1) * CLIENTS / OFFERED;
        let mut due = start + Duration::from_secs(1) * number / OFFERED;
        let (mut passed, mut refused) = (Vec::new(), Vec::new());
        while start.elapsed() < WARM_UP + TIME {
            // Open loop: delays are made up for.
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = start.elapsed();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            let status = read_response(&mut stream).expect("a response").status;
            let received = start.elapsed();
            match status {
                200 => passed.push(received),
                429 if received - sent < Duration::from_millis(5) => refused.push(received),
                429 => {}
                status => panic!("{status}"),
            }
            due += interval;
        }
        (passed, refused)
    };
    let (mut passed, mut refused) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        for client in clients {
            let (more_passed, more_refused) = client.join().unwrap();
            passed.extend(more_passed);
            refused.extend(more_refused);
        }
    });
    refused.retain(|at| *at >= WARM_UP);
    let (first, last) = (refused.iter().min().unwrap(), refused.iter().max().unwrap());
    let time = (*last - *first).as_secs_f64();
    let count = passed.iter().filter(|at| (first..=last).contains(at)).count();
    println!("{count} allowed and more than {} rejected in {time:.3} s", refused.len());
    assert!(time > TIME.as_secs_f64() / 2.0, "{time}: this machine is too busy to measure anything");
    count as f64 / time
}

#[test]
fn processes_share_a_quota_store_and_use_the_fallback_if_it_is_down() {
    let Some(mut server) = Server::start() else { return };
    let url = server.url();
    let settings = |fallback| {
        [
            // With one worker, the connection that breaks is the one in use.
            ("RPROXY_WORKERS", "1"),
            ("RPROXY_RATE_LIMIT", "1"),
            ("RPROXY_RATE_BURST", "4"),
            ("RPROXY_TRUSTED_PROXIES", "loopback"),
            ("RPROXY_RATE_LIMIT_FALLBACK", fallback),
            ("RPROXY_RATE_LIMIT_STORE_TIMEOUT", "2s"),
            ("RPROXY_ADMIN_LISTEN", "127.0.0.1:0"),
        ]
    };
    let upstream = responding(|_| ok("served"));
    let proxies = ["local", "open", "closed"].map(|fallback| {
        let mut settings = settings(fallback).to_vec();
        settings.push(("RPROXY_RATE_LIMIT_STORE", &url));
        Proxy::start(upstream, &settings)
    });
    let passed = |client: &str| -> usize {
        let all = proxies.iter().flat_map(|proxy| statuses(proxy, client, "/", 4));
        all.filter(|status| *status == 200).count()
    };
    let together = passed("192.0.2.1");
    assert!((4..=6).contains(&together), "{together}");

    server.kill();
    let [local, open, closed] = &proxies;
    let count = |statuses: Vec<u16>, status| statuses.iter().filter(|other| **other == status).count();
    assert!(count(statuses(local, "192.0.2.2", "/", 20), 429) >= 10);
    assert_eq!(statuses(open, "192.0.2.2", "/", 20), [200; 20]);
    let refused = request(closed.address, &from("192.0.2.2", "/"));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.header("proxy-status"), Some("rproxy; error=proxy_internal_error"));
    for (proxy, consequence) in
        [(local, "limiting in this process"), (open, "allowing all"), (closed, "rejecting requests")]
    {
        proxy.wait_for_log(consequence);
    }
    let metrics = curl(&[&format!("http://{}/metrics", closed.address_of("admin requests"))]);
    for name in [
        "rproxy_rate_limit_store_connections 0",
        "rproxy_rate_limit_store_requests_total{outcome=\"not_connected\"}",
        "reason=\"limiter_unavailable\"} 1",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }

    server.restart();
    let deadline = Instant::now() + Duration::from_secs(20);
    while request(closed.address, &from("192.0.2.3", "/")).status == 503 {
        assert!(Instant::now() < deadline);
    }
    closed.wait_for_log("rate limit store available again");
}

#[test]
fn sites_and_routes_have_separate_quotas_in_a_shared_store() {
    let Some(server) = Server::start() else { return };
    let upstream = responding(|_| ok("served"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rproxy.toml");
    let routes =
        "[[site.route]]\npaths = [\"/login\"]\nrate_burst = 2\n[[site.route]]\npaths = [\"/api/**\"]\nrate_burst = 2\n";
    let text = format!(
        "listen = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\nrate_limit = \"1/h\"\nrate_burst = 3\n\
         rate_limit_store = \"{}\"\nrate_limit_fallback = \"closed\"\nrate_limit_store_timeout = \"2s\"\n\
         [[route]]\npaths = [\"/login\"]\nrate_burst = 2\n\
         [[site]]\nhosts = [\"a.example\"]\n{routes}[[site]]\nhosts = [\"b.example\"]\n{routes}",
        server.url()
    );
    std::fs::write(&file, text).unwrap();
    let proxies: Vec<Proxy> = (0..2).map(|_| Proxy::run(&["--config", file.to_str().unwrap()], &[])).collect();
    for host in ["other.example", "a.example", "b.example"] {
        for (path, burst) in [("/", 3), ("/login", 2), ("/api/users", 2)] {
            // The other host has no such route, and shares the quota of its site.
            let burst = if (host, path) == ("other.example", "/api/users") { 0 } else { burst };
            let mut statuses = Vec::new();
            for number in 0..=burst {
                let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
                // The processes share each quota.
                statuses.push(request(proxies[number % 2].address, &head).status);
            }
            let expected: Vec<u16> = [200].repeat(burst).into_iter().chain([429]).collect();
            assert_eq!(statuses, expected, "{host}{path}");
        }
    }
}

#[test]
fn unresponsive_rate_limit_store_delays_requests_only_briefly() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    let settings = [
        ("RPROXY_WORKERS", "1"),
        ("RPROXY_RATE_LIMIT_STORE", &*url),
        ("RPROXY_RATE_LIMIT_STORE_TIMEOUT", "200ms"),
        ("RPROXY_TRUSTED_PROXIES", "loopback"),
    ];
    let proxy = Proxy::start(responding(|_| ok("served")), &settings);
    assert_eq!(statuses(&proxy, "192.0.2.1", "/", 3), [200; 3]);
    server.signal("STOP");
    let start = Instant::now();
    assert_eq!(statuses(&proxy, "192.0.2.1", "/", 50), [200; 50]);
    // Three requests waited for 200 ms, the others not at all.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    proxy.wait_for_log("no response from the rate limit store within 200ms");
    server.signal("CONT");
}
