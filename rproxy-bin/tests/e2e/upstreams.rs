//! Tests of upstream settings: TLS, load balancing, health checks, retries and timeouts.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, connect_async};

use crate::support::upstream::{Nginx, ok, read_head, responding, scripted};
use crate::support::{Proxy, TIMEOUT, connect, free_port, get, has, read_response, request};

/// Writes a certificate authority, a server certificate for `app.internal` and a client certificate for `rproxy` as PEM
/// files.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for (file, name) in [("server", "app.internal"), ("client", "rproxy")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        std::fs::write(folder.join(format!("{file}.pem")), params.signed_by(&key, &authority).unwrap().pem()).unwrap();
        std::fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn verifies_https_backend_and_sends_client_certificate() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (version, protocol) in [("http2", "HTTP/2.0"), ("", "HTTP/1.1")] {
        let port = free_port();
        let Some(_nginx) = Nginx::start(&format!(
            "listen 127.0.0.1:{port} ssl {version}; ssl_certificate {}; ssl_certificate_key {};
             ssl_client_certificate {}; ssl_verify_client on;
             location / {{ return 200 \"$server_protocol $ssl_server_name $ssl_client_s_dn\"; }}",
            path("server.pem"),
            path("server.key"),
            path("ca.pem"),
        )) else {
            return;
        };
        let (upstream, ca, cert, key) =
            (format!("https://127.0.0.1:{port}"), path("ca.pem"), path("client.pem"), path("client.key"));
        let settings = [
            ("RPROXY_LISTEN", "127.0.0.1:0"),
            ("RPROXY_UPSTREAM", upstream.as_str()),
            ("RPROXY_UPSTREAM_SERVER_NAME", "app.internal"),
            ("RPROXY_UPSTREAM_CA", ca.as_str()),
            ("RPROXY_UPSTREAM_CERT", cert.as_str()),
            ("RPROXY_UPSTREAM_KEY", key.as_str()),
        ];
        let proxy = Proxy::run(&[], &settings);
        for _ in 0..3 {
            let response = get(proxy.address, "/");
            assert_eq!(response.status, 200, "{}", proxy.log());
            assert!(response.body.starts_with(&format!("{protocol} app.internal ")), "{}", response.body);
            assert!(response.body.contains("CN=rproxy"), "{}", response.body);
        }
        // The certificate is not trusted: verification is never off.
        let proxy = Proxy::run(&[], &settings[..3]);
        let response = get(proxy.address, "/");
        assert_eq!(response.status, 502);
        assert_eq!(response.header("proxy-status"), Some("rproxy; error=tls_certificate_error"));
    }
}

#[test]
fn check_rejects_invalid_certificate_file_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.pem");
    std::fs::write(&file, "nothing\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_rproxy"))
        .arg("--check")
        .env_clear()
        .env("RPROXY_UPSTREAM", "https://app.internal")
        .env("RPROXY_UPSTREAM_CA", &file)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("empty.pem"), "{error}");
}

#[test]
fn upstream_hold_delays_requests_while_the_backend_restarts() {
    let Some(mut nginx) = Nginx::start("location / { return 200 here; }") else { return };
    let proxy = Proxy::start(nginx.address, &[("RPROXY_UPSTREAM_HOLD", "20s")]);
    assert_eq!(get(proxy.address, "/").body, "here");
    nginx.kill();
    let mut waiting: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = connect(proxy.address);
            stream.write_all(b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 4\r\n\r\ndata").unwrap();
            stream
        })
        .collect();
    nginx.restart();
    for stream in &mut waiting {
        let response = read_response(stream).unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, "here"), "{}", proxy.log());
    }
}

#[test]
fn backend_connection_with_ntlm_serves_one_client() {
    // NTLM as in IIS: the connection belongs to the user who authenticated on it.
    let backend = scripted(|mut stream| {
        let mut user = None;
        while let Some(head) = read_head(&mut stream) {
            let authorization = head.lines().find_map(|line| line.strip_prefix("authorization: NTLM "));
            user = user.or(authorization.filter(|name| *name != "type1").map(str::to_owned));
            let response = match &user {
                Some(user) => ok(user),
                None => "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: NTLM x\r\ncontent-length: 0\r\n\r\n".to_owned(),
            };
            if stream.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
    });
    let proxy = Proxy::start(backend, &[]);
    let (mut alice, mut bob) = (connect(proxy.address), connect(proxy.address));
    let send = |stream: &mut TcpStream, authorization: &str| {
        stream
            .write_all(format!("GET /private HTTP/1.1\r\nhost: a.example\r\n{authorization}\r\n").as_bytes())
            .unwrap();
        let response = read_response(stream).unwrap();
        (response.status, response.body)
    };
    assert_eq!(send(&mut alice, "").0, 401);
    assert_eq!(send(&mut alice, "authorization: NTLM type1\r\n").0, 401);
    assert_eq!(send(&mut bob, "").0, 401);
    for authorization in ["authorization: NTLM alice\r\n", "", ""] {
        assert_eq!(send(&mut alice, authorization), (200, "alice".to_owned()));
        assert_eq!(send(&mut bob, "").0, 401);
        assert_eq!(send(&mut connect(proxy.address), "").0, 401);
    }
}

#[test]
fn reload_of_an_http2_backend_fails_no_request() {
    const REQUESTS: usize = 8000;
    let port = free_port();
    let server = format!("listen 127.0.0.1:{port} http2; keepalive_requests 50; location / {{ return 200 here; }}");
    let Some(nginx) = Nginx::start(&server).filter(|_| has("h2load")) else { return };
    let upstream = format!("h2c://127.0.0.1:{port}");
    let settings =
        [("RPROXY_LISTEN", "127.0.0.1:0"), ("RPROXY_UPSTREAM", &upstream), ("RPROXY_RATE_LIMIT_ENABLED", "false")];
    let proxy = Proxy::run(&[], &settings);
    let load = Command::new("h2load")
        .args(["--h1", "-n", &REQUESTS.to_string(), "-c", "150", &format!("http://{}/", proxy.address)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let load = std::thread::spawn(move || load.wait_with_output().unwrap());
    let mut reloads = 0;
    while !load.is_finished() {
        if reloads < 5 {
            nginx.reload();
            reloads += 1;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let report = String::from_utf8(load.join().unwrap().stdout).unwrap();
    assert!(report.contains(&format!("status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx")), "{report}{}", proxy.log());
    assert!(report.contains(", 0 failed, 0 errored, 0 timeout"), "{report}");
    assert!(reloads > 1, "the load ended before the reloads");
}

/// Sends requests and returns the distinct response bodies.
fn bodies(address: SocketAddr, requests: usize) -> BTreeSet<String> {
    (0..requests).map(|_| get(address, "/").body).collect()
}

#[test]
fn unhealthy_backend_gets_no_requests_until_health_checks_are_disabled() {
    let unhealthy = responding(|head| match head.starts_with("GET /up ") {
        true => "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned(),
        false => ok("unhealthy"),
    });
    let healthy = responding(|_| ok("healthy"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rproxy.toml");
    let both = format!("upstream = [\"{unhealthy}\", \"{healthy}\"]\n");
    let checks = "upstream_health_path = \"/up\"\nupstream_health_interval = \"50ms\"\n";
    std::fs::write(&file, format!("{both}{checks}")).unwrap();
    let proxy = Proxy::run(&["--config", file.to_str().unwrap()], &[("RPROXY_LISTEN", "127.0.0.1:0")]);
    let line = proxy.wait_for_log("health check of the backend failed");
    assert!(line.contains(&unhealthy.to_string()) && line.contains("status 500"), "{line}");
    assert_eq!(bodies(proxy.address, 6), BTreeSet::from(["healthy".to_owned()]));

    std::fs::write(&file, both).unwrap();
    proxy.signal("HUP");
    proxy.wait_for_log("reloaded");
    assert_eq!(bodies(proxy.address, 6), BTreeSet::from(["unhealthy".to_owned(), "healthy".to_owned()]));
    assert!(!proxy.log().contains("restart required"), "{}", proxy.log());
}

#[test]
fn cookie_balancing_keeps_a_session_on_one_backend() {
    let backends: Vec<_> = ["one", "two", "three"].map(|name| responding(move |_| ok(name)).to_string()).into();
    let upstream = backends.join(",");
    let proxy = Proxy::run(
        &[],
        &[
            ("RPROXY_LISTEN", "127.0.0.1:0"),
            ("RPROXY_UPSTREAM", &upstream),
            ("RPROXY_UPSTREAM_BALANCE", "cookie:session"),
        ],
    );
    let mut used = BTreeSet::new();
    for session in 0..12 {
        let received: BTreeSet<_> = (0..4)
            .map(|_| {
                let cookie = format!("theme=dark; session={session}");
                request(
                    proxy.address,
                    &format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n"),
                )
                .body
            })
            .collect();
        assert_eq!(received.len(), 1, "{session}: {received:?}");
        used.extend(received);
    }
    assert!(used.len() > 1, "all on {used:?}");
}

#[test]
fn upstream_request_timeout_causes_504() {
    let backend = responding(|head| {
        if head.starts_with("GET /slow ") {
            std::thread::sleep(Duration::from_millis(400));
        }
        ok("done")
    });
    let proxy = Proxy::start(backend, &[("RPROXY_UPSTREAM_REQUEST_TIMEOUT", "150ms")]);
    assert_eq!(get(proxy.address, "/fast").status, 200);
    let begin = Instant::now();
    assert_eq!(get(proxy.address, "/slow").status, 504);
    assert!(begin.elapsed() < TIMEOUT);
}

/// Starts a WebSocket echo server over TLS that supports only HTTP/2, with extended CONNECT (RFC 8441). Returns its
/// address and the file with its certificate.
fn http2_echo(folder: &Path) -> (SocketAddr, String) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = folder.join("backend.pem");
    std::fs::write(&file, pair.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![pair.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that only supports HTTP/1.1 fails here.
                    let Ok(socket) = acceptor.accept(socket).await else { return };
                    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    server.enable_connect_protocol();
                    let _ = server.serve_connection(TokioIo::new(socket), service_fn(echo_websocket)).await;
                });
            }
        });
    });
    (receiver.recv().unwrap(), file.to_str().unwrap().to_owned())
}

async fn echo_websocket(mut request: http::Request<Incoming>) -> Result<http::Response<String>, Infallible> {
    assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgrade.await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    Ok(http::Response::new(String::new()))
}

#[tokio::test]
async fn websocket_reaches_https_backend_that_supports_only_http2() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ca) = http2_echo(folder.path());
    let upstream = format!("https://localhost:{}", backend.port());
    let settings = [("RPROXY_UPSTREAM", upstream.as_str()), ("RPROXY_UPSTREAM_CA", &ca)];
    let proxy = Proxy::start(backend, &settings);
    for _ in 0..2 {
        let (mut client, _) = connect_async(format!("ws://{}/", proxy.address)).await.unwrap();
        client.send(Message::text("hello")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("hello"));
        client.close(None).await.unwrap();
        while client.next().await.is_some_and(|message| message.is_ok()) {}
    }
}

/// Responds like a server that authenticates connections by NTLM: with 401, or with 200 and the user's name.
fn ntlm(mut stream: TcpStream) {
    let (mut user, mut is_challenged) = (None, false);
    while let Some(head) = read_head(&mut stream) {
        match head.lines().find_map(|line| line.strip_prefix("Authorization: NTLM ")) {
            Some("type1") => is_challenged = true,
            Some(name) if is_challenged => user = Some(name.to_owned()),
            _ => {}
        }
        let answer = match &user {
            Some(user) => ok(user),
            None => "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM x\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn backend_connection_with_ntlm_serves_one_client_address_behind_a_trusted_proxy() {
    let proxy = Proxy::start(scripted(ntlm), &[("RPROXY_TRUSTED_PROXIES", "loopback")]);
    let mut shared = connect(proxy.address);
    let mut ask = |client: &str, authorization: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n{authorization}\r\n");
        shared.write_all(head.as_bytes()).unwrap();
        let response = read_response(&mut shared).unwrap();
        if response.status == 200 { response.body } else { response.status.to_string() }
    };
    let (alice, bob) = ("192.0.2.1", "192.0.2.2");
    assert_eq!(ask(alice, "Authorization: NTLM type1\r\n"), "401");
    assert_eq!(ask(bob, ""), "401");
    assert_eq!(ask(bob, "Authorization: NTLM bob\r\n"), "401", "the handshake that alice began");
    assert_eq!(ask(alice, "Authorization: NTLM alice\r\n"), "alice");
    assert_eq!(ask(alice, ""), "alice");
    assert_eq!(ask(bob, ""), "401");
    assert_eq!(ask(bob, "Authorization: NTLM type1\r\n"), "401");
    assert_eq!(ask(bob, "Authorization: NTLM bob\r\n"), "bob");
    for _ in 0..2 {
        assert_eq!(ask(alice, ""), "alice");
        assert_eq!(ask(bob, ""), "bob");
        assert_eq!(ask("192.0.2.3", ""), "401");
    }
}

#[test]
fn backend_connection_with_ntlm_serves_one_client_connection() {
    let proxy = Proxy::start(scripted(ntlm), &[]);
    let (mut alice, mut other) = (connect(proxy.address), connect(proxy.address));
    let ask = |stream: &mut TcpStream, authorization: &str| {
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{authorization}\r\n").as_bytes()).unwrap();
        let response = read_response(stream).unwrap();
        if response.status == 200 { response.body } else { response.status.to_string() }
    };
    assert_eq!(ask(&mut alice, "Authorization: NTLM type1\r\n"), "401");
    assert_eq!(ask(&mut alice, "Authorization: NTLM alice\r\n"), "alice");
    for _ in 0..2 {
        assert_eq!(ask(&mut other, ""), "401");
        assert_eq!(ask(&mut alice, ""), "alice");
    }
}

#[test]
fn processes_with_the_same_secret_select_the_same_backend_for_a_key() {
    let [one, other] = ["one", "other"].map(|name| responding(move |_| ok(name)));
    let places = |first: SocketAddr, second: SocketAddr, secret: Option<&str>| -> Vec<String> {
        let upstream = format!("{first},{second}");
        let mut settings = vec![("RPROXY_UPSTREAM", upstream.as_str()), ("RPROXY_UPSTREAM_BALANCE", "header:x-tenant")];
        settings.extend(secret.map(|secret| ("RPROXY_UPSTREAM_BALANCE_SECRET", secret)));
        let proxy = Proxy::start(first, &settings);
        let place = |tenant| {
            request(
                proxy.address,
                &format!("GET / HTTP/1.1\r\nHost: a\r\nX-Tenant: {tenant}\r\nConnection: close\r\n\r\n"),
            )
            .body
        };
        (0..40).map(place).collect()
    };
    let secret = Some("0123456789abcdef");
    let expected = places(one, other, secret);
    assert!(expected.iter().any(|place| place == "one") && expected.iter().any(|place| place == "other"));
    assert_eq!(places(other, one, secret), expected);
    assert_ne!(places(one, other, Some("another secret of the operator")), expected);
    assert_ne!(places(one, other, None), expected);
    assert_ne!(places(one, other, None), places(one, other, None));
}
