//! Tests of several sites and routes in one process.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crate::support::upstream::{ok, responding};
use crate::support::{Proxy, Response, request};

/// Starts a backend that responds with its name, the request target and `X-Forwarded-Prefix`.
fn backend(name: &'static str) -> SocketAddr {
    responding(move |head| {
        let field =
            |name: &str| head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(str::to_owned));
        let target = head.split(' ').nth(1).unwrap();
        let prefix = field("x-forwarded-prefix: ").unwrap_or_default();
        ok(&format!("{name} {target} {prefix}"))
    })
}

fn send(proxy: &Proxy, method: &str, host: &str, target: &str) -> Response {
    let head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    request(proxy.address, &head)
}

#[test]
fn explain_predicts_the_response_of_the_running_proxy() {
    let upstream = backend("site");
    let site = format!(
        r#"
        [[site]]
        hosts = ["a.example"]
        upstream = "{upstream}"
        blocked_paths = "default,/private/**"
          [[site.route]]
          paths = ["/static/**"]
          cache_enabled = false
          [[site.route]]
          paths = ["/admin/**"]
          [[site.route]]
          paths = ["/old/**"]
          redirect = "https://b.example"
          [[site.route]]
          paths = ["/api/**"]
          strip_prefix = "/api"
          [[site.route]]
          paths = ["/open/**"]
          filter_enabled = false
          [[site.route]]
          paths = ["/shadow/**"]
          filter_log_only = true
          [[site.route]]
          paths = ["/strict/**"]
          filter_strict = true
          filter_status = "403"
        "#
    );
    for top in ["", &format!("upstream = \"{upstream}\"\n")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rproxy.toml");
        fs::write(&path, format!("listen = \"127.0.0.1:0\"\naccess_log = \"text\"\n{top}{site}")).unwrap();
        let file = path.to_str().unwrap();
        let proxy = Proxy::run(&["--config", file], &[]);
        let mut number = 0;
        for host in ["a.example", "unknown.example", "[]", "[::1]a", "[::1]"] {
            for path in [
                "/",
                "/.env",
                "/private/x",
                "/static/x",
                "/static/..%2fadmin/x",
                "/static/..%2fadmin/.env",
                "/old/x",
                "/old/.env",
                "/api/x",
                "/api/.env",
                "/%61pi/x",
                "/api%2f..%2fapi/x",
                "/open/.env",
                "/shadow/.env",
                "/strict//x",
                "/strict/.env",
            ] {
                number += 1;
                let target = format!("{path}?number={number};");
                let url = format!("http://{host}{target}");
                let explained = Command::new(env!("CARGO_BIN_EXE_rproxy"))
                    .args(["--config", file, "explain", &url])
                    .env_clear()
                    .output()
                    .unwrap();
                let text = String::from_utf8(explained.stdout).unwrap();
                let result = text.lines().find_map(|line| line.strip_prefix("result: ")).expect(&url).to_owned();
                let response = send(&proxy, "GET", host, &target);
                let line = proxy.wait_for_output(&format!("number={number};"));
                let reason = line.split(' ').find_map(|word| word.strip_prefix("refused="));
                let status = response.status;
                let expected = match (reason, response.header("location")) {
                    (Some(reason), _) => format!("rejected with {status} ({reason})"),
                    (None, Some(location)) => format!("redirected with {status} to {location}"),
                    (None, None) => format!("forwarded as {}", response.body.split(' ').nth(1).unwrap_or_default()),
                };
                assert_eq!(result, expected, "{url} {text}");
            }
        }
    }
}

#[test]
fn startup_log_has_the_url_of_the_first_site_without_a_default_site() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rproxy.toml");
    let text = format!("[[site]]\nhosts = [\"*.a.example\", \"b.example\"]\nupstream = \"{}\"\n", backend("site"));
    fs::write(&path, text).unwrap();
    let proxy = Proxy::run(&["--config", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], &[]);
    let url = format!("url=http://b.example:{} ", proxy.address.port());
    proxy.wait_for_log(&url);
    assert_eq!(send(&proxy, "GET", "b.example", "/").status, 200);
}

#[test]
fn forwards_each_request_to_the_backend_of_its_site_and_route() {
    let (site, api, staging, default) = (backend("site"), backend("api"), backend("staging"), backend("default"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rproxy.toml");
    let text = format!(
        r#"
        [[site]]
        hosts = ["example.org", "www.example.org"]
        upstream = "{site}"
          [[site.route]]
          paths = ["/api/**"]
          upstream = "{api}"
          strip_prefix = "/api"
          [[site.route]]
          paths = ["/old"]
          redirect = "https://example.org/new"
        [[site]]
        hosts = ["*.staging.example.org"]
        upstream = "{staging}"
        blocked_paths = "/secret/**"
        [[site]]
        hosts = ["old.example.org"]
        redirect = "https://example.org"
        "#
    );
    fs::write(&path, text).unwrap();
    let proxy = Proxy::run(
        &["--config", path.to_str().unwrap(), "--listen", "127.0.0.1:0", "--upstream", &default.to_string()],
        &[],
    );
    for (host, target, status, body) in [
        ("example.org", "/", 200, "site / "),
        ("Example.ORG:8080", "/x?y", 200, "site /x?y "),
        ("www.example.org", "/apis", 200, "site /apis "),
        ("example.org", "/api", 200, "api / /api"),
        ("example.org", "/API/a%2Fb?x=1", 200, "api /a%2Fb?x=1 /api"),
        ("example.org", "/api/id_rsa.pub", 200, "api /id_rsa.pub /api"),
        // The default list has this name in the root only, which is that of the backend.
        ("example.org", "/api/id_rsa", 404, "Not Found\n"),
        ("example.org", "/%61PI/id%5frsa", 404, "Not Found\n"),
        ("example.org", "/apis/id_rsa", 200, "site /apis/id_rsa "),
        ("example.org", "/static/..%2fapi/x", 404, "Not Found\n"),
        ("a.staging.example.org", "/api", 200, "staging /api "),
        ("a.staging.example.org", "/.env", 200, "staging /.env "),
        ("a.staging.example.org", "/secret/x", 404, "Not Found\n"),
        ("other.example", "/api", 200, "default /api "),
        ("other.example", "/.env", 404, "Not Found\n"),
    ] {
        let response = send(&proxy, "GET", host, target);
        assert_eq!((response.status, response.body.as_str()), (status, body), "{host} {target}");
    }
    for (method, host, target, status, location) in [
        ("GET", "old.example.org", "/a?b", 301, "https://example.org/a?b"),
        ("POST", "old.example.org", "//evil.example/", 308, "https://example.org//evil.example/"),
        ("GET", "example.org", "/old", 301, "https://example.org/new"),
    ] {
        let response = send(&proxy, method, host, target);
        assert_eq!((response.status, response.header("location")), (status, Some(location)), "{host} {target}");
    }
}

#[test]
fn rejects_requests_for_unknown_hosts_with_404_and_ambiguous_paths_with_400() {
    let proxy = Proxy::run(
        &["--listen", "127.0.0.1:0", "--filter-enabled=false", "--access-log", "json"],
        &[("RPROXY_ROUTES", &format!("example.org={0},example.org/admin={0}", backend("site")))],
    );
    for (host, target, status, body) in [
        ("example.org", "/admin/x", 200, "site /admin/x "),
        ("other.example", "/", 404, "Not Found\n"),
        ("example.org", "/static/..%2fadmin/x", 400, "Bad Request\n"),
        ("example.org", "/static/%2e%2e/admin", 400, "Bad Request\n"),
        ("example.org", "/admin;x=1/y", 400, "Bad Request\n"),
    ] {
        let answer = send(&proxy, "GET", host, target);
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{host} {target}");
    }
    let line = proxy.wait_for_output("/admin/x");
    assert!(line.contains(r#""site":"example.org","route":"/admin/**""#), "{line}");
    let line = proxy.wait_for_output("unknown_host");
    assert!(line.contains("other.example") && line.contains(r#""site":"none""#), "{line}");
}

#[test]
fn route_shares_the_limits_of_its_site_unless_configured_separately() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rproxy.toml");
    let text = format!(
        "rate_limit = 1\nrate_burst = 3\nupstream = \"{}\"\n[[route]]\npaths = \"/login\"\nmethods = \"POST\"\nrate_burst = 1\n\
         [[route]]\npaths = \"/upload\"\nmax_body = 3\n[[site]]\nhosts = \"b.example\"\n",
        backend("app")
    );
    fs::write(&path, text).unwrap();
    let proxy = Proxy::run(&["--config", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], &[]);
    let statuses = |method: &str, host: &str, target: &str, count: usize| {
        (0..count).map(|_| send(&proxy, method, host, target).status).collect::<Vec<_>>()
    };
    assert_eq!(statuses("POST", "a.example", "/login", 2), [200, 429]);
    // The route for uploads has the quota of its site.
    assert_eq!(statuses("GET", "a.example", "/upload", 1), [200]);
    assert_eq!(statuses("GET", "a.example", "/", 3), [200, 200, 429]);
    // Another site has its own quota.
    assert_eq!(statuses("GET", "b.example", "/", 4), [200, 200, 200, 429]);
    let head = "POST /upload HTTP/1.1\r\nhost: b.example\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    assert_ne!(request(proxy.address, head).status, 413, "b.example has no such route");
}

#[test]
fn reload_adds_removes_and_changes_sites() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rproxy.toml");
    let (one, two) = (backend("one"), backend("two"));
    let write = |sites: &[(&str, SocketAddr)]| {
        let site = |(host, upstream): &(&str, SocketAddr)| {
            format!("[[site]]\nhosts = \"{host}\"\nupstream = \"{upstream}\"\n")
        };
        fs::write(&path, sites.iter().map(site).collect::<String>()).unwrap();
    };
    write(&[("a.example", one), ("b.example", one)]);
    let proxy = Proxy::run(&["--config", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], &[]);
    let response = |host: &str| {
        let response = send(&proxy, "GET", host, "/");
        (response.status, response.body)
    };
    assert_eq!(response("a.example"), (200, "one / ".to_owned()));
    assert_eq!(response("c.example").0, 404);

    write(&[("a.example", two), ("c.example", one)]);
    proxy.signal("HUP");
    proxy.wait_for_logs("reloaded", 1);
    assert_eq!(response("a.example"), (200, "two / ".to_owned()));
    assert_eq!(response("b.example").0, 404);
    assert_eq!(response("c.example"), (200, "one / ".to_owned()));

    fs::write(&path, "[[site]]\nhosts = \"a.example\"\nworkers = 1\n").unwrap();
    proxy.signal("HUP");
    proxy.wait_for_log("workers: is a setting of the process");
    assert_eq!(response("a.example"), (200, "two / ".to_owned()));
}

#[test]
fn purging_a_site_keeps_the_responses_of_other_sites() {
    let backend = responding(|_| {
        "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-type: text/css\r\ncontent-length: 4\r\n\r\nbody"
            .into()
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rproxy.toml");
    let write = |hosts: &str| {
        let sites = format!("[[site]]\nhosts = [{hosts}]\n[[site]]\nhosts = [\"*.example.org\"]\n");
        fs::write(&path, format!("upstream = \"{backend}\"\n{sites}")).unwrap();
    };
    write("\"a.example\", \"www.example.org\"");
    let arguments = ["--config", path.to_str().unwrap(), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let proxy = Proxy::run(&arguments, &[]);
    let admin = proxy.address_of("admin requests");
    let purge = |query: &str| {
        let head = format!(
            "POST /cache/purge?{query} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let response = request(admin, &head);
        (response.status, response.body)
    };
    let is_hit = |host: &str| {
        send(&proxy, "GET", host, "/a.css").header("cache-status").is_some_and(|status| status.contains("; hit"))
    };
    let hosts = ["a.example", "www.example.org", "shop.example.org", "other.example"];
    let fill = || hosts.iter().for_each(|host| while !is_hit(host) {});
    for (query, purged, expected) in [
        ("site=a.example", 2, [false, false, true, true]),
        ("site=*.example.org", 1, [true, true, false, true]),
        ("site=default", 1, [true, true, true, false]),
    ] {
        fill();
        assert_eq!(purge(query), (200, format!("{{\"purged\":{purged}}}\n")), "{query}");
        assert_eq!(hosts.map(is_hit), expected, "{query}");
    }
    assert_eq!(purge("site=shop.example.org").0, 400);

    // The host belongs to the other site after a reload.
    write("\"a.example\"");
    proxy.signal("HUP");
    proxy.wait_for_logs("reloaded", 1);
    fill();
    assert_eq!(purge("site=a.example"), (200, "{\"purged\":1}\n".to_owned()));
    assert_eq!(hosts.map(is_hit), [false, true, true, true]);
}
