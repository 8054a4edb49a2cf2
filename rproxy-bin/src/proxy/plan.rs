//! The parts of a running proxy that are made from its configuration.

use std::collections::HashMap;

use rproxy_router::HostPattern;
use rproxy_server::{ListenAddr, Server};
use rproxy_tls::Certificates;
use rproxy_upstream::Backend;
use rproxy_ws_passthrough::Tunnels;

use crate::config::{Config, Reload, Setting, settings};
use crate::edge::Stack;
use crate::state::Name;

/// Returns the changed settings that only a restart can apply.
pub(super) fn settings_needing_restart(running: &Config, read: &Config) -> Vec<String> {
    let needs_restart = |setting: &&Setting| match setting.key {
        "tls_domains" => running.tls.needs_restart_for_names(&read.tls),
        _ => setting.reload == Reload::Restart,
    };
    let restart = settings().filter(needs_restart);
    restart.filter(|setting| running.show(setting) != read.show(setting)).map(Setting::variable).collect()
}

/// Returns the sites and routes whose open tunnels do not continue after a reload.
///
/// Their site, one of its hosts or their route was removed, or their upstream lost a backend, or tunnels are no longer
/// allowed by the same rules. A new site, route or backend moves no open tunnel.
pub(super) fn closed_tunnels(before: &Config, after: &Config) -> Vec<Name> {
    let remaining: HashMap<Name, TunnelRules<'_>> = tunnel_rules(after).collect();
    let closed = tunnel_rules(before)
        .filter(|(name, rules)| !remaining.get(name).is_some_and(|remaining| remaining.continue_tunnels_of(rules)));
    closed.map(|(name, _)| name).collect()
}

/// The settings that decide where the tunnels of a site or route lead, and which of them are allowed.
struct TunnelRules<'c> {
    hosts: &'c [HostPattern],
    backends: &'c [Backend],
    settings: Vec<Option<String>>,
}

/// Returns the rules for the tunnels of each site and route.
fn tunnel_rules(config: &Config) -> impl Iterator<Item = (Name, TunnelRules<'_>)> {
    let is_rule =
        |setting: &&Setting| matches!(setting.key, "redirect" | "ws_enabled" | "ws_paths" | "ws_origins" | "upgrades");
    let rules: Vec<&Setting> = settings().filter(is_rule).collect();
    let hosts: HashMap<String, &[HostPattern]> =
        config.sites.iter().map(|site| (site.name(), site.hosts.as_slice())).collect();
    let served = config.named_configurations().filter(|((site, _), _)| site != "default" || config.has_default_site());
    served.map(move |(name, config)| {
        let hosts = hosts.get(&name.0).copied().unwrap_or_default();
        let settings = rules.iter().map(|setting| config.show(setting)).collect();
        (name, TunnelRules { hosts, backends: &config.upstream.backends, settings })
    })
}

impl TunnelRules<'_> {
    /// Returns whether every tunnel that was opened with the rules `before` continues with these.
    fn continue_tunnels_of(&self, before: &Self) -> bool {
        let has_backend = |before: &Backend| self.backends.iter().any(|backend| backend.origin() == before.origin());
        self.settings == before.settings
            && before.hosts.iter().all(|host| self.hosts.contains(host))
            && before.backends.iter().all(has_backend)
    }
}

pub(super) fn with_certificates(certificates: &Option<Certificates>, config: &Config, stack: Stack) -> Stack {
    match certificates {
        Some(certificates) => stack.with_certificates(certificates.clone(), config.tls.hosts.clone()),
        None => stack,
    }
}

/// Returns the main server with the settings that its sockets depend on.
pub(super) fn main_listeners(config: &Config) -> Server {
    bind(config.listeners()).workers(config.worker_count().get()).limits(config.limits.limits())
}

pub(super) fn main_server(config: &Config, certificates: &Option<Certificates>, tunnels: Tunnels) -> Server {
    let mut server = main_listeners(config)
        .drain_timeout(config.process.drain_timeout)
        .h2c(config.listeners.h2c)
        .half_close(config.limits.half_close())
        .exempt_proxies(config.client_ip.trusted_proxies.value().clone())
        .wait_on_drain(move || {
            let tunnels = tunnels.clone();
            async move { tunnels.closed().await }
        });
    if let Some(certificates) = certificates {
        server = server.tls(certificates.clone());
    }
    match config.client_ip.proxy_versions() {
        Some(versions) => server.proxy_protocol(config.client_ip.trusted_proxies.value().clone(), versions),
        None => server,
    }
}

pub(super) fn redirect_server(config: &Config) -> Option<Server> {
    let listeners = config.redirect_listeners();
    (!listeners.is_empty()).then(|| {
        let server =
            bind(listeners).workers(1).drain_timeout(config.process.drain_timeout).limits(config.limits.limits());
        server.h2c(config.listeners.h2c).exempt_proxies(config.client_ip.trusted_proxies.value().clone())
    })
}

fn bind(listeners: Vec<ListenAddr>) -> Server {
    let mut listeners = listeners.into_iter();
    // The configuration has at least one listener.
    let first = listeners.next().unwrap_or_else(|| ListenAddr::Tcp(([0, 0, 0, 0], 8080).into()));
    listeners.fold(Server::bind(first), Server::add_address)
}

#[cfg(test)]
mod tests;
