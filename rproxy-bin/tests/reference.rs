//! Tests that `docs/reference` lists exactly the metrics, log fields, reasons and header fields of the binary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;

use rproxy_upstream::ProxyErrorKind;
use serde_json::Value;
use support::upstream::{echo, ok, read_head, scripted};
use support::{Proxy, Response, connect, exchange, get, read_response, request};

#[test]
fn metrics_page_lists_exactly_the_exposed_metrics() {
    let Some(page) = page("metrics.md") else { return };
    let exposed = exposed();
    let mut listed = BTreeMap::new();
    for row in rows(&page).filter(|row| row.len() == 5 && is_metric(&row[0])) {
        let labels = code_spans(&row[2]).map(str::to_owned).collect();
        listed.insert(row[0].trim_matches('`').to_owned(), (row[1].clone(), labels));
    }
    assert_eq!(listed, exposed.families);
    let is_open = |label: &str| matches!(label, "method" | "names" | "route" | "site" | "version");
    for (label, value) in exposed.values.iter().filter(|(label, _)| !is_open(label)) {
        let page = format!("{page}\n{}", self::page("statuses.md").unwrap());
        assert!(page.contains(&format!("`{value}`")), "{label}={value}");
    }
}

#[test]
fn statuses_page_lists_exactly_the_reasons_and_upstream_errors() {
    let Some(page) = page("statuses.md") else { return };
    let exposed = exposed();
    let values = |label: &str| -> BTreeSet<String> {
        let of_label = exposed.values.iter().filter(|(name, _)| name == label);
        of_label.map(|(_, value)| value.clone()).collect()
    };
    let first_cells = |heading: &str| -> BTreeSet<String> {
        rows(section(&page, heading)).map(|row| row[0].trim_matches('`').to_owned()).collect()
    };
    assert_eq!(first_cells("## Rejection reasons"), values("reason"));
    assert_eq!(first_cells("## Upstream errors"), values("error"));

    let rejections: Vec<_> = rows(section(&page, "## Rejections and proxy errors")).collect();
    let mut explained: BTreeSet<String> =
        rejections.iter().flat_map(|row| code_spans(&row[2])).map(str::to_owned).collect();
    explained.insert("other".to_owned());
    assert_eq!(explained, values("reason"));

    let errors: Vec<_> = rows(section(&page, "## Upstream errors")).collect();
    for kind in ProxyErrorKind::ALL {
        let row = errors.iter().find(|row| row[0].trim_matches('`') == kind.as_str()).unwrap();
        assert_eq!(row[1], kind.status().as_str(), "{}", kind.as_str());
    }
}

#[test]
fn log_fields_page_lists_exactly_the_json_log_fields() {
    let Some(page) = page("log-fields.md") else { return };
    let mut logged: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines_of_every_kind("json") {
        let object: Value = serde_json::from_str(&line).unwrap();
        for (name, value) in object.as_object().unwrap() {
            let nested = value.as_object().into_iter().flat_map(|object| object.keys().cloned());
            logged.entry(name.clone()).or_default().extend(nested);
        }
    }
    let rows: Vec<_> = rows(section(&page, "## JSON format")).collect();
    let listed = rows.iter().map(|row| {
        let nested = match &*row[1] {
            "object" => code_spans(&row[2]).map(str::to_owned).collect(),
            _ => BTreeSet::new(),
        };
        (row[0].trim_matches('`').to_owned(), nested)
    });
    assert_eq!(listed.collect::<BTreeMap<_, _>>(), logged);
}

#[test]
fn log_fields_page_lists_exactly_the_text_log_fields() {
    let Some(page) = page("log-fields.md") else { return };
    let mut logged = BTreeSet::new();
    for line in lines_of_every_kind("text") {
        // Quoted values contain spaces; pairs follow the duration.
        let unquoted: String = line.split('"').step_by(2).collect();
        let (_, pairs) = unquoted.split_once("ms").unwrap();
        logged.extend(pairs.split_ascii_whitespace().map(|pair| match pair.split_once('=') {
            Some((name, _)) => format!("{name}="),
            None => pair.to_owned(),
        }));
    }
    let rows = rows(section(&page, "## Text format"));
    let listed: BTreeSet<String> = rows.map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(listed, logged);
}

#[test]
fn headers_page_lists_every_field_that_a_backend_receives() {
    let Some(page) = page("headers.md") else { return };
    let settings = [("RPROXY_FORWARDED", "true"), ("RPROXY_TRACE_CONTEXT", "begin"), ("RPROXY_STRIP_PREFIX", "/api")];
    let proxy = Proxy::start(echo(), &settings);
    let received = get(proxy.address, "/api/users").body;
    let listed: BTreeSet<String> = rows(section(&page, "### Added or replaced request fields"))
        .chain(rows(section(&page, "### Changed")))
        .flat_map(|row| code_spans(&row[0]).map(str::to_ascii_lowercase).collect::<Vec<_>>())
        .collect();
    let names: Vec<&str> = received.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
    assert!(names.len() > 8, "{received}");
    for name in names {
        assert!(listed.contains(name), "{name} in {received}");
    }
}

#[test]
fn headers_page_lists_every_field_that_a_client_receives() {
    let Some(page) = page("headers.md") else { return };
    let known: BTreeSet<String> = code_spans(section(&page, "## Responses to the client"))
        .filter_map(|span| span.split(':').next())
        .map(str::to_ascii_lowercase)
        .chain(["content-type", "content-length", "cache-control"].map(str::to_owned))
        .collect();
    let proxy = Proxy::start(answering_by_target(), &[]);
    for target in ["/static/a.css", "/static/a.css", "/page", "/.env", "/garbage"] {
        let head = get(proxy.address, target).head;
        for name in head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)) {
            assert!(known.contains(name), "{name} in {head}");
        }
    }
}

#[test]
fn removes_every_request_field_that_the_headers_page_lists_as_spoofed() {
    let Some(page) = page("headers.md") else { return };
    let rows = rows(section(&page, "### Stripped spoofed fields"));
    let names: Vec<String> = rows
        .flat_map(|row| code_spans(&row[1]).map(|name| name.replace('*', "x")).collect::<Vec<_>>())
        // Over HTTP/1.1 these get 400.
        .filter(|name| name != "content_length" && name != "transfer_encoding")
        .collect();
    assert!(names.len() > 100, "{} names", names.len());
    let proxy = Proxy::start(echo(), &[]);
    for names in names.chunks(50) {
        let fields: String = names.iter().map(|name| format!("{name}: spoofed-{name}\r\n")).collect();
        let response =
            request(proxy.address, &format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n"));
        assert!(response.status == 200 && !response.body.contains("spoofed"), "{}", response.body);
    }
}

#[test]
fn removes_every_response_field_that_the_headers_page_lists() {
    let Some(page) = page("headers.md") else { return };
    let list = page.lines().find(|line| line.trim_start().starts_with("`$wsep`")).expect("the list of OWASP");
    let names: Vec<String> = code_spans(list).map(str::to_owned).filter(|name| name != "X-Nextjs-Data").collect();
    assert!(names.len() >= 60, "{} names", names.len());
    let fields: String = names.iter().map(|name| format!("{name}: revealed\r\n")).collect();
    let backend = scripted(move |mut stream| {
        while read_head(&mut stream).is_some() {
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n").as_bytes());
        }
    });
    let proxy = Proxy::start(backend, &[]);
    let response = get(proxy.address, "/");
    assert!(response.status == 200 && !response.head.contains("revealed"), "{}", response.head);
}

/// The metrics of two proxies that together use every feature that has metrics.
struct Exposed {
    /// The type and the label names of each metric, by metric name.
    families: BTreeMap<String, (String, BTreeSet<String>)>,
    /// All pairs of a label name and a label value in the metrics.
    values: BTreeSet<(String, String)>,
}

fn exposed() -> Exposed {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (disk, certificates) = (path("cache"), path("certificates"));
    let admin = ("RPROXY_ADMIN_LISTEN", "127.0.0.1:0");
    // No server listens there: the store's metrics exist all the same.
    let plain = [
        admin,
        ("RPROXY_ACCESS_LOG", "json"),
        ("RPROXY_CACHE_DISK", &disk),
        ("RPROXY_RATE_LIMIT_STORE", "redis://127.0.0.1:1/"),
        ("RPROXY_ROUTES", "/api=127.0.0.1:1"),
    ];
    let tls = [admin, ("RPROXY_TLS_LOCAL", "true"), ("RPROXY_TLS_CACHE_DIR", &certificates), ("RPROXY_HTTP_PORT", "0")];
    let mut exposed = Exposed { families: BTreeMap::new(), values: BTreeSet::new() };
    for settings in [&plain[..], &tls] {
        let proxy = Proxy::start(echo(), settings);
        let is_plain = settings.len() == plain.len();
        if is_plain {
            get(proxy.address, "/");
        }
        let text = loop {
            let text = exchange(
                proxy.address_of("admin requests"),
                b"GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: application/openmetrics-text\r\nconnection: close\r\n\r\n",
            );
            // A request is counted after its response was sent.
            if !is_plain || text.contains("\nrproxy_requests_total{") {
                break text;
            }
        };
        exposed.add(text.split_once("\r\n\r\n").unwrap().1);
    }
    exposed
}

impl Exposed {
    fn add(&mut self, text: &str) {
        let mut name = String::new();
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (family, kind) = family.split_once(' ').unwrap();
                let suffix = match kind {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                name = format!("{family}{suffix}");
                self.families.entry(name.clone()).or_insert_with(|| (kind.to_owned(), BTreeSet::new()));
            } else if !line.starts_with('#') {
                let labels =
                    line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
                // No value in these runs has a quote.
                for pair in labels.split_inclusive("\",").filter(|pair| !pair.is_empty()) {
                    let (label, value) = pair.split_once("=\"").unwrap();
                    if label != "le" {
                        self.families.get_mut(&name).unwrap().1.insert(label.to_owned());
                        self.values.insert((label.to_owned(), value.trim_end_matches(['"', ',']).to_owned()));
                    }
                }
            }
        }
    }
}

/// Returns access log lines that together contain every field.
fn lines_of_every_kind(format: &str) -> Vec<String> {
    let backend = answering_by_target();
    let strict = [("RPROXY_ACCESS_LOG", format), ("RPROXY_UPGRADES", "tcp")];
    let shadow = [
        ("RPROXY_ACCESS_LOG", format),
        ("RPROXY_FILTER_LOG_ONLY", "true"),
        ("RPROXY_RATE_SHADOW", "true"),
        ("RPROXY_RATE_LIMIT", "1"),
        ("RPROXY_RATE_BURST", "1"),
    ];
    let mut lines = Vec::new();
    let proxy = Proxy::start(backend, &strict);
    for target in ["/static/a.css", "/.env", "/garbage", "/cut-off"] {
        let head = "host: a\r\nuser-agent: test\r\nreferer: http://a/\r\nconnection: close\r\n";
        exchange(proxy.address, format!("GET {target} HTTP/1.1\r\n{head}\r\n").as_bytes());
        lines.push(proxy.wait_for_output(target));
    }
    close_websocket(proxy.address);
    lines.push(proxy.wait_for_output("/websocket"));
    close_tunnel(proxy.address);
    lines.push(proxy.wait_for_output("/tunnel"));

    let routes = [("RPROXY_ACCESS_LOG", format), ("RPROXY_ROUTES", &format!("/api={backend}"))];
    let proxy = Proxy::start(backend, &routes);
    get(proxy.address, "/api/routed");
    lines.push(proxy.wait_for_output("/api/routed"));

    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    fs::write(&users, "alice:$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n").unwrap();
    let proxy = Proxy::start(backend, &[("RPROXY_ACCESS_LOG", format), ("RPROXY_BASIC_AUTH", users.to_str().unwrap())]);
    let head = "GET /user HTTP/1.1\r\nhost: a\r\nauthorization: Basic YWxpY2U6VSpV\r\nconnection: close\r\n\r\n";
    exchange(proxy.address, head.as_bytes());
    lines.push(proxy.wait_for_output("/user"));

    let proxy = Proxy::start(backend, &shadow);
    for target in ["/first", "/.env"] {
        get(proxy.address, target);
        lines.push(proxy.wait_for_output(target));
    }
    lines
}

/// Starts a backend whose responses and failures depend on the request target.
fn answering_by_target() -> SocketAddr {
    scripted(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let (response, is_last) = match head.split(' ').nth(1).unwrap_or_default() {
                "/garbage" => ("garbage\r\n\r\n".to_owned(), true),
                "/cut-off" => ("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello".to_owned(), true),
                "/websocket" => return serve_websocket(stream),
                "/tunnel" => return serve_tunnel(stream),
                "/static/a.css" => (ok("a {}").replace("text/plain", "text/css\r\ncache-control: max-age=60"), false),
                _ => (ok("served").replace("text/plain", "text/html"), false),
            };
            if stream.write_all(response.as_bytes()).is_err() || is_last {
                return;
            }
        }
    })
}

/// The WebSocket key in the example of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn serve_websocket(mut stream: TcpStream) {
    let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n";
    stream.write_all(format!("{head}sec-websocket-accept: {ACCEPT}\r\n\r\n").as_bytes()).unwrap();
    // A masked Close frame with a code.
    stream.read_exact(&mut [0; 8]).unwrap();
    stream.write_all(b"\x88\x02\x03\xe8").unwrap();
}

fn close_websocket(address: SocketAddr) {
    let mut stream = connect(address);
    let fields = format!(
        "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n"
    );
    let response = send(&mut stream, &format!("GET /websocket HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
    assert_eq!(response.status, 101);
    stream.write_all(b"\x88\x82\0\0\0\0\x03\xe8").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

fn serve_tunnel(mut stream: TcpStream) {
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: tcp\r\nconnection: upgrade\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

fn close_tunnel(address: SocketAddr) {
    let mut stream = connect(address);
    let response = send(&mut stream, "GET /tunnel HTTP/1.1\r\nhost: a\r\nupgrade: tcp\r\nconnection: upgrade\r\n\r\n");
    assert_eq!(response.status, 101);
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

fn send(stream: &mut TcpStream, head: &str) -> Response {
    stream.write_all(head.as_bytes()).unwrap();
    read_response(stream).expect("a response")
}

/// Returns the text of a page in `docs/reference`, or `None` if the package does not contain the pages.
fn page(name: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    root.join("docs").is_dir().then(|| std::fs::read_to_string(root.join("docs/reference").join(name)).unwrap())
}

/// Returns the text under a heading, up to the next heading of the same or a higher level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, text) = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let level = heading.split(' ').next().unwrap();
    let ends = (2..=level.len()).filter_map(|level| text.find(&format!("\n{} ", "#".repeat(level))));
    &text[..ends.min().unwrap_or(text.len())]
}

/// Returns the cells of each table row in `text`, without header rows.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_header =
        |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with("|--") || next.starts_with("|-:"));
    let rows = (0..lines.len()).filter(|&at| lines[at].starts_with("| ") && !is_header(at));
    let rows: Vec<Vec<String>> = rows
        .map(|at| {
            // A bar within a cell is escaped.
            let line = lines[at].replace("\\|", "\0");
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().replace('\0', "|")).collect()
        })
        .collect();
    rows.into_iter()
}

fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_metric(cell: &str) -> bool {
    cell.starts_with("`rproxy_") || cell.starts_with("`process_")
}
