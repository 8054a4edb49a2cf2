//! The path filter in front of real servers: no spelling of a path that passes makes one of them serve a blocked
//! file.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::upstream::{Nginx, ok, responding};
use crate::support::{Proxy, TIMEOUT, connect, free_port, has, read_response};

/// The content of each blocked file.
const SECRET: &str = "this is not meant to be served";

/// A list of blocked paths, files that it blocks, and their evasions.
struct List {
    name: &'static str,
    secrets: &'static [&'static str],
    corpus: &'static str,
}

const LISTS: [List; 2] = [
    List {
        name: "default",
        secrets: &[
            ".env",
            ".git/config",
            ".htpasswd",
            ".aws/credentials",
            "wp-config.php",
            "web.config",
            "id_rsa",
            "backup.sql",
            "backups/dump.sql",
            "server.key",
            "index.php.bak",
            "WEB-INF/web.xml",
        ],
        corpus: include_str!("../../../crates/path-filter/tests/corpus/blocked.txt"),
    },
    List {
        name: "strict",
        secrets: &[".env", ".DS_Store", "docker-compose.yml", "keys/x.key", "logs/app.log", "uploads/notes.sql"],
        corpus: include_str!("../../../crates/path-filter/tests/corpus/blocked_strict.txt"),
    },
];

#[test]
fn nginx_serves_no_blocked_file() {
    let site = Site::new();
    let Some(nginx) = Nginx::start(&format!(
        "location / {{ root {0}; }} location /static {{ alias {0}/x/y/; }}",
        site.root().display()
    )) else {
        return;
    };
    assert_serves_no_blocked_file(&site, nginx.address);
    let unmerged = format!("merge_slashes off; location / {{ root {}; }}", site.root().display());
    let nginx = Nginx::start(&unmerged).unwrap();
    assert_serves_no_blocked_file(&site, nginx.address);
}

#[test]
fn python_http_server_serves_no_blocked_file() {
    let site = Site::new();
    let port = free_port().to_string();
    let args = ["-m", "http.server", "--protocol", "HTTP/1.1", "--bind", "127.0.0.1", "--directory"];
    let args = args.iter().map(PathBuf::from).chain([site.root(), PathBuf::from(&port)]);
    if let Some(server) = Server::start("python3", None, args, &port) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

#[test]
fn flask_serves_no_blocked_file() {
    let site = Site::new();
    if let Some(server) = Server::script("python3", Some("import flask"), "flask_app.py", &site) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

#[test]
fn starlette_serves_no_blocked_file() {
    let site = Site::new();
    if let Some(server) = Server::script("python3", Some("import starlette, uvicorn"), "starlette_app.py", &site) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

#[test]
fn node_serves_no_blocked_file() {
    let site = Site::new();
    if let Some(server) = Server::script("node", None, "node_app.js", &site) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

#[test]
fn express_serves_no_blocked_file() {
    let site = Site::new();
    if let Some(server) = Server::script("node", Some("require('express')"), "express_app.js", &site) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

#[test]
fn php_serves_no_blocked_file() {
    let site = Site::new();
    let port = free_port().to_string();
    let args = [PathBuf::from("-S"), format!("127.0.0.1:{port}").into(), "-t".into(), site.root()];
    if !Path::new("/usr/bin/php").exists() {
        eprintln!("skipped: php is not installed");
    } else if let Some(server) = Server::start("php", None, args.into_iter(), &port) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

/// This server decodes paths like servlet containers, IIS, PHP on Windows and other servers that cannot be tested
/// here.
#[test]
fn lenient_server_serves_no_blocked_file() {
    let site = Site::new();
    if let Some(server) = Server::script("python3", None, "lenient.py", &site) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

/// The path that was checked is the one that is forwarded.
#[test]
fn forwards_allowed_paths_byte_for_byte() {
    let proxy = start(responding(|head| ok(head.split(' ').nth(1).unwrap_or_default())), "default");
    let mut client = Client::new(proxy.address);
    let allowed = corpus(include_str!("../../../crates/path-filter/tests/corpus/allowed.txt"));
    let applications = corpus(include_str!("../../../crates/path-filter/tests/corpus/applications.txt"));
    for path in allowed.chain(applications) {
        // Paths that are not valid in a request are covered by tests of the filter alone.
        if let Some((400, _)) | None = client.get(path) {
            assert!(path.bytes().any(|byte| !byte.is_ascii_graphic() || b"\"<>#".contains(&byte)), "{path}");
            continue;
        }
        assert_eq!(client.get(path), Some((200, path.to_owned())));
    }
}

/// Asserts that no blocked file of `upstream` passes the proxy, although it serves them in several spellings.
fn assert_serves_no_blocked_file(site: &Site, upstream: SocketAddr) {
    for list in &LISTS {
        assert_list_blocks_files(list, site, upstream);
    }
}

fn assert_list_blocks_files(list: &List, site: &Site, upstream: SocketAddr) {
    let proxy = start(upstream, list.name);
    let (mut through, mut direct) = (Client::new(proxy.address), Client::new(upstream));
    assert_eq!(through.get("/index.html").map(|(status, body)| (status, body.contains("public"))), Some((200, true)));
    let is_secret = |response: &Option<(u16, String)>| response.as_ref().is_some_and(|(_, body)| body.contains(SECRET));
    let mut served = BTreeSet::new();
    for path in spellings(list, site) {
        let response = through.get(&path);
        assert!(!is_secret(&response), "{path} passes the list {}: {response:?}", list.name);
        // Requesting all of them directly would take long and add nothing.
        if served.len() < 10 && is_secret(&direct.get(&path)) {
            served.insert(path);
        }
    }
    assert!(served.len() >= 10, "the upstream does not serve the files directly: {served:?}");
}

fn start(upstream: SocketAddr, blocked_paths: &str) -> Proxy {
    let settings = [
        ("RPROXY_RATE_LIMIT_ENABLED", "false"),
        ("RPROXY_CACHE_ENABLED", "false"),
        ("RPROXY_BLOCKED_PATHS", blocked_paths),
    ];
    Proxy::start(upstream, &settings)
}

/// Returns each file by itself, the corpus, and thousands of generated spellings.
fn spellings(list: &List, site: &Site) -> impl Iterator<Item = String> {
    let secrets = list.secrets;
    let plain = secrets.iter().map(|secret| format!("/{secret}"));
    let corpus = corpus(list.corpus).map(str::to_owned);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let outside = format!("/{}/", site.0.path().file_name().unwrap_or_default().to_string_lossy());
    let disguised = (0..4000).map(move |_| random.disguise(secrets, &outside));
    plain.chain(corpus).chain(disguised)
}

fn corpus(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| line.starts_with('/'))
}

/// A deterministic random generator.
struct Random(u64);

impl Random {
    fn below(&mut self, sides: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// Returns a blocked file with up to five changes to its path.
    fn disguise(&mut self, secrets: &[&str], outside: &str) -> String {
        let before =
            self.pick(&["/", "/x/../", "/x/y/../../", "/static/../", "/.well-known/../", "/../", "/..", "/x/.."]);
        let mut path = format!("{before}{}", self.pick(secrets));
        if self.below(12) == 0 {
            path = format!("/..{outside}outside.sql");
        }
        for _ in 0..=self.below(4) {
            path = self.change(path);
        }
        // A line end would end the request line, and a space the target.
        path.replace(['\r', '\n', '\0', '\t'], "%00").replace(' ', "%20").replace('#', "%23").replace('?', "%3f")
    }

    fn change(&mut self, path: String) -> String {
        let places: Vec<_> = path.char_indices().skip(1).collect();
        let (at, c) = places[self.below(places.len())];
        let with = |text: &str| format!("{}{text}{}", &path[..at], &path[at + c.len_utf8()..]);
        match self.below(14) {
            // One character in another encoding,
            0..=2 => with(&self.spell(c)),
            // all equal characters in another encoding,
            3 => {
                let kind = *['.', '/', c].get(self.below(3)).unwrap_or(&c);
                let how = self.below(9);
                let changed: String = path
                    .char_indices()
                    .map(
                        |(i, other)| {
                            if i > 0 && other == kind { Self::spelled(other, how) } else { other.to_string() }
                        },
                    )
                    .collect();
                changed
            }
            // something between segments,
            4..=6 => {
                let put = self.pick(&[
                    "/",
                    "./",
                    "x/../",
                    "%2e/",
                    "x/%2e%2e/",
                    "x/..%2f",
                    "x/..;/",
                    ";/",
                    ".;/",
                    "x%2f../",
                    "\\",
                    "%5c",
                    "x/.%2e/",
                    "x\\..\\",
                    "%00/",
                    "%20/",
                    "x//../",
                    "..;/../",
                    "%252e/",
                    "x/%252e%252e/",
                ]);
                let slashes: Vec<_> = path.match_indices('/').map(|(at, _)| at + 1).collect();
                let at = slashes[self.below(slashes.len())];
                format!("{}{put}{}", &path[..at], &path[at..])
            }
            // a suffix,
            7..=9 => {
                let put = self.pick(&[
                    "/",
                    "//",
                    "/.",
                    ".",
                    "..",
                    "%2e",
                    "%20",
                    "+",
                    ";",
                    ";x=y",
                    ";.css",
                    "%3b.css",
                    "%00",
                    "%00.html",
                    "%3f",
                    "%3fx",
                    "%23",
                    "::$DATA",
                    "%3a%3a$DATA",
                    "%ff",
                    "%c0%80",
                    "%e2%80%8b",
                    "\\",
                    "%5c",
                    "%2f",
                    "%252f",
                    "%0a",
                    "%2500",
                    "%253f",
                    "/x/..",
                    "<",
                    "\"",
                    "%c2%a0",
                ]);
                format!("{path}{put}")
            }
            // something in the middle that servers may drop,
            10 => {
                let put = self.pick(&["%00", "%0d", "%ff", "%e2%80%8b", "%c2%ad", "%ef%bb%bf", "%09", "%7f"]);
                format!("{}{put}{}", &path[..at], &path[at..])
            }
            // another case,
            11 => path.to_ascii_uppercase(),
            // or percent signs encoded again.
            12 => path.replace('%', "%25"),
            _ => path.replace('%', "%ef%bc%85"),
        }
    }

    fn spell(&mut self, c: char) -> String {
        let how = self.below(9);
        Self::spelled(c, how)
    }

    fn spelled(c: char, how: usize) -> String {
        let code = u32::from(c);
        match how {
            _ if !c.is_ascii_graphic() => c.to_string(),
            0 => format!("%{code:02x}"),
            1 => format!("%25{code:02X}"),
            2 => format!("%2525{code:02x}"),
            3 => format!("%u00{code:02x}"),
            4 => format!("%{:02x}%{:02x}", 0xc0 | code >> 6, 0x80 | code & 0x3f),
            5 => format!("%e0%{:02x}%{:02x}", 0x80 | code >> 6, 0x80 | code & 0x3f),
            6 => char::from_u32(code - 0x21 + 0xff01).unwrap_or(c).to_string(),
            7 => {
                let wide = char::from_u32(code - 0x21 + 0xff01).unwrap_or(c);
                wide.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02x}")).collect()
            }
            // `%%32%65` is decoded to `%2e` first.
            _ => format!("%{code:02x}")
                .bytes()
                .enumerate()
                .map(|(at, digit)| match at {
                    0 => "%".to_owned(),
                    _ => format!("%{digit:02x}"),
                })
                .collect(),
        }
    }
}

/// A directory to serve, with blocked files in and beside it.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        for secret in LISTS.iter().flat_map(|list| list.secrets) {
            site.write(&site.root().join(secret), SECRET);
        }
        site.write(&site.0.path().join("outside.sql"), SECRET);
        for public in ["index.html", "x/y/index.html", "static/app.js", ".well-known/security.txt"] {
            site.write(&site.root().join(public), "public");
        }
        site
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn write(&self, path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// A server process, killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts one of the scripts in `path_filter/`; returns `None` if it cannot run.
    fn script(program: &str, needs: Option<&str>, script: &str, site: &Site) -> Option<Self> {
        let port = free_port().to_string();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/path_filter").join(script);
        Self::start(program, needs, [path, site.root(), PathBuf::from(&port)].into_iter(), &port)
    }

    fn start(program: &str, needs: Option<&str>, args: impl Iterator<Item = PathBuf>, port: &str) -> Option<Self> {
        if !has(program) {
            return None;
        }
        let program = Path::new("/usr/bin").join(program);
        if let Some(needs) = needs {
            let flag = if program.ends_with("node") { "-e" } else { "-c" };
            let tried = command(&program).args([flag, needs]).stderr(Stdio::null()).status().unwrap();
            if !tried.success() {
                // Express is installed with npm, which is not available on every machine.
                let is_packaged = !needs.contains("express");
                let is_required = is_packaged && std::env::var_os("TEST_REQUIRE_COUNTERPARTS").is_some();
                assert!(!is_required, "{needs:?} is required and does not work");
                eprintln!("skipped: {needs:?} does not work");
                return None;
            }
        }
        let mut server = command(&program);
        let child = server.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
        let server = Self { child, address };
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "{} does not listen", program.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }
}

/// `scripts/test` installs the Node modules in this directory.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("NODE_PATH", concat!(env!("CARGO_MANIFEST_DIR"), "/../target/counterparts/node_modules"));
    command
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that reuses its connection as long as possible.
struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Returns status and body, or `None` without a response.
    fn get(&mut self, path: &str) -> Option<(u16, String)> {
        // The connection may have ended: then a new one decides.
        (0..2).find_map(|_| {
            let stream = self.stream.get_or_insert_with(|| connect(self.address));
            let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
            let response = stream.write_all(request.as_bytes()).ok().and_then(|()| read_response(stream));
            let ends = response.as_ref().is_none_or(|response| {
                let is = |name, value: &str| {
                    response.header(name).is_some_and(|received| received.eq_ignore_ascii_case(value))
                };
                is("connection", "close") || is("transfer-encoding", "chunked") || response.head.starts_with("HTTP/1.0")
            });
            if ends {
                self.stream = None;
            }
            response.map(|response| (response.status, response.body))
        })
    }
}
