//! Tests that no spelling of a path makes a server behind the path filter serve a blocked file.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::file_servers::{Client, SECRET, Server, Site};
use crate::spellings::{BLOCKED, BLOCKED_STRICT, Random, corpus};
use crate::support::upstream::{Nginx, ok, responding};
use crate::support::{Proxy, free_port};

/// A list of blocked paths, the files that it blocks, and a corpus of evasions.
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
        corpus: BLOCKED,
    },
    List {
        name: "strict",
        secrets: &[".env", ".DS_Store", "docker-compose.yml", "keys/x.key", "logs/app.log", "uploads/notes.sql"],
        corpus: BLOCKED_STRICT,
    },
];

#[test]
fn nginx_serves_no_blocked_file() {
    let site = site();
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
    let site = site();
    let port = free_port().to_string();
    let args = ["-m", "http.server", "--protocol", "HTTP/1.1", "--bind", "127.0.0.1", "--directory"];
    let args = args.iter().map(PathBuf::from).chain([site.root(), PathBuf::from(&port)]);
    if let Some(server) = Server::start("python3", None, args, &port) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

#[test]
fn flask_serves_no_blocked_file() {
    let site = site();
    if let Some(server) = Server::script("python3", Some("import flask"), "flask_app.py", &site) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

#[test]
fn starlette_serves_no_blocked_file() {
    let site = site();
    if let Some(server) = Server::script("python3", Some("import starlette, uvicorn"), "starlette_app.py", &site) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

#[test]
fn node_serves_no_blocked_file() {
    let site = site();
    if let Some(server) = Server::script("node", None, "node_app.js", &site) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

#[test]
fn express_serves_no_blocked_file() {
    let site = site();
    if let Some(server) = Server::script("node", Some("require('express')"), "express_app.js", &site) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

#[test]
fn php_serves_no_blocked_file() {
    let site = site();
    let port = free_port().to_string();
    let args = [PathBuf::from("-S"), format!("127.0.0.1:{port}").into(), "-t".into(), site.root()];
    if !Path::new("/usr/bin/php").exists() {
        eprintln!("skipped: php is not installed");
    } else if let Some(server) = Server::start("php", None, args.into_iter(), &port) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

/// Tests a server that decodes paths like servlet containers, IIS and PHP on Windows.
///
/// The script replaces these servers, because they are not installed on test machines.
#[test]
fn lenient_server_serves_no_blocked_file() {
    let site = site();
    if let Some(server) = Server::script("python3", None, "lenient.py", &site) {
        assert_serves_no_blocked_file(&site, server.address);
    }
}

/// Tests that the path filter checks exactly the path that the backend receives.
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

/// Asserts that no spelling of a blocked path gets a secret file of `upstream` through the proxy.
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

fn site() -> Site {
    Site::new(LISTS.iter().flat_map(|list| list.secrets).copied())
}

/// Returns the path of each secret file, the corpus of evasions, and thousands of generated spellings.
fn spellings(list: &List, site: &Site) -> impl Iterator<Item = String> {
    let secrets = list.secrets;
    let plain = secrets.iter().map(|secret| format!("/{secret}"));
    let corpus = corpus(list.corpus).map(str::to_owned);
    let mut random = Random::new();
    let outside = format!("/{}/", site.folder().file_name().unwrap_or_default().to_string_lossy());
    let disguised = (0..4000).map(move |_| random.disguise(secrets, Some(&outside)));
    plain.chain(corpus).chain(disguised)
}
