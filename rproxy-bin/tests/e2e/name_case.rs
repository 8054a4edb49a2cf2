//! Tests of the letter case of field names (RFC 9110 §5.1), which HTTP/1 recipients with faults depend on.

use std::io::Write;

use crate::support::upstream::{Nginx, read_head, scripted};
use crate::support::{Proxy, connect, read_response};

/// The lines that all heads of the tests contain, with common and uncommon spellings.
const LINES: [&str; 6] =
    ["SOAPAction: \"a\"", "x-MIXED-case: b", "X-UPNP: c", "X-uPnP: d", "lower-case: e", "Title-Case: f"];

fn with_lines(start: &str, end: &str) -> String {
    format!("{start}\r\n{}\r\n{end}\r\n\r\n", LINES.join("\r\n"))
}

fn assert_has_lines(head: &str, others: &[&str]) {
    let lines: Vec<_> = head.split("\r\n").collect();
    for line in LINES.iter().chain(others) {
        assert!(lines.contains(line), "{line:?} is not in {head}");
    }
}

#[test]
fn requests_and_responses_keep_the_letter_case_of_field_names() {
    let upstream = scripted(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            assert_has_lines(&head, &["HOST: a.example", "Content-LENGTH: 2"]);
            // What rproxy adds, and a field that it changes.
            for name in ["x-forwarded-for: ", "te: trailers"] {
                assert!(head.contains(&format!("\r\n{name}")), "{head}");
            }
            let (mut content, end) = ([0; 2], "Content-Length: 2\r\nDATE: now\r\nETag: \"x\"");
            std::io::Read::read_exact(&mut stream, &mut content).unwrap();
            stream.write_all(with_lines("HTTP/1.1 103 Early Hints", "LINK: </a>").as_bytes()).unwrap();
            stream.write_all((with_lines("HTTP/1.1 200 OK", end) + "ok").as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::start(upstream, &[]);
    let mut client = connect(proxy.address);
    for _ in 0..2 {
        let end = "TE: trailers, gzip\r\nContent-LENGTH: 2";
        client.write_all((with_lines("POST / HTTP/1.1\r\nHOST: a.example", end) + "ok").as_bytes()).unwrap();
        assert_has_lines(&read_head(&mut client).unwrap(), &["LINK: </a>"]);
        let response = read_response(&mut client).unwrap();
        assert_eq!(response.status, 200);
        assert_has_lines(&response.head, &["Content-Length: 2", "DATE: now", "ETag: \"x\""]);
        assert!(response.head.contains("\r\nratelimit: "), "{}", response.head);
    }
}

#[test]
fn websocket_handshakes_keep_the_letter_case_of_field_names() {
    let upstream = scripted(|mut stream| {
        let head = read_head(&mut stream).unwrap();
        assert_has_lines(&head, &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]);
        assert!(head.to_ascii_lowercase().contains("upgrade: websocket"), "{head}");
        let end = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let head = with_lines("HTTP/1.1 101 Switching Protocols", end);
        // With the first message, in the same segment.
        stream.write_all(&[head.as_bytes(), b"\x81\x02hi"].concat()).unwrap();
        let mut message = [0; 8];
        std::io::Read::read_exact(&mut stream, &mut message).unwrap();
        stream.write_all(b"\x88\x00").unwrap();
    });
    let proxy = Proxy::start(upstream, &[]);
    let mut client = connect(proxy.address);
    let end = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    client.write_all(with_lines("GET / HTTP/1.1\r\nHost: a.example", end).as_bytes()).unwrap();
    let head = read_head(&mut client).unwrap();
    assert_has_lines(&head, &["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
    let mut message = [0; 4];
    std::io::Read::read_exact(&mut client, &mut message).unwrap();
    assert_eq!(&message, b"\x81\x02hi");
    client.write_all(b"\x81\x82\0\0\0\0ok").unwrap();
    std::io::Read::read_exact(&mut client, &mut message[..2]).unwrap();
    assert_eq!(&message[..2], b"\x88\x00");
}

#[test]
fn responses_from_the_cache_have_lower_case_field_names() {
    let upstream = scripted(|mut stream| {
        while read_head(&mut stream).is_some() {
            let end = "Cache-Control: max-age=60\r\nContent-Length: 0";
            stream.write_all(with_lines("HTTP/1.1 200 OK", end).as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::start(upstream, &[("RPROXY_CACHE_PATHS", "/**")]);
    let get = || crate::support::get(proxy.address, "/a");
    assert_has_lines(&get().head, &["Cache-Control: max-age=60"]);
    let hit = get();
    assert!(hit.header("cache-status").is_some_and(|status| status.contains("hit")), "{}", hit.head);
    assert!(hit.head.contains("\r\nsoapaction: \"a\"\r\n"), "{}", hit.head);
}

// nginx writes names in title case and forwards those of clients unchanged.
#[test]
fn responses_of_nginx_have_the_same_names_with_and_without_rproxy() {
    let Some(nginx) = Nginx::start("location / { add_header X-CuStOm a; return 200 \"$request_id\"; }") else { return };
    let proxy = Proxy::start(nginx.address, &[]);
    let names = |address| {
        let head = crate::support::get(address, "/").head;
        let names = head.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned()));
        names.collect::<Vec<_>>()
    };
    let forwarded = names(proxy.address);
    // The proxy removes the product name, and writes the fields about its own connection.
    for name in names(nginx.address).iter().filter(|name| !["Server", "Connection"].contains(&name.as_str())) {
        assert!(forwarded.contains(name), "{name} is not in {forwarded:?}");
    }
}
