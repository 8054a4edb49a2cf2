//! Tests of requests and responses that the proxy forwards to and from nginx and scripted backends.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::sleep;
use std::time::Duration;

use crate::support::upstream::{Nginx, echo, ok, read_head, responding, scripted};
use crate::support::{Proxy, TIMEOUT, connect, curl, exchange, get, has, read_response, read_to_end, request};

#[test]
fn forwards_files_of_any_size_from_nginx() {
    let Some(nginx) = Nginx::start("location / { add_header x-origin nginx; }") else { return };
    let large: Vec<u8> = (0..5_000_000_u32).map(|number| number as u8).collect();
    std::fs::write(nginx.folder.path().join("small.txt"), "hello").unwrap();
    std::fs::write(nginx.folder.path().join("large.bin"), &large).unwrap();
    let proxy = Proxy::start(nginx.address, &[]);
    let url = |path: &str| format!("http://{}{path}", proxy.address);

    assert_eq!(curl(&[&url("/small.txt")]), "hello");
    let target = nginx.folder.path().join("copy");
    curl(&["-o", target.to_str().unwrap(), &url("/large.bin")]);
    assert!(std::fs::read(&target).unwrap() == large);
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", &url("/missing")]), "404");
    let head = curl(&["-I", &url("/small.txt")]).to_ascii_lowercase();
    assert!(head.contains("content-length: 5\r\n") && head.contains("x-origin: nginx\r\n"), "{head}");
    let range = curl(&["-r", "1-3", &url("/small.txt")]);
    assert_eq!(range, "ell");
}

#[test]
fn forwards_content_length_and_chunked_uploads() {
    let Some(nginx) = Nginx::start(
        "location /put { client_body_in_file_only on; return 200 \"$request_method $http_content_length $http_transfer_encoding\"; }",
    ) else {
        return;
    };
    let proxy = Proxy::start(nginx.address, &[]);
    let url = format!("http://{}/put", proxy.address);
    assert_eq!(curl(&["-X", "PUT", "-d", "hello", &url]), "PUT 5 ");
    assert_eq!(curl(&["-X", "PATCH", "-H", "transfer-encoding: chunked", "-d", "hello", &url]), "PATCH  chunked");
}

#[test]
fn forwards_any_method_and_body_unchanged() {
    let upstream = responding(|head| ok(head.lines().next().unwrap()));
    let proxy = Proxy::start(upstream, &[]);
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "x-own"] {
        let bytes =
            format!("{method} /a%2Fb?c=d&e HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc");
        let response = request(proxy.address, &bytes);
        assert_eq!(response.body, format!("{method} /a%2Fb?c=d&e HTTP/1.1"));
    }
}

#[test]
fn responses_without_body_keep_the_connection_reusable() {
    let upstream = responding(|head| {
        let target = head.split(' ').nth(1).unwrap();
        match target {
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
            "/304" => "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n".into(),
            "/head" => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".into(),
            _ => ok("end"),
        }
    });
    let proxy = Proxy::start(upstream, &[]);
    let bytes = "GET /204 HTTP/1.1\r\nhost: a\r\n\r\nGET /304 HTTP/1.1\r\nhost: a\r\n\r\nHEAD /head HTTP/1.1\r\nhost: a\r\n\r\n\
        GET /end HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let response = exchange(proxy.address, bytes.as_bytes());
    let statuses: Vec<_> = response.match_indices("HTTP/1.1 ").map(|(at, _)| &response[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["204", "304", "200", "200"], "{response}");
    assert!(response.contains("content-length: 1000\r\n") && response.ends_with("\r\n\r\nend"), "{response}");
}

#[test]
fn replaces_spoofed_forwarding_headers() {
    let proxy = Proxy::start(echo(), &[]);
    let response = request(
        proxy.address,
        "GET / HTTP/1.1\r\nHost: a.example:81\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\
         X-Request-Id: forged\r\nProxy: evil\r\nForwarded: for=6.6.6.6\r\nConnection: close, X-Hop, Host\r\nX-Hop: 1\r\nTE: gzip\r\n\
         Keep-Alive: 5\r\n\r\n",
    );
    let seen = response.body.to_ascii_lowercase();
    for line in [
        "host: a.example:81",
        "x-forwarded-for: 127.0.0.1",
        "x-real-ip: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: a.example:81",
        "x-forwarded-port: 81",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line} in {seen}");
    }
    for gone in ["6.6.6.6", "forged", "evil", "x-hop", "gzip", "keep-alive", "x_forwarded"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
}

#[test]
fn keeps_forwarding_headers_of_trusted_proxies() {
    let proxy = Proxy::start(echo(), &[("RPROXY_TRUSTED_PROXIES", "loopback")]);
    let response = request(
        proxy.address,
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Request-Id: r-1\r\n\
         Connection: close\r\n\r\n",
    );
    let seen = response.body.to_ascii_lowercase();
    for line in [
        "x-forwarded-for: 192.0.2.7, 127.0.0.1",
        "x-real-ip: 192.0.2.7",
        "x-forwarded-proto: https",
        "x-request-id: r-1",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line} in {seen}");
    }
}

#[test]
fn reads_forwarded_header_of_trusted_proxies() {
    let head = "GET / HTTP/1.1\r\nHost: internal:8080\r\nForwarded: for=203.0.113.9;proto=https;host=pub.example\r\n\
                Connection: close\r\n\r\n";
    for (fields, host, forwarded) in
        [("", "internal:8080", "host=\"internal:8080\""), ("x-forwarded-host", "pub.example", "host=pub.example")]
    {
        let settings = [
            ("RPROXY_TRUSTED_PROXIES", "loopback"),
            ("RPROXY_CLIENT_IP_FROM", "Forwarded"),
            ("RPROXY_FORWARDED", "true"),
            ("RPROXY_TRUSTED_FIELDS", fields),
        ];
        let seen = request(Proxy::start(echo(), &settings).address, head).body.to_ascii_lowercase();
        for line in [
            "x-forwarded-proto: https",
            "x-real-ip: 203.0.113.9",
            &format!("x-forwarded-host: {host}"),
            &format!("forwarded: for=203.0.113.9, for=127.0.0.1;{forwarded};proto=https"),
        ] {
            assert!(seen.lines().any(|seen| seen == line), "{line} in {seen}");
        }
    }
}

#[test]
fn client_ip_from_selects_between_conflicting_fields_over_http1_and_http2() {
    let fields = [
        "Host: internal:8080",
        "Forwarded: for=6.6.6.6;proto=http;host=evil.example, for=203.0.113.9;proto=https;host=pub.example",
        "X-Forwarded-For: 6.6.6.6, 203.0.113.8",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: other.example",
        "X-Forwarded-Port: 81",
    ];
    let arguments: Vec<_> = fields.iter().flat_map(|field| ["-H", *field]).collect();
    for (source, expected) in [
        ("Forwarded", ["203.0.113.9", "https", "pub.example", "443"]),
        ("X-Forwarded-For", ["203.0.113.8", "http", "other.example:81", "81"]),
    ] {
        let settings = [
            ("RPROXY_TRUSTED_PROXIES", "loopback"),
            ("RPROXY_CLIENT_IP_FROM", source),
            ("RPROXY_TRUSTED_FIELDS", "x-forwarded-host, x-forwarded-port"),
        ];
        let proxy = Proxy::start(echo(), &settings);
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let url = format!("http://{}/", proxy.address);
            let seen = curl(&[&[version, &*url][..], &arguments].concat()).to_ascii_lowercase();
            let names = ["x-real-ip", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"];
            for (name, value) in names.iter().zip(expected) {
                assert!(
                    seen.contains(&format!("\r\n{name}: {value}\r\n")),
                    "{source} {version} {name}: {value} in {seen}"
                );
            }
        }
    }
}

#[test]
fn ignores_a_malformed_forwarded_element() {
    let settings = [("RPROXY_TRUSTED_PROXIES", "loopback"), ("RPROXY_CLIENT_IP_FROM", "Forwarded")];
    let proxy = Proxy::start(echo(), &settings);
    for forwarded in
        ["for=203.0.113.9:80;proto=https", "for=203.0.113.9;proto=https;proto=https", "for=\"203.0.113.9;proto=https"]
    {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nForwarded: {forwarded}\r\nConnection: close\r\n\r\n");
        let seen = request(proxy.address, &head).body.to_ascii_lowercase();
        for line in ["x-real-ip: 127.0.0.1", "x-forwarded-proto: http"] {
            assert!(seen.lines().any(|seen| seen == line), "{line} in {seen}");
        }
    }
}

#[test]
fn normalises_host_for_the_backend() {
    let proxy = Proxy::start(echo(), &[]);
    for host in ["A.Example", "a.example:80", "a.example:080", "a.example."] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let seen = request(proxy.address, &head).body.to_ascii_lowercase();
        assert!(seen.lines().any(|line| line == "host: a.example"), "{host}: {seen}");
        assert!(seen.lines().any(|line| line == "x-forwarded-host: a.example"), "{host}: {seen}");
    }
    let head = "GET http://A.example:80/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let seen = request(proxy.address, head).body;
    assert!(seen.starts_with("GET /x HTTP/1.1\r\n") && seen.contains("\r\nHost: a.example\r\n"), "{seen}");
}

#[test]
fn forwards_te_trailers_with_the_connection_option_te() {
    let proxy = Proxy::start(echo(), &[]);
    for fields in ["TE: trailers\r\nConnection: close, TE\r\n", "TE: gzip, trailers\r\nConnection: close\r\n"] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let seen = request(proxy.address, &head).body.to_ascii_lowercase();
        assert!(seen.contains("\r\nte: trailers\r\n") && seen.contains("\r\nconnection: te\r\n"), "{seen}");
    }
    let seen = request(proxy.address, "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\nConnection: close, TE\r\n\r\n").body;
    assert!(!seen.to_ascii_lowercase().contains("\r\nte:"), "{seen}");
}

#[test]
fn forwards_trailer_section() {
    let upstream = responding(|_| {
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 42\r\n\r\n"
            .into()
    });
    let proxy = Proxy::start(upstream, &[]);
    let response = exchange(proxy.address, b"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\n\r\n");
    assert!(response.ends_with("0\r\nx-sum: 42\r\n\r\n"), "{response}");
}

#[test]
fn forwards_server_sent_events_without_buffering() {
    let (next, go) = mpsc::channel::<&str>();
    let go = std::sync::Arc::new(std::sync::Mutex::new(go));
    let upstream = scripted(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").unwrap();
        for event in go.lock().unwrap().iter() {
            stream.write_all(event.as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::start(upstream, &[]);
    let mut client = connect(proxy.address);
    client.write_all(b"GET /events HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip, br\r\n\r\n").unwrap();
    // Each event is sent only after the previous one has arrived.
    let mut seen = String::new();
    for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
        next.send(event).unwrap();
        while !seen.contains(event) {
            let mut bytes = [0; 1024];
            let read = client.read(&mut bytes).expect("the next event");
            assert!(read > 0, "ended after {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }
}

#[test]
fn streams_request_body_before_it_is_complete() {
    let (seen, arrived) = mpsc::channel();
    let upstream = scripted(move |mut stream| {
        read_head(&mut stream);
        let mut bytes = [0; 3];
        stream.read_exact(&mut bytes).unwrap();
        seen.send(bytes).unwrap();
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(ok("thanks").as_bytes()).unwrap();
    });
    let proxy = Proxy::start(upstream, &[]);
    let mut client = connect(proxy.address);
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc").unwrap();
    assert_eq!(&arrived.recv_timeout(TIMEOUT).unwrap(), b"abc");
    client.write_all(b"def").unwrap();
    assert_eq!(read_response(&mut client).unwrap().body, "thanks");
}

#[test]
fn client_disconnect_cancels_the_upstream_request() {
    let (events, happened) = mpsc::channel();
    let upstream = scripted(move |mut stream| {
        read_head(&mut stream);
        events.send("received").unwrap();
        assert!(read_head(&mut stream).is_none());
        events.send("cancelled").unwrap();
    });
    let proxy = Proxy::start(upstream, &[]);
    let mut client = connect(proxy.address);
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(happened.recv_timeout(TIMEOUT).unwrap(), "received");
    // A close within 200 ms of the request is a half-close, after which the client still reads.
    sleep(Duration::from_millis(300));
    client.shutdown(Shutdown::Both).unwrap();
    drop(client);
    assert_eq!(happened.recv_timeout(TIMEOUT).unwrap(), "cancelled");
}

#[test]
fn aborted_upstream_body_never_looks_complete_to_the_client() {
    for (head, part) in [("content-length: 100\r\n", "half"), ("transfer-encoding: chunked\r\n", "4\r\nhalf\r\n")] {
        let (seen, when_seen) = mpsc::channel();
        let when_seen = Arc::new(Mutex::new(when_seen));
        let upstream = scripted(move |mut stream| {
            read_head(&mut stream);
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n{part}").as_bytes()).unwrap();
            when_seen.lock().unwrap().recv_timeout(TIMEOUT).unwrap();
        });
        let proxy = Proxy::start(upstream, &[]);
        let mut client = connect(proxy.address);
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut response = String::new();
        while !response.contains("half") {
            let mut bytes = [0; 1024];
            let length = client.read(&mut bytes).unwrap();
            assert_ne!(length, 0, "{response}");
            response.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        seen.send(()).unwrap();
        let rest = read_to_end(&mut client);
        assert!(!rest.ends_with("0\r\n\r\n"), "a chunked response must not look complete: {response}{rest}");
    }
}

#[test]
fn stale_pooled_connection_causes_no_502() {
    // Closes after each response, like Node after its keep-alive timeout.
    let upstream = scripted(|mut stream| {
        if read_head(&mut stream).is_some() {
            let _ = stream.write_all(ok("once").as_bytes());
        }
    });
    let proxy = Proxy::start(upstream, &[("RPROXY_RATE_LIMIT", "100000"), ("RPROXY_RATE_BURST", "100000")]);
    let mut client = connect(proxy.address);
    for _ in 0..500 {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let response = read_response(&mut client).unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, "once"));
    }
}

#[test]
fn forwards_requests_to_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(ok("by unix").as_bytes());
        }
    });
    let upstream = format!("unix:{}", path.display());
    let proxy = Proxy::run(&[], &[("RPROXY_UPSTREAM", &upstream), ("RPROXY_LISTEN", "127.0.0.1:0")]);
    assert_eq!(get(proxy.address, "/").body, "by unix");
}

#[test]
fn forwards_requests_from_nginx_and_keeps_its_forwarding_fields() {
    if !has("nginx") {
        return;
    }
    let proxy = Proxy::start(echo(), &[("RPROXY_TRUSTED_PROXIES", "loopback")]);
    let front = Nginx::start(&format!(
        "location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header connection \"\";
         proxy_set_header x-forwarded-for $proxy_add_x_forwarded_for; }}",
        proxy.address
    ))
    .unwrap();
    let response = get(front.address, "/through");
    assert!(response.body.starts_with("GET /through HTTP/1.1"), "{}", response.body);
    assert!(response.body.contains("x-forwarded-for: 127.0.0.1, 127.0.0.1"), "{}", response.body);
}

#[test]
fn responds_to_pipelined_requests_in_order() {
    let proxy = Proxy::start(responding(|head| ok(head.split(' ').nth(1).unwrap())), &[]);
    let mut client = connect(proxy.address);
    let last = |n| if n == 19 { "connection: close\r\n" } else { "" };
    let requests: String = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: a\r\n{}\r\n", last(n))).collect();
    client.write_all(requests.as_bytes()).unwrap();
    let response = read_to_end(&mut client);
    let places: Vec<_> = (0..20).map(|n| response.find(&format!("\r\n\r\n/{n}")).expect("a response")).collect();
    assert!(places.is_sorted(), "{response}");
}
