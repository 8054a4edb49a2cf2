//! Tests of basic authentication and of forward auth.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::upstream::{echo, ok, read_body, read_head, responding, scripted};
use crate::support::{
    Proxy, Response, TIMEOUT, connect, free_port, get, has, read_response, read_response_to, request,
};

/// The password `U*U`, with a low cost. Its base64 with the names `alice` and `bob` is in [`ALICE`] and [`BOB`].
const HASH: &str = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
const ALICE: &str = "Authorization: Basic YWxpY2U6VSpV\r\n";
const BOB: &str = "Authorization: Basic Ym9iOlUqVQ==\r\n";
/// `alice` with another password.
const WRONG: &str = "Authorization: Basic YWxpY2U6VSpX\r\n";

struct Users {
    folder: tempfile::TempDir,
}

impl Users {
    fn new(names: &[&str]) -> Self {
        let users = Self { folder: tempfile::tempdir().unwrap() };
        users.write(names);
        users
    }

    fn write(&self, names: &[&str]) {
        fs::write(self.file(), names.iter().map(|name| format!("{name}:{HASH}\n")).collect::<String>()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("users")
    }
}

fn get_with(address: SocketAddr, target: &str, fields: &str) -> Response {
    request(address, &format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n{fields}Connection: close\r\n\r\n"))
}

#[test]
fn basic_auth_admits_only_users_of_the_file() {
    let users = Users::new(&["alice"]);
    let file = users.file();
    let settings = [
        ("RPROXY_BASIC_AUTH", file.to_str().unwrap()),
        ("RPROXY_BASIC_AUTH_REALM", "The \"office\""),
        ("RPROXY_BASIC_AUTH_USER_FIELD", "Remote-User"),
        ("RPROXY_ACCESS_LOG", "text"),
    ];
    let proxy = Proxy::start(echo(), &settings);
    for fields in ["", WRONG, BOB, "Authorization: Bearer YWxpY2U6VSpV\r\n", &format!("{ALICE}{ALICE}")] {
        let response = get_with(proxy.address, "/", &format!("Remote-User: alice\r\n{fields}"));
        assert_eq!(response.status, 401, "{fields}");
        assert_eq!(response.header("www-authenticate"), Some(r#"Basic realm="The \"office\"", charset="UTF-8""#));
        assert_eq!(response.header("proxy-status"), Some("rproxy; error=http_request_denied"));
    }
    let page = get_with(proxy.address, "/", "Accept: text/html\r\n");
    assert!(page.header("www-authenticate").is_some() && page.body.contains("<html"), "{}", page.head);

    let spoofed = "Remote-User: root\r\nRemote_User: root\r\nremote.user: root\r\n";
    let response = get_with(proxy.address, "/served", &format!("{spoofed}{ALICE}"));
    let received = response.body.to_ascii_lowercase();
    assert!(received.contains("remote-user: alice\r\n") && !received.contains("root"), "{received}");
    assert!(received.contains("authorization: basic ywxpy2u6vspv\r\n"), "nginx and Caddy forward it, too: {received}");
    let line = proxy.wait_for_output("/served");
    assert!(line.contains("127.0.0.1 - alice ["), "{line}");
}

#[test]
fn too_many_wrong_passwords_get_429_but_verified_users_are_served() {
    let users = Users::new(&["alice", "bob"]);
    let file = users.file();
    let settings = [
        ("RPROXY_BASIC_AUTH", file.to_str().unwrap()),
        ("RPROXY_BASIC_AUTH_FAILURES", "3"),
        ("RPROXY_BASIC_AUTH_REMOVE_CREDENTIALS", "true"),
    ];
    let proxy = Proxy::start(echo(), &settings);
    assert_eq!(get_with(proxy.address, "/", ALICE).status, 200);
    let statuses: Vec<u16> = (0..6).map(|_| get_with(proxy.address, "/", WRONG).status).collect();
    assert_eq!(statuses, [401, 401, 401, 429, 429, 429]);
    let limited = get_with(proxy.address, "/", BOB);
    assert_eq!(limited.status, 429, "the password is not even verified");
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    let served = get_with(proxy.address, "/", ALICE);
    assert!(served.status == 200 && !served.body.to_ascii_lowercase().contains("authorization"), "{}", served.body);
    proxy.wait_for_log("RPROXY_BASIC_AUTH_FAILURES");
}

#[test]
fn reload_applies_changes_of_the_users_file_and_keeps_the_failures() {
    let users = Users::new(&["alice"]);
    let config = users.folder.path().join("rproxy.toml");
    let text = format!(
        "listen = '127.0.0.1:0'\nupstream = '{}'\nbasic_auth_failures = 2\n[[route]]\npaths = '/private/**'\n\
         basic_auth = '{}'\n",
        echo(),
        users.file().display(),
    );
    fs::write(&config, text).unwrap();
    let proxy = Proxy::run(&["--config", config.to_str().unwrap()], &[]);
    let reload = |count| {
        proxy.signal("HUP");
        proxy.wait_for_logs("reloaded", count);
    };
    let status = |fields| get_with(proxy.address, "/private/", fields).status;
    assert_eq!((get(proxy.address, "/").status, status(""), status(ALICE)), (200, 401, 200));
    assert_eq!([status(WRONG), status(WRONG), status(WRONG)], [401, 401, 429]);
    reload(1);
    assert_eq!([status(WRONG), status(ALICE)], [429, 200], "nothing has changed");

    users.write(&["bob"]);
    reload(2);
    proxy.wait_for_log("reloaded: changed files of default");
    assert_eq!([status(BOB), status(ALICE)], [200, 401]);

    fs::write(users.file(), format!("bob:{HASH}\nalice:{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")).unwrap();
    proxy.signal("HUP");
    let line = proxy.wait_for_log("users:2: alice has an unsalted SHA-1 hash");
    assert!(line.contains("htpasswd -B"), "{line}");
    assert_eq!(status(BOB), 200, "a reload with an error changes nothing");
}

/// Starts nginx with a server on a free port.
fn start_nginx(folder: &Path, server: &str) -> (Child, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = format!(
        "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log; events {{}}\n\
         http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;\n\
         uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n server {{ listen {address};\n{server}\n}} }}",
        folder.display()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config).unwrap();
    let child = Command::new("nginx").arg("-c").arg(&file).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nginx does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    (child, address)
}

#[test]
fn basic_auth_decides_as_nginx_does() {
    if !has("nginx") {
        return;
    }
    let users = Users::new(&["alice"]);
    let (file, upstream) = (users.file(), echo());
    let server = format!(
        "location / {{ auth_basic \"Restricted\"; auth_basic_user_file {}; proxy_pass http://{upstream}; }}",
        file.display()
    );
    let (mut nginx, address) = start_nginx(users.folder.path(), &server);
    let settings = [("RPROXY_BASIC_AUTH", file.to_str().unwrap()), ("RPROXY_BASIC_AUTH_FAILURES", "100")];
    let proxy = Proxy::start(upstream, &settings);
    for fields in [
        "",
        ALICE,
        WRONG,
        BOB,
        "Authorization: basic YWxpY2U6VSpV\r\n",
        "Authorization: Bearer YWxpY2U6VSpV\r\n",
        "Authorization: Basic\r\n",
        "Authorization: Basic !!!!\r\n",
        // No colon, an empty name, an empty password.
        "Authorization: Basic YWxpY2U=\r\n",
        "Authorization: Basic OlUqVQ==\r\n",
        "Authorization: Basic YWxpY2U6\r\n",
        "Authorization: Digest username=\"alice\"\r\n",
    ] {
        let (theirs, ours) = (get_with(address, "/", fields), get_with(proxy.address, "/", fields));
        assert_eq!(theirs.status, ours.status, "{fields}");
        let challenge = |response: &Response| response.header("www-authenticate").map(str::to_owned);
        match challenge(&theirs) {
            // nginx does not name the charset of RFC 7617 §2.1.
            Some(field) => assert_eq!(Some(format!("{field}, charset=\"UTF-8\"")), challenge(&ours), "{fields}"),
            None => assert_eq!(None, challenge(&ours), "{fields}"),
        }
        let credentials = |response: &Response| response.body.to_ascii_lowercase().contains("authorization: basic");
        assert_eq!(credentials(&theirs), credentials(&ours), "{fields}");
    }
    nginx.kill().unwrap();
    nginx.wait().unwrap();
}

/// An authentication service that admits requests with the cookie `session=NAME`, like oauth2-proxy or Authelia.
struct AuthService {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl AuthService {
    fn start() -> Self {
        let (heads, connections) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (seen, opened) = (Arc::clone(&heads), Arc::clone(&connections));
        let address = scripted(move |mut stream| {
            opened.fetch_add(1, Ordering::SeqCst);
            while let Some(head) = read_head(&mut stream) {
                seen.lock().unwrap().push(head.clone());
                assert!(read_body(&mut stream, &head.to_ascii_lowercase()).is_some());
                let cookie = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("cookie: session=").map(str::to_owned));
                let response = match cookie {
                    Some(name) => format!(
                        "HTTP/1.1 202 Accepted\r\nRemote-User: {name}\r\nRemote-Groups: staff\r\nRemote-Groups: admins\r\n\
                         Set-Cookie: session={name}; HttpOnly\r\nX-Internal: secret\r\nContent-Length: 8\r\n\r\nAccepted"
                    ),
                    None => "HTTP/1.1 302 Found\r\nLocation: https://auth.example/login?rd=app.example\r\n\
                             Set-Cookie: csrf=1; HttpOnly\r\nSet-Cookie: state=2\r\nContent-Type: text/plain\r\n\
                             Connection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 5\r\n\r\nlogin"
                        .to_owned(),
                };
                if stream.write_all(response.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self { address, heads, connections }
    }

    fn url(&self) -> String {
        format!("http://{}/verify?rd=1", self.address)
    }

    fn last_head(&self) -> String {
        self.heads.lock().unwrap().last().cloned().unwrap().to_ascii_lowercase()
    }

    fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

fn forward_auth(auth: &AuthService, upstream: SocketAddr, more: &[(&str, &str)]) -> Proxy {
    let url = auth.url();
    let settings =
        [("RPROXY_FORWARD_AUTH", &*url), ("RPROXY_FORWARD_AUTH_FIELDS", "Remote-User, Remote-Groups, Remote-Email")];
    Proxy::start(upstream, &[&settings[..], more].concat())
}

const SESSION: &str = "Cookie: session=alice\r\n";

#[test]
fn forward_auth_admits_requests_with_a_2xx_and_copies_the_named_fields() {
    let auth = AuthService::start();
    let proxy = forward_auth(&auth, echo(), &[]);
    // GHSA-7r4p-vjf4-gxv4, GHSA-x677-9fxg-v5c5: identity fields of the client, in any spelling, also if the authentication
    // service sends none.
    let spoofed = "Remote-User: root\r\nREMOTE_USER: root\r\nremote.groups: root\r\nRemote-Email: root\r\nRemote_Email: root\r\n\
                   X-Forwarded-Uri: /public\r\nX-Forwarded-Prefix: /public\r\nX-Forwarded-For: 6.6.6.6\r\nX_Original_URL: /public\r\n";
    let head = format!(
        "POST /upload?x=1 HTTP/1.1\r\nHost: App.Example\r\n{SESSION}{spoofed}Content-Type: text/x-own\r\nContent-Length: 4\r\n\
         If-None-Match: \"a\"\r\nUser-Agent: test\r\nConnection: close\r\n\r\nbody"
    );
    let response = request(proxy.address, &head);
    assert_eq!(response.status, 200);
    assert_eq!(response.header("set-cookie"), Some("session=alice; HttpOnly"));
    let received = response.body.to_ascii_lowercase();
    for field in
        ["remote-user: alice\r\n", "remote-groups: staff\r\n", "remote-groups: admins\r\n", "content-length: 4\r\n"]
    {
        assert!(received.contains(field), "{field} in {received}");
    }
    assert!(!["root", "secret", "/public", "6.6.6.6"].iter().any(|text| received.contains(text)), "{received}");

    let asked = auth.last_head();
    assert!(asked.starts_with("get /verify?rd=1 http/1.1\r\n"), "{asked}");
    for field in [
        format!("host: {}\r\n", auth.address),
        "x-forwarded-method: post\r\n".to_owned(),
        "x-forwarded-uri: /upload?x=1\r\n".to_owned(),
        "x-forwarded-host: app.example\r\n".to_owned(),
        "x-forwarded-proto: http\r\n".to_owned(),
        "x-forwarded-for: 127.0.0.1\r\n".to_owned(),
        "cookie: session=alice\r\n".to_owned(),
        "user-agent: test\r\n".to_owned(),
    ] {
        assert!(asked.contains(&field), "{field} in {asked}");
    }
    for absent in ["root", "/public", "6.6.6.6", "x-own", "content-length: 4", "if-none-match"] {
        assert!(!asked.contains(absent), "{absent} in {asked}");
    }
}

#[test]
fn other_responses_of_the_authentication_service_go_to_the_client() {
    let auth = AuthService::start();
    let backend = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&backend);
    let upstream = responding(move |head| {
        counted.fetch_add(1, Ordering::SeqCst);
        ok(head)
    });
    let proxy = forward_auth(&auth, upstream, &[]);
    for _ in 0..2 {
        let response = get_with(proxy.address, "/", "Remote-User: root\r\n");
        assert_eq!((response.status, &*response.body), (302, "login"));
        assert_eq!(response.header("location"), Some("https://auth.example/login?rd=app.example"));
        let cookies: Vec<&str> =
            response.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("set-cookie")).collect();
        assert!(
            cookies.len() == 2 && cookies[0].contains("csrf=1; HttpOnly") && cookies[1].contains("state=2"),
            "{cookies:?}"
        );
        assert!(!response.head.to_ascii_lowercase().contains("x-hop"), "{}", response.head);
    }
    let mut stream = connect(proxy.address);
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response_to(&mut stream, false).unwrap().status, 302);
    assert_eq!(read_response(&mut stream).unwrap().status, 302, "the response to HEAD has no content");
    // A WebSocket handshake is checked like any request.
    let handshake = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut stream = connect(proxy.address);
    stream.write_all(handshake.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 302);
    assert_eq!(backend.load(Ordering::SeqCst), 0, "no request reached the backend");
    assert_eq!(auth.requests(), 5);
}

#[test]
fn forward_auth_covers_websocket_handshakes() {
    let auth = AuthService::start();
    let upstream = scripted(|mut stream| {
        let head = read_head(&mut stream).unwrap().to_ascii_lowercase();
        assert!(head.contains("remote-user: alice"), "{head}");
        let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let switch = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{accept}\r\n\r\n"
        );
        stream.write_all(switch.as_bytes()).unwrap();
    });
    let proxy = forward_auth(&auth, upstream, &[]);
    let mut stream = connect(proxy.address);
    let handshake = format!(
        "GET /ws HTTP/1.1\r\nHost: a\r\n{SESSION}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(handshake.as_bytes()).unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 101 "));
    assert!(!auth.last_head().contains("upgrade"), "{}", auth.last_head());
}

#[test]
fn failure_of_the_authentication_service_means_503_and_never_a_pass() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed_address = closed.local_addr().unwrap();
    drop(closed);
    let silent = scripted(|mut stream| {
        read_head(&mut stream);
        let _ = read_head(&mut stream);
    });
    let garbage = responding(|_| "garbage\r\n\r\n".to_owned());
    let switching =
        responding(|_| "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n".to_owned());
    let large = responding(|_| {
        let field = format!("Remote-User: {}\r\n", "a".repeat(9000));
        format!("HTTP/1.1 200 OK\r\n{field}{field}Content-Length: 0\r\n\r\n")
    });
    for (name, address) in [
        ("closed", closed_address),
        ("silent", silent),
        ("garbage", garbage),
        ("switching", switching),
        ("large", large),
    ] {
        let url = format!("http://{address}/");
        let settings = [
            ("RPROXY_FORWARD_AUTH", &*url),
            ("RPROXY_FORWARD_AUTH_TIMEOUT", "500ms"),
            ("RPROXY_FORWARD_AUTH_FIELDS", "remote-user"),
        ];
        let proxy = Proxy::start(responding(|_| ok("served")), &settings);
        let response = get_with(proxy.address, "/", SESSION);
        assert_eq!(response.status, 503, "{name}");
        assert!(response.header("retry-after").is_some() && response.header("proxy-status").is_some(), "{name}");
        let line = proxy.wait_for_log("RPROXY_FORWARD_AUTH");
        assert!(name != "closed" || line.contains(&address.to_string()), "{line}");
    }
}

#[test]
fn incomplete_content_of_a_2xx_delays_the_request_only_briefly() {
    let stalled = scripted(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nRemote-User: alice\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
        let _ = read_head(&mut stream);
    });
    let url = format!("http://{stalled}/");
    let settings = [("RPROXY_FORWARD_AUTH", &*url), ("RPROXY_FORWARD_AUTH_FIELDS", "remote-user")];
    let proxy = Proxy::start(echo(), &settings);
    let start = Instant::now();
    let response = get_with(proxy.address, "/", "");
    assert!(response.status == 200 && response.body.to_ascii_lowercase().contains("remote-user: alice"));
    assert!(start.elapsed() < Duration::from_secs(5), "the timeout of the service does not apply");
}

#[test]
fn unknown_hosts_are_rejected_without_authentication() {
    let (auth, folder) = (AuthService::start(), tempfile::tempdir().unwrap());
    let config = folder.path().join("rproxy.toml");
    let text = format!(
        "listen = '127.0.0.1:0'\nforward_auth = '{}'\n[[site]]\nhosts = 'app.example'\nupstream = '{}'\n",
        auth.url(),
        echo()
    );
    fs::write(&config, text).unwrap();
    let proxy = Proxy::run(&["--config", config.to_str().unwrap()], &[]);
    assert_eq!(get_with(proxy.address, "/", "").status, 302);
    let unknown = request(proxy.address, "GET / HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n");
    assert_eq!((unknown.status, auth.requests()), (404, 1));
}

#[test]
fn forward_auth_adds_one_request_over_a_connection_that_is_reused() {
    let auth = AuthService::start();
    let proxy =
        forward_auth(&auth, responding(|_| ok("served")), &[("RPROXY_WORKERS", "1"), ("RPROXY_RATE_BURST", "1000")]);
    let mut stream = connect(proxy.address);
    for number in 1..=50 {
        // Both decisions, and the bodies of both responses.
        let cookie = if number % 2 == 0 { SESSION } else { "" };
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{cookie}\r\n").as_bytes()).unwrap();
        let status = read_response(&mut stream).unwrap().status;
        assert_eq!((status, auth.requests()), (if number % 2 == 0 { 200 } else { 302 }, number));
    }
    assert_eq!(auth.connections.load(Ordering::SeqCst), 1);
}

// RFC 9111 §3.5
#[test]
fn page_of_one_user_is_never_served_to_another() {
    let auth = AuthService::start();
    let upstream = responding(|head| {
        let lower = head.to_ascii_lowercase();
        let user = lower.lines().find_map(|line| line.strip_prefix("remote-user: ")).unwrap_or("nobody");
        let shared = if lower.starts_with("get /public") { "public, " } else { "" };
        let fields = format!("Cache-Control: {shared}max-age=60\r\nContent-Type: text/css\r\n");
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{user}", user.len())
    });
    let proxy = forward_auth(&auth, upstream, &[("RPROXY_CACHE_PATHS", "/**")]);
    let as_user = |user: &str, path: &str| get_with(proxy.address, path, &format!("Cookie: session={user}\r\n"));
    for user in ["alice", "bob", "alice"] {
        assert_eq!(as_user(user, "/own.css").body, user);
    }
    assert_eq!(get_with(proxy.address, "/own.css", "").status, 302);

    assert_eq!(as_user("alice", "/public.css").body, "alice");
    let hit = as_user("bob", "/public.css");
    assert!(hit.body == "alice" && hit.header("cache-status").unwrap().contains("hit"), "{}", hit.head);
    // The cookie is that of the user, although the response is stored.
    assert_eq!(hit.header("set-cookie"), Some("session=bob; HttpOnly"));
    assert_eq!(get_with(proxy.address, "/public.css", "").status, 302, "a stored page is behind the check, too");
}

#[test]
fn basic_auth_keeps_pages_of_users_apart_without_authorization() {
    let users = Users::new(&["alice", "bob"]);
    let file = users.file();
    let upstream = responding(|head| {
        let lower = head.to_ascii_lowercase();
        assert!(!lower.contains("authorization"), "{head}");
        let user = lower.lines().find_map(|line| line.strip_prefix("remote-user: ")).unwrap_or("nobody");
        let fields = "Cache-Control: max-age=60\r\nContent-Type: text/css\r\n";
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{user}", user.len())
    });
    let settings = [
        ("RPROXY_BASIC_AUTH", file.to_str().unwrap()),
        ("RPROXY_BASIC_AUTH_USER_FIELD", "Remote-User"),
        ("RPROXY_BASIC_AUTH_REMOVE_CREDENTIALS", "true"),
        ("RPROXY_CACHE_PATHS", "/**"),
    ];
    let proxy = Proxy::start(upstream, &settings);
    for (credentials, user) in [(ALICE, "alice"), (BOB, "bob"), (ALICE, "alice")] {
        assert_eq!(get_with(proxy.address, "/own.css", credentials).body, user);
    }
}

#[test]
fn forward_auth_decides_as_auth_request_of_nginx_does() {
    if !has("nginx") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The status is the path of the request.
    let auth = responding(|head| {
        let target = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-forwarded-uri: /").map(str::to_owned));
        let status = target.unwrap_or_default();
        format!(
            "HTTP/1.1 {status} Status\r\nRemote-User: alice\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n"
        )
    });
    let upstream = echo();
    let server = format!(
        "location = /auth {{ internal; proxy_pass http://{auth}/; proxy_pass_request_body off;\n\
         proxy_set_header Content-Length \"\"; proxy_set_header X-Forwarded-Uri $request_uri; }}\n\
         location / {{ auth_request /auth; auth_request_set $user $upstream_http_remote_user;\n\
         proxy_set_header Remote-User $user; proxy_pass http://{upstream}; }}"
    );
    let (mut nginx, address) = start_nginx(folder.path(), &server);
    let url = format!("http://{auth}/");
    let settings = [("RPROXY_FORWARD_AUTH", &*url), ("RPROXY_FORWARD_AUTH_FIELDS", "Remote-User")];
    let proxy = Proxy::start(upstream, &settings);
    for (target, theirs, ours) in [
        ("/200", 200, 200),
        ("/204", 200, 200),
        ("/401", 401, 401),
        ("/403", 403, 403),
        // nginx forwards no other status than 401 and 403.
        ("/302", 500, 302),
        ("/404", 500, 404),
        ("/500", 500, 500),
    ] {
        let fields = "Remote-User: root\r\n";
        let responses = [get_with(address, target, fields), get_with(proxy.address, target, fields)];
        assert_eq!(responses.each_ref().map(|response| response.status), [theirs, ours], "{target}");
        for response in &responses {
            let body = response.body.to_ascii_lowercase();
            assert_eq!(body.contains("remote-user: alice"), response.status == 200, "{target}");
            assert!(!body.contains("root"), "{body}");
        }
        let challenges = responses.each_ref().map(|response| response.header("www-authenticate").is_some());
        assert_eq!(challenges[0], target == "/401", "{target}");
        assert_eq!(challenges[1], ours != 200, "{target}");
    }
    nginx.kill().unwrap();
    nginx.wait().unwrap();
}
