//! A proxy that runs, reloads and drains.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use rproxy_server::{Listen, RequestGuardLayer, Running, Server, ServerError};
use rproxy_tls::{Acme, Certificates, Local};
use rproxy_ws_passthrough::Tunnels;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tower::{Layer, service_fn};

use crate::admin::Admin;
use crate::assemble::{Shared, StackError};
use crate::config::{Config, ProxyProtocol};
use crate::demo::{Site, banner};
use crate::redirect;
use crate::reload::Slot;
use crate::stack::Stack;

/// A proxy that can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A listener can't be bound.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The certificates can't be served.
    #[error(transparent)]
    Tls(#[from] rproxy_tls::Error),
    /// A layer can't be built.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The system does not tell of signals.
    #[error("can't wait for signals: {0}")]
    Signals(#[source] io::Error),
    /// The demo's site can't be bound.
    #[error("can't serve the demo's site: {0}")]
    Demo(#[source] io::Error),
}

impl Config {
    /// Runs the proxy until it is told to end: SIGTERM and SIGINT drain, a second one ends at once,
    /// SIGHUP reads certificates and configuration again.
    ///
    /// # Errors
    ///
    /// What can't be started is an error before anything is served.
    pub async fn run(self) -> Result<(), RunError> {
        let signals = Signals::new().map_err(RunError::Signals)?;
        Proxy::start(self)?.until(signals).await;
        Ok(())
    }
}

/// Serves a built-in site behind the full stack, as [`Config::run`] does with a backend, and prints what to try.
///
/// # Errors
///
/// What can't be started is an error before anything is served.
pub async fn demo(mut config: Config) -> Result<(), RunError> {
    let signals = Signals::new().map_err(RunError::Signals)?;
    let site = Site::bind().await.map_err(RunError::Demo)?;
    config.upstream = vec![site.address().into()];
    let site = tokio::spawn(site.serve());
    let proxy = Proxy::start(config)?;
    let scheme = if proxy.certificates.is_some() { "https" } else { "http" };
    let port = proxy.main.local_addr().map_or(0, |address| address.port());
    let banner = banner(&format!("{scheme}://localhost:{port}"), proxy.local_ca().as_deref());
    // Whoever closed standard output does not want to read it.
    let _ = std::io::stdout().write_all(banner.as_bytes());
    proxy.until(signals).await;
    site.abort();
    Ok(())
}

/// All that runs.
struct Proxy {
    config: Config,
    shared: Shared,
    certificates: Option<Certificates>,
    /// Puts another stack into every worker.
    replace: Box<dyn Fn(&Stack) + Send + Sync>,
    main: Running,
    redirect: Option<Running>,
    admin: Option<Running>,
    draining: Arc<AtomicBool>,
}

impl Proxy {
    /// Binds everything, then serves.
    fn start(config: Config) -> Result<Self, RunError> {
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let certificates = certificates(&config)?;
        let shared = Shared::new(&config)?;
        let stack = with(&certificates, shared.stack(&config)?);

        let workers = config.worker_count().get();
        let slots: Vec<_> = (0..workers).map(|_| Slot::new(stack.service::<Incoming>())).collect();
        let tunnels = shared.ws_passthrough.tunnels();
        let main = main_server(&config, &certificates, tunnels.clone()).start({
            let slots = slots.clone();
            move |worker| slots[worker.index].service()
        })?;
        for address in addresses(&main, config.listeners()) {
            tracing::info!(%address, tls = certificates.is_some(), workers, "listening");
        }
        let port = main.local_addr().map_or(443, |address| address.port());
        let redirect = redirect_server(&config).map(|server| {
            server.start(move |_| {
                RequestGuardLayer::new().layer(service_fn(move |request| redirect::to_https(request, port)))
            })
        });
        let draining = Arc::<AtomicBool>::default();
        let admin = config.admin_listen.clone().map(|listen| {
            show_gauges(&shared, &main, &tunnels);
            let admin = admin(&shared, &certificates, &draining);
            let answer = service_fn(move |request| admin.clone().answer(request));
            Server::bind(listen).workers(1).start(move |_| answer.clone())
        });
        let proxy = Self {
            config,
            shared,
            replace: Box::new(move |stack| slots.iter().for_each(|slot| slot.replace(stack.service()))),
            main,
            redirect: redirect.transpose()?,
            admin: admin.transpose()?,
            draining,
            certificates,
        };
        for address in proxy.redirect.iter().flat_map(Running::local_addrs) {
            tracing::info!(%address, "redirecting to https");
        }
        for address in proxy.admin.iter().flat_map(Running::local_addrs) {
            tracing::info!(%address, "administration");
        }
        if let Some(certificates) = &proxy.certificates {
            tokio::spawn(certificates.clone().run());
        }
        Ok(proxy)
    }

    /// Serves until it is told to end, then drains.
    async fn until(self, mut signals: Signals) {
        while let Event::Reload = signals.next().await {
            self.reload();
        }
        tokio::select! {
            () = self.drain() => tracing::info!("drained"),
            () = signals.end() => tracing::warn!("ended at once by a second signal"),
        }
    }

    /// Where the local authority's certificate is, if there is one.
    fn local_ca(&self) -> Option<PathBuf> {
        self.certificates.as_ref().and_then(Certificates::local_ca_pem_path)
    }

    /// Reads certificates and configuration again. What is bad leaves the old in place.
    fn reload(&self) {
        if let Some(certificates) = &self.certificates {
            certificates.reload();
        }
        let reloaded = self.config.reload().map_err(|error| error.to_string());
        let stack = reloaded.and_then(|config| self.shared.stack(&config).map_err(|error| error.to_string()));
        match stack {
            Ok(stack) => {
                (self.replace)(&with(&self.certificates, stack));
                tracing::info!("reloaded; listeners, workers, TLS, rates and cache size change with a restart");
            }
            Err(error) => tracing::error!("not reloaded, the old configuration goes on: {error}"),
        }
    }

    /// Ends everything in good order.
    async fn drain(self) {
        tracing::info!(connections = self.main.handle().connections(), "draining");
        self.draining.store(true, Ordering::Relaxed);
        self.main.handle().drain();
        self.shared.ws_passthrough.tunnels().drain();
        if let Some(redirect) = self.redirect {
            redirect.handle().drain();
            redirect.wait().await;
        }
        self.main.wait().await;
        // Last: whoever watches sees the end.
        if let Some(admin) = self.admin {
            admin.handle().drain();
            admin.wait().await;
        }
        if let Some(writer) = self.shared.observe.writer() {
            writer.flush();
        }
    }
}

fn with(certificates: &Option<Certificates>, stack: Stack) -> Stack {
    match certificates {
        Some(certificates) => stack.certificates(certificates.clone()),
        None => stack,
    }
}

fn certificates(config: &Config) -> Result<Option<Certificates>, rproxy_tls::Error> {
    if !config.tls() {
        return Ok(None);
    }
    let mut builder = Certificates::builder();
    if let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) {
        builder = builder.files(certificate, key);
    }
    if config.tls_local {
        let names = config.tls_domains.iter().map(|name| name.as_str().to_owned());
        builder = builder.local(Local::new(&config.tls_cache_dir).names(names));
    }
    if !config.acme_domains().is_empty() {
        let names = config.acme_domains().iter().map(|name| name.as_str().to_owned());
        let mut acme = Acme::new(&config.tls_cache_dir).domains(names).directory(config.acme_directory.to_string());
        if let Some(contact) = &config.tls_email {
            acme = acme.contact(contact);
        }
        if let Some(ca) = &config.acme_ca {
            acme = acme.directory_ca_file(ca);
        }
        if let (Some(kid), Some(key)) = (&config.acme_eab_kid, &config.acme_eab_hmac_key) {
            acme = acme.external_account(kid, key.expose());
        }
        builder = builder.acme(acme);
    }
    builder.build().map(Some)
}

fn main_server(config: &Config, certificates: &Option<Certificates>, tunnels: Tunnels) -> Server {
    let mut server = bind(config.listeners())
        .workers(config.worker_count().get())
        .drain_timeout(config.drain_timeout)
        .outliving(move || {
            let tunnels = tunnels.clone();
            async move { tunnels.closed().await }
        });
    if let Some(certificates) = certificates {
        server = server.tls(certificates.clone());
    }
    match config.proxy_protocol {
        ProxyProtocol::Off => server,
        _ => server.proxy_protocol(config.trusted_proxies.value().clone()),
    }
}

fn redirect_server(config: &Config) -> Option<Server> {
    let listeners = config.redirect_listeners();
    (!listeners.is_empty()).then(|| bind(listeners).workers(1).drain_timeout(config.drain_timeout))
}

fn bind(listeners: Vec<Listen>) -> Server {
    let mut listeners = listeners.into_iter();
    // The configuration has at least one.
    let first = listeners.next().unwrap_or_else(|| Listen::Tcp(([0, 0, 0, 0], 8080).into()));
    listeners.fold(Server::bind(first), Server::and_bind)
}

/// What is listened on, as it is to be shown.
fn addresses(server: &Running, listeners: Vec<Listen>) -> Vec<String> {
    let unix = listeners.iter().filter(|listen| matches!(listen, Listen::Unix(_))).map(ToString::to_string);
    server.local_addrs().iter().map(ToString::to_string).chain(unix).collect()
}

fn admin(shared: &Shared, certificates: &Option<Certificates>, draining: &Arc<AtomicBool>) -> Admin {
    let (draining, certificates) = (Arc::clone(draining), certificates.clone());
    let ready = move || {
        if draining.load(Ordering::Relaxed) {
            return Err("draining".to_owned());
        }
        let now = std::time::SystemTime::now();
        let certificates = certificates.iter().flat_map(Certificates::status).collect::<Vec<_>>();
        match certificates.is_empty() || certificates.iter().any(|certificate| certificate.is_valid(now)) {
            true => Ok(()),
            false => Err("no valid certificate yet".to_owned()),
        }
    };
    let metrics = shared.observe.metrics().clone();
    Admin::new(move || metrics.exposition(), shared.cache.clone(), ready)
}

fn show_gauges(shared: &Shared, main: &Running, tunnels: &Tunnels) {
    let metrics = shared.observe.metrics();
    let (handle, tunnels) = (main.handle(), tunnels.clone());
    metrics.gauge("connections", "Open client connections", move || handle.connections() as u64);
    metrics.gauge("tunnels", "Open WebSocket tunnels", move || tunnels.open() as u64);
    if let Some(writer) = shared.observe.writer().cloned() {
        metrics.counter("access_log_dropped", "Lines that nobody took in time", move || writer.dropped());
    }
    if let Some(store) = &shared.cache {
        let reading = |read: fn(rproxy_cache::CacheStats) -> u64| {
            let store = store.clone();
            move || read(store.stats())
        };
        metrics.gauge("cache_entries", "Stored responses", reading(|stats| stats.entries));
        metrics.gauge("cache_bytes", "Memory that stored responses take", reading(|stats| stats.weighted_size));
        metrics.counter("cache_stored", "Responses stored", reading(|stats| stats.stored));
        metrics.counter("cache_evictions", "Responses evicted", reading(|stats| stats.evictions));
    }
}

/// What the process is told by its system.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

enum Event {
    Reload,
    End,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::End,
            _ = self.interrupt.recv() => Event::End,
            _ = self.hangup.recv() => Event::Reload,
        }
    }

    /// Resolves with the next signal to end.
    async fn end(&mut self) {
        while let Event::Reload = self.next().await {}
    }
}
