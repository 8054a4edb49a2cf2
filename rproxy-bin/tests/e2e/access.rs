//! Tests of the layers that decide which clients may access a site.

use std::fs;

use crate::support::upstream::{echo, ok, responding};
use crate::support::{Proxy, get, request};

/// Sends a request from a client behind a trusted proxy, and returns its status.
fn status_of(proxy: &Proxy, client: &str, path: &str) -> u16 {
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\nConnection: close\r\n\r\n");
    request(proxy.address, &head).status
}

#[test]
fn most_specific_range_of_allow_and_deny_decides() {
    let settings = [
        ("RPROXY_TRUSTED_PROXIES", "loopback"),
        ("RPROXY_ALLOW", "192.0.2.0/24, 2001:db8::/32"),
        ("RPROXY_DENY", "192.0.2.66, 2001:db8:6::/48"),
        ("RPROXY_ACCESS_LOG", "json"),
    ];
    let proxy = Proxy::start(responding(|_| ok("served")), &settings);
    for (client, status) in [
        ("192.0.2.1", 200),
        ("192.0.2.66", 403),
        ("2001:db8:1::1", 200),
        ("2001:db8:6::1", 403),
        ("::ffff:192.0.2.1", 200),
        ("203.0.113.1", 403),
    ] {
        assert_eq!(status_of(&proxy, client, "/"), status, "{client}");
    }
    // Without a forwarding field, the peer is the client.
    let response = get(proxy.address, "/");
    assert_eq!((response.status, response.header("proxy-status")), (403, Some("rproxy; error=http_request_denied")));
    proxy.wait_for_output("\"access_denied\"");
}

#[test]
fn reload_reads_the_files_of_address_ranges_again() {
    let folder = tempfile::tempdir().unwrap();
    let (config, office) = (folder.path().join("rproxy.toml"), folder.path().join("office.txt"));
    fs::write(&office, "# The office\n192.0.2.0/24\n").unwrap();
    let upstream = responding(|_| ok("served"));
    let text = format!(
        "listen = '127.0.0.1:0'\nupstream = '{upstream}'\ntrusted_proxies = 'loopback'\n\
         [[route]]\npaths = '/admin/**'\nallow = '{}'\n",
        office.display()
    );
    fs::write(&config, text).unwrap();
    let proxy = Proxy::run(&["--config", config.to_str().unwrap()], &[]);
    let statuses = || ["/", "/admin/"].map(|path| ["192.0.2.1", "203.0.113.1"].map(|c| status_of(&proxy, c, path)));
    assert_eq!(statuses(), [[200, 200], [200, 403]]);

    fs::write(&office, "203.0.113.1\n").unwrap();
    proxy.signal("HUP");
    proxy.wait_for_log("reloaded: changed files of default");
    assert_eq!(statuses(), [[200, 200], [403, 200]]);

    fs::write(&office, "203.0.113.1\n\n203.0.113.0/33\n").unwrap();
    proxy.signal("HUP");
    let line = proxy.wait_for_log("office.txt:3");
    assert!(line.contains("bad CIDR \\\"203.0.113.0/33\\\"") || line.contains("bad CIDR \"203.0.113.0/33\""), "{line}");
    assert_eq!(statuses(), [[200, 200], [403, 200]], "a reload with an error changes nothing");
}

#[test]
fn denied_client_gets_403_before_redirects_and_blocked_paths() {
    let settings = [("RPROXY_DENY", "all"), ("RPROXY_REDIRECT", "https://other.example")];
    let proxy = Proxy::run(&[], &[&[("RPROXY_LISTEN", "127.0.0.1:0")], &settings[..]].concat());
    assert_eq!(get(proxy.address, "/").status, 403);
    let proxy = Proxy::start(echo(), &settings[..1]);
    assert_eq!(get(proxy.address, "/.env").status, 403);
}
