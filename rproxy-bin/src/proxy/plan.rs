//! The parts of a running proxy that are made from its configuration.

use rproxy_server::{ListenAddr, Server};
use rproxy_tls::Certificates;
use rproxy_ws_passthrough::Tunnels;

use crate::config::{Config, Reload, Setting, settings};
use crate::edge::Stack;

/// Returns the changed settings that only a restart can apply.
pub(super) fn settings_needing_restart(running: &Config, read: &Config) -> Vec<String> {
    let needs_restart = |setting: &&Setting| match setting.key {
        "tls_domains" => running.tls.needs_restart_for_names(&read.tls),
        _ => setting.reload == Reload::Restart,
    };
    let restart = settings().filter(needs_restart);
    restart.filter(|setting| running.show(setting) != read.show(setting)).map(Setting::variable).collect()
}

/// Returns the settings that decide where WebSockets lead and which of them are allowed, by the names of site and route.
pub(super) fn tunnel_settings(config: &Config) -> impl Iterator<Item = ((String, String), Vec<Option<String>>)> {
    let is_part =
        |setting: &&Setting| matches!(setting.key, "upstream" | "ws_enabled" | "ws_paths" | "ws_origins" | "upgrades");
    let parts: Vec<&Setting> = settings().filter(is_part).collect();
    let named = config.named_configurations();
    named.map(move |(name, config)| (name, parts.iter().map(|setting| config.show(setting)).collect()))
}

pub(super) fn with_certificates(certificates: &Option<Certificates>, config: &Config, stack: Stack) -> Stack {
    match certificates {
        Some(certificates) => stack.with_certificates(certificates.clone(), config.tls.hosts.clone()),
        None => stack,
    }
}

pub(super) fn main_server(config: &Config, certificates: &Option<Certificates>, tunnels: Tunnels) -> Server {
    let mut server = bind(config.listeners())
        .workers(config.worker_count().get())
        .drain_timeout(config.process.drain_timeout)
        .limits(config.limits.limits())
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
