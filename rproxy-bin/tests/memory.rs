//! Tests of the memory use of idle sites and routes.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::{fs, iter};

use rproxy::Config;
use rproxy_server::RequestBody;
use rproxy_test_support::{CountingAllocator, memory_in_use};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Returns the memory in bytes that a configuration with `sites` sites uses.
///
/// The memory consists of the settings, the stacks, and the services of two workers. Each site has five routes with these
/// settings.
fn bytes(sites: u16, settings: &str) -> usize {
    let mut text = String::new();
    for site in 0..sites {
        let port = 3000 + site;
        writeln!(text, "[[site]]\nhosts = [\"{site}.example\"]\nupstream = \"127.0.0.1:{port}\"").unwrap();
        for route in 0..5 {
            let settings = settings.replace("ROUTE", &route.to_string()).replace("PORT", &port.to_string());
            writeln!(text, "[[site.route]]\npaths = [\"/{route}/**\"]\n{settings}").unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.toml");
    fs::write(&path, text).unwrap();

    let before = memory_in_use();
    let config = Config::from_file(&path).unwrap();
    let stack = rproxy::stack(&config).unwrap();
    let services: Vec<_> = iter::repeat_with(|| stack.service::<RequestBody>()).take(2).collect();
    let after = memory_in_use();
    drop((config, stack, services));
    after - before
}

#[test]
fn idle_site_with_five_routes_uses_at_most_40_kb_of_memory() {
    for settings in [
        "",
        "upstream = \"127.0.0.2:PORT\"\nupstream_timeout = \"1ROUTEs\"",
        "rate_limit = 1ROUTE",
        "security_headers = \"strict\"\nhsts_policy = \"max-age=1ROUTE\"",
        "cache_paths = \"/ROUTE/static/**\"",
        "blocked_paths = \"default,/ROUTE/private/**\"",
        "strip_prefix = \"/ROUTE\"\nmax_body = \"1ROUTEMiB\"",
        "ws_max_connections = 1ROUTE\nws_paths = \"/ROUTE/live\"",
        "upstream = \"127.0.0.2:PORT\"\nstrip_prefix = \"/ROUTE\"\nmax_body = \"1MiB\"\nrate_limit = \"5/min\"",
        "redirect = \"https://ROUTE.example\"",
    ] {
        // Initialises what all configurations share.
        bytes(1, settings);
        let per_site = (bytes(110, settings) - bytes(10, settings)) / 100;
        println!("{per_site} bytes: {settings:?}");
        assert!(per_site <= 40_000, "{per_site} bytes per site with five routes: {settings}");
    }
}
