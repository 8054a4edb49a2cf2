//! Tests of sites and routes: declaration, inheritance and errors.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use rproxy::Config;
use rproxy::config::{ConfigError, Report, Sources};
use tempfile::TempDir;

struct File {
    _folder: TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.toml");
    fs::write(&path, text).unwrap();
    File { _folder: folder, path }
}

fn load(text: &str) -> Result<Config, ConfigError> {
    Sources::new().file(&file(text).path).load()
}

/// Returns the configuration problems, without the directory of the configuration file.
fn problems(text: &str) -> Vec<String> {
    let error = load(text).unwrap_err().to_string();
    error.lines().map(|line| line.rsplit_once("/r.toml").map_or(line, |(_, rest)| rest).to_owned()).collect()
}

#[test]
fn site_inherits_from_the_top_level_and_route_from_its_site() {
    let config = load(
        r#"
        rate_limit = 50
        cache_paths = "/assets/**"

        [[site]]
        hosts = ["example.org", "www.example.org"]
        upstream = "127.0.0.1:4000"
        rate_limit = 20

          [[site.route]]
          paths = ["/api/**", "/api/v2"]
          methods = ["GET", "post"]
          upstream = ["127.0.0.1:4001", "127.0.0.1:4002"]
          strip_prefix = "/api/"
          rate_burst = 7

        [[site]]
        hosts = "*.staging.example.org"
        "#,
    )
    .unwrap();
    assert!(!config.has_default_site());
    let [site, staging] = config.sites.as_slice() else { panic!("{} sites", config.sites.len()) };
    assert_eq!(site.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["example.org", "www.example.org"]);
    assert_eq!(site.config.rate_limit.rate.requests().get(), 20);
    assert_eq!(site.config.cache.paths.text(), "/assets/**");
    let [route] = site.routes.as_slice() else { panic!("{} routes", site.routes.len()) };
    assert_eq!(route.route.to_string(), "GET,POST /api/**,/api/v2");
    assert_eq!(route.config.upstream.backends.len(), 2);
    assert_eq!(route.config.routing.strip_prefix.as_deref(), Some("/api"));
    assert_eq!((route.config.rate_limit.rate.requests().get(), route.config.rate_limit.burst_size().get()), (20, 7));
    assert_eq!(staging.config.rate_limit.rate.requests().get(), 50);
    assert_eq!(staging.config.upstream.backends[0].to_string(), "http://127.0.0.1:3000");
}

#[test]
fn default_site_exists_if_it_has_an_upstream_or_routes_or_if_no_site_is_configured() {
    for (text, expected) in [
        ("", true),
        ("rate_limit = 5", true),
        ("[[site]]\nhosts = \"a.example\"", false),
        ("upstream = \"127.0.0.1:1\"\n[[site]]\nhosts = \"a.example\"", true),
        ("redirect = \"https://a.example\"\n[[site]]\nhosts = \"a.example\"", true),
        ("[[route]]\npaths = \"/a\"\n[[site]]\nhosts = \"a.example\"", true),
    ] {
        assert_eq!(load(text).unwrap().has_default_site(), expected, "{text}");
    }
}

#[test]
fn routes_variable_defines_sites_and_routes() {
    let routes = "api.example.org=127.0.0.1:4000, example.org/blog=127.0.0.1:5000|127.0.0.1:5001, \
                  www.example.org=redirect:https://example.org, /shop=127.0.0.1:6000";
    let config = Sources::new().env([("RPROXY_ROUTES", routes), ("RPROXY_RATE_LIMIT", "9")]).load().unwrap();
    let names: Vec<String> = config.sites.iter().map(|site| site.name()).collect();
    assert_eq!(names, ["api.example.org", "example.org", "www.example.org"]);
    assert_eq!(config.sites[0].config.upstream.backends[0].to_string(), "http://127.0.0.1:4000");
    assert_eq!(config.sites[0].config.rate_limit.rate.requests().get(), 9);
    let blog = &config.sites[1].routes[0];
    assert_eq!((blog.route.to_string().as_str(), blog.config.upstream.backends.len()), ("/blog/**", 2));
    let redirect = config.sites[2].config.routing.redirect.as_ref().unwrap();
    assert_eq!(redirect.location("/a?b"), "https://example.org/a?b");
    assert_eq!(config.default_routes[0].route.to_string(), "/shop/**");
    assert!(config.has_default_site());
}

#[test]
fn routes_variable_extends_a_site_of_the_configuration_file() {
    let file = file("[[site]]\nhosts = [\"example.org\"]\nupstream = \"127.0.0.1:1\"\n");
    let config = Sources::new()
        .file(&file.path)
        .env([("RPROXY_ROUTES", "example.org=127.0.0.1:2,example.org/blog=127.0.0.1:3")])
        .load()
        .unwrap();
    let [site] = config.sites.as_slice() else { panic!("{} sites", config.sites.len()) };
    assert_eq!(site.config.upstream.backends[0].to_string(), "http://127.0.0.1:2");
    assert_eq!(site.routes[0].config.upstream.backends[0].to_string(), "http://127.0.0.1:3");
}

#[test]
fn site_hosts_become_certificate_names() {
    let sites = "[[site]]\nhosts = [\"a.example\", \"*.b.example\"]\n[[site]]\nhosts = \"c.example\"\n";
    for (before, expected) in [
        ("tls_email = \"ops@example.org\"\n", &["a.example", "c.example"][..]),
        ("tls_local = true\n", &["a.example", "*.b.example", "c.example"]),
        ("tls_domains = \"d.example\"\ntls_email = \"ops@example.org\"\n", &["d.example"]),
        ("", &[]),
    ] {
        let config = load(&format!("{before}{sites}")).unwrap();
        let names: Vec<&str> = config.tls.domains.iter().map(|name| name.as_str()).collect();
        assert_eq!(names, expected, "{before}");
        assert_eq!(config.tls.is_enabled(), !expected.is_empty());
    }
}

#[test]
fn site_errors_name_line_and_fix() {
    for (text, expected) in [
        (
            "[[site]]\nhosts = \"a.example\"\nworkers = 2\n",
            &[":3: workers: is a setting of the process; set it before the first [[site]] or [[route]]"][..],
        ),
        (
            "[[site]]\nhosts = \"a.example\"\n[[site.route]]\npaths = \"/x\"\ntls_email = \"a@b.example\"\n",
            &[":5: tls_email: is a setting of the process; set it before the first [[site]] or [[route]]"],
        ),
        (
            "[[site]]\nhosts = \"a.example\"\nrate_limt = 2\n",
            &[":3: unknown setting \"rate_limt\", did you mean \"rate_limit\"?"],
        ),
        (
            "[[site]]\nhosts = \"a.example\"\n[[site.route]]\npaths = \"/x\"\nmax_bdy = 2\n",
            &[":5: unknown setting \"max_bdy\", did you mean \"max_body\"?"],
        ),
        (
            "[[site]]\nupstream = \"127.0.0.1:1\"\n",
            &[":1: site: requires the hosts of the site: hosts = [\"example.org\"]"],
        ),
        (
            "[[site]]\nhosts = \"a.example\"\n[[site.route]]\nrate_limit = 2\n",
            &[":3: route: requires the paths of the route: paths = [\"/api/**\"]"],
        ),
        (
            "[[site]]\nhosts = \"a.example:80\"\n",
            &[
                ":2: hosts: bad host \"a.example:80\": a host must not contain a port; accepted: comma-separated host names, addresses or wildcards: example.org, *.example.org",
            ],
        ),
        (
            "[[site]]\nhosts = \"a.example\"\n[[site]]\nhosts = [\"b.example\", \"A.example\"]\n",
            &[":4: hosts: duplicate host \"a.example\": it belongs to another site"],
        ),
        (
            "[[site]]\nhosts = \"a.example\"\n[[site.route]]\npaths = \"/x/**\"\n[[site.route]]\npaths = [\"/y\", \"/X/**\"]\n",
            &[":6: paths: unreachable route: another route already has \"/X/**\""],
        ),
        (
            "[[route]]\npaths = \"/x\"\nmethods = \"GET\"\n[[route]]\npaths = \"/x/\"\nmethods = \"POST,GET\"\n",
            &[":5: paths: unreachable route: another route already has \"/x/\" with GET"],
        ),
        ("[[route]]\npaths = \"x\"\n", &[":2: paths: bad path \"x\": a path pattern must begin with / or *"]),
        (
            "[[route]]\npaths = \"/x\"\nmethods = \"G T\"\n",
            &[":3: methods: bad method in \"G T\"; accepted: comma-separated methods: GET, POST"],
        ),
        (
            "[[route]]\npaths = \"/x\"\nstrip_prefix = \"x\"\n",
            &[
                ":3: strip_prefix: bad path \"x\": the prefix must begin with /; accepted: a path prefix such as /api, with which all paths of the route begin, or none",
            ],
        ),
        (
            "[[route]]\npaths = [\"/api/v1/**\", \"/api/v2\"]\nstrip_prefix = \"/app\"\n",
            &[
                ":3: strip_prefix: \"/app\" is not the start of the route's path \"/api/v1/**\"; accepted: /api, or none",
            ],
        ),
        // Inherited from the site.
        (
            "[[site]]\nhosts = \"a.example\"\nstrip_prefix = \"/app\"\n[[site.route]]\npaths = \"/x\"\n",
            &[":3: strip_prefix: \"/app\" is not the start of the route's path \"/x\"; accepted: /x, or none"],
        ),
        (
            "[[route]]\nmethods = \"POST\"\nstrip_prefix = \"/app\"\n",
            &[":3: strip_prefix: \"/app\" is not the start of the route's path \"/**\"; accepted: none"],
        ),
        (
            "[[site]]\nhosts = \"a.example\"\nredirect = \"/x\"\n",
            &[
                ":3: redirect: bad redirect \"/x\": the URL must begin with https:// or http://; accepted: a URL with https:// or http://, or none",
            ],
        ),
        (
            "[[site]]\nhosts = \"a.example\"\nupstream = \"127.0.0.1:8080\"\n[[site.route]]\npaths = \"/x\"\n",
            &[":3: upstream: http://127.0.0.1:8080 is a listener of this proxy: requests would loop"],
        ),
        (
            "tls_email = \"a@a.example\"\n[[site]]\nhosts = \"a.example\"\n[[site.route]]\npaths = \"/x\"\nupstream = \"127.0.0.1:443\"\n",
            &[":6: upstream: http://127.0.0.1:443 is a listener of this proxy: requests would loop"],
        ),
        (
            "[[site]]\nhosts = [\"a.example\", \"none\"]\n",
            &[":2: hosts: none is the name of a site of the proxy itself; use a name with a dot"],
        ),
        (
            "[[site]]\nhosts = \"a.example\"\nupstream = \"127.0.0.1:4000\"\nredirect = \"https://b.example\"\n",
            &[":4: redirect, which redirects every request; remove one of them"],
        ),
        (
            "[[site]]\nhosts = \"a.example\"\nredirect = \"https://b.example\"\n[[site.route]]\npaths = \"/x\"\nupstream = \"127.0.0.1:4000\"\n",
            &[":3: redirect, which redirects every request; remove one of them"],
        ),
        ("site = 1\n", &[":1: site: not an array of tables: write [[site]]"]),
        ("[site]\nhosts = \"a.example\"\n", &[":1: site: not an array of tables: write [[site]]"]),
        (
            "[[site]]\nhosts = \"a.example\"\nupstream_cert = \"/nowhere\"\n",
            &[":3: upstream_cert: requires upstream_key, the private key", ":3: upstream_cert: /nowhere"],
        ),
    ] {
        let found = problems(text);
        assert_eq!(found.len(), expected.len(), "{text}{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
    }
}

/// Tests that TLS sites move the default listener to port 443, so that a backend can use port 8080.
#[test]
fn site_with_tls_can_have_a_backend_on_port_8080() {
    let site = "[[site]]\nhosts = \"a.example\"\nupstream = \"127.0.0.1:8080\"\n";
    load(&format!("tls_email = \"a@a.example\"\n{site}")).unwrap();
}

#[test]
fn error_in_one_site_does_not_hide_errors_in_another() {
    let found = problems(
        "rate_limit = 0\n[[site]]\nhosts = \"a b\"\nworkers = 1\n[[site.route]]\npaths = \"/x\"\nmax_body = \"much\"\n",
    );
    let lines: Vec<&str> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, [":1", ":3", ":4", ":7"], "{found:?}");
}

#[test]
fn check_report_with_sites_is_an_equivalent_configuration_file() {
    let text = r#"
        rate_limit = "5/min"
        [[site]]
        hosts = ["a.example", "*.a.example"]
        upstream = "127.0.0.1:1"
        [[site.route]]
        paths = ["/api/{x,y}/**"]
        methods = ["POST"]
        strip_prefix = "/api"
        rate_limit = 7
        [[site]]
        hosts = ["b.example"]
        redirect = "https://a.example"
    "#;
    let report = Report::new(load(text).unwrap()).render(&[], 0);
    let again = load(&report).unwrap();
    assert!(!again.has_default_site(), "{report}");
    let route = &again.sites[0].routes[0];
    assert_eq!(route.route.to_string(), "POST /api/{x,y}/**");
    assert_eq!((route.config.rate_limit.rate.to_string().as_str(), again.sites.len()), ("7", 2));
    assert_eq!(again.sites[1].config.routing.redirect.as_ref().unwrap().to_string(), "https://a.example");
}

#[test]
fn errors_in_the_routes_variable_name_the_variable() {
    for (routes, expected) in [
        (
            "a.example=127.0.0.1:1,a.example=127.0.0.1:2",
            "RPROXY_ROUTES: duplicate host \"a.example\": it belongs to another site",
        ),
        (
            "a.example/x=127.0.0.1:1,a.example/x=127.0.0.1:2",
            "RPROXY_ROUTES: unreachable route: another route already has \"/x/**\"",
        ),
        ("a.example/{=127.0.0.1:1", "RPROXY_ROUTES: bad path \"/{/**\": unclosed alternate group"),
    ] {
        let error = Sources::new().env([("RPROXY_ROUTES", routes)]).load().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}

#[test]
fn redirect_conflicts_only_with_an_upstream_that_it_makes_unused() {
    let redirect = "redirect = \"https://b.example\"\n";
    let upstream = "upstream = \"127.0.0.1:4000\"\n";
    let site = "[[site]]\nhosts = \"a.example\"\n";
    let route = "[[site.route]]\npaths = \"/x\"\n";
    for text in [
        format!("{upstream}{site}{redirect}"),
        format!("{site}{upstream}{route}{redirect}"),
        format!("{redirect}{upstream}{site}redirect = \"none\"\n"),
        format!("{site}{redirect}{route}redirect = \"none\"\n{upstream}"),
    ] {
        assert!(load(&text).is_ok(), "{text}");
    }
    let found = load(&format!("{upstream}{redirect}")).unwrap_err().to_string();
    assert!(found.contains("r.toml:1: upstream: conflicts with "), "{found}");
    assert!(found.contains("r.toml:2: redirect, which redirects every request"), "{found}");
    // The environment overrides the file.
    let file = file(upstream);
    assert!(Sources::new().file(&file.path).env([("RPROXY_REDIRECT", "https://b.example")]).load().is_ok());
}

#[test]
fn warns_about_sites_that_forward_to_the_default_upstream() {
    let site = "[[site]]\nhosts = \"a.example\"\n";
    let route = "[[site.route]]\npaths = \"/api/**\"\nupstream = \"127.0.0.1:4000\"\n";
    let warning = |name| format!("{name} has no upstream and forwards requests to the default, http://127.0.0.1:3000");
    for (text, expected) in [
        (String::new(), None),
        (site.to_owned(), Some("site a.example")),
        (format!("{site}{route}"), Some("site a.example")),
        ("routes = \"/api=127.0.0.1:4000\"\n".to_owned(), Some("the default site")),
        ("routes = \"a.example/api=127.0.0.1:4000\"\n".to_owned(), Some("site a.example")),
        ("routes = \"a.example=127.0.0.1:4000\"\n".to_owned(), None),
        (format!("upstream = \"127.0.0.1:3000\"\n{site}"), None),
        (format!("{site}redirect = \"https://b.example\"\n"), None),
        (format!("{site}{}", route.replace("/api/**", "/**")), None),
        (format!("{site}{}methods = \"POST\"\n", route.replace("/api/**", "/**")), Some("site a.example")),
    ] {
        let warnings = load(&text).unwrap().warnings();
        assert_eq!(warnings, Vec::from_iter(expected.map(warning)), "{text}");
    }
}
