//! What clients say of who they are and what they ask for, on either protocol: none of it reaches the backend.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;

use crate::h2::{self, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, field};
use crate::support::upstream::{answering, echo, ok, read_head, scripted};
use crate::support::{PATIENCE, Proxy, connect, exchange, read_answer, request};

/// Fields that only a proxy in front is to be believed of, as an attacker spells them.
const CLAIMS: &[&str] = &[
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

/// Fields that clients send by themselves.
const HONEST: &[&str] = &[
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

const FACTS: [&str; 5] = [
    "x-forwarded-for: 127.0.0.1",
    "x-real-ip: 127.0.0.1",
    "x-forwarded-proto: ",
    "x-forwarded-host: localhost",
    "x-request-id: ",
];

/// The backend saw each fact once, and nothing of the claim.
fn knows_facts_only(seen: &str, attack: &str) {
    let seen = seen.to_ascii_lowercase();
    assert!(!seen.contains("spoofed") && !seen.contains("6.6.6.6"), "{attack} gets through: {seen}");
    for fact in FACTS {
        assert_eq!(seen.matches(&format!("\r\n{fact}")).count(), 1, "{fact} after {attack}: {seen}");
    }
}

#[test]
fn no_claim_gets_through_on_http1() {
    let proxy = Proxy::start(echo(), &UNLIMITED);
    let mut client = connect(proxy.address);
    for name in CLAIMS {
        for lines in [
            format!("{name}: spoofed"),
            format!("{name}:spoofed, 6.6.6.6"),
            format!("{name}: 6.6.6.6\r\n{name}: spoofed"),
        ] {
            client.write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n").as_bytes()).unwrap();
            let answer = read_answer(&mut client).expect("an answer");
            assert_eq!(answer.status, 200, "{lines}");
            knows_facts_only(&answer.body, &lines);
        }
    }
    for name in HONEST {
        client.write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{name}: honest\r\n\r\n").as_bytes()).unwrap();
        let body = read_answer(&mut client).expect("an answer").body.to_ascii_lowercase();
        assert!(body.contains(&format!("\r\n{}: honest\r\n", name.to_ascii_lowercase())), "{name} in {body}");
    }
}

/// Fields that a trusted proxy is believed about, or whose members are kept in a list.
const TRUSTED: [&str; 5] = ["x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-real-ip", "cf-connecting-ip"];

#[test]
fn a_trusted_proxy_is_believed_about_nothing_but_address_scheme_and_id() {
    let settings = [UNLIMITED.as_slice(), &[("RPROXY_TRUSTED_PROXIES", "loopback")]].concat();
    let proxy = Proxy::start(echo(), &settings);
    let mut client = connect(proxy.address);
    for name in CLAIMS.iter().filter(|name| !TRUSTED.contains(&&*name.to_ascii_lowercase())) {
        client.write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{name}: spoofed\r\n\r\n").as_bytes()).unwrap();
        let answer = read_answer(&mut client).expect("an answer");
        assert_eq!(answer.status, 200, "{name}");
        knows_facts_only(&answer.body, name);
    }
}

#[test]
fn a_setting_names_more_fields_that_a_trusted_proxy_is_believed_about() {
    let fields = "X-Forwarded-Host, X-Forwarded-Port, X-Forwarded-Prefix, Remote-User, X-Corp-User";
    let head = "GET /static/a.css HTTP/1.1\r\nHost: internal:8080\r\nX-Forwarded-Host: A.example\r\nX-Forwarded-Port: 8443\r\n\
                X-Forwarded-Prefix: /app\r\nRemote-User: ann\r\nX-Corp-User: ann\r\nX_Corp_User: eve\r\n\
                X-Original-URL: /.env\r\nConnection: close\r\n\r\n";
    let ask = |trusted: &str| {
        let settings = [("RPROXY_TRUSTED_PROXIES", trusted), ("RPROXY_TRUSTED_FIELDS", fields)];
        request(Proxy::start(echo(), &settings).address, head).body.to_ascii_lowercase()
    };
    let seen = ask("loopback");
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
    let seen = ask("192.0.2.1");
    assert!(seen.contains("\r\nx-forwarded-host: internal:8080\r\n"), "{seen}");
    assert!(!seen.contains("ann") && !seen.contains("/app"), "{seen}");
}

#[test]
fn a_cdn_is_not_believed_about_the_target_even_where_a_setting_names_it() {
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
fn only_a_post_has_its_method_overridden() {
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
fn no_claim_gets_through_on_http2() {
    let (proxy, mut client, _folder) = over_tls(echo());
    let mut stream = 1;
    let mut ask = |client: &mut h2::Client, fields: &[(&str, &str)]| {
        let body = ask(client, stream, fields);
        stream += 2;
        body
    };
    for name in CLAIMS.iter().map(|name| name.to_ascii_lowercase()) {
        // A connection-specific field is malformed (RFC 9113 §8.2.2).
        if name == "proxy-connection" {
            continue;
        }
        let seen = ask(&mut client, &[(name.as_str(), "6.6.6.6"), (name.as_str(), "spoofed")]).expect(&name);
        knows_facts_only(&seen, &name);
        assert!(seen.contains("x-forwarded-proto: https"), "{seen}");
    }
    for name in HONEST.iter().map(|name| name.to_ascii_lowercase()) {
        let seen = ask(&mut client, &[(name.as_str(), "honest")]).expect(&name);
        assert!(seen.contains(&format!("\r\n{name}: honest\r\n")), "{name} in {seen}");
    }
    let seen = ask(&mut client, &[("cookie", "a=1"), ("cookie", "b=2")]).unwrap();
    assert!(seen.contains("\r\ncookie: a=1; b=2\r\n"), "{seen}");
    drop(proxy);
}

#[test]
fn what_http2_forbids_is_no_way_in() {
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
        let answer = ask(&mut client, stream, fields);
        let seen = answer.as_deref().unwrap_or_default();
        assert!(!seen.contains("GET /"), "{fields:?} gets through: {seen}");
        // Some of it ends the connection.
        if answer.is_none() {
            client =
                h2::Client::connect(proxy.address, &h2::client(&folder.path().join("local/ca.pem"))).handshake(&[]);
            stream = 1;
        } else {
            stream += 2;
        }
    }
}

#[test]
fn a_nomination_takes_no_fact_and_no_secret_away() {
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
            knows_facts_only(&seen, &connection);
            assert_eq!(seen.matches("mine").count(), 6, "{connection}: {seen}");
            assert!(seen.contains("\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c"), "{connection}: {seen}");
        }
    }
}

#[test]
fn a_field_that_is_badly_written_is_refused() {
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
        let answer = exchange(proxy.address, head.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lines:?}: {answer}");
    }
}

#[test]
fn no_claim_gets_through_behind_a_body() {
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
    for name in CLAIMS.iter().chain(&["Host", "Authorization", "Cookie", "Content-Length", "Transfer-Encoding"]) {
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
        let bytes = format!("{head}3\r\nabc\r\n0\r\n{name}: spoofed\r\nX-Sum: 1\r\n\r\n");
        let mut client = connect(proxy.address);
        client.write_all(bytes.as_bytes()).unwrap();
        let status = read_answer(&mut client).map(|answer| answer.status);
        if status != Some(200) {
            // A trailer that frames is malformed.
            assert_eq!(status, Some(400), "{name}");
            continue;
        }
        let (head, body) = seen.recv_timeout(PATIENCE).unwrap();
        knows_facts_only(&format!("{head}{body}"), name);
        assert!(body.ends_with("0\r\nx-sum: 1\r\n\r\n"), "{name}: {body}");
    }
}

#[test]
fn a_target_says_nothing_that_the_connection_does_not() {
    let proxy = Proxy::start(echo(), &UNLIMITED);
    // In the clear it is not HTTPS, whatever the target says.
    let head = "GET https://localhost/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = request(proxy.address, head);
    if answer.status == 200 {
        assert!(answer.body.contains("x-forwarded-proto: http\r\n"), "{}", answer.body);
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
fn a_target_arrives_in_origin_form() {
    let proxy = Proxy::start(answering(|head| ok(head.lines().next().unwrap())), &UNLIMITED);
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
        let answer = request(proxy.address, &format!("{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!((answer.status, answer.body.as_str()), (200, arrives), "{line}");
    }
    for target in ["*", "?x", "x", ".env", "\\.env", "/#x", "http:/x", "http:///x", "//", "localhost:80"] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let expected = if target == "//" { 200 } else { 400 };
        assert_eq!(request(proxy.address, &head).status, expected, "{target}");
    }
    // Absolute or not, a blocked path is one.
    for target in
        ["http://localhost/.env", "http://localhost/x/../.env", "http://localhost//.env", "http://localhost/%2eenv"]
    {
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(request(proxy.address, &head).status, 404, "{target}");
    }
}

#[test]
fn a_path_on_http2_is_judged_as_on_http1() {
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
        let answer = send(&mut client, stream, &head);
        let reached = answer.as_deref().is_some_and(|seen| seen.starts_with("GET "));
        assert_eq!(reached, gets_through, "{path:?}: {answer:?}");
        match answer {
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
fn a_trace_is_passed_on_or_begun_as_it_is_told() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let asked = |settings: &[(&str, &str)], traceparent: &str| {
        let proxy = Proxy::start(echo(), settings);
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{traceparent}Connection: close\r\n\r\n");
        let seen = request(proxy.address, &head).body;
        let field =
            |name: &str| seen.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()));
        (field("traceparent"), field("tracestate"), field("x-request-id").unwrap_or_default())
    };
    let good = format!("Traceparent: {TRACE}\r\nTracestate: a=1\r\n");
    let (trace, state, _) = asked(&[], &good);
    assert_eq!((trace.as_deref(), state.as_deref()), (Some(TRACE), Some("a=1")));
    let (trace, state, _) = asked(&[], "Traceparent: nonsense\r\nTracestate: a=1\r\n");
    assert_eq!((trace, state), (None, None));
    for (how, line) in [("begin", ""), ("begin", "Traceparent: 1\r\n"), ("restart", good.as_str())] {
        let (trace, state, id) = asked(&[("RPROXY_TRACE_CONTEXT", how)], line);
        let trace = trace.expect("a trace");
        assert_eq!((trace[3..35].to_owned(), state), (id.replace('-', ""), None), "{how} {line}");
    }
    let trusted = [("RPROXY_TRACE_CONTEXT", "restart"), ("RPROXY_TRUSTED_PROXIES", "loopback")];
    assert_eq!(asked(&trusted, &good).0.as_deref(), Some(TRACE));
}

#[test]
fn forwarded_is_sent_and_names_are_hidden_as_it_is_told() {
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

/// As many requests as a test likes.
const UNLIMITED: [(&str, &str); 1] = [("RPROXY_RATE_LIMIT_ENABLED", "false")];

/// The proxy, a client that speaks HTTP/2 to it, and where its certificates are.
fn over_tls(upstream: SocketAddr) -> (Proxy, h2::Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().to_str().unwrap();
    let tls = [("RPROXY_TLS_LOCAL", "true"), ("RPROXY_TLS_CACHE_DIR", cache), ("RPROXY_HTTP_PORT", "0"), UNLIMITED[0]];
    let proxy = Proxy::start(upstream, &tls);
    let authority: &Path = &folder.path().join("local/ca.pem");
    let client = h2::Client::connect(proxy.address, &h2::client(authority)).handshake(&[]);
    (proxy, client, folder)
}

/// A GET with these fields besides: the body of the answer, or what ends the stream; `None` is the connection's end.
fn ask(client: &mut h2::Client, stream: u32, fields: &[(&str, &str)]) -> Option<String> {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")];
    // Pseudo-header fields come first, and a second one is as good as a forged one.
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
