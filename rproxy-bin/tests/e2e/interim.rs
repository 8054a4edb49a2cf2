//! Tests of interim (1xx) responses.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};

use crate::support::upstream::{ok, read_head, responding, scripted};
use crate::support::{Proxy, connect, exchange, read_response};

const HINTS: &str = "HTTP/1.1 102 Processing\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nserver: secret\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n";

// RFC 9110 §15.2: a proxy forwards interim responses. RFC 8297: early hints are useful only before the response.
#[test]
fn forwards_early_hints_before_the_response() {
    let arrived = Arc::new((Mutex::new(0), Condvar::new()));
    let seen = Arc::clone(&arrived);
    let upstream = scripted(move |mut stream| {
        let mut answered = 0;
        while read_head(&mut stream).is_some() {
            stream.write_all(HINTS.as_bytes()).unwrap();
            answered += 1;
            drop(seen.1.wait_while(seen.0.lock().unwrap(), |arrived| *arrived < answered).unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        }
    });
    let proxy = Proxy::start(upstream, &[]);
    let mut client = connect(proxy.address);
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
        assert_eq!(read_head(&mut client).unwrap(), "HTTP/1.1 102 Processing\r\n\r\n");
        assert_eq!(
            read_head(&mut client).unwrap(),
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n",
            "neither hop-by-hop fields nor fingerprints"
        );
        *arrived.0.lock().unwrap() += 1;
        arrived.1.notify_all();
        let response = read_response(&mut client).unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, "ok"));
    }
}

#[test]
fn forwards_103_for_posts_but_not_to_http_1_0_clients() {
    // The backend keeps connections open: one that ends while the POST is sent would cause a 502 (RFC 9110 §9.2.2).
    let upstream = responding(|_| format!("{HINTS}{}", ok("ok")));
    let proxy = Proxy::start(upstream, &[]);
    for (request, is_forwarded) in [
        // RFC 9110 §15.2: not to HTTP/1.0.
        ("GET / HTTP/1.0\r\nhost: a.example\r\n\r\n", false),
        ("POST / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx", true),
    ] {
        let response = exchange(proxy.address, request.as_bytes());
        assert!(response.contains(" 200 OK\r\n"), "{response}");
        assert_eq!(response.contains("HTTP/1.1 103"), is_forwarded, "{response}");
    }
}

// RFC 9112 §6.3: a body that is not chunked ends with the connection.
#[test]
fn forwards_body_with_unknown_transfer_coding() {
    for coding in ["identity", "binary"] {
        let upstream = scripted(move |mut stream| {
            read_head(&mut stream);
            let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {coding}\r\n\r\nold server");
            stream.write_all(head.as_bytes()).unwrap();
        });
        let proxy = Proxy::start(upstream, &[]);
        let response = exchange(proxy.address, b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains("old server"), "{response}");
        assert!(!response.contains(coding), "{response}");
    }
}
