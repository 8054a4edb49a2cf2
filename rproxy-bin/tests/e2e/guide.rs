//! Tests that the proxy starts and serves a request with each configuration file in the guide.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::upstream::echo;
use crate::support::{Proxy, curl, has};

/// The directories in the guide that the test replaces with a temporary directory.
const FOLDERS: [&str; 6] =
    ["/etc/rproxy/tls/", "/etc/rproxy/", "/run/rproxy/", "/var/cache/rproxy", "/srv/www", "/srv/private"];

#[test]
fn configurations_of_the_guide_serve_requests() {
    // The package of this crate does not contain the pages.
    let Some(pages) = pages().filter(|_| has("curl")) else { return };
    let upstream = echo().to_string();
    let files: Vec<(PathBuf, String)> = pages.into_iter().flat_map(files).collect();
    assert!(files.len() >= 30, "{} files", files.len());
    for (page, file) in files {
        let folder = tempfile::tempdir().unwrap();
        let (file, mut host) = prepared(&file, folder.path(), |_| upstream.clone());
        let path = folder.path().join("rproxy.toml");
        fs::write(&path, &file).unwrap();
        let certificates = folder.path().join("certificates");
        let mut settings = vec![
            ("RPROXY_LISTEN", "127.0.0.1:0"),
            ("RPROXY_HTTP_PORT", "0"),
            ("RPROXY_UPSTREAM", &*upstream),
            ("RPROXY_TLS_CACHE_DIR", certificates.to_str().unwrap()),
            ("RPROXY_LOG_LEVEL", "info"),
        ];
        // No certificate authority is reachable from a test.
        let is_local = file.contains("tls_domains") || file.contains("tls_email");
        if is_local {
            settings.push(("RPROXY_TLS_LOCAL", "true"));
        }
        if file.contains("admin_listen") {
            settings.push(("RPROXY_ADMIN_LISTEN", "127.0.0.1:0"));
        }
        if file.contains("tls_client_auth") {
            settings.push(("RPROXY_TLS_CLIENT_AUTH", "optional"));
        }
        let proxy = Proxy::run(&["--config", path.to_str().unwrap()], &settings);
        let has_local_ca = file.contains("tls_local");
        if has_local_ca {
            "localhost".clone_into(&mut host);
        }
        let scheme = if is_local || has_local_ca || file.contains("tls_cert") { "https" } else { "http" };
        let port = proxy.address.port();
        let resolve = format!("{host}:{port}:127.0.0.1");
        let status = ["-k", "-o", "/dev/null", "-w", "%{http_code}", "--resolve", &resolve];
        let url = format!("{scheme}://{host}:{port}/");
        let status = curl(&[&status[..], &[&url]].concat());
        assert_eq!(status, "200", "{}:\n{file}\n{}", page.display(), proxy.log());
    }
}

/// Returns the pages of the guide with their paths.
pub(crate) fn pages() -> Option<Vec<(PathBuf, String)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide");
    let paths = fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path());
    Some(paths.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect())
}

/// Returns the TOML blocks of a page, except Cargo manifests.
pub(crate) fn files((page, text): (PathBuf, String)) -> Vec<(PathBuf, String)> {
    let blocks = text.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
    let blocks = blocks.filter(|block| !block.lines().any(|line| line.starts_with("[dependencies")));
    blocks.map(|block| (page.clone(), block)).collect()
}

/// Returns the configuration with replaced directories and backends, and a host that it serves. Writes its
/// certificates, users, address lists and error pages.
pub(crate) fn prepared(file: &str, folder: &Path, backend: impl Fn(&str) -> String) -> (String, String) {
    let list = ["tls_domains = \"", "hosts = [\""]
        .iter()
        .find_map(|key| file.lines().find_map(|line| line.trim().strip_prefix(key)));
    let host = list.and_then(|list| list.split([',', '"']).next()).unwrap_or("example.org").to_owned();
    let backends = |line: &str| {
        let value = line.split('"').nth(1).unwrap_or_default();
        match line.trim_start().split(" = ").next() {
            Some("upstream") => format!("upstream = \"{}\"\n", backend(value)),
            // An authentication service, which admits the request if it responds with 2xx.
            Some("forward_auth") if value != "none" => format!("forward_auth = \"http://{}/\"\n", backend(value)),
            // The backend of the test replaces the application.
            Some("command") => String::new(),
            _ => format!("{line}\n"),
        }
    };
    let file: String = file.lines().map(backends).collect();
    let pair = rcgen::generate_simple_self_signed([host.clone()]).unwrap();
    for (at, _) in file.match_indices(FOLDERS[0]) {
        let name: String =
            file[at + FOLDERS[0].len()..].chars().take_while(|c| !matches!(c, '"' | ',' | ' ')).collect();
        let content = if name.ends_with(".key") { pair.signing_key.serialize_pem() } else { pair.cert.pem() };
        fs::write(folder.join(name), content).unwrap();
    }
    fs::create_dir_all(folder.join("pages")).unwrap();
    for (name, content) in [
        ("index.html", ""),
        ("office.txt", "198.51.100.0/24\n"),
        ("pages/404.html", "not found"),
        ("users", "alice:$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n"),
    ] {
        fs::write(folder.join(name), content).unwrap();
    }
    let replaced = format!("{}/", folder.display());
    let file = FOLDERS.iter().fold(file, |file, place| file.replace(place, &replaced));
    (file, host)
}
