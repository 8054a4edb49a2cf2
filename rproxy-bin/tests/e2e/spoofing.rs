//! Tests that spoofed header fields and ambiguous targets reach no backend over HTTP/1 and HTTP/2.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;

use crate::h2::{self, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, field};
use crate::support::upstream::{echo, ok, read_head, responding, scripted};
use crate::support::{Proxy, TIMEOUT, connect, exchange, read_response, request};

/// Header fields that are accepted from trusted proxies only, in spellings that attackers use.
const SPOOFED: &[&str] = &[
    "X-Forwarded-For",
    "x-forwarded-for",
    "X-FORWARDED-FOR",
    "X_Forwarded_For",
    "X-Forwarded_For",
    "X.Forwarded.For",
    "X~Forwarded~For",
    "X-Forwarded",
    "X-Forwarded-By",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Host",
    "X_Forwarded_Host",
    "X-Forwarded-Path",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X_Forwarded_Proto",
    "X-Forwarded-Protocol",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Uri",
    "X-Forwarded-User",
    "X-Original-Forwarded-For",
    "X-Originally-Forwarded-For",
    "Forwarded",
    "Forwarded-For",
    "Forwarded-For-Ip",
    "X-Real-IP",
    "X_Real_IP",
    "X-Real-Host",
    "X-Request-Id",
    "X_Request_Id",
    "X-Client-IP",
    "X_Client_IP",
    "X-ClientIP",
    "Client-IP",
    "Client_IP",
    "HTTP-Client-IP",
    "X-Cluster-Client-IP",
    "Cluster-Client-IP",
    "X-Originating-IP",
    "X-Remote-IP",
    "X-Remote-Addr",
    "Remote-Addr",
    "True-Client-IP",
    "X-True-Client-IP",
    "CF-Connecting-IP",
    "CF_Connecting_IP",
    "CF-Connecting-IPv6",
    "CF-IPCountry",
    "CF-Visitor",
    "Fastly-Client-IP",
    "Fastly-SSL",
    "Fly-Client-IP",
    "DO-Connecting-IP",
    "Incap-Client-IP",
    "X-Sucuri-ClientIP",
    "X-Azure-ClientIP",
    "X-Azure-SocketIP",
    "X-Appengine-User-IP",
    "X-Vercel-Forwarded-For",
    "X-NF-Client-Connection-IP",
    "X-Envoy-External-Address",
    "X-Envoy-Original-Path",
    "CloudFront-Viewer-Address",
    "CloudFront-Forwarded-Proto",
    "X-ProxyUser-Ip",
    "WL-Proxy-Client-IP",
    "Proxy-Client-IP",
    "X-Custom-IP-Authorization",
    "X-Source-IP",
    "Real-IP",
    "X-Original-URL",
    "X_Original_URL",
    "X-Original-URI",
    "X-Original-Host",
    "X-Original-Method",
    "X-Rewrite-URL",
    "X_Rewrite_URL",
    "X-Override-URL",
    "X-Request-URI",
    "X-Host",
    "X-HTTP-Host-Override",
    "X-HTTP-DestinationURL",
    "X-Backend-Host",
    "X-Proxy-URL",
    "X-Script-Name",
    "X-Accel-Mapping",
    "X-Sendfile-Type",
    "X-Scheme",
    "X-Url-Scheme",
    "X-SSL",
    "Front-End-Https",
    "HTTPS",
    "Remote-User",
    "Remote_User",
    "X-Remote-User",
    "Remote-Email",
    "Remote-Groups",
    "X-WebAuth-User",
    "X-Auth-Request-User",
    "X-Authentik-Username",
    "X-Consumer-Username",
    "X-MS-Client-Principal",
    "X-Goog-Authenticated-User-Email",
    "X-Amzn-Oidc-Identity",
    "Cf-Access-Authenticated-User-Email",
    "Tailscale-User-Login",
    "Client-Cert",
    "Client_Cert",
    "Client-Cert-Chain",
    "SSL-Client-Cert",
    "SSL_CLIENT_S_DN",
    "X-SSL-Client-Verify",
    "X-Client-Cert",
    "X-Client-Verify",
    "X-ARR-ClientCert",
    "X-Middleware-Subrequest",
    "X-Middleware-Rewrite",
    "X-Matched-Path",
    "Proxy",
    "Proxy-Authorization",
    "Proxy-Connection",
];

/// Header fields that ordinary clients send and that the proxy forwards.
const ORDINARY: &[&str] = &[
    "Accept-Language",
    "Authorization",
    "Cookie",
    "DNT",
    "Idempotency-Key",
    "Origin",
    "Sec-Fetch-Site",
    "Upgrade-Insecure-Requests",
    "X-Api-Key",
    "X-Auth-Token",
    "X-Correlation-Id",
    "X-Csrf-Token",
    "X-Goog-Api-Key",
    "X-Amz-Date",
    "X-Middleware-Prefetch",
    "X-Nextjs-Data",
    "X-Requested-With",
    "X-User-Id",
    "api_key",
];

const EXPECTED: [&str; 5] = [
    "x-forwarded-for: 127.0.0.1",
    "x-real-ip: 127.0.0.1",
    "x-forwarded-proto: ",
    "x-forwarded-host: localhost",
    "x-request-id: ",
];

/// Asserts that the backend received each forwarding field once and no spoofed value.
fn assert_not_spoofed(seen: &str, attack: &str) {
    let seen = seen.to_ascii_lowercase();
    assert!(!seen.contains("spoofed") && !seen.contains("6.6.6.6"), "{attack} gets through: {seen}");
    for fact in EXPECTED {
        assert_eq!(seen.matches(&format!("\r\n{fact}")).count(), 1, "{fact} after {attack}: {seen}");
    }
}

#[test]
fn removes_spoofed_fields_on_http1() {
    let proxy = Proxy::start(echo(), &UNLIMITED);
    let mut client = connect(proxy.address);
    for name in SPOOFED {
        for lines in [
            format!("{name}: spoofed"),
            format!("{name}:spoofed, 6.6.6.6"),
            format!("{name}: 6.6.6.6\r\n{name}: spoofed"),
        ] {
            client.write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n").as_bytes()).unwrap();
            let response = read_response(&mut client).expect("a response");
            assert_eq!(response.status, 200, "{lines}");
            assert_not_spoofed(&response.body, &lines);
        }
    }
    for name in ORDINARY {
        client.write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{name}: honest\r\n\r\n").as_bytes()).unwrap();
        let body = read_response(&mut client).expect("a response").body.to_ascii_lowercase();
        assert!(body.contains(&format!("\r\n{}: honest\r\n", name.to_ascii_lowercase())), "{name} in {body}");
    }
}

/// Header fields of a trusted proxy whose values reach the backend, as single values or in a list.
const TRUSTED: [&str; 5] = ["x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-real-ip", "cf-connecting-ip"];

#[test]
fn trusted_proxy_sets_only_client_address_scheme_and_request_id() {
    let settings = [UNLIMITED.as_slice(), &[("RPROXY_TRUSTED_PROXIES", "loopback")]].concat();
    let proxy = Proxy::start(echo(), &settings);
    let mut client = connect(proxy.address);
    for name in SPOOFED.iter().filter(|name| !TRUSTED.contains(&&*name.to_ascii_lowercase())) {
        client.write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{name}: spoofed\r\n\r\n").as_bytes()).unwrap();
        let response = read_response(&mut client).expect("a response");
        assert_eq!(response.status, 200, "{name}");
        assert_not_spoofed(&response.body, name);
    }
}

#[test]
fn trusted_fields_are_accepted_from_trusted_proxies_only() {
    let fields = "X-Forwarded-Host, X-Forwarded-Port, X-Forwarded-Prefix, Remote-User, X-Corp-User";
    let head = "GET /static/a.css HTTP/1.1\r\nHost: internal:8080\r\nX-Forwarded-Host: A.example\r\nX-Forwarded-Port: 8443\r\n\
                X-Forwarded-Prefix: /app\r\nRemote-User: ann\r\nX-Corp-User: ann\r\nX_Corp_User: eve\r\n\
                X-Original-URL: /.env\r\nConnection: close\r\n\r\n";
    let send_get = |trusted: &str| {
        let settings = [("RPROXY_TRUSTED_PROXIES", trusted), ("RPROXY_TRUSTED_FIELDS", fields)];
        request(Proxy::start(echo(), &settings).address, head).body.to_ascii_lowercase()
    };
    let seen = send_get("loopback");
    for line in [
        "host: internal:8080",
        "x-forwarded-host: a.example:8443",
        "x-forwarded-port: 8443",
        "x-forwarded-prefix: /app",
        "remote-user: ann",
        "x-corp-user: ann",
    ] {
        assert!(seen.contains(&format!("\r\n{line}\r\n")), "{line} in {seen}");
    }
    assert!(!seen.contains("eve") && !seen.contains(".env"), "{seen}");
    let seen = send_get("192.0.2.1");
    assert!(seen.contains("\r\nx-forwarded-host: internal:8080\r\n"), "{seen}");
    assert!(!seen.contains("ann") && !seen.contains("/app"), "{seen}");
}

#[test]
fn trusted_host_and_user_fields_are_not_accepted_from_cdns() {
    let settings = [
        ("RPROXY_TRUSTED_PROXIES", "loopback, cloudflare"),
        ("RPROXY_TRUSTED_FIELDS", "x-forwarded-host, remote-user, cf-ipcountry"),
        ("RPROXY_PROXY_PROTOCOL", "v1"),
    ];
    let proxy = Proxy::start(echo(), &settings);
    let head = "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Host: evil.example\r\nRemote-User: admin\r\n\
                CF-IPCountry: DE\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
    let seen = |source: &str| {
        let head = format!("PROXY TCP4 {source} 127.0.0.1 40000 80\r\n{head}");
        request(proxy.address, &head).body.to_ascii_lowercase()
    };
    let cdn = seen("104.16.0.1");
    assert!(!cdn.contains("evil") && !cdn.contains("remote-user"), "{cdn}");
    assert!(cdn.contains("cf-ipcountry: de") && cdn.contains("x-forwarded-proto: https"), "{cdn}");
    let other = seen("127.0.0.1");
    assert!(other.contains("x-forwarded-host: evil.example") && other.contains("remote-user: admin"), "{other}");
}

#[test]
fn forwards_method_override_fields_only_for_post() {
    let proxy = Proxy::start(echo(), &[]);
    for (method, is_kept) in [("POST", true), ("GET", false)] {
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        let head = format!(
            "{method} / HTTP/1.1\r\nHost: a\r\n{length}X-HTTP-Method-Override: DELETE\r\nConnection: close\r\n\r\n"
        );
        let seen = request(proxy.address, &head).body.to_ascii_lowercase();
        assert_eq!(seen.contains("x-http-method-override: delete"), is_kept, "{method}: {seen}");
    }
}

#[test]
fn removes_spoofed_fields_on_http2() {
    let (proxy, mut client, _folder) = over_tls(echo());
    let mut stream = 1;
    let mut send_get = |client: &mut h2::Client, fields: &[(&str, &str)]| {
        let body = send_get(client, stream, fields);
        stream += 2;
        body
    };
    for name in SPOOFED.iter().map(|name| name.to_ascii_lowercase()) {
        // A connection-specific field is malformed (RFC 9113 §8.2.2).
        if name == "proxy-connection" {
            continue;
        }
        let seen = send_get(&mut client, &[(name.as_str(), "6.6.6.6"), (name.as_str(), "spoofed")]).expect(&name);
        assert_not_spoofed(&seen, &name);
        assert!(seen.contains("x-forwarded-proto: https"), "{seen}");
    }
    for name in ORDINARY.iter().map(|name| name.to_ascii_lowercase()) {
        let seen = send_get(&mut client, &[(name.as_str(), "honest")]).expect(&name);
        assert!(seen.contains(&format!("\r\n{name}: honest\r\n")), "{name} in {seen}");
    }
    let seen = send_get(&mut client, &[("cookie", "a=1"), ("cookie", "b=2")]).unwrap();
    assert!(seen.contains("\r\ncookie: a=1; b=2\r\n"), "{seen}");
    drop(proxy);
}

#[test]
fn rejects_fields_that_http2_forbids() {
    let (proxy, mut client, folder) = over_tls(echo());
    let mut stream = 1;
    for fields in [
        &[("connection", "x-forwarded-for")][..],
        &[("keep-alive", "5")],
        &[("proxy-connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("upgrade", "h2c")],
        &[("te", "gzip")],
        &[("X-Forwarded-For", "6.6.6.6")],
        &[("x-forwarded-for", "a\r\nx-real-ip: 6.6.6.6")],
        &[("x-a\r\nx-real-ip", "6.6.6.6")],
        &[("x-a", "b\0c")],
        &[("host", "other.example")],
        &[("host", "localhost"), ("host", "other.example")],
        &[(":path", "/other")],
        &[(":authority", "other.example")],
        &[(":scheme", "http")],
        &[(":unknown", "x")],
    ] {
        let response = send_get(&mut client, stream, fields);
        let seen = response.as_deref().unwrap_or_default();
        assert!(!seen.contains("GET /"), "{fields:?} gets through: {seen}");
        // Some of these end the connection.
        if response.is_none() {
            client =
                h2::Client::connect(proxy.address, &h2::client(&folder.path().join("local/ca.pem"))).handshake(&[]);
            stream = 1;
        } else {
            stream += 2;
        }
    }
}

#[test]
fn connection_options_cannot_remove_forwarding_fields_or_credentials() {
    let proxy = Proxy::start(echo(), &UNLIMITED);
    let own = ["Authorization", "Cookie", "Content-Type", "Origin", "If-None-Match", "Sec-Fetch-Site", "Traceparent"];
    let mine = "Authorization: Bearer mine\r\nCookie: s=mine\r\nContent-Type: a/mine\r\nOrigin: https://mine\r\n\
        If-None-Match: \"mine\"\r\nSec-Fetch-Site: mine\r\n\
        Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let facts =
        ["Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP", "X-Request-Id", "Via"];
    for nominated in own.iter().chain(&facts) {
        for connection in [
            format!("Connection: close, {nominated}"),
            format!("Connection: {}\r\nConnection: close", nominated.to_ascii_lowercase()),
            format!("Connection: close,,\t{nominated} ,"),
        ] {
            let head =
                format!("GET / HTTP/1.1\r\nHost: localhost\r\n{mine}X-Forwarded-For: 6.6.6.6\r\n{connection}\r\n\r\n");
            let seen = request(proxy.address, &head).body;
            assert_not_spoofed(&seen, &connection);
            assert_eq!(seen.matches("mine").count(), 6, "{connection}: {seen}");
            assert!(seen.contains("\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c"), "{connection}: {seen}");
        }
    }
}

#[test]
fn rejects_malformed_field_lines_with_400() {
    let proxy = Proxy::start(echo(), &UNLIMITED);
    for lines in [
        "X-Forwarded-For : 6.6.6.6",
        "X-Forwarded-For\t: 6.6.6.6",
        " X-Forwarded-For: 6.6.6.6",
        "X-A: b\r\n X-Forwarded-For: 6.6.6.6",
        "X-A: b\r\n\tX-Forwarded-For: 6.6.6.6",
        "X-A: b\nX-Forwarded-For: 6.6.6.6",
        "X-A: b\rX-Forwarded-For: 6.6.6.6",
        "X-A: b\0\r\nX-Forwarded-For: 6.6.6.6",
        "X-Forwarded-For",
        ": 6.6.6.6",
        "X Forwarded-For: 6.6.6.6",
        "X-Forwarded-For\0: 6.6.6.6",
        "Host: other.example",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n");
        let response = exchange(proxy.address, head.as_bytes());
        assert!(response.starts_with("HTTP/1.1 400 "), "{lines:?}: {response}");
    }
}

#[test]
fn removes_spoofed_trailer_fields() {
    let (sender, seen) = mpsc::channel();
    let upstream = scripted(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let mut body = Vec::new();
            while !body.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                body.push(byte[0]);
            }
            sender.send((head, String::from_utf8(body).unwrap())).unwrap();
            stream.write_all(ok("").as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::start(upstream, &UNLIMITED);
    for name in SPOOFED.iter().chain(&["Host", "Authorization", "Cookie", "Content-Length", "Transfer-Encoding"]) {
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
        let bytes = format!("{head}3\r\nabc\r\n0\r\n{name}: spoofed\r\nX-Sum: 1\r\n\r\n");
        let mut client = connect(proxy.address);
        client.write_all(bytes.as_bytes()).unwrap();
        let status = read_response(&mut client).map(|response| response.status);
        if status != Some(200) {
            // A trailer field that frames the message is malformed.
            assert_eq!(status, Some(400), "{name}");
            continue;
        }
        let (head, body) = seen.recv_timeout(TIMEOUT).unwrap();
        assert_not_spoofed(&format!("{head}{body}"), name);
        assert!(body.ends_with("0\r\nx-sum: 1\r\n\r\n"), "{name}: {body}");
    }
}

#[test]
fn ignores_scheme_and_rejects_authority_that_contradict_the_connection() {
    let proxy = Proxy::start(echo(), &UNLIMITED);
    // Without TLS the scheme is not https, regardless of the target.
    let head = "GET https://localhost/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let response = request(proxy.address, head);
    if response.status == 200 {
        assert!(response.body.contains("x-forwarded-proto: http\r\n"), "{}", response.body);
    }
    for target in
        ["http://other.example/", "http://user@localhost/", "http://localhost@other.example/", "http://localhost:81/"]
    {
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(request(proxy.address, &head).status, 400, "{target}");
    }
}

// RFC 9112 §3.2.1, §3.2.2, §3.2.4
#[test]
fn forwards_target_in_origin_form() {
    let proxy = Proxy::start(responding(|head| ok(head.lines().next().unwrap())), &UNLIMITED);
    for (line, arrives) in [
        ("GET http://localhost/x?y HTTP/1.1", "GET /x?y HTTP/1.1"),
        ("GET http://localhost HTTP/1.1", "GET / HTTP/1.1"),
        ("GET http://localhost?/x HTTP/1.1", "GET /?/x HTTP/1.1"),
        ("GET http://localhost?/../.env HTTP/1.1", "GET /?/../.env HTTP/1.1"),
        ("GET http://localhost? HTTP/1.1", "GET /? HTTP/1.1"),
        ("POST http://localhost?x HTTP/1.1", "POST /?x HTTP/1.1"),
        ("OPTIONS http://localhost HTTP/1.1", "OPTIONS * HTTP/1.1"),
        ("OPTIONS http://localhost/ HTTP/1.1", "OPTIONS / HTTP/1.1"),
        ("OPTIONS http://localhost?x HTTP/1.1", "OPTIONS /?x HTTP/1.1"),
        ("OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1"),
        ("OPTIONS /x HTTP/1.1", "OPTIONS /x HTTP/1.1"),
    ] {
        let response = request(proxy.address, &format!("{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!((response.status, response.body.as_str()), (200, arrives), "{line}");
    }
    for target in ["*", "?x", "x", ".env", "\\.env", "/#x", "http:/x", "http:///x", "//", "localhost:80"] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let expected = if target == "//" { 200 } else { 400 };
        assert_eq!(request(proxy.address, &head).status, expected, "{target}");
    }
    // The path filter applies to the absolute form, too.
    for target in
        ["http://localhost/.env", "http://localhost/x/../.env", "http://localhost//.env", "http://localhost/%2eenv"]
    {
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(request(proxy.address, &head).status, 404, "{target}");
    }
}

#[test]
fn path_filter_applies_to_http2_targets() {
    let (proxy, mut client, folder) = over_tls(echo());
    let mut stream = 1;
    for (path, gets_through) in [
        ("/", true),
        ("/a?b", true),
        ("/a%2Fb", true),
        ("/.env", false),
        ("/%2eenv", false),
        ("//.env", false),
        ("/x/../.env", false),
        ("/x/..;/.env", false),
        ("/x\\..\\.env", false),
        ("/.env?x", false),
        ("/.env;x", false),
        ("/\u{ff0e}env", false),
        ("/.env\0", false),
        ("/.env#x", false),
        ("/.env HTTP/1.1\r\nx: y", false),
        ("/ HTTP/1.1\r\nHost: localhost\r\n\r\nGET /.env", false),
        (".env", false),
        ("?/.env", false),
        ("", false),
        ("*", false),
        ("https://localhost/.env", false),
        ("http://localhost/", false),
    ] {
        let mut head: Vec<u8> = Vec::new();
        for (name, value) in [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)] {
            head.extend(field(name, value));
        }
        let response = send(&mut client, stream, &head);
        let reached = response.as_deref().is_some_and(|seen| seen.starts_with("GET "));
        assert_eq!(reached, gets_through, "{path:?}: {response:?}");
        match response {
            Some(_) => stream += 2,
            None => {
                client =
                    h2::Client::connect(proxy.address, &h2::client(&folder.path().join("local/ca.pem"))).handshake(&[]);
                stream = 1;
            }
        }
    }
}

#[test]
fn applies_the_trace_context_setting() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let received_trace = |settings: &[(&str, &str)], traceparent: &str| {
        let proxy = Proxy::start(echo(), settings);
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{traceparent}Connection: close\r\n\r\n");
        let seen = request(proxy.address, &head).body.to_ascii_lowercase();
        let field =
            |name: &str| seen.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()));
        (field("traceparent"), field("tracestate"), field("x-request-id").unwrap_or_default())
    };
    let good = format!("Traceparent: {TRACE}\r\nTracestate: a=1\r\n");
    let (trace, state, _) = received_trace(&[], &good);
    assert_eq!((trace.as_deref(), state.as_deref()), (Some(TRACE), Some("a=1")));
    let (trace, state, _) = received_trace(&[], "Traceparent: nonsense\r\nTracestate: a=1\r\n");
    assert_eq!((trace, state), (None, None));
    for (how, line) in [("begin", ""), ("begin", "Traceparent: 1\r\n"), ("restart", good.as_str())] {
        let (trace, state, id) = received_trace(&[("RPROXY_TRACE_CONTEXT", how)], line);
        let trace = trace.expect("a trace");
        assert_eq!((trace[3..35].to_owned(), state), (id.replace('-', ""), None), "{how} {line}");
    }
    let trusted = [("RPROXY_TRACE_CONTEXT", "restart"), ("RPROXY_TRUSTED_PROXIES", "loopback")];
    assert_eq!(received_trace(&trusted, &good).0.as_deref(), Some(TRACE));
}

#[test]
fn applies_the_settings_forwarded_and_hide_client() {
    let seen = |settings: &[(&str, &str)]| {
        let proxy = Proxy::start(echo(), settings);
        let head = "GET / HTTP/1.1\r\nHost: a.example\r\nForwarded: for=6.6.6.6\r\nConnection: close\r\n\r\n";
        request(proxy.address, head).body
    };
    let body = seen(&[("RPROXY_FORWARDED", "true"), ("RPROXY_FORWARDED_BY", "_edge")]);
    assert!(body.contains("\r\nforwarded: for=127.0.0.1;by=_edge;host=a.example;proto=http\r\n"), "{body}");
    let body = seen(&[("RPROXY_FORWARDED", "true"), ("RPROXY_HIDE_CLIENT", "true")]);
    assert!(body.contains("\r\nforwarded: for=_hidden;host=a.example;proto=http\r\n"), "{body}");
    assert!(!body.contains("127.0.0.1") && !body.contains("x-real-ip"), "{body}");
    assert!(!seen(&[]).contains("forwarded: "), "only on request");
}

/// Settings that disable the rate limit.
const UNLIMITED: [(&str, &str); 1] = [("RPROXY_RATE_LIMIT_ENABLED", "false")];

/// Starts a proxy with TLS, and returns it with an HTTP/2 client and the directory of the certificates.
fn over_tls(upstream: SocketAddr) -> (Proxy, h2::Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().to_str().unwrap();
    let tls = [("RPROXY_TLS_LOCAL", "true"), ("RPROXY_TLS_CACHE_DIR", cache), ("RPROXY_HTTP_PORT", "0"), UNLIMITED[0]];
    let proxy = Proxy::start(upstream, &tls);
    let authority: &Path = &folder.path().join("local/ca.pem");
    let client = h2::Client::connect(proxy.address, &h2::client(authority)).handshake(&[]);
    (proxy, client, folder)
}

/// Sends a GET request with these header fields over HTTP/2. Returns the response body or `reset`; `None` if the
/// connection ended.
fn send_get(client: &mut h2::Client, stream: u32, fields: &[(&str, &str)]) -> Option<String> {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")];
    // Pseudo-header fields come first, whether genuine or forged.
    let (first, rest): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| name.starts_with(':'));
    let all = pseudo.iter().chain(first).chain(rest);
    send(client, stream, &all.flat_map(|(name, value)| field(name, value)).collect::<Vec<_>>())
}

fn send(client: &mut h2::Client, stream: u32, head: &[u8]) -> Option<String> {
    client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, head.to_vec()).bytes());
    let mut body = String::new();
    loop {
        let frame = client.wait_for(|frame| {
            frame.kind == GOAWAY || frame.stream == stream && matches!(frame.kind, DATA | HEADERS | RST_STREAM)
        })?;
        match frame.kind {
            GOAWAY => return None,
            RST_STREAM => return Some("reset".to_owned()),
            DATA => body.push_str(&String::from_utf8_lossy(&frame.payload)),
            _ => {}
        }
        if frame.flags & END_STREAM != 0 {
            return Some(body);
        }
    }
}
