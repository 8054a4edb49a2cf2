//! What the cache in its place among the layers may answer, and to whom.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::support::upstream::{answering, ok};
use crate::support::{PATIENCE, Proxy, connect, free_port, read_answer, request};

/// What `echo` makes of a request's head, stored for a minute and told apart by `vary`.
fn cached(vary: &'static str, echo: fn(&str) -> String) -> impl Fn(&str) -> String + Clone + Send + 'static {
    move |head| {
        let fields = format!("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nvary: {vary}\r\n");
        ok(&echo(head)).replacen("HTTP/1.1 200 OK\r\n", &fields, 1)
    }
}

/// The value of a field in a head; empty where it has none.
fn field(head: &str, name: &str) -> String {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

fn get(proxy: &Proxy, fields: &str) -> String {
    request(proxy.address, &format!("GET /static/a.css HTTP/1.1\r\nhost: a.example\r\n{fields}\r\n")).body
}

#[test]
fn an_answer_that_varies_by_what_the_proxy_says_is_not_another_clients() {
    let upstream = answering(cached("x-forwarded-for", |head| field(head, "x-real-ip")));
    let proxy = Proxy::start(upstream, &[("RPROXY_TRUSTED_PROXIES", "loopback")]);
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        assert_eq!(get(&proxy, &format!("x-forwarded-for: {client}\r\n")), client);
    }
}

#[test]
fn a_nomination_does_not_store_one_language_under_the_name_of_another() {
    let upstream = answering(cached("accept-language, x-choice", |head| {
        format!("{}{}", field(head, "accept-language"), field(head, "x-choice"))
    }));
    let proxy = Proxy::start(upstream, &[]);
    get(&proxy, "accept-language: de\r\nconnection: accept-language\r\n");
    assert_eq!(get(&proxy, "accept-language: de\r\n"), "de");
    get(&proxy, "x-choice: dark\r\nconnection: x-choice\r\n");
    assert_eq!(get(&proxy, "x-choice: dark\r\n"), "dark");
}

#[test]
fn where_a_trusted_proxy_says_that_the_client_asked_is_part_of_the_key() {
    let upstream = answering(cached("accept-encoding", |head| {
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
fn a_response_for_one_trusted_user_or_prefix_is_not_served_to_another() {
    let upstream = answering(cached("accept-encoding", |head| {
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
fn the_operator_says_which_queries_mean_the_same_and_what_becomes_of_cookies() {
    let upstream = answering(|_| {
        let fields = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nset-cookie: a=b\r\n";
        ok("x").replacen("HTTP/1.1 200 OK\r\n", fields, 1)
    });
    let ask = |proxy: &Proxy, target: &str| {
        request(proxy.address, &format!("GET {target} HTTP/1.1\r\nhost: a.example\r\n\r\n"))
    };
    for (policy, hit, has_cookie) in [("strip", true, false), ("store", true, true), ("refuse", false, true)] {
        let settings = [
            ("RPROXY_CACHE_QUERY", "sort, drop utm_*"),
            ("RPROXY_CACHE_SET_COOKIE", policy),
            ("RPROXY_CACHE_STATUS_KEY", "true"),
        ];
        let proxy = Proxy::start(upstream, &settings);
        let first = ask(&proxy, "/static/a.css?b=1&utm_source=x&a=2");
        assert_eq!(first.header("set-cookie"), Some("a=b"), "{policy}");
        let second = ask(&proxy, "/static/a.css?a=2&b=1");
        let status = second.header("cache-status").unwrap();
        assert_eq!(status.starts_with("rproxy; hit"), hit, "{policy}: {status}");
        assert!(status.ends_with("; key=\"http://a.example/static/a.css?a=2&b=1\""), "{status}");
        assert_eq!(second.header("set-cookie").is_some(), has_cookie, "{policy}");
    }
}

#[test]
fn what_is_on_disk_is_found_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("RPROXY_CACHE_DISK", folder.path().to_str().unwrap())];
    let upstream = answering(cached("accept-encoding", |head| head.split(' ').nth(1).unwrap().to_owned()));
    let mut proxy = Proxy::start(upstream, &settings);
    let has_files = || {
        let shelves = std::fs::read_dir(folder.path()).unwrap().map(|shelf| shelf.unwrap().path());
        shelves.filter(|path| path.is_dir()).any(|shelf| std::fs::read_dir(shelf).unwrap().count() > 0)
    };
    // The folder is looked through after the start; until then nothing is kept in it.
    let deadline = Instant::now() + PATIENCE;
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
    let asked = format!("GET {path} HTTP/1.1\r\nhost: a.example\r\ncache-control: only-if-cached\r\n\r\n");
    loop {
        let answer = request(proxy.address, &asked);
        if answer.status == 200 {
            assert_eq!(answer.body, path);
            break;
        }
        assert!(Instant::now() < deadline, "{}", answer.head);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_thousand_clients_that_ask_for_one_cold_object_are_one_request() {
    let (asked, all_have_asked) = (Arc::new(AtomicUsize::new(0)), Arc::new((Mutex::new(false), Condvar::new())));
    let (count, gate) = (Arc::clone(&asked), Arc::clone(&all_have_asked));
    let answer = cached("accept-encoding", |_| "cold".to_owned());
    let upstream = answering(move |head| {
        count.fetch_add(1, Ordering::SeqCst);
        let (open, opened) = &*gate;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open));
        answer(head)
    });
    let proxy = Proxy::start(upstream, &[("RPROXY_RATE_LIMIT_ENABLED", "false")]);
    let mut clients: Vec<_> = (0..1000).map(|_| connect(proxy.address)).collect();
    for client in &mut clients {
        client.write_all(b"GET /static/a.css HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    }
    *all_have_asked.0.lock().unwrap() = true;
    all_have_asked.1.notify_all();
    for client in &mut clients {
        let answer = read_answer(client).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "cold"));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
