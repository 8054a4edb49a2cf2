//! Tests of upgrades to protocols other than WebSocket.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use crate::support::upstream::{ok, read_head, responding, scripted};
use crate::support::{Proxy, connect, exchange, request};

const UPGRADE: &str = "POST /attach HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// Starts a backend that upgrades to `tcp`, sends back the request head, and echoes received bytes in reverse order.
fn tcp_server() -> SocketAddr {
    scripted(|mut socket| {
        let Some(head) = read_head(&mut socket) else { return };
        let switching = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
        socket.write_all(format!("{switching}{head}").as_bytes()).unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).unwrap();
        received.reverse();
        socket.write_all(&received).unwrap();
    })
}

#[test]
fn forwards_allowed_upgrade_and_logs_its_protocol() {
    for (format, logged) in [
        ("json", "\"upgrade\":{\"protocol\":\"tcp\",\"closed_by\":\"client\",\"bytes_received\":5}"),
        ("text", "protocol=tcp closed_by=client received=5 id="),
    ] {
        // The cache would apply if this were an ordinary request.
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
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        assert_eq!(response, "olleh");
        drop(client);
        let line = proxy.wait_for_output("/attach");
        assert!(line.contains(logged), "{line}");
    }
}

#[test]
fn declined_upgrade_allows_no_request_smuggling() {
    let upstream = responding(|head| ok(head.split(' ').nth(1).unwrap()));
    for settings in [&[][..], &[("RPROXY_UPGRADES", "tcp")]] {
        let proxy = Proxy::start(upstream, settings);
        let behind = "GET /.env HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let response = exchange(proxy.address, format!("{UPGRADE}{behind}").as_bytes());
        assert!(response.contains("\r\n\r\n/attach") && response.contains("HTTP/1.1 404 "), "{response}");
    }
}

#[test]
fn strips_upgrade_fields_of_protocols_that_are_not_allowed() {
    let proxy = Proxy::start(responding(ok), &[("RPROXY_UPGRADES", "SPDY/3.1")]);
    let response = request(proxy.address, &UPGRADE.replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(response.status, 200);
    assert!(!response.body.to_ascii_lowercase().contains("upgrade"), "{}", response.body);
}
