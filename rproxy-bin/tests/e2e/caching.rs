//! Tests of the cache in combination with the other layers.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::h2;
use crate::support::upstream::{ok, responding, scripted};
use crate::support::{Proxy, TIMEOUT, connect, free_port, read_response, read_to_end, request};

/// Returns a backend function whose responses are fresh for a minute and have this `Vary` and the body `echo(head)`.
fn cached(vary: &'static str, echo: fn(&str) -> String) -> impl Fn(&str) -> String + Clone + Send + 'static {
    move |head| {
        let fields = format!("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nvary: {vary}\r\n");
        ok(&echo(head)).replacen("HTTP/1.1 200 OK\r\n", &fields, 1)
    }
}

/// Returns the value of a header field in a head, or an empty string.
fn field(head: &str, name: &str) -> String {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

fn get(proxy: &Proxy, fields: &str) -> String {
    request(proxy.address, &format!("GET /static/a.css HTTP/1.1\r\nhost: a.example\r\n{fields}\r\n")).body
}

#[test]
fn cache_varies_by_forwarding_headers_that_the_proxy_sets() {
    let upstream = responding(cached("x-forwarded-for", |head| field(head, "x-real-ip")));
    let proxy = Proxy::start(upstream, &[("RPROXY_TRUSTED_PROXIES", "loopback")]);
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        assert_eq!(get(&proxy, &format!("x-forwarded-for: {client}\r\n")), client);
    }
}

/// Starts an HTTP/2 backend that responds to each request with these frames, given by type, flags and payload.
fn http2_backend(frames: Vec<(u8, u8, Vec<u8>)>) -> (SocketAddr, Arc<AtomicUsize>) {
    let requests = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&requests);
    let address = scripted(move |mut stream| {
        stream.write_all(&[h2::settings(&[]), h2::Frame::new(4, 1, 0, Vec::new()).bytes()].concat()).unwrap();
        stream.read_exact(&mut [0; 24]).unwrap();
        let mut head = [0; 9];
        while stream.read_exact(&mut head).is_ok() {
            let [high, middle, low, kind, _, id @ ..] = head;
            stream.read_exact(&mut vec![0; u32::from_be_bytes([0, high, middle, low]) as usize]).unwrap();
            if kind == h2::HEADERS {
                counter.fetch_add(1, Ordering::SeqCst);
                let id = u32::from_be_bytes(id);
                let frames =
                    frames.iter().map(|(kind, flags, payload)| h2::Frame::new(*kind, *flags, id, payload.clone()));
                stream.write_all(&frames.flat_map(|frame| frame.bytes()).collect::<Vec<_>>()).unwrap();
            }
        }
    });
    (address, requests)
}

#[test]
fn response_with_malformed_trailer_section_is_aborted_and_not_stored() {
    let malformed = [h2::field("connection", "x"), h2::field("X-Sum", "1")].map(|trailers| (trailers, false));
    for (trailers, is_whole) in [(h2::field("x-sum", "1"), true)].into_iter().chain(malformed) {
        for length in [Vec::new(), h2::field("content-length", "3")] {
            let head = [vec![0x88], h2::field("cache-control", "max-age=60"), length.clone()].concat();
            let (address, requests) = http2_backend(vec![
                (h2::HEADERS, 4, head),
                (h2::DATA, 0, b"abc".to_vec()),
                (h2::HEADERS, 5, trailers.clone()),
            ]);
            let proxy = Proxy::start(address, &[("RPROXY_UPSTREAM", &format!("h2c://{address}"))]);
            for _ in 0..2 {
                let mut stream = connect(proxy.address);
                let head = b"GET /static/a.css HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
                stream.write_all(head).unwrap();
                let response = read_to_end(&mut stream);
                assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
                let (head, body) = response.split_once("\r\n\r\n").unwrap();
                let is_chunked = head.contains("transfer-encoding: chunked");
                let has_end = if is_chunked { body.contains("\r\n0\r\n") } else { body == "abc" };
                assert_eq!(has_end, is_whole, "{response}");
            }
            assert_eq!(requests.load(Ordering::SeqCst), if is_whole { 1 } else { 2 }, "{trailers:?} {length:?}");
        }
    }
}

#[test]
fn fields_nominated_by_connection_still_select_the_cache_variant() {
    let upstream = responding(cached("accept-language, x-choice", |head| {
        format!("{}{}", field(head, "accept-language"), field(head, "x-choice"))
    }));
    let proxy = Proxy::start(upstream, &[]);
    get(&proxy, "accept-language: de\r\nconnection: accept-language\r\n");
    assert_eq!(get(&proxy, "accept-language: de\r\n"), "de");
    get(&proxy, "x-choice: dark\r\nconnection: x-choice\r\n");
    assert_eq!(get(&proxy, "x-choice: dark\r\n"), "dark");
}

#[test]
fn trusted_scheme_and_host_are_part_of_the_cache_key() {
    let upstream = responding(cached("accept-encoding", |head| {
        format!("{}://{}", field(head, "x-forwarded-proto"), field(head, "x-forwarded-host"))
    }));
    let settings = [("RPROXY_TRUSTED_PROXIES", "loopback"), ("RPROXY_TRUSTED_FIELDS", "x-forwarded-host")];
    let proxy = Proxy::start(upstream, &settings);
    for origin in ["http://a.example", "https://a.example", "https://b.example", "http://a.example"] {
        let (scheme, host) = origin.split_once("://").unwrap();
        let fields = format!("x-forwarded-proto: {scheme}\r\nx-forwarded-host: {host}\r\n");
        assert_eq!(get(&proxy, &fields), origin);
    }
}

#[test]
fn requests_with_trusted_user_or_prefix_bypass_the_cache() {
    let upstream = responding(cached("accept-encoding", |head| {
        format!("{}{}", field(head, "x-forwarded-prefix"), field(head, "remote-user"))
    }));
    let settings =
        [("RPROXY_TRUSTED_PROXIES", "loopback"), ("RPROXY_TRUSTED_FIELDS", "remote-user, x-forwarded-prefix")];
    let proxy = Proxy::start(upstream, &settings);
    for (fields, expected) in [
        ("remote-user: ann\r\n", "ann"),
        ("remote-user: bob\r\n", "bob"),
        ("x-forwarded-prefix: /a\r\n", "/a"),
        ("x-forwarded-prefix: /b\r\n", "/b"),
        ("", ""),
        ("remote-user: ann\r\n", "ann"),
    ] {
        assert_eq!(get(&proxy, fields), expected);
    }
}

#[test]
fn applies_the_settings_cache_query_and_cache_set_cookie() {
    let upstream = responding(|_| {
        let fields = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nset-cookie: a=b\r\n";
        ok("x").replacen("HTTP/1.1 200 OK\r\n", fields, 1)
    });
    let send = |proxy: &Proxy, target: &str| {
        request(proxy.address, &format!("GET {target} HTTP/1.1\r\nhost: a.example\r\n\r\n"))
    };
    for (policy, hit, has_cookie) in [("strip", true, false), ("store", true, true), ("refuse", false, true)] {
        let settings = [
            ("RPROXY_CACHE_QUERY", "sort, drop utm_*"),
            ("RPROXY_CACHE_SET_COOKIE", policy),
            ("RPROXY_CACHE_STATUS_KEY", "true"),
        ];
        let proxy = Proxy::start(upstream, &settings);
        let first = send(&proxy, "/static/a.css?b=1&utm_source=x&a=2");
        assert_eq!(first.header("set-cookie"), Some("a=b"), "{policy}");
        let second = send(&proxy, "/static/a.css?a=2&b=1");
        let status = second.header("cache-status").unwrap();
        assert_eq!(status.starts_with("rproxy; hit"), hit, "{policy}: {status}");
        assert!(status.ends_with("; key=\"http://a.example/static/a.css?a=2&b=1\""), "{status}");
        assert_eq!(second.header("set-cookie").is_some(), has_cookie, "{policy}");
    }
}

#[test]
fn serves_cached_responses_from_disk_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("RPROXY_CACHE_DISK", folder.path().to_str().unwrap())];
    let upstream = responding(cached("accept-encoding", |head| head.split(' ').nth(1).unwrap().to_owned()));
    let mut proxy = Proxy::start(upstream, &settings);
    let has_files = || {
        let folders = std::fs::read_dir(folder.path()).unwrap().map(|folder| folder.unwrap().path());
        folders.filter(|path| path.is_dir()).any(|folder| std::fs::read_dir(folder).unwrap().count() > 0)
    };
    // The directory is scanned after the start; nothing is stored in it until then.
    let deadline = Instant::now() + TIMEOUT;
    let path = (0..).map(|number| format!("/static/{number}.css")).find(|path| {
        assert!(Instant::now() < deadline, "nothing was written");
        request(proxy.address, &format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n"));
        std::thread::sleep(Duration::from_millis(5));
        has_files()
    });
    let path = path.unwrap();
    proxy.signal("TERM");
    assert!(proxy.wait().success());

    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let proxy = Proxy::start(nobody, &settings);
    let sent = format!("GET {path} HTTP/1.1\r\nhost: a.example\r\ncache-control: only-if-cached\r\n\r\n");
    loop {
        let response = request(proxy.address, &sent);
        if response.status == 200 {
            assert_eq!(response.body, path);
            break;
        }
        assert!(Instant::now() < deadline, "{}", response.head);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn coalesces_a_thousand_requests_for_one_cold_object() {
    let (sent, all_have_sent) = (Arc::new(AtomicUsize::new(0)), Arc::new((Mutex::new(false), Condvar::new())));
    let (count, gate) = (Arc::clone(&sent), Arc::clone(&all_have_sent));
    let response = cached("accept-encoding", |_| "cold".to_owned());
    let upstream = responding(move |head| {
        count.fetch_add(1, Ordering::SeqCst);
        let (open, opened) = &*gate;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open));
        response(head)
    });
    let proxy = Proxy::start(upstream, &[("RPROXY_RATE_LIMIT_ENABLED", "false")]);
    let mut clients: Vec<_> = (0..1000).map(|_| connect(proxy.address)).collect();
    for client in &mut clients {
        client.write_all(b"GET /static/a.css HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    }
    *all_have_sent.0.lock().unwrap() = true;
    all_have_sent.1.notify_all();
    for client in &mut clients {
        let response = read_response(client).unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, "cold"));
    }
    assert_eq!(sent.load(Ordering::SeqCst), 1);
}
