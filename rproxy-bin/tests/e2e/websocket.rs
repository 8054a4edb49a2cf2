//! Tests of WebSockets through the proxy, with tokio-tungstenite as client and backend.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::upstream::{ok, responding};
use crate::support::{Proxy, connect, exchange, request};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{accept_async, client_async, connect_async};

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Returns the response to a WebSocket handshake.
fn switching(head: &str) -> String {
    let key = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().starts_with("sec-websocket-key").then(|| line[18..].trim()));
    let accept = derive_accept_key(key.unwrap().as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// Starts a WebSocket echo server on a separate runtime.
fn echo_server() -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut socket) = accept_async(stream).await else { return };
                    while let Some(Ok(message)) = socket.next().await {
                        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    receiver.recv().unwrap()
}

#[tokio::test]
async fn echoes_messages_of_all_sizes() {
    let proxy = Proxy::start(echo_server(), &[]);
    let (mut socket, response) = connect_async(format!("ws://{}/chat", proxy.address)).await.unwrap();
    assert_eq!(response.status(), 101);
    for size in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
        let message = Message::binary(vec![b'x'; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message, "{size}");
    }
    socket.send(Message::text("grüße")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("grüße"));
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn rejects_upgrade_outside_of_ws_paths() {
    let upstream = echo_server();
    for settings in [("RPROXY_WS_PATHS", "/chat/**"), ("RPROXY_WS_ENABLED", "false")] {
        let proxy = Proxy::start(upstream, &[settings]);
        assert!(connect_async(format!("ws://{}/other", proxy.address)).await.is_err(), "{settings:?}");
    }
    let proxy = Proxy::start(upstream, &[("RPROXY_WS_PATHS", "/chat/**")]);
    assert!(connect_async(format!("ws://{}/chat/room", proxy.address)).await.is_ok());
}

#[test]
fn treats_non_websocket_upgrades_as_ordinary_requests() {
    let proxy = Proxy::start(responding(ok), &[]);
    let response = request(
        proxy.address,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    );
    assert_eq!(response.status, 200);
    assert!(!response.body.to_ascii_lowercase().contains("upgrade"), "{}", response.body);
}

#[test]
fn declined_upgrade_allows_no_request_smuggling() {
    let proxy = Proxy::start(responding(|head| ok(head.split(' ').nth(1).unwrap())), &[]);
    let handshake = format!("{HANDSHAKE}GET /.env HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let response = exchange(proxy.address, handshake.as_bytes());
    // The upgrade is declined, so the next bytes are an ordinary request.
    assert!(response.contains("\r\n\r\n/ws") && response.contains("HTTP/1.1 404 "), "{response}");
}

#[test]
fn forwards_bytes_sent_with_the_handshake_in_both_directions() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap(), &[]);
    let upstream = std::thread::spawn(move || {
        let mut socket = listener.accept().unwrap().0;
        let head = read_head(&mut socket);
        // In one segment with the response.
        socket.write_all(&[switching(&head).as_bytes(), b"\x81\x05early"].concat()).unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).unwrap();
        // The client has closed its side; this side has not.
        socket.write_all(b"\x88\x00").unwrap();
        received
    });
    let mut client = connect(proxy.address);
    let frame = b"\x81\x85\0\0\0\0hello";
    client.write_all(&[HANDSHAKE.as_bytes(), frame].concat()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    client.shutdown(Shutdown::Write).unwrap();
    let mut response = Vec::new();
    client.read_to_end(&mut response).unwrap();
    assert_eq!((upstream.join().unwrap(), response), (frame.to_vec(), b"\x81\x05early\x88\x00".to_vec()));
}

#[test]
fn slow_reader_does_not_increase_memory_use() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap(), &[]);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let head = read_head(&mut socket);
                socket.write_all(switching(&head).as_bytes()).unwrap();
                // A message of unlimited length.
                socket.write_all(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff").unwrap();
                while socket.write_all(&[7; 1 << 16]).is_ok() {}
            });
        }
    });
    let resident = || {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", proxy.pid())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let slow = || {
        let mut client = connect(proxy.address);
        client.write_all(HANDSHAKE.as_bytes()).unwrap();
        assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
        client
    };
    let _first = slow();
    let before = resident();
    let mut others: Vec<_> = (0..20).map(|_| slow()).collect();
    // A reader that reads now and then: each time, the proxy forwards as much as fits and waits.
    for _ in 0..3 {
        for client in &mut others {
            client.read_exact(&mut vec![0; 4 << 20]).unwrap();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 20 * (64 << 10), "{grown} bytes for 20 tunnels");
}

#[tokio::test]
async fn killed_backend_ends_the_tunnel_or_closes_with_1011_in_message_mode() {
    for (settings, by_message) in [(&[][..], false), (&[("RPROXY_WS_MAX_MESSAGE", "1MiB")], true)] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), settings);
        let accepted = tokio::spawn(async move { accept_async(listener.accept().await.unwrap().0).await.unwrap() });
        let (mut client, _) = connect_async(format!("ws://{}/", proxy.address)).await.unwrap();
        let mut upstream = accepted.await.unwrap();
        upstream.send(Message::text("last")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("last"));
        // The system closes the sockets of a killed process in this way.
        drop(upstream);
        let began = Instant::now();
        match client.next().await.unwrap() {
            Ok(Message::Close(Some(close))) if by_message => assert_eq!(u16::from(close.code), 1011),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) if !by_message => {}
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_websocket_is_logged_as_json_and_counted() {
    let settings = [
        ("RPROXY_ACCESS_LOG", "json"),
        ("RPROXY_ADMIN_LISTEN", "127.0.0.1:0"),
        ("RPROXY_WS_MAX_PER_CLIENT", "1"),
        ("RPROXY_WS_ORIGINS", "https://app.example"),
    ];
    let proxy = Proxy::start(echo_server(), &settings);
    let (mut client, _) = connect_async(format!("ws://{}/chat?room=1", proxy.address)).await.unwrap();
    client.send(Message::text("hello")).await.unwrap();
    client.next().await.unwrap().unwrap();
    let admin = proxy.address_of("admin requests");
    let metric = |series: &str| {
        let response = exchange(admin, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let line = response.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{response}"));
        line.trim().parse::<u64>().unwrap()
    };
    assert_eq!((metric("rproxy_tunnels "), metric("rproxy_tunnel_messages_total{from=\"client\"} ")), (1, 1));

    // Exceeds the limit per client, then uses a forbidden origin.
    let refused = request(proxy.address, HANDSHAKE);
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    let from_elsewhere = HANDSHAKE.replace("Host: a", "Host: a\r\nOrigin: https://evil.example");
    assert_eq!(request(proxy.address, &from_elsewhere).status, 403);

    let close = CloseFrame { code: CloseCode::Library(4001), reason: "bye".into() };
    client.close(Some(close)).await.unwrap();
    while client.next().await.is_some() {}
    drop(client);
    let line = tokio::task::block_in_place(|| proxy.wait_for_output("\"websocket\":{"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["target"], &line["status"], &line["aborted"]),
        (&"/chat?room=1".into(), &101.into(), &false.into())
    );
    // Masked frames: hello, and the Close with its reason.
    let expected = serde_json::json!({
        "closed_by": "client", "close_code": 4001, "bytes_received": 11 + 11, "messages_received": 1, "messages_sent": 1,
    });
    assert_eq!(line["websocket"], expected);
    assert_eq!(line["bytes"], 7 + 7);
    for (series, value) in [
        ("rproxy_tunnels ", 0),
        ("rproxy_tunnel_bytes_total{from=\"client\"} ", 22),
        ("rproxy_tunnels_closed_total{by=\"client\"} ", 1),
        ("rproxy_tunnel_close_codes_total{code=\"4xxx\"} ", 1),
        ("rproxy_requests_total{method=\"GET\",code=\"101\"} ", 1),
    ] {
        assert_eq!(metric(series), value, "{series}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_and_aborted_websockets_are_logged_as_text() {
    let settings = [("RPROXY_ACCESS_LOG", "text"), ("RPROXY_DRAIN_TIMEOUT", "1")];
    let mut proxy = Proxy::start(echo_server(), &settings);
    let (mut client, _) = connect_async(format!("ws://{}/chat?room=1", proxy.address)).await.unwrap();
    client.send(Message::text("hello")).await.unwrap();
    client.next().await.unwrap().unwrap();
    client.close(Some(CloseFrame { code: CloseCode::Library(4001), reason: "bye".into() })).await.unwrap();
    while client.next().await.is_some() {}
    drop(client);
    let line = tokio::task::block_in_place(|| proxy.wait_for_output("/chat?room=1"));
    assert!(line.contains("\"GET /chat?room=1 HTTP/1.1\" 101 14 "), "{line}");
    assert!(line.contains(" closed_by=client close_code=4001 received=22 messages=1/1 id="), "{line}");

    // The client sends no Close, so the drain timeout aborts the tunnel.
    let (_client, _) = connect_async(format!("ws://{}/silent", proxy.address)).await.unwrap();
    proxy.signal("TERM");
    let line = tokio::task::block_in_place(|| proxy.wait_for_output("/silent"));
    assert!(line.contains("\"GET /silent HTTP/1.1\" 101 0 ") && line.contains("ms aborted id="), "{line}");
    assert_eq!(tokio::task::spawn_blocking(move || proxy.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reload_closes_websockets_only_if_their_upstream_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rproxy.toml");
    let (old, new) = (echo_server(), echo_server());
    let write = |upstream: SocketAddr, more: &str| {
        let text = format!("listen = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\n{more}");
        std::fs::write(&file, text).unwrap();
    };
    write(old, "");
    let proxy = Proxy::run(&["--config", file.to_str().unwrap()], &[]);
    let (mut client, _) = connect_async(format!("ws://{}/", proxy.address)).await.unwrap();
    for more in ["hsts = false", "max_body = 1000"] {
        write(old, more);
        proxy.signal("HUP");
        tokio::task::block_in_place(|| proxy.wait_for_logs("reloaded", if more.starts_with('h') { 1 } else { 2 }));
        client.send(Message::text("still here")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("still here"));
    }
    write(new, "");
    proxy.signal("HUP");
    let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("no Close") };
    assert_eq!(close.code, CloseCode::Restart);
    while client.next().await.is_some() {}
    // A reconnecting client is accepted.
    let (mut client, _) = connect_async(format!("ws://{}/", proxy.address)).await.unwrap();
    client.send(Message::text("again")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("again"));
}

type Client = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

/// Opens a WebSocket to a site of the proxy, or returns the status of the rejection.
async fn open(proxy: &Proxy, url: &str) -> Result<Client, u16> {
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    match client_async(format!("ws://{url}"), stream).await {
        Ok((client, _)) => Ok(client),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn assert_echoes(client: &mut Client, text: &str) {
    client.send(Message::text(text)).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text(text));
}

async fn assert_restarts(mut client: Client) {
    let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("no Close") };
    assert_eq!(close.code, CloseCode::Restart);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reload_closes_only_websockets_of_changed_sites_and_routes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rproxy.toml");
    let (one, two) = (echo_server(), echo_server());
    let write = |a: &str, b: &str, chat: &str| {
        let text = format!(
            "listen = \"127.0.0.1:0\"\n[[site]]\nhosts = \"a.example\"\n{a}\n[[site]]\nhosts = \"b.example\"\n{b}\n\
             [[site.route]]\npaths = \"/chat/**\"\nupstream = \"{one}\"\n{chat}\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    let first = format!("upstream = \"{one}\"");
    write(&first, &first, "");
    let proxy = Proxy::run(&["--config", file.to_str().unwrap()], &[]);
    let mut reloads = 0;
    let mut reload = || {
        reloads += 1;
        proxy.signal("HUP");
        tokio::task::block_in_place(|| proxy.wait_for_logs("configuration reloaded", reloads));
    };
    let mut a = open(&proxy, "a.example/").await.unwrap();
    let mut b = open(&proxy, "b.example/").await.unwrap();
    let mut chat = open(&proxy, "b.example/chat/1").await.unwrap();

    // An additional backend, and settings for new WebSockets.
    write(&first, &format!("upstream = \"{two}, {one} weight=2\"\nws_lifetime = \"1h\""), "ws_max_connections = 5");
    reload();
    for client in [&mut a, &mut b, &mut chat] {
        assert_echoes(client, "after an addition").await;
    }
    // The backend of `b` may be the one that is removed.
    write(&first, &format!("upstream = \"{two}\""), "ws_max_connections = 5");
    reload();
    assert_restarts(b).await;
    for client in [&mut a, &mut chat] {
        assert_echoes(client, "after a removal").await;
    }
    let mut b = open(&proxy, "b.example/").await.unwrap();
    // The route no longer allows the path.
    write(&first, &format!("upstream = \"{two}\""), "ws_paths = \"/chat/2\"");
    reload();
    assert_restarts(chat).await;
    assert_echoes(&mut b, "after a rule").await;
    // A site that now redirects, and a site that does not exist any more.
    write("redirect = \"https://b.example\"", &format!("upstream = \"{two}\""), "");
    reload();
    assert_restarts(a).await;
    assert_echoes(&mut b, "after a redirect").await;
    std::fs::write(&file, format!("listen = \"127.0.0.1:0\"\nupstream = \"{two}\"")).unwrap();
    reload();
    assert_restarts(b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_limits_of_a_reload_count_open_websockets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rproxy.toml");
    let upstream = echo_server();
    let write = |settings: &str, chat: &str| {
        let text = format!(
            "listen = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\n{settings}\n\
             [[route]]\npaths = \"/chat/**\"\n{chat}\n[[route]]\npaths = \"/inherited/**\"\nhsts = false\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("", "");
    let settings = [("RPROXY_ADMIN_LISTEN", "127.0.0.1:0")];
    let proxy = Proxy::run(&["--config", file.to_str().unwrap()], &settings);
    let mut clients = Vec::new();
    for path in ["", "inherited/1", "chat/1", "chat/2"] {
        clients.push(open(&proxy, &format!("a.example/{path}")).await.unwrap());
    }
    // The limits that each reload sets, and the statuses of a new WebSocket of the site and of the chat.
    for (reloads, (settings, chat, statuses)) in (1..).zip([
        ("ws_max_connections = 4", "", [Some(503), Some(503)]),
        ("ws_max_per_client = 4", "", [Some(429), Some(429)]),
        ("ws_max_connections = 5", "", [None, None]),
        ("ws_max_connections = 2", "ws_max_connections = 3", [Some(503), None]),
        ("ws_max_connections = 3", "ws_max_per_client = 2\nws_max_connections = 0", [None, Some(429)]),
        ("", "ws_max_connections = 2", [None, Some(503)]),
    ]) {
        write(settings, chat);
        proxy.signal("HUP");
        tokio::task::block_in_place(|| proxy.wait_for_logs("configuration reloaded", reloads));
        for (path, status) in ["inherited/2", "chat/3"].into_iter().zip(statuses) {
            let client = open(&proxy, &format!("a.example/{path}")).await;
            assert_eq!(client.as_ref().err(), status.as_ref(), "{path}: {settings} {chat}");
            let Ok(mut client) = client else { continue };
            client.close(None).await.unwrap();
            while client.next().await.is_some() {}
            drop(client);
            // The proxy closes both sockets before it stops counting the tunnel.
            let address = proxy.address_of("admin requests");
            let deadline = Instant::now() + crate::support::TIMEOUT;
            let is_closed = || {
                let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
                exchange(address, request).contains("\nrproxy_tunnels 4\n")
            };
            while !tokio::task::block_in_place(is_closed) {
                assert!(Instant::now() < deadline, "the closed WebSocket is still counted");
            }
        }
    }
    for client in &mut clients {
        assert_echoes(client, "still open").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_limit_of_a_route_counts_only_its_websockets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rproxy.toml");
    let upstream = echo_server();
    let write = |max: u32| {
        let text = format!(
            "listen = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\nws_max_connections = 2\n\
             [[route]]\npaths = \"/inherited/**\"\n\
             [[route]]\npaths = \"/chat/**\"\nws_max_connections = {max}\n\
             [[route]]\npaths = \"/free/**\"\nws_max_connections = 0\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write(1);
    let proxy = Proxy::run(&["--config", file.to_str().unwrap()], &[]);
    let open = async |path: &str| match connect_async(format!("ws://{}{path}", proxy.address)).await {
        Ok((client, _)) => Ok(client),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    };
    let _free = [open("/free/1").await.unwrap(), open("/free/2").await.unwrap(), open("/free/3").await.unwrap()];
    let chat = open("/chat/1").await.unwrap();
    assert_eq!(open("/chat/2").await.err(), Some(503));
    // A route that inherits the limit shares it with its site.
    let _site = [open("/").await.unwrap(), open("/inherited/1").await.unwrap()];
    assert_eq!((open("/").await.err(), open("/inherited/2").await.err()), (Some(503), Some(503)));
    // A reload keeps the counts.
    write(3);
    proxy.signal("HUP");
    tokio::task::block_in_place(|| proxy.wait_for_logs("reloaded", 1));
    let _more = [open("/chat/2").await.unwrap(), open("/chat/3").await.unwrap()];
    assert_eq!(open("/chat/4").await.err(), Some(503));
    drop(chat);
    let deadline = Instant::now() + crate::support::TIMEOUT;
    while open("/chat/4").await.is_err() {
        assert!(Instant::now() < deadline, "the closed WebSocket is still counted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drains_a_thousand_websockets_gradually_between_messages() {
    let mut proxy =
        Proxy::start(echo_server(), &[("RPROXY_DRAIN_TIMEOUT", "8"), ("RPROXY_RATE_LIMIT_ENABLED", "false")]);
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(connect_async(format!("ws://{}/", proxy.address)).await.unwrap().0);
    }
    // Each client has sent the first of two fragments when draining starts.
    for client in &mut clients {
        let half = Frame::message("half ".as_bytes(), OpCode::Data(Data::Text), false);
        client.send(Message::Frame(half)).await.unwrap();
    }
    proxy.signal("TERM");
    tokio::task::block_in_place(|| proxy.wait_for_log("draining"));
    let began = Instant::now();
    let ended = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let rest = Frame::message("a message".as_bytes(), OpCode::Data(Data::Continue), true);
            client.send(Message::Frame(rest)).await.unwrap();
            let mut echoed = 0;
            while let Some(message) = client.next().await {
                match message {
                    Ok(Message::Text(text)) if text == "half a message" => echoed += 1,
                    Ok(Message::Close(Some(close))) => {
                        assert_eq!(close.code, CloseCode::Away);
                        return (echoed, began.elapsed());
                    }
                    other => panic!("after {echoed}: {other:?}"),
                }
            }
            panic!("no Close");
        })
    });
    let mut times = Vec::new();
    for ended in ended.collect::<Vec<_>>() {
        times.push(ended.await.unwrap().1);
    }
    times.sort();
    // Draining is spread over half of the drain timeout, with tolerance for a busy machine.
    let (first, last) = (times[0], times[999]);
    assert!(last - first > Duration::from_secs(2) && last < Duration::from_secs(8), "{first:?} to {last:?}");
    let status = tokio::task::spawn_blocking(move || proxy.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn drain_closes_open_websockets_with_1001() {
    let mut proxy = Proxy::start(echo_server(), &[]);
    let (mut socket, _) = connect_async(format!("ws://{}/", proxy.address)).await.unwrap();
    socket.send(Message::text("here")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("here"));
    proxy.signal("TERM");
    let last = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.unwrap();
    match last {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, CloseCode::Away),
        other => panic!("{other:?}"),
    }
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
    let status = tokio::task::spawn_blocking(move || proxy.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}
