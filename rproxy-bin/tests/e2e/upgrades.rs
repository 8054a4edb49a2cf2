//! Protocols besides WebSocket, through the built binary.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use crate::support::upstream::{answering, ok, read_head, scripted};
use crate::support::{Proxy, connect, exchange, request};

const UPGRADE: &str = "POST /attach HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// Switches to `tcp`, and says backwards what it hears, with the head that it got before it.
fn tcp_server() -> SocketAddr {
    scripted(|mut socket| {
        let Some(head) = read_head(&mut socket) else { return };
        let switching = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
        socket.write_all(format!("{switching}{head}").as_bytes()).unwrap();
        let mut said = Vec::new();
        socket.read_to_end(&mut said).unwrap();
        said.reverse();
        socket.write_all(&said).unwrap();
    })
}

#[test]
fn one_that_is_allowed_passes_through_the_whole_stack_and_is_logged_by_its_name() {
    for (format, logged) in [
        ("json", "\"upgrade\":{\"protocol\":\"tcp\",\"closed_by\":\"client\",\"bytes_received\":5}"),
        ("text", "protocol=tcp closed_by=client received=5 id="),
    ] {
        // The cache would have it, too, if it were a request like others.
        let settings = [("RPROXY_UPGRADES", "tcp"), ("RPROXY_CACHE_PATHS", "/**"), ("RPROXY_ACCESS_LOG", format)];
        let proxy = Proxy::start(tcp_server(), &settings);
        let mut client = connect(proxy.address);
        client.write_all(UPGRADE.replace("POST", "GET").as_bytes()).unwrap();
        assert!(read_head(&mut client).unwrap().starts_with("HTTP/1.1 101 "));
        let head = read_head(&mut client).unwrap().to_ascii_lowercase();
        for field in ["\r\nupgrade: tcp\r\n", "\r\nconnection: upgrade\r\n", "\r\nx-forwarded-for: 127.0.0.1\r\n"] {
            assert!(head.contains(field), "{head}");
        }
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "olleh");
        drop(client);
        let line = proxy.wait_for_output("/attach");
        assert!(line.contains(logged), "{line}");
    }
}

#[test]
fn without_a_101_nothing_of_what_follows_is_passed_on_unseen() {
    let upstream = answering(|head| ok(head.split(' ').nth(1).unwrap()));
    for settings in [&[][..], &[("RPROXY_UPGRADES", "tcp")]] {
        let proxy = Proxy::start(upstream, settings);
        let behind = "GET /.env HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = exchange(proxy.address, format!("{UPGRADE}{behind}").as_bytes());
        assert!(answer.contains("\r\n\r\n/attach") && answer.contains("HTTP/1.1 404 "), "{answer}");
    }
}

#[test]
fn one_that_is_not_allowed_never_reaches_the_upstream_as_one() {
    let proxy = Proxy::start(answering(ok), &[("RPROXY_UPGRADES", "SPDY/3.1")]);
    let answer = request(proxy.address, &UPGRADE.replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(answer.status, 200);
    assert!(!answer.body.to_ascii_lowercase().contains("upgrade"), "{}", answer.body);
}
