//! The log messages after the start: the URL of the proxy, and whether its backends accept connections.

use std::io;
use std::time::Duration;

use http::Uri;
use rproxy_upstream::Backend;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::{Config, spelled};
use crate::observe::Metrics;

/// Logs the version, the URL of the proxy, and its backends. Messages from now on name settings as `config` does.
///
/// The URL is that of the first site if no site serves the host of `url`.
pub(crate) fn log_start(config: &Config, url: &str) {
    config.spell_messages_of_process();
    let url = served_url(config, url);
    let upstream = listed(&backends(config));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %url, %upstream, "rproxy started");
}

/// Returns `url` with a host that a site serves.
fn served_url(config: &Config, url: &str) -> String {
    let site = config.sites.first().filter(|_| !config.has_default_site());
    let (Some(site), Ok(table), Ok(uri)) = (site, config.route_table(), url.parse::<Uri>()) else {
        return url.to_owned();
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return url.to_owned() };
    if table.site(authority.host()).is_some() {
        return url.to_owned();
    }
    let hosts = config.sites.iter().flat_map(|site| &site.hosts);
    let host = match hosts.clone().find(|host| !host.is_wildcard()) {
        Some(host) => host.to_string(),
        // A wildcard matches one label.
        None => site.hosts.first().map_or_else(String::new, |host| format!("www.{}", host.name())),
    };
    match authority.port() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

/// Checks the backends some seconds after the start, unless the proxy has received a request.
pub(crate) async fn check_idle_backends(backends: Vec<Backend>, metrics: Metrics) {
    sleep(CHECK_AFTER).await;
    if !metrics.has_requests() {
        check_backends(backends).await;
    }
}

/// Connects once to each backend, and logs whether the backends accept connections.
async fn check_backends(backends: Vec<Backend>) {
    let count = backends.len();
    let mut unreachable = 0;
    let mut attempts = JoinSet::new();
    let mut pending = backends.into_iter();
    attempts_of(&mut attempts, pending.by_ref().take(MAX_ATTEMPTS));
    while let Some(attempt) = attempts.join_next().await {
        attempts_of(&mut attempts, pending.next());
        if let Ok((backend, Err(error))) = attempt {
            unreachable += 1;
            if unreachable <= MAX_WARNINGS {
                tracing::warn!("{}", spelled(&warning(&backend, &error)));
            }
        }
    }
    match (count, unreachable) {
        (0, _) => {}
        (_, 0) => tracing::info!(backends = count, "all backends accept connections"),
        (_, unreachable) if unreachable > MAX_WARNINGS => {
            tracing::warn!(backends = count, unreachable, "more backends do not accept connections");
        }
        _ => {}
    }
}

/// Returns the backends of all sites and routes, without duplicates.
pub(crate) fn backends(config: &Config) -> Vec<Backend> {
    let mut backends: Vec<Backend> = Vec::new();
    for ((site, route), config_of) in config.named_configurations() {
        let is_unused = site == "default" && route.is_empty() && !config.has_default_site();
        if is_unused || config_of.routing.redirect.is_some() || config_of.serves_files_only() {
            continue;
        }
        for backend in &config_of.upstream.backends {
            if backends.iter().all(|other| other.origin() != backend.origin()) {
                backends.push(backend.clone());
            }
        }
    }
    backends
}

fn attempts_of(attempts: &mut JoinSet<(Backend, io::Result<()>)>, backends: impl IntoIterator<Item = Backend>) {
    for backend in backends {
        attempts.spawn(async move {
            let result = match timeout(DEADLINE, backend.try_connect()).await {
                Ok(result) => result,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {DEADLINE:?}"))),
            };
            (backend, result)
        });
    }
}

fn warning(backend: &Backend, error: &io::Error) -> String {
    let address = backend.origin();
    let is_default = Config::default().upstream.backends.contains(backend);
    let advice = match is_default {
        true => {
            "start your application at this address, or set RPROXY_UPSTREAM to its address; \
             `rproxy demo` needs no application"
        }
        false => "start the backend, or set RPROXY_UPSTREAM, or the upstream of its site or route, to another address",
    };
    format!("backend {address} does not accept connections: {error}; {advice}")
}

/// Formats the addresses of the first backends and the number of remaining backends.
fn listed(backends: &[Backend]) -> String {
    let shown: Vec<_> = backends.iter().take(MAX_SHOWN).map(Backend::origin).collect();
    match backends.len() {
        0 => "none".to_owned(),
        count if count > MAX_SHOWN => format!("{} and {} more", shown.join(", "), count - MAX_SHOWN),
        _ => shown.join(", "),
    }
}

const CHECK_AFTER: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(2);
const MAX_ATTEMPTS: usize = 32;
const MAX_WARNINGS: usize = 10;
const MAX_SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<Backend> {
        text.split(',').map(|backend| backend.parse().unwrap()).collect()
    }

    #[test]
    fn unreachable_backend_warning_names_cause_and_fix() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let default = warning(&Config::default().upstream.backends[0], &refused);
        assert!(default.starts_with("backend http://127.0.0.1:3000 does not accept connections: "), "{default}");
        assert!(default.contains("set RPROXY_UPSTREAM") && default.contains("`rproxy demo`"), "{default}");
        let other = warning(&parse("unix:/run/app.sock")[0], &refused);
        assert!(other.contains("unix:/run/app.sock") && !other.contains("demo"), "{other}");
    }

    #[test]
    fn startup_url_has_a_host_that_a_site_serves() {
        let site = |hosts: &str| format!("[[site]]\nhosts = \"{hosts}\"\n");
        for (text, url, expected) in [
            (String::new(), "http://localhost:8080", "http://localhost:8080"),
            (site("a.example, b.example"), "http://localhost:8080", "http://a.example:8080"),
            (site("a.example"), "https://localhost", "https://a.example"),
            (site("a.example") + &site("localhost"), "http://localhost:8080", "http://localhost:8080"),
            (site("*.example.org, a.example"), "http://localhost:80", "http://a.example:80"),
            (site("*.example.org"), "http://[::1]:8080", "http://www.example.org:8080"),
            (site("[2001:db8::1]"), "http://localhost:8080", "http://[2001:db8::1]:8080"),
            ("upstream = \"a:1\"\n".to_owned() + &site("a.example"), "http://localhost:8080", "http://localhost:8080"),
            (site("a.example"), "unix:/run/rproxy.sock", "unix:/run/rproxy.sock"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("r.toml");
            std::fs::write(&path, &text).unwrap();
            assert_eq!(served_url(&Config::from_file(path).unwrap(), url), expected, "{text}");
        }
    }

    #[test]
    fn startup_log_lists_at_most_four_backends() {
        assert_eq!(listed(&[]), "none");
        assert_eq!(listed(&parse("a:1,b:2 weight=3")), "http://a:1, http://b:2");
        assert_eq!(
            listed(&parse("a:1,a:2,a:3,a:4,a:5,a:6")),
            "http://a:1, http://a:2, http://a:3, http://a:4 and 2 more"
        );
    }
}
