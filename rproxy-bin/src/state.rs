//! The state that survives a reload: counters, stored responses, limits and open connections.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rproxy_cache::{CacheStore, DiskTier};
use rproxy_maintenance::{Maintenance, MaintenanceLayer};
use rproxy_server::ListenAddr;
use rproxy_upstream::{Backend, Backends, RemovedBackends, SystemFiles};
use rproxy_ws_passthrough::{TunnelCounts, WsPassthroughLayer};

use self::layers::Layers;
use self::upstreams::Upstreams;
use crate::close_codes::CloseCodes;
use crate::config::{AccessLog, BlockedPathResponse, Config, RouteConfig, Shared};
use crate::edge::{Routes, Stack};
use crate::error_response::ErrorResponseLayer;
use crate::layers::rate_limit::RateLimit;
use crate::layers::{AccessSettings, ErrorPagesSettings, RateLimitSettings, StackError};
use crate::logging;
use crate::maintenance::{SiteMaintenance, SiteMaintenances};
use crate::observe::{Format, Metrics, ObserveLayer, SiteLabel, Writer};
use crate::setting::{SettingValues, Settings};
use crate::site::{Authentication, Files, Handler, SiteHosts, SiteNames, SiteStack};
use crate::switch::{SwitchError, SwitchableUpstream, Switches};
use crate::values::upstream::is_reached_by;

mod layers;
mod upstreams;

/// The state of the process that survives a reload.
#[derive(Clone, Debug)]
pub(crate) struct ProcessState {
    pub(crate) ws_passthrough: WsPassthroughLayer,
    pub(crate) close_codes: CloseCodes,
    switches: Arc<Switches>,
    configured: Arc<Mutex<ConfiguredState>>,
}

/// The stacks of a configuration, and the state that they need.
pub(crate) struct PlannedStack {
    pub(crate) stack: Stack,
    pub(crate) configured: ConfiguredState,
    /// The sites and routes with the same settings as before, but other content in the files of their upstream, of users and
    /// addresses, or of error pages.
    pub(crate) changed_files: Vec<Name>,
}

/// The parts of the state that a configuration can change.
#[derive(Clone, Debug)]
pub(crate) struct ConfiguredState {
    observe: ObserveLayer,
    access_log: AccessLog,
    /// Whether the state may write an access log; false if it only validates a configuration.
    opens_files: bool,
    cache: Option<CacheStore>,
    /// The maximum size of the cache in memory, in bytes.
    cache_size: u64,
    disk: Option<DiskTier>,
    limits: HashMap<Name, (Shared<RateLimitSettings>, RateLimit)>,
    /// The authentication of clients, with the failures that are counted and the credentials that are verified.
    authentications: HashMap<SettingValues, Authentication>,
    /// The access settings of each site and route, and the values that they had when they were read.
    access: HashMap<Name, (Shared<AccessSettings>, SettingValues)>,
    /// The settings of the sites and routes with error pages.
    error_pages: HashMap<Name, Shared<ErrorPagesSettings>>,
    maintenance: SiteMaintenances,
    /// The open tunnels of each site and route.
    tunnels: HashMap<Name, TunnelCounts>,
    labels: HashMap<Name, SiteLabel>,
    sites: SiteNames,
    upstreams: Upstreams,
    /// The listeners, to which no upstream may lead.
    listeners: Arc<[ListenAddr]>,
}

/// The name of a site and the name of a route; the latter is empty for the site itself.
pub(crate) type Name = (String, String);

impl ProcessState {
    /// Opens the disk store of the cache and creates the state.
    pub(crate) fn open(config: &Config) -> Result<Self, StackError> {
        let disk =
            config.cache.disk.as_ref().map(|folder| DiskTier::open(folder, config.cache.disk_size)).transpose()?;
        Ok(Self::new(true, disk))
    }

    /// Creates a state for validating a configuration, without opening files.
    pub(crate) fn without_files() -> Self {
        Self::new(false, None)
    }

    fn new(opens_files: bool, disk: Option<DiskTier>) -> Self {
        let close_codes = CloseCodes::new();
        let codes = close_codes.clone();
        let ws_passthrough = WsPassthroughLayer::new().on_close(move |summary| codes.count(summary.close_code()));
        let configured = ConfiguredState {
            observe: ObserveLayer::new(Metrics::new(), None),
            access_log: AccessLog::Off,
            opens_files,
            cache: None,
            cache_size: 0,
            disk,
            limits: HashMap::new(),
            authentications: HashMap::new(),
            access: HashMap::new(),
            error_pages: HashMap::new(),
            maintenance: SiteMaintenances::default(),
            tunnels: HashMap::new(),
            labels: HashMap::new(),
            sites: SiteNames::default(),
            upstreams: Upstreams::default(),
            listeners: Arc::default(),
        };
        Self { ws_passthrough, close_codes, switches: Arc::default(), configured: Arc::new(Mutex::new(configured)) }
    }

    fn configured(&self) -> MutexGuard<'_, ConfiguredState> {
        self.configured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the metrics in which requests are recorded.
    pub(crate) fn metrics(&self) -> Metrics {
        self.configured().observe.metrics().clone()
    }

    /// Returns the writer of the access log, or `None` if the access log is off.
    pub(crate) fn access_log(&self) -> Option<Writer> {
        self.configured().observe.writer().cloned()
    }

    /// Returns the cache store, or `None` if the cache is off.
    pub(crate) fn cache(&self) -> Option<CacheStore> {
        self.configured().cache.clone()
    }

    /// Returns the hosts of the site that has this name or host.
    pub(crate) fn site(&self, name: &str) -> Option<SiteHosts> {
        self.configured().sites.hosts(name)
    }

    /// Returns the maintenance of all sites.
    pub(crate) fn maintenance(&self) -> SiteMaintenances {
        self.configured().maintenance.clone()
    }

    /// Returns the switches of upstreams.
    pub(crate) fn switches(&self) -> &Switches {
        &self.switches
    }

    /// Returns the upstreams to which sites and routes forward requests.
    pub(crate) fn switchable_upstreams(&self) -> Vec<SwitchableUpstream> {
        self.configured().upstreams.switchable()
    }

    /// Returns the upstream of a site, or of one of its routes. The site can be omitted if there is one upstream. Its name is
    /// the first of those of the upstream.
    pub(crate) fn switchable(&self, site: Option<&str>, route: &str) -> Result<SwitchableUpstream, SwitchError> {
        let configured = self.configured();
        let mut upstreams = configured.upstreams.switchable();
        let Some(site) = site else {
            return match upstreams.pop() {
                Some(alone) if upstreams.is_empty() && route.is_empty() => Ok(alone),
                _ => Err(SwitchError::Target("there is not exactly one upstream: name its site".to_owned())),
            };
        };
        let unknown = || SwitchError::Target(format!("unknown site {site:?}"));
        let name = (configured.sites.name(site).ok_or_else(unknown)?.to_owned(), route.to_owned());
        let mut found = upstreams.into_iter().find(|upstream| upstream.names.contains(&name)).ok_or_else(|| {
            let (site, route) = &name;
            SwitchError::Target(format!("site {site:?} has no upstream, or no route {route:?} with an upstream"))
        })?;
        let at = found.names.iter().position(|other| *other == name).unwrap_or(0);
        found.names.swap(0, at);
        Ok(found)
    }

    /// Replaces the backends of an upstream, unless a reload has removed it.
    pub(crate) fn replace_backends(
        &self,
        target: &SwitchableUpstream,
        backends: &[Backend],
    ) -> Result<RemovedBackends, SwitchError> {
        let replaced = self.configured().upstreams.replace_backends(target.backends.id(), backends);
        Ok(replaced.ok_or(SwitchError::Reloaded)??)
    }

    /// Returns whether a backend is a listener of this proxy.
    pub(crate) fn is_listener(&self, backend: &Backend) -> bool {
        self.configured().listeners.iter().any(|listener| is_reached_by(backend, listener))
    }

    /// Returns the counts of the open tunnels of a site or route.
    pub(crate) fn tunnel_counts(&self, name: &Name) -> Option<TunnelCounts> {
        self.configured().tunnels.get(name).cloned()
    }

    /// Returns the rate limits of all sites and routes, without duplicates.
    #[cfg(feature = "redis")]
    pub(crate) fn rate_limits(&self) -> Vec<RateLimit> {
        self.configured().limits.values().map(|(_, limit)| limit.clone()).collect()
    }

    /// Returns the labels of all current and former sites and routes, for metrics.
    pub(crate) fn labels(&self) -> Vec<SiteLabel> {
        self.configured().labels.values().cloned().collect()
    }

    /// Builds the stacks of all sites and routes, and changes the state accordingly. An error changes nothing.
    pub(crate) fn stack(&self, config: &Config) -> Result<Stack, StackError> {
        let PlannedStack { stack, configured, .. } = self.plan_stack(config)?;
        self.commit(configured);
        Ok(stack)
    }

    /// Changes the state to that of a planned stack, which is used from now on.
    pub(crate) fn commit(&self, configured: ConfiguredState) {
        let mut current = self.configured();
        configured.upstreams.log_switched(&current.upstreams);
        *current = configured;
    }

    /// Builds the stacks of all sites and routes with this state, which does not change yet.
    ///
    /// The new state keeps what `config` leaves as it is: counted requests, stored responses, the access log, the
    /// upstreams with their connections.
    pub(crate) fn plan_stack(&self, config: &Config) -> Result<PlannedStack, StackError> {
        let table = Arc::new(config.route_table()?);
        let has_sites = !config.sites.is_empty() || !config.default_routes.is_empty();
        let mut previous = self.configured().clone();
        previous.set_access_log(config.observe.access_log)?;
        previous.set_cache(config.configurations().any(|config| config.cache.enabled).then_some(config.cache.size));
        let mut builder = Builder {
            layers: Layers::new(self.ws_passthrough.clone()),
            previous_maintenance: previous.maintenance.by_site(),
            previous,
            limits: HashMap::new(),
            authentications: HashMap::new(),
            access: HashMap::new(),
            error_pages: HashMap::new(),
            maintenance: Vec::new(),
            tunnels: HashMap::new(),
            labels: Vec::new(),
            stacks: Vec::new(),
            upstreams: Upstreams::default(),
            system_files: SystemFiles::default(),
            backends: Vec::new(),
            index_by_id: HashMap::new(),
            names_by_settings: HashMap::new(),
            indices: Vec::new(),
            changed_files: Vec::new(),
        };
        let mut sites = vec![0];
        match config.has_default_site() {
            true => builder.add_site("default", config, &config.default_routes)?,
            false => {
                // The default site has its place in the table, without serving requests.
                drop(builder.add_maintenance("default", config));
                builder.add_rejecting(config)?;
            }
        }
        for site in &config.sites {
            sites.push(builder.stacks.len());
            builder.add_site(&site.name(), &site.config, &site.routes)?;
        }
        let mut rejecting = 0;
        if has_sites && config.has_default_site() {
            rejecting = builder.stacks.len();
            builder.add_rejecting(config)?;
        }
        let Builder { previous: mut configured, limits, tunnels, labels, stacks, upstreams, .. } = builder;
        let Builder { authentications, access, error_pages, maintenance, backends, indices, changed_files, .. } =
            builder;
        let named = labels.iter().map(|label| ((label.site().to_owned(), label.route().to_owned()), label.clone()));
        (configured.limits, configured.tunnels, configured.labels) = (limits, tunnels, named.collect());
        (configured.authentications, configured.access) = (authentications, access);
        configured.error_pages = error_pages;
        configured.upstreams = upstreams;
        let listeners = config.listeners().into_iter().chain(config.redirect_listeners());
        configured.listeners = listeners.chain(config.process.admin_listen.clone()).collect();
        configured.sites = SiteNames::new(Arc::clone(&table), site_names(config));
        configured.maintenance = SiteMaintenances::new(maintenance, configured.sites.clone());
        let stack = Stack {
            client_ip: config.client_ip.layer(),
            observe: configured.observe.clone(),
            routes: Routes {
                table,
                sites: sites.into(),
                stacks,
                backends: indices,
                labels: if has_sites { labels.into() } else { Arc::default() },
                rejecting,
            },
            backends,
        };
        Ok(PlannedStack { stack, configured, changed_files })
    }
}

/// Returns the index of each site in the table, by host name or, for the default site, by the name `default`.
fn site_names(config: &Config) -> Vec<(String, usize)> {
    let default = config.has_default_site().then(|| ("default".to_owned(), 0));
    let sites = config.sites.iter().zip(1..);
    let named = sites.flat_map(|(site, index)| site.hosts.iter().map(move |host| (host.to_string(), index)));
    default.into_iter().chain(named).collect()
}

impl ConfiguredState {
    /// Starts a new access log writer if the setting has changed.
    fn set_access_log(&mut self, setting: AccessLog) -> Result<(), StackError> {
        if self.access_log == setting || !self.opens_files {
            return Ok(());
        }
        let writer = || Writer::start(io::stdout()).map_err(StackError::AccessLog);
        let log = match setting {
            AccessLog::Off => None,
            AccessLog::Text if logging::has_colors(&io::stdout()) => Some((Format::ColoredText, writer()?)),
            AccessLog::Text => Some((Format::Text, writer()?)),
            AccessLog::Json => Some((Format::Json, writer()?)),
        };
        self.observe = self.observe.clone().with_access_log(log);
        self.access_log = setting;
        Ok(())
    }

    /// Creates a new memory store over the same disk store if the size has changed. The size is that of the process,
    /// and `None` if no site has a cache.
    fn set_cache(&mut self, size: Option<u64>) {
        let Some(size) = size else {
            self.cache = None;
            return;
        };
        if self.cache.is_none() || self.cache_size != size {
            let store = CacheStore::in_memory(size);
            self.cache = Some(match &self.disk {
                Some(disk) => store.with_tier(disk.clone()),
                None => store,
            });
            self.cache_size = size;
        }
    }
}

/// Builds the stacks one by one.
struct Builder {
    layers: Layers,
    /// The state before the reload, with the access log and the cache of the new configuration.
    previous: ConfiguredState,
    previous_maintenance: HashMap<String, SiteMaintenance>,
    limits: HashMap<Name, (Shared<RateLimitSettings>, RateLimit)>,
    authentications: HashMap<SettingValues, Authentication>,
    access: HashMap<Name, (Shared<AccessSettings>, SettingValues)>,
    error_pages: HashMap<Name, Shared<ErrorPagesSettings>>,
    /// The maintenance of each site, in the order of the table.
    maintenance: Vec<SiteMaintenance>,
    tunnels: HashMap<Name, TunnelCounts>,
    labels: Vec<SiteLabel>,
    stacks: Vec<SiteStack>,
    upstreams: Upstreams,
    system_files: SystemFiles,
    /// The backends of all stacks, without duplicates.
    backends: Vec<Backends>,
    /// The index of the backends by their identifier.
    index_by_id: HashMap<usize, usize>,
    /// The first site or route with each upstream, by the identifier of its settings.
    names_by_settings: HashMap<usize, Name>,
    /// The index of the backends, for each stack.
    indices: Vec<usize>,
    changed_files: Vec<Name>,
}

impl Builder {
    fn add_site(&mut self, name: &str, config: &Config, routes: &[RouteConfig]) -> Result<(), StackError> {
        let is_shared = |route: &&RouteConfig| have_same_values(&config.websocket, &route.config.websocket);
        // A route that changes no setting of WebSockets shares the limits of its site.
        let sharing = routes.iter().filter(is_shared).map(|route| route.route.to_string());
        let sharing = std::iter::once(String::new()).chain(sharing).filter(|_| config.websocket.has_limits());
        let sharing: Arc<[_]> = sharing.map(|route| self.tunnel_counts(name, &route)).collect();
        let maintenance = self.add_maintenance(name, config);
        self.add(name, "", config, None, Arc::clone(&sharing), &maintenance)?;
        for route in routes {
            let sharing = if is_shared(&route) { Arc::clone(&sharing) } else { Arc::default() };
            self.add(name, &route.route.to_string(), &route.config, Some(config), sharing, &maintenance)?;
        }
        Ok(())
    }

    /// Adds the stack that rejects unknown hosts and ambiguous paths.
    fn add_rejecting(&mut self, config: &Config) -> Result<(), StackError> {
        self.add(REJECTING, "", config, None, Arc::default(), &MaintenanceLayer::new(Maintenance::new()))
    }

    /// Adds the maintenance of a site, which keeps its state, and returns the layer.
    fn add_maintenance(&mut self, site: &str, config: &Config) -> MaintenanceLayer {
        let before = self.previous_maintenance.get(site);
        let maintenance = SiteMaintenance::new(site, config.maintenance.clone(), before);
        if before.is_some_and(|before| maintenance.has_changed_addresses(before)) {
            self.changed_files.push((site.to_owned(), String::new()));
        }
        let layer = maintenance.layer();
        self.maintenance.push(maintenance);
        layer
    }

    /// Adds the stack of a site or route. The limits of its WebSockets include those that `sharing` counts.
    fn add(
        &mut self,
        site: &str,
        route: &str,
        config: &Config,
        parent: Option<&Config>,
        sharing: Arc<[TunnelCounts]>,
        maintenance: &MaintenanceLayer,
    ) -> Result<(), StackError> {
        let handler = match &config.routing.redirect {
            _ if site == REJECTING => Handler::Reject(self.previous.observe.notices()),
            Some(target) => Handler::Redirect(Arc::new(target.clone())),
            None if config.is_demo() => Handler::ForwardToDemo,
            None => self.forward(config)?,
        };
        let tunnels = self.tunnel_counts(site, route);
        let stack = SiteStack {
            response_rules: config.header_rules.response.value().clone(),
            error_response: self.error_response(site, route, config),
            security_headers: self.layers.security_headers(config),
            address_filter: self.layers.address_filter(config),
            rate_limit: self.rate_limit(site, route, config, parent)?.map(|limit| limit.layer),
            guard: self.layers.guard(config),
            maintenance: maintenance.clone(),
            path_filter: self.layers.path_filter(config),
            ws_passthrough: self.layers.ws_passthrough(config).counts(tunnels).shared_limits(sharing),
            forward_headers: self.layers.forward_headers(config),
            authentication: self.authentication(site, route, config)?,
            client_certificate: self.layers.client_certificate(config),
            // An unknown host is rejected, not redirected.
            target_rules: self.layers.target_rules(config).filter(|_| site != REJECTING),
            request_rules: config.header_rules.request.value().clone(),
            cache: self.layers.cache(config, self.previous.cache.as_ref()),
            default_lifetime: config.cache.ttl.value().clone(),
            compression: config.compression.layer(),
            handler,
        };
        let is_used = match &stack.handler {
            Handler::Forward(_) => true,
            Handler::Files(_) => !config.serves_files_only(),
            Handler::ForwardToDemo | Handler::Redirect(_) | Handler::Reject(_) => false,
        };
        let backends = self.backends(site, route, config)?;
        if is_used {
            self.upstreams.set_used(&(site.to_owned(), route.to_owned()));
        }
        self.stacks.push(stack);
        self.indices.push(backends);
        let label = self.previous.labels.get(&(site.to_owned(), route.to_owned())).cloned();
        self.labels.push(label.unwrap_or_else(|| SiteLabel::new(site, route)));
        Ok(())
    }

    /// Returns the handler that forwards requests, and serves files if there are folders.
    fn forward(&mut self, config: &Config) -> Result<Handler, StackError> {
        let routing = config.routing.clone();
        if !config.static_files.has_folder() {
            return Ok(Handler::Forward(routing));
        }
        let (static_files, send_file) = (self.layers.static_files(config)?, self.layers.send_file(config)?);
        Ok(Handler::Files(Arc::new(Files { routing, static_files, send_file })))
    }

    /// Returns the layer that formats error responses, with the pages of the site or route.
    fn error_response(&mut self, site: &str, route: &str, config: &Config) -> ErrorResponseLayer {
        let settings = &config.error_pages;
        if settings.pages.is_some() {
            let name = (site.to_owned(), route.to_owned());
            if self.previous.error_pages.get(&name).is_some_and(|before| settings.has_changed_pages(before)) {
                self.changed_files.push(name.clone());
            }
            self.error_pages.insert(name, settings.clone());
        }
        settings.layer(config.path_filter.status == BlockedPathResponse::Close)
    }

    /// Returns the rate limit of a site or route. A route that changes none of its settings shares that of its site.
    fn rate_limit(
        &mut self,
        site: &str,
        route: &str,
        config: &Config,
        parent: Option<&Config>,
    ) -> Result<Option<RateLimit>, StackError> {
        if !config.rate_limit.enabled {
            return Ok(None);
        }
        let settings = &config.rate_limit;
        let is_shared =
            parent.is_some_and(|parent| parent.rate_limit.enabled && have_same_values(&parent.rate_limit, settings));
        let name = (site.to_owned(), if is_shared { String::new() } else { route.to_owned() });
        if let Some((_, limit)) = self.limits.get(&name) {
            return Ok(Some(limit.clone()));
        }
        // A reload keeps what has been counted, unless a setting has changed.
        let previous = self.previous.limits.get(&name).filter(|(before, _)| have_same_values(before, settings));
        let limit = match previous {
            Some((_, limit)) => limit.clone(),
            None => settings.build()?,
        };
        self.limits.insert(name, (settings.clone(), limit.clone()));
        Ok(Some(limit))
    }

    /// Returns the authentication of clients, if any. Sites and routes with the same settings and files share it, also with
    /// those of the previous configuration.
    fn authentication(
        &mut self,
        site: &str,
        route: &str,
        config: &Config,
    ) -> Result<Option<Authentication>, StackError> {
        let settings = &config.access;
        if !settings.is_restricted() {
            return Ok(None);
        }
        let values = SettingValues::of(&**settings);
        let name = (site.to_owned(), route.to_owned());
        if let Some((before, values_before)) = self.previous.access.get(&name)
            && values.has_same_text(values_before)
            && (values != *values_before || !settings.has_same_addresses(before))
        {
            self.changed_files.push(name.clone());
        }
        self.access.insert(name, (settings.clone(), values));
        // Unknown hosts are rejected for all clients.
        if !settings.has_authentication() || site == REJECTING {
            return Ok(None);
        }
        let values = SettingValues::of(&settings.without_addresses());
        let previous = self.authentications.get(&values).or_else(|| self.previous.authentications.get(&values));
        let authentication = match previous {
            Some(previous) => previous.clone(),
            None => settings.authentication()?,
        };
        self.authentications.insert(values, authentication.clone());
        Ok(Some(authentication))
    }

    /// Returns the counts of the tunnels of a site or route, which include those that are open.
    fn tunnel_counts(&mut self, site: &str, route: &str) -> TunnelCounts {
        let name = (site.to_owned(), route.to_owned());
        let previous = || self.previous.tunnels.get(&name).cloned().unwrap_or_default();
        self.tunnels.entry(name.clone()).or_insert_with(previous).clone()
    }

    /// Returns the index of the backends of a site or route. Equal settings share them, with their connections, also
    /// those of the previous configuration.
    fn backends(&mut self, site: &str, route: &str, config: &Config) -> Result<usize, StackError> {
        let name = (site.to_owned(), route.to_owned());
        let previous = &self.previous.upstreams;
        let shared = self.names_by_settings.get(&config.upstream.id());
        let backends = match shared.and_then(|other| self.upstreams.share(name.clone(), other)) {
            Some(backends) => backends,
            None => self.upstreams.add(name.clone(), &config.upstream, previous, &self.system_files)?,
        };
        self.names_by_settings.entry(config.upstream.id()).or_insert_with(|| name.clone());
        if self.upstreams.has_changed_files(&name, previous) {
            self.changed_files.push(name);
        }
        let index = *self.index_by_id.entry(backends.id()).or_insert(self.backends.len());
        if index == self.backends.len() {
            self.backends.push(backends);
        }
        Ok(index)
    }
}

/// The name of the stack that rejects unknown hosts and ambiguous paths.
const REJECTING: &str = "none";

/// Returns whether all settings of a concern have the same values.
fn have_same_values<S>(one: &Shared<S>, other: &Shared<S>) -> bool
where
    S: Settings,
{
    one.id() == other.id() || SettingValues::of(&**one) == SettingValues::of(&**other)
}
