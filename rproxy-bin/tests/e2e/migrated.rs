//! Tests of the migrated configurations in the guide, each with scripted backends and the special paths of the
//! application.
//!
//! They run without TLS here; the tests of the guide start them with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::guide::{files, pages, prepared};
use crate::support::upstream::{ok, read_body, read_head, scripted};
use crate::support::{Proxy, Response, connect, read_response};

/// A proxy with one configuration of the guide, and a scripted backend for each address in the configuration.
struct Guide {
    proxy: Proxy,
    /// A barrier for the backend and the test, reached when the first event of a stream has arrived.
    first_event: Arc<Barrier>,
    host: &'static str,
    _folder: tempfile::TempDir,
}

impl Guide {
    /// Starts the configuration that contains `host`; returns `None` if the guide is not in the package.
    fn start(host: &'static str) -> Option<Self> {
        let page = pages()?.into_iter().find(|(path, _)| path.ends_with("migration-examples.md")).unwrap();
        let file =
            files(page).into_iter().map(|(_, file)| file).find(|file| file.contains(&format!("\"{host}\""))).unwrap();
        // Certificates are the topic of other tests.
        let is_tls = |line: &&str| ["tls_domains = ", "tls_email = "].iter().any(|key| line.starts_with(key));
        let plain: String = file.lines().filter(|line| !is_tls(line)).map(|line| format!("{line}\n")).collect();
        let folder = tempfile::tempdir().unwrap();
        let first_event = Arc::new(Barrier::new(2));
        let backends = RefCell::new(BTreeMap::<String, SocketAddr>::new());
        let backend = |name: &str| {
            let start = || backend(name.to_owned(), Arc::clone(&first_event));
            backends.borrow_mut().entry(name.to_owned()).or_insert_with(start).to_string()
        };
        let (file, _) = prepared(&plain, folder.path(), backend);
        let path = folder.path().join("rproxy.toml");
        fs::write(&path, file).unwrap();
        let proxy = Proxy::run(&["--config", path.to_str().unwrap()], &[("RPROXY_LISTEN", "127.0.0.1:0")]);
        Some(Self { proxy, first_event, host, _folder: folder })
    }

    fn at(mut self, host: &'static str) -> Self {
        self.host = host;
        self
    }

    fn send(&self, head: &str, body: &[u8]) -> Response {
        let mut stream = connect(self.proxy.address);
        let head = format!("{head}\r\nhost: {}\r\nconnection: close\r\n\r\n", self.host);
        stream.write_all(head.as_bytes()).unwrap();
        // A body that is rejected may not be read to its end.
        let _ = stream.write_all(body);
        read_response(&mut stream).expect("a response")
    }

    /// Asserts that the backend `backend` receives a request with the target `forwarded`.
    fn assert_forwards(&self, target: &str, backend: &str, forwarded: &str) {
        let response = self.send(&format!("GET {target} HTTP/1.1"), b"");
        assert_eq!((response.status, response.body), (200, format!("{backend} {forwarded} 0")), "{target}");
    }

    fn status(&self, method: &str, target: &str) -> u16 {
        self.send(&format!("{method} {target} HTTP/1.1\r\ncontent-length: 0"), b"").status
    }

    /// Asserts that a request body of `size` bytes reaches the backend.
    fn assert_uploads(&self, target: &str, backend: &str, size: usize) {
        let response = self.send(&format!("POST {target} HTTP/1.1\r\ncontent-length: {size}"), &vec![b'x'; size]);
        assert_eq!((response.status, response.body), (200, format!("{backend} {target} {size}")));
    }

    /// Asserts that the proxy rejects a request with a `Content-Length` of `size` bytes.
    fn assert_rejects_upload(&self, target: &str, size: u64) {
        let response = self.send(&format!("POST {target} HTTP/1.1\r\ncontent-length: {size}"), b"");
        assert_eq!(response.status, 413, "{target} {size}");
    }

    /// Opens a WebSocket and returns the response to the handshake; after a 101, the backend must echo a frame.
    fn upgrade(&self, target: &str, origin: &str) -> Response {
        let mut stream = connect(self.proxy.address);
        let head = format!(
            "GET {target} HTTP/1.1\r\nhost: {}\r\norigin: {origin}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.host
        );
        stream.write_all(head.as_bytes()).unwrap();
        let response = read_response(&mut stream).expect("a response");
        if response.status == 101 {
            // A masked text frame.
            let frame = b"\x81\x82\x01\x02\x03\x04\x69\x6b";
            stream.write_all(frame).unwrap();
            let mut echoed = [0; 8];
            stream.read_exact(&mut echoed).unwrap();
            assert_eq!(&echoed, frame);
        }
        response
    }

    /// Asserts that a WebSocket opened by a page of the site reaches the backend.
    fn assert_upgrades(&self, target: &str, backend: &str) {
        let response = self.upgrade(target, &format!("http://{}", self.host));
        assert_eq!((response.status, response.header("x-backend")), (101, Some(backend)), "{target}");
    }

    /// Asserts that the first event of a stream arrives before the backend sends the second.
    fn assert_streams(&self, target: &str) {
        let mut stream = connect(self.proxy.address);
        let head = format!("GET {target} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n\r\n", self.host);
        stream.write_all(head.as_bytes()).unwrap();
        read_until(&mut stream, "data: first\n\n");
        self.first_event.wait();
        read_until(&mut stream, "data: second\n\n");
    }
}

fn read_until(stream: &mut TcpStream, text: &str) {
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains(text) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {}", received.escape_ascii()));
        received.push(byte[0]);
    }
}

/// Starts a backend that responds with its name, the target and the body length, echoes WebSocket frames and streams
/// events.
fn backend(name: String, first_event: Arc<Barrier>) -> SocketAddr {
    scripted(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let lower = head.to_ascii_lowercase();
            let field = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            if field("upgrade") == Some("websocket") {
                open_websocket(&mut stream, &head, &name);
                return;
            }
            if field("accept") == Some("text/event-stream") {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(format!("{head}data: first\n\n").as_bytes());
                first_event.wait();
                let _ = stream.write_all(b"data: second\n\n");
                return;
            }
            let length = field("content-length").unwrap_or("0").to_owned();
            let Some(()) = read_body(&mut stream, &lower) else { return };
            let target = head.split(' ').nth(1).unwrap_or_default();
            if stream.write_all(ok(&format!("{name} {target} {length}")).as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn open_websocket(stream: &mut TcpStream, head: &str, name: &str) {
    let is_key = |line: &&str| line.to_ascii_lowercase().starts_with("sec-websocket-key: ");
    let accept = derive_accept_key(&head.lines().find(is_key).unwrap().as_bytes()[19..]);
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nx-backend: {name}\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    let _ = stream.write_all(response.as_bytes());
    let mut bytes = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        let _ = stream.write_all(&bytes[..length]);
    }
}

const MIB: usize = 1 << 20;

#[test]
fn nextcloud_receives_uploads_discovery_and_push_websockets() {
    let Some(guide) = Guide::start("cloud.example") else { return };
    guide.assert_forwards("/index.php/apps/files", "127.0.0.1:11000", "/index.php/apps/files");
    guide.assert_forwards("/.well-known/carddav", "127.0.0.1:11000", "/.well-known/carddav");
    guide.assert_uploads("/remote.php/dav/uploads/a/1/.htaccess", "127.0.0.1:11000", 12 * MIB);
    guide.assert_upgrades("/push/ws", "127.0.0.1:11000");
    let response = guide.send("GET / HTTP/1.1", b"");
    assert_eq!(response.header("referrer-policy"), Some("same-origin"));
}

#[test]
fn gitea_receives_paths_without_the_prefix_and_with_encoded_slashes() {
    let Some(guide) = Guide::start("tools.example") else { return };
    guide.assert_forwards("/", "127.0.0.1:8080", "/");
    guide.assert_forwards("/gitea-old", "127.0.0.1:8080", "/gitea-old");
    guide.assert_forwards("/gitea", "127.0.0.1:3000", "/");
    guide.assert_forwards("/gitea/me/repo/src/branch/a%2Fb", "127.0.0.1:3000", "/me/repo/src/branch/a%2Fb");
    guide.assert_forwards("/v2/", "127.0.0.1:3000", "/v2/");
    guide.assert_rejects_upload("/gitea/me/repo.git/git-receive-pack", 513 << 20);
}

#[test]
fn vaultwarden_receives_websockets_and_rate_limited_logins_but_no_admin_requests() {
    let Some(guide) = Guide::start("vault.example") else { return };
    guide.assert_forwards("/api/sync", "127.0.0.1:8000", "/api/sync");
    guide.assert_upgrades("/notifications/hub?access_token=x", "127.0.0.1:8000");
    assert_eq!(guide.upgrade("/other", "https://vault.example").status, 403);
    for path in ["/admin", "/ADMIN/users", "/api/..%2fadmin"] {
        assert_eq!(guide.status("GET", path), 404, "{path}");
    }
    guide.assert_uploads("/api/ciphers/1/attachment", "127.0.0.1:8000", 3 * MIB);
    guide.assert_rejects_upload("/api/ciphers/1/attachment", 129 << 20);
    let logins: Vec<u16> = (0..31).map(|_| guide.status("POST", "/identity/connect/token")).collect();
    assert_eq!((logins[..30].iter().all(|status| *status == 200), logins[30]), (true, 429), "{logins:?}");
}

#[test]
fn jellyfin_receives_paths_with_the_prefix_and_websockets_and_streams_media() {
    let Some(guide) = Guide::start("media.example") else { return };
    guide.assert_forwards("/", "127.0.0.1:8080", "/");
    guide.assert_forwards("/jellyfin", "127.0.0.1:8096", "/jellyfin");
    guide.assert_forwards("/jellyfin/web/", "127.0.0.1:8096", "/jellyfin/web/");
    guide.assert_upgrades("/jellyfin/socket?api_key=x", "127.0.0.1:8096");
    guide.assert_streams("/jellyfin/Videos/1/stream");
}

#[test]
fn home_assistant_receives_only_same_origin_websockets_and_streams_events() {
    let Some(guide) = Guide::start("home.example") else { return };
    guide.assert_forwards("/lovelace/0", "127.0.0.1:8123", "/lovelace/0");
    guide.assert_upgrades("/api/websocket", "127.0.0.1:8123");
    assert_eq!(guide.upgrade("/api/websocket", "https://evil.example").status, 403);
    guide.assert_streams("/api/stream");
    guide.assert_uploads("/api/backup/upload", "127.0.0.1:8123", 12 * MIB);
}

#[test]
fn grafana_receives_paths_with_the_prefix_and_live_websockets() {
    let Some(guide) = Guide::start("metrics.example") else { return };
    guide.assert_forwards("/", "127.0.0.1:8080", "/");
    guide.assert_forwards("/grafana/d/1", "127.0.0.1:3000", "/grafana/d/1");
    guide.assert_upgrades("/grafana/api/live/ws", "127.0.0.1:3000");
    assert_eq!(guide.upgrade("/grafana/api/live/ws", "https://evil.example").status, 403);
}

#[test]
fn mastodon_streams_events_from_its_streaming_port() {
    let Some(guide) = Guide::start("social.example") else { return };
    guide.assert_forwards("/@user", "127.0.0.1:3000", "/@user");
    guide.assert_forwards("/api/v1/timelines/home", "127.0.0.1:3000", "/api/v1/timelines/home");
    guide.assert_forwards("/api/v1/streaming/health", "127.0.0.1:4000", "/api/v1/streaming/health");
    guide.assert_upgrades("/api/v1/streaming?stream=user", "127.0.0.1:4000");
    guide.assert_streams("/api/v1/streaming/user");
    guide.assert_uploads("/api/v2/media", "127.0.0.1:3000", 12 * MIB);
    guide.assert_rejects_upload("/api/v2/media", 81 << 20);
}

#[test]
fn immich_receives_large_uploads_and_websockets() {
    let Some(guide) = Guide::start("photos.example") else { return };
    guide.assert_forwards("/.well-known/immich", "127.0.0.1:2283", "/.well-known/immich");
    guide.assert_uploads("/api/assets", "127.0.0.1:2283", 24 * MIB);
    guide.assert_rejects_upload("/api/assets", 50_001 << 20);
    guide.assert_upgrades("/api/socket.io/?EIO=4&transport=websocket", "127.0.0.1:2283");
}

#[test]
fn synapse_receives_client_and_federation_paths_unchanged() {
    let Some(guide) = Guide::start("chat.example") else { return };
    guide.assert_forwards("/.well-known/matrix/server", "127.0.0.1:8080", "/.well-known/matrix/server");
    let response = guide.send("GET /.well-known/matrix/client HTTP/1.1", b"");
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    let guide = guide.at("chat.example:8448");
    guide.assert_forwards("/_matrix/federation/v1/version", "127.0.0.1:8008", "/_matrix/federation/v1/version");
    let guide = guide.at("matrix.chat.example");
    for path in [
        "/_matrix/client/v3/rooms/!abc%3Achat.example/state",
        "/_matrix/client/v3/directory/room/%23room%3Achat.example",
        "/_matrix/client/v3/profile/%40a%2Fb%3Achat.example",
        "/_synapse/client/password_reset",
    ] {
        guide.assert_forwards(path, "127.0.0.1:8008", path);
    }
    for path in ["/", "/_synapse/admin/v1/users", "/_matrix/..%2f_synapse/admin/v1/users"] {
        assert_eq!(guide.status("GET", path), 404, "{path}");
    }
    guide.assert_uploads("/_matrix/media/v3/upload", "127.0.0.1:8008", 12 * MIB);
    guide.assert_rejects_upload("/_matrix/media/v3/upload", 51 << 20);
}

#[test]
fn authentik_receives_outpost_websockets() {
    let Some(guide) = Guide::start("sso.example") else { return };
    guide.assert_forwards("/if/flow/default/", "https://127.0.0.1:9443", "/if/flow/default/");
    guide.assert_upgrades("/ws/outpost/1/", "https://127.0.0.1:9443");
}

#[test]
fn every_migrated_configuration_has_a_test() {
    let Some(pages) = pages() else { return };
    let page = pages.into_iter().find(|(path, _)| path.ends_with("migration-examples.md")).unwrap();
    let tests = include_str!("migrated.rs").matches("= Guide::start(\"").count();
    assert_eq!(files(page).len(), tests);
}
