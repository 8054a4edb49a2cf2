//! The running proxy: starts, reloads and drains its listeners and layer stacks.

mod changes;
mod plan;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rproxy_request_guard::RequestGuardLayer;
use rproxy_server::{
    HandoverClient, HandoverListener, InheritedSockets, ListenAddr, RequestBody, RunningServer, Server, ServerSockets,
};
use rproxy_tls::Certificates;
use rproxy_ws_passthrough::TunnelCounts;
use tokio::task::JoinSet;
use tower::ServiceBuilder;

use self::changes::Changes;
use self::plan::{
    closed_tunnels, main_listeners, main_server, redirect_server, settings_needing_restart, with_certificates,
};
use crate::ErrorChain;
use crate::admin::{AddressChange, Admin, AdminListener, MetricsFormat};
use crate::application::{self, Application};
use crate::component_metrics;
use crate::config::{Config, UnmetRequirements};
use crate::demo;
use crate::edge::{Stack, WorkerUpstreams};
use crate::error_response::{ErrorHooks, ErrorResponseLayer};
use crate::logging;
use crate::maintenance::watch_files;
use crate::observe::Writer;
use crate::redirect::{HttpsRedirect, RedirectPorts};
use crate::reload::ServiceSlot;
use crate::run::RunError;
use crate::sandbox::{self, Sandbox};
use crate::startup_advice;
use crate::startup_log;
use crate::state::{ConfiguredState, Name, PlannedStack, ProcessState};
use crate::trust::CaOwner;

/// A function that replaces the services that depend on the configuration.
type Replace = dyn Fn(&Stack, &Config) + Send + Sync;

/// A running proxy.
pub(crate) struct Proxy {
    /// The configuration of the start, without sites: what only a restart can change.
    started: Config,
    /// The applications that were started.
    applications: Vec<Application>,
    /// The configuration of the last reload.
    current: Mutex<Config>,
    shared: ProcessState,
    certificates: Option<Certificates>,
    /// Replaces the stack of every worker, and the service that redirects to HTTPS.
    replace: Box<Replace>,
    main: RunningServer,
    redirect: Option<RunningServer>,
    admin: AdminListener,
    draining: Arc<AtomicBool>,
    /// Whether an application has not accepted a connection yet.
    starting: Arc<AtomicBool>,
    /// The task that runs the health checks of each upstream, by the identifier of its backends.
    health_checks: Mutex<HashMap<usize, JoinSet<()>>>,
    /// The task that checks the files of maintenance, until the proxy has drained.
    _file_watch: JoinSet<()>,
    /// The socket over which a new process receives the listeners.
    successor: Option<HandoverListener>,
}

/// A reload that has been prepared.
struct Plan {
    config: Config,
    stack: Stack,
    configured: ConfiguredState,
    /// The sites and routes whose upstream has the same settings as before, but other content in its files.
    changed_files: Vec<Name>,
    admin: AddressChange,
}

const ADMIN_LISTEN: &str = "RPROXY_ADMIN_LISTEN";
const COMMAND: &str = "RPROXY_COMMAND";
/// The time for admin requests in flight if the public listeners have used the whole drain timeout.
const MIN_ADMIN_DRAIN: Duration = Duration::from_millis(200);

impl Proxy {
    /// Binds all listeners, then starts to serve requests.
    pub(crate) fn start(config: Config) -> Result<Self, RunError> {
        let applications = application::declared(&config)?;
        let sandbox = Sandbox::of(&config)?;
        let (predecessor, inherited) = inherited(&config, &sandbox)?;
        UnmetRequirements::check(&config, &inherited.addresses())?;
        let sockets = Sockets::bind(&config, &inherited)?;
        let certificate_error = |error| startup_advice::certificates(&config.tls.cache_dir, error);
        let files = config.tls.read_files().map_err(certificate_error)?;
        // All threads start after this, and inherit its restrictions. Files are created by the user of the sandbox.
        let dropped = sandbox.enter(&config)?;
        let certificates = config.tls.certificates(files).map_err(certificate_error)?;
        let shared = ProcessState::open(&config);
        let shared = shared.map_err(|error| startup_advice::stack(config.cache.disk.as_deref(), error))?;
        let stack = with_certificates(&certificates, &config, shared.stack(&config)?);
        // Before the first request.
        shared.maintenance().check_files();

        let workers = config.worker_count().get();
        let new_slot = |_| {
            let mut upstreams = WorkerUpstreams::<RequestBody>::default();
            (ServiceSlot::new(stack.worker_service(&mut upstreams)), Mutex::new(upstreams))
        };
        let (slots, upstreams): (Vec<_>, Vec<_>) = (0..workers).map(new_slot).unzip();
        let tunnels = shared.ws_passthrough.tunnels();
        let main = main_server(&config, &certificates, tunnels.clone()).start_on(sockets.main, {
            let slots = slots.clone();
            move |worker| slots[worker.index].service()
        });
        let main = main.map_err(|error| startup_advice::listener("RPROXY_LISTEN", error))?;
        startup_log::log_start(&config, &url(&config, &main, certificates.is_some()));
        dropped.log();
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        for address in addresses(&main, config.listeners()) {
            tracing::info!(%address, tls = certificates.is_some(), workers, "listening");
        }
        let (plain, https) = (config.redirect_port().map_or(80, NonZeroU16::get), https_port(&main));
        let to_https = move |stack: &Stack, config: &Config| {
            let ports = RedirectPorts { public_https: config.listeners.https_port, plain, https };
            HttpsRedirect::new(ports, Arc::clone(&stack.routes.table), stack.observe.notices())
        };
        let https_redirect = ServiceSlot::new(to_https(&stack, &config));
        let redirect = redirect_server(&config).zip(sockets.redirect).map(|(server, sockets)| {
            let slot = Arc::clone(&https_redirect);
            let layers = ServiceBuilder::new()
                .layer(ErrorResponseLayer::with_hooks(ErrorHooks::default()))
                .layer(RequestGuardLayer::new());
            server.start_on(sockets, move |_| layers.service(slot.service()))
        });
        let draining = Arc::<AtomicBool>::default();
        component_metrics::register(&shared, &main, &tunnels, &certificates);
        let starting = Arc::new(AtomicBool::new(!applications.is_empty()));
        let admin = admin(&shared, &certificates, &draining, &starting);
        admin.set_hosts(&config.process.admin_hosts);
        let admin = AdminListener::start(admin, Arc::clone(&inherited), &config.process, sockets.admin);
        let successor = config.process.handover_socket.as_deref().map(HandoverListener::bind);
        let successor = successor.transpose().map_err(startup_advice::handover)?;
        tokio::spawn(startup_log::check_idle_backends(startup_log::backends(&config), shared.metrics()));
        let sites = shared.clone();
        let proxy = Self {
            started: config.without_sites(),
            applications,
            current: Mutex::new(config),
            shared,
            replace: Box::new(move |stack, config| {
                for (slot, upstreams) in slots.iter().zip(&upstreams) {
                    slot.replace(stack.worker_service(&mut lock(upstreams)));
                }
                https_redirect.replace(to_https(stack, config));
            }),
            main,
            redirect: redirect.transpose().map_err(|error| startup_advice::listener("RPROXY_HTTP_PORT", error))?,
            admin: admin.map_err(|error| startup_advice::listener(ADMIN_LISTEN, error))?,
            draining,
            starting,
            certificates,
            health_checks: Mutex::default(),
            _file_watch: JoinSet::from_iter([watch_files(move || sites.maintenance())]),
            successor,
        };
        proxy.set_health_checks(&stack);
        for address in proxy.redirect.iter().flat_map(RunningServer::local_addrs) {
            tracing::info!(%address, "listening for plain HTTP, redirecting to HTTPS");
        }
        if let Some(ca) = proxy.local_ca() {
            let command = CaOwner::of(&proxy.started).command();
            tracing::info!(ca = %ca.display(), "using certificates of the local authority; run `{command}` to see how to trust the authority");
        }
        if let Some(certificates) = &proxy.certificates {
            tokio::spawn(certificates.clone().run());
        }
        for address in inherited.addresses() {
            tracing::warn!(%address, "ignoring a listening socket passed to this process: no setting uses its address");
        }
        match predecessor.map(HandoverClient::confirm) {
            Some(Ok(())) => tracing::info!("received the listeners from the old process"),
            Some(Err(error)) => {
                let error = ErrorChain(&error);
                tracing::warn!(%error, "cannot send the drain command to the old process; stop it manually")
            }
            None => {}
        }
        Ok(proxy)
    }

    /// Returns the applications that the configuration declares.
    pub(crate) fn applications(&self) -> Vec<Application> {
        self.applications.clone()
    }

    /// Reports that all applications have accepted a connection.
    pub(crate) fn set_applications_ready(&self) {
        self.starting.store(false, Ordering::Relaxed);
    }

    /// Returns the URL at which clients reach the main listener.
    pub(crate) fn url(&self) -> String {
        url(&self.started, &self.main, self.certificates.is_some())
    }

    /// Returns the writer of the access log, so that the caller can flush it before the process exits.
    pub(crate) fn access_log(&self) -> Option<Writer> {
        self.shared.access_log()
    }

    /// Returns the path of the local authority's certificate, if the local authority is used.
    pub(crate) fn local_ca(&self) -> Option<PathBuf> {
        self.certificates.as_ref().and_then(Certificates::local_ca_pem_path)
    }

    /// Returns the state of the proxy that the demo site shows.
    pub(crate) fn demo_state(&self) -> demo::ProxyState {
        demo::ProxyState { metrics: self.shared.metrics(), certificates: self.certificates.clone() }
    }

    /// Waits until a new process has received the listeners.
    pub(crate) async fn wait_for_handover(&self) {
        match &self.successor {
            Some(successor) => successor.hand_over(|| self.listeners()).await,
            None => std::future::pending().await,
        }
    }

    fn listeners(&self) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = self.main.handle().listeners()?;
        if let Some(redirect) = &self.redirect {
            sockets.append(&mut redirect.handle().listeners()?);
        }
        sockets.append(&mut self.admin.sockets()?);
        Ok(sockets)
    }

    /// Reloads the certificates and the configuration. If the configuration is invalid, the current one stays in use.
    pub(crate) async fn reload(&self) {
        if let Some(certificates) = &self.certificates {
            certificates.reload();
        }
        let _switches = self.shared.switches().changes.lock().await;
        match self.plan().await {
            Ok(plan) => self.apply(plan),
            Err(error) => tracing::error!("reload failed, keeping the current configuration: {error}"),
        }
    }

    /// Reads the configuration, and builds what it changes.
    async fn plan(&self) -> Result<Plan, String> {
        let config = self.started.reload().map_err(|error| sandbox::explain(ErrorChain(&error).to_string()))?;
        sandbox::check_reload(&config).map_err(|error| error.to_string())?;
        application::redeclared(&config, &self.applications).map_err(|error| ErrorChain(&error).to_string())?;
        let planned = self.shared.plan_stack(&config);
        let planned = planned.map_err(|error| sandbox::explain(ErrorChain(&error).to_string()))?;
        let PlannedStack { stack, configured, changed_files } = planned;
        let admin = self.admin.prepare(&config.process).await;
        let admin = admin.map_err(|error| startup_advice::listener(ADMIN_LISTEN, error).to_string())?;
        // Last, because it changes the certificates that are served.
        if let Some(certificates) = &self.certificates {
            let applied = self.started.tls.apply_names(certificates, &config.tls);
            applied.map_err(|error| ErrorChain(&error).to_string())?;
        }
        let stack = with_certificates(&self.certificates, &config, stack);
        Ok(Plan { config, stack, configured, changed_files, admin })
    }

    fn apply(&self, Plan { config, stack, configured, changed_files, admin }: Plan) {
        let tunnels = self.shared.ws_passthrough.tunnels();
        let closed = closed_tunnels(&self.current(), &config);
        let closed: Vec<TunnelCounts> = closed.iter().filter_map(|name| self.shared.tunnel_counts(name)).collect();
        self.shared.commit(configured);
        self.shared.maintenance().check_files();
        logging::set_filter(&config.observe.log_level);
        self.set_health_checks(&stack);
        (self.replace)(&stack, &config);
        self.main.update(main_server(&config, &self.certificates, tunnels.clone()));
        // A change of its port needs a restart.
        if let (Some(redirect), Some(server)) = (&self.redirect, redirect_server(&config)) {
            redirect.update(server);
        }
        // Clients reconnect to the new backends.
        for counts in closed {
            tunnels.restart_counted_within(&counts, config.process.drain_timeout);
        }
        let mut waiting = settings_needing_restart(&self.started, &config);
        // An application on another port, or that of a site.
        let declares_others = application::declared(&config).is_ok_and(|declared| declared != self.applications);
        if declares_others && !waiting.iter().any(|setting| setting == COMMAND) {
            waiting.push(COMMAND.to_owned());
        }
        if let AddressChange::NeedsRestart = admin {
            waiting.push(ADMIN_LISTEN.to_owned());
        }
        self.admin.apply(admin, &config.process);
        let before = std::mem::replace(&mut *self.current(), config.clone());
        tracing::info!("configuration reloaded{}", Changes::between(&before, &config, &waiting, changed_files));
        if !waiting.is_empty() {
            tracing::warn!("restart required to apply: {}", waiting.join(", "));
        }
    }

    fn current(&self) -> MutexGuard<'_, Config> {
        lock(&self.current)
    }

    /// Starts the health checks of new upstreams, and stops those of upstreams that `stack` does not have.
    fn set_health_checks(&self, stack: &Stack) {
        let mut running = lock(&self.health_checks);
        let mut previous = std::mem::take(&mut *running);
        for backends in stack.backends.iter().filter(|backends| backends.has_health_check()) {
            let start = || JoinSet::from_iter([backends.run_health_checks()]);
            running.insert(backends.id(), previous.remove(&backends.id()).unwrap_or_else(start));
        }
    }

    /// Stops accepting connections on all listeners, and waits for in-flight requests and tunnels. After a handover,
    /// this includes the admin listener from the start.
    pub(crate) async fn drain(self, is_handed_over: bool) {
        tracing::info!(connections = self.main.handle().connections(), "draining");
        let switched = self.shared.switchable_upstreams();
        for (upstream, setting) in switched.iter().filter_map(|one| Some((one, one.switched_from.as_ref()?))) {
            let (site, backends) = (&upstream.names[0].0, upstream.backends.status());
            let backends = backends.iter().map(|status| status.backend.to_string()).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                site,
                "the next process does not use the switched upstream {backends}, but the setting: {setting}"
            );
        }
        self.draining.store(true, Ordering::Relaxed);
        if is_handed_over {
            self.admin.drain();
        }
        self.main.handle().drain();
        let (began, drain_timeout) = (Instant::now(), self.current().process.drain_timeout);
        self.shared.ws_passthrough.tunnels().drain_within(drain_timeout);
        if let Some(redirect) = self.redirect {
            redirect.handle().drain();
            redirect.wait().await;
        }
        self.main.wait().await;
        // Stores the last responses on disk. No client has to wait for it any more.
        if let Some(store) = self.shared.cache() {
            store.flush();
        }
        // Last, so that monitoring sees the shutdown.
        let left = drain_timeout.saturating_sub(began.elapsed());
        self.admin.drained(left.max(MIN_ADMIN_DRAIN)).await;
    }
}

/// The listening sockets of all servers, which are bound before the process drops its privileges.
struct Sockets {
    main: ServerSockets,
    redirect: Option<ServerSockets>,
    admin: Option<ServerSockets>,
}

impl Sockets {
    fn bind(config: &Config, inherited: &Arc<InheritedSockets>) -> Result<Self, RunError> {
        let bind = |server: Server, setting| {
            let sockets = server.inherit(Arc::clone(inherited)).bind_now();
            sockets.map_err(|error| startup_advice::listener(setting, error))
        };
        let main = bind(main_listeners(config), "RPROXY_LISTEN")?;
        let redirect = redirect_server(config).map(|server| bind(server, "RPROXY_HTTP_PORT")).transpose()?;
        let admin = AdminListener::bind_now(&config.process, inherited);
        let admin = admin.map_err(|error| startup_advice::listener(ADMIN_LISTEN, error))?;
        Ok(Self { main, redirect, admin })
    }
}

/// Returns the listening sockets that the service manager and the old process passed to this process.
fn inherited(config: &Config, sandbox: &Sandbox) -> Result<(Option<HandoverClient>, Arc<InheritedSockets>), RunError> {
    let inherited = InheritedSockets::from_env().map_err(RunError::Inherited)?;
    let receive = |path| HandoverClient::receive_from(path, sandbox.uid());
    let found = config.process.handover_socket.as_deref().map(receive).transpose()?.flatten();
    Ok(match found {
        Some((predecessor, sockets)) => (Some(predecessor), Arc::new(inherited.merge(sockets))),
        None => (None, Arc::new(inherited)),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the HTTPS port: 443 if a main listener uses it, otherwise the port of the first main listener.
fn https_port(main: &RunningServer) -> u16 {
    let mut ports = main.local_addrs().iter().map(SocketAddr::port);
    match ports.clone().any(|port| port == 443) {
        true => 443,
        false => ports.next().unwrap_or(443),
    }
}

/// Returns the URL of the proxy, with the first ACME name as host, or a local host name if there is none.
fn url(config: &Config, main: &RunningServer, has_tls: bool) -> String {
    let Some(address) = main.local_addr() else {
        return config.listeners().first().map(ToString::to_string).unwrap_or_default();
    };
    let (scheme, default_port) = if has_tls { ("https", 443) } else { ("http", 80) };
    let name = config.tls.acme_domains().iter().map(|name| name.as_str()).find(|name| !name.starts_with('*'));
    let (host, port) = match name {
        Some(name) => (name.to_owned(), config.listeners.https_port.map_or(address.port(), NonZeroU16::get)),
        None => (local_host(address.ip()), address.port()),
    };
    match port == default_port {
        true => format!("{scheme}://{host}"),
        false => format!("{scheme}://{host}:{port}"),
    }
}

/// Returns the host in a URL with which clients on this machine reach the address.
fn local_host(ip: IpAddr) -> String {
    match ip {
        _ if ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST => "localhost".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Returns the bound addresses of the listeners, for a log message.
fn addresses(server: &RunningServer, listeners: Vec<ListenAddr>) -> Vec<String> {
    let unix = listeners.iter().filter(|listen| matches!(listen, ListenAddr::Unix(_))).map(ToString::to_string);
    server.local_addrs().iter().map(ToString::to_string).chain(unix).collect()
}

fn admin(
    shared: &ProcessState,
    certificates: &Option<Certificates>,
    draining: &Arc<AtomicBool>,
    starting: &Arc<AtomicBool>,
) -> Admin {
    let (draining, starting, certificates) = (Arc::clone(draining), Arc::clone(starting), certificates.clone());
    let ready = move || {
        if draining.load(Ordering::Relaxed) {
            return Err("draining".to_owned());
        }
        if starting.load(Ordering::Relaxed) {
            return Err("an application has not accepted a connection yet".to_owned());
        }
        let now = std::time::SystemTime::now();
        let certificates = certificates.iter().flat_map(Certificates::status).collect::<Vec<_>>();
        match certificates.is_empty() || certificates.iter().any(|certificate| certificate.is_valid(now)) {
            true => Ok(()),
            false => Err("no valid TLS certificate is available yet".to_owned()),
        }
    };
    let (metrics, shared) = (shared.metrics(), shared.clone());
    let exposition = move |format| match format {
        MetricsFormat::Prometheus => metrics.prometheus_text(),
        MetricsFormat::OpenMetrics => metrics.exposition(),
    };
    let (sites, maintenance, upstreams) = (shared.clone(), shared.clone(), shared.clone());
    Admin::new(
        exposition,
        move || shared.cache(),
        ready,
        move |name| sites.site(name),
        move || maintenance.maintenance(),
        upstreams,
    )
}
