//! Tests that no spelling of a path reaches a protected resource through another route.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::file_servers::{Client, SECRET, Server, Site};
use crate::spellings::{BLOCKED, BLOCKED_STRICT, Random, corpus};
use crate::support::upstream::{Nginx, ok, responding};
use crate::support::{Proxy, free_port};

/// The protected resources, which the default route would serve if no other route matched. A route for each goes to
/// another backend.
const SECRETS: [&str; 15] = [
    "admin/secret",
    "caf\u{e9}/secret",
    "\u{439}/\u{fc}ber",
    ".env",
    ".git/config",
    ".htpasswd",
    "wp-config.php",
    "web.config",
    "backup.sql",
    "backups/dump.sql",
    "server.key",
    "index.php.bak",
    "WEB-INF/web.xml",
    "docker-compose.yml",
    "logs/app.log",
];

/// The paths of resources with non-ASCII names, in every spelling that servers decode to these names.
const NON_ASCII: [&str; 22] = [
    "caf\u{e9}/secret",
    "CAF\u{c9}/secret",
    "caf%C3%A9/secret",
    "CAF%c3%89/secret",
    "caf%25C3%25A9/secret",
    "cafe\u{301}/secret",
    "cafe%CC%81/secret",
    "CAFE%cc%81/secret",
    "cafe%25CC%2581/secret",
    "caf%65%CC%81/secret",
    "caf\u{ff45}%CC%81/secret",
    "caf%E9/secret",
    "CAF%C9/secret",
    "caf%25E9/secret",
    "caf%25%45%39/secret",
    "caf%u00e9/secret",
    "cafe%u0301/secret",
    "caf%e0%83%a9/secret",
    "%D0%B9/%C3%BCber",
    "%D0%B8%CC%86/u%CC%88ber",
    "%D0%99/%FCber",
    "%D0%B9/%DCBER",
];

#[test]
fn no_path_spelling_bypasses_a_route_in_front_of_nginx() {
    let site = Site::new(SECRETS);
    let Some(nginx) = Nginx::start(&format!("location / {{ root {}; }}", site.root().display())) else { return };
    assert_no_spelling_takes_the_default_route(nginx.address);
    let unmerged = format!("merge_slashes off; location / {{ root {}; }}", site.root().display());
    assert_no_spelling_takes_the_default_route(Nginx::start(&unmerged).unwrap().address);
}

#[test]
fn no_path_spelling_bypasses_a_route_in_front_of_python_http_server() {
    let site = Site::new(SECRETS);
    let port = free_port().to_string();
    let args = ["-m", "http.server", "--protocol", "HTTP/1.1", "--bind", "127.0.0.1", "--directory"];
    let args = args.iter().map(PathBuf::from).chain([site.root(), PathBuf::from(&port)]);
    if let Some(server) = Server::start("python3", None, args, &port) {
        assert_no_spelling_takes_the_default_route(server.address);
    }
}

#[test]
fn no_path_spelling_bypasses_a_route_in_front_of_flask() {
    let site = Site::new(SECRETS);
    if let Some(server) = Server::script("python3", Some("import flask"), "flask_app.py", &site) {
        assert_no_spelling_takes_the_default_route(server.address);
    }
}

#[test]
fn no_path_spelling_bypasses_a_route_in_front_of_starlette() {
    let site = Site::new(SECRETS);
    if let Some(server) = Server::script("python3", Some("import starlette, uvicorn"), "starlette_app.py", &site) {
        assert_no_spelling_takes_the_default_route(server.address);
    }
}

#[test]
fn no_path_spelling_bypasses_a_route_in_front_of_node() {
    let site = Site::new(SECRETS);
    if let Some(server) = Server::script("node", None, "node_app.js", &site) {
        assert_no_spelling_takes_the_default_route(server.address);
    }
}

#[test]
fn no_path_spelling_bypasses_a_route_in_front_of_express() {
    let site = Site::new(SECRETS);
    if let Some(server) = Server::script("node", Some("require('express')"), "express_app.js", &site) {
        assert_no_spelling_takes_the_default_route(server.address);
    }
}

#[test]
fn no_path_spelling_bypasses_a_route_in_front_of_php() {
    let site = Site::new(SECRETS);
    let port = free_port().to_string();
    let args = [PathBuf::from("-S"), format!("127.0.0.1:{port}").into(), "-t".into(), site.root()];
    if !Path::new("/usr/bin/php").exists() {
        eprintln!("skipped: php is not installed");
    } else if let Some(server) = Server::start("php", None, args.into_iter(), &port) {
        assert_no_spelling_takes_the_default_route(server.address);
    }
}

#[test]
fn no_path_spelling_bypasses_a_route_in_front_of_a_lenient_server() {
    let site = Site::new(SECRETS);
    if let Some(server) = Server::script("python3", None, "lenient.py", &site) {
        assert_no_spelling_takes_the_default_route(server.address);
    }
}

fn assert_no_spelling_takes_the_default_route(backend: SocketAddr) {
    let guard = responding(|_| ok("guard"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rproxy.toml");
    std::fs::write(&file, routes(guard)).unwrap();
    let upstream = backend.to_string();
    let settings = [("RPROXY_UPSTREAM", &*upstream), ("RPROXY_LISTEN", "127.0.0.1:0")];
    let proxy = Proxy::run(&["--config", file.to_str().unwrap()], &settings);
    let (mut through, mut direct) = (Client::new(proxy.address), Client::new(backend));
    assert_eq!(through.get("/index.html").map(|(status, body)| (status, body.contains("public"))), Some((200, true)));
    let is_secret = |response: &Option<(u16, String)>| response.as_ref().is_some_and(|(_, body)| body.contains(SECRET));
    let (mut tried, mut guarded, mut rejected, mut served, mut leaks) = (0, 0, 0, 0, Vec::new());
    for path in spellings() {
        let response = through.get(&path);
        tried += 1;
        match &response {
            response if is_secret(response) => leaks.push(path.clone()),
            Some((200, body)) if body == "guard" => guarded += 1,
            Some((400, _)) => rejected += 1,
            _ => {}
        }
        // Requesting all of them directly would take long and add nothing.
        if served < 20 && is_secret(&direct.get(&path)) {
            served += 1;
        }
    }
    let summary = format!(
        "{tried} spellings: {guarded} took the route of the path, {rejected} were rejected, {} reached another one: {leaks:?}",
        leaks.len()
    );
    eprintln!("{summary}");
    assert!(leaks.is_empty(), "{summary}");
    assert!(tried > 8000 && guarded > 300 && rejected > 5000, "{summary}");
    assert!(served >= 20, "the backend serves {served} of the spellings directly: {summary}");
}

/// Returns a configuration in which each secret has a route to the backend `guard`.
fn routes(guard: SocketAddr) -> String {
    let route = |secret: &&str| {
        let path = secret.strip_suffix("/secret").unwrap_or(secret);
        format!("[[route]]\npaths = \"/{path}/**\"\nupstream = \"{guard}\"\n")
    };
    "filter_enabled = false\ncache_enabled = false\nrate_limit_enabled = false\n".to_owned()
        + &SECRETS.iter().map(route).collect::<String>()
}

/// Returns the corpora, path traversals in all spellings, and thousands of random spellings.
fn spellings() -> impl Iterator<Item = String> {
    let names = || SECRETS.iter().chain(&NON_ASCII).copied();
    let plain = names().map(|name| format!("/{name}"));
    let corpora = corpus(BLOCKED).chain(corpus(BLOCKED_STRICT)).map(str::to_owned);
    let traversals = include_str!("../../../crates/path-filter/tests/corpus/parents.txt").lines().flat_map(|parent| {
        let slashes = include_str!("../../../crates/path-filter/tests/corpus/slashes.txt").lines();
        slashes.flat_map(move |slash| {
            ["admin/secret", "caf%C3%A9/secret", "cafe%CC%81/secret", "caf%E9/secret"]
                .map(|name| format!("/static/{parent}{slash}{name}"))
        })
    });
    let every_character = (0..9).map(|how| {
        "/admin/secret"
            .chars()
            .enumerate()
            .map(|(at, c)| if at == 0 { "/".into() } else { Random::spelled(c, how) })
            .collect()
    });
    let one_character = (0..9).flat_map(|how| {
        "admin/secret".char_indices().map(move |(at, c)| {
            let (before, after) = ("admin/secret".split_at(at).0, &"admin/secret"[at + 1..]);
            format!("/{before}{}{after}", Random::spelled(c, how))
        })
    });
    let mut random = Random::new();
    let admin = (0..2500).map(move |_| random.disguise(&["admin/secret"], None));
    let mut random = Random::new();
    let non_ascii = (0..1500).map(move |_| random.disguise(&NON_ASCII, None));
    let mut random = Random::new();
    let others = (0..1000).map(move |_| random.disguise(&SECRETS, None));
    plain
        .chain(corpora)
        .chain(traversals)
        .chain(every_character)
        .chain(one_character)
        .chain(admin)
        .chain(non_ascii)
        .chain(others)
}
