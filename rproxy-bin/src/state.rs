//! The state that survives a reload: counters, stored responses, limits and open connections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rproxy_cache::{CacheStore, DiskTier};
use rproxy_upstream::Backends;
use rproxy_ws_passthrough::{TunnelCounts, WsPassthroughLayer};

use self::layers::Layers;
use crate::close_codes::CloseCodes;
use crate::config::{AccessLog, BlockedPathResponse, Config, RouteConfig, Shared};
use crate::edge::{Routes, Stack};
use crate::error_response::{ErrorHooks, ErrorResponseLayer};
use crate::layers::rate_limit::RateLimit;
use crate::layers::{RateLimitSettings, StackError};
use crate::logging;
use crate::observe::{Format, Metrics, ObserveLayer, SiteLabel, Writer};
use crate::setting::Settings;
use crate::site::{Handler, SiteHosts, SiteNames, SiteStack};

mod layers;

/// The state of the process that survives a reload.
#[derive(Clone, Debug)]
pub(crate) struct ProcessState {
    pub(crate) ws_passthrough: WsPassthroughLayer,
    pub(crate) close_codes: CloseCodes,
    kept: Arc<Mutex<Kept>>,
}

/// The stacks of a configuration, and the state that they need.
pub(crate) struct PlannedStack {
    pub(crate) stack: Stack,
    pub(crate) kept: Kept,
}

/// The parts of the state that a configuration can change.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    observe: ObserveLayer,
    access_log: AccessLog,
    /// Whether the state may write an access log; false if it only validates a configuration.
    opens_files: bool,
    cache: Option<CacheStore>,
    /// The maximum size of the cache in memory, in bytes.
    cache_size: u64,
    disk: Option<DiskTier>,
    limits: HashMap<Name, (Shared<RateLimitSettings>, RateLimit)>,
    tunnels: HashMap<Name, TunnelCounts>,
    labels: HashMap<Name, SiteLabel>,
    sites: SiteNames,
}

/// The name of a site and the name of a route; the latter is empty for the site itself.
type Name = (String, String);

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
        let kept = Kept {
            observe: ObserveLayer::new(Metrics::new(), None),
            access_log: AccessLog::Off,
            opens_files,
            cache: None,
            cache_size: 0,
            disk,
            limits: HashMap::new(),
            tunnels: HashMap::new(),
            labels: HashMap::new(),
            sites: SiteNames::default(),
        };
        Self { ws_passthrough, close_codes, kept: Arc::new(Mutex::new(kept)) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the metrics in which requests are recorded.
    pub(crate) fn metrics(&self) -> Metrics {
        self.kept().observe.metrics().clone()
    }

    /// Returns the writer of the access log, or `None` if the access log is off.
    pub(crate) fn access_log(&self) -> Option<Writer> {
        self.kept().observe.writer().cloned()
    }

    /// Returns the cache store, or `None` if the cache is off.
    pub(crate) fn cache(&self) -> Option<CacheStore> {
        self.kept().cache.clone()
    }

    /// Returns the hosts of the site that has this name or host.
    pub(crate) fn site(&self, name: &str) -> Option<SiteHosts> {
        self.kept().sites.hosts(name)
    }

    /// Returns the rate limits of all sites and routes, without duplicates.
    #[cfg(feature = "redis")]
    pub(crate) fn rate_limits(&self) -> Vec<RateLimit> {
        self.kept().limits.values().map(|(_, limit)| limit.clone()).collect()
    }

    /// Returns the labels of all current and former sites and routes, for metrics.
    pub(crate) fn labels(&self) -> Vec<SiteLabel> {
        self.kept().labels.values().cloned().collect()
    }

    /// Builds the stacks of all sites and routes, and changes the state accordingly. An error changes nothing.
    pub(crate) fn stack(&self, config: &Config) -> Result<Stack, StackError> {
        let PlannedStack { stack, kept } = self.plan_stack(config)?;
        self.commit(kept);
        Ok(stack)
    }

    /// Changes the state to that of a planned stack, which is used from now on.
    pub(crate) fn commit(&self, kept: Kept) {
        *self.kept() = kept;
    }

    /// Builds the stacks of all sites and routes with this state, which does not change yet.
    ///
    /// The new state keeps what `config` leaves as it is: counted requests, stored responses, the access log.
    pub(crate) fn plan_stack(&self, config: &Config) -> Result<PlannedStack, StackError> {
        let table = Arc::new(config.route_table()?);
        let has_sites = !config.sites.is_empty() || !config.default_routes.is_empty();
        let mut kept = self.kept().clone();
        kept.set_access_log(config.observe.access_log)?;
        kept.set_cache(config.configurations().any(|config| config.cache.enabled).then_some(config.cache.size));
        let mut builder = Builder {
            layers: Layers::new(self.ws_passthrough.clone()),
            kept,
            limits: HashMap::new(),
            tunnels: HashMap::new(),
            labels: Vec::new(),
            stacks: Vec::new(),
            backends: Vec::new(),
            backends_by_settings: HashMap::new(),
            indices: Vec::new(),
        };
        let mut sites = vec![0];
        match config.has_default_site() {
            true => builder.add_site("default", config, &config.default_routes)?,
            false => builder.add("none", "", config, None, true)?,
        }
        for site in &config.sites {
            sites.push(builder.stacks.len());
            builder.add_site(&site.name(), &site.config, &site.routes)?;
        }
        let mut rejecting = 0;
        if has_sites && config.has_default_site() {
            rejecting = builder.stacks.len();
            builder.add("none", "", config, None, true)?;
        }
        let Builder { mut kept, limits, tunnels, labels, stacks, backends, indices, .. } = builder;
        let named = labels.iter().map(|label| ((label.site().to_owned(), label.route().to_owned()), label.clone()));
        (kept.limits, kept.tunnels, kept.labels) = (limits, tunnels, named.collect());
        kept.sites = SiteNames::new(Arc::clone(&table), site_names(config));
        let stack = Stack {
            client_ip: config.client_ip.layer(),
            observe: kept.observe.clone(),
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
        Ok(PlannedStack { stack, kept })
    }
}

/// Returns the index of each site in the table, by host name or, for the default site, by the name `default`.
fn site_names(config: &Config) -> Vec<(String, usize)> {
    let default = config.has_default_site().then(|| ("default".to_owned(), 0));
    let sites = config.sites.iter().zip(1..);
    let named = sites.flat_map(|(site, index)| site.hosts.iter().map(move |host| (host.to_string(), index)));
    default.into_iter().chain(named).collect()
}

impl Kept {
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
    /// The state before the reload.
    kept: Kept,
    limits: HashMap<Name, (Shared<RateLimitSettings>, RateLimit)>,
    tunnels: HashMap<Name, TunnelCounts>,
    labels: Vec<SiteLabel>,
    stacks: Vec<SiteStack>,
    backends: Vec<Backends>,
    /// The index of backends by the values of the settings that they are built from.
    backends_by_settings: HashMap<Vec<Option<String>>, usize>,
    /// The index of the backends, for each stack.
    indices: Vec<usize>,
}

impl Builder {
    fn add_site(&mut self, name: &str, config: &Config, routes: &[RouteConfig]) -> Result<(), StackError> {
        self.add(name, "", config, None, false)?;
        for route in routes {
            self.add(name, &route.route.to_string(), &route.config, Some(config), false)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        site: &str,
        route: &str,
        config: &Config,
        parent: Option<&Config>,
        is_rejecting: bool,
    ) -> Result<(), StackError> {
        let handler = match &config.routing.redirect {
            _ if is_rejecting => Handler::Reject(self.kept.observe.notices()),
            Some(target) => Handler::Redirect(Arc::new(target.clone())),
            None if config.is_demo() => Handler::ForwardToDemo,
            None => Handler::Forward { strip_prefix: config.routing.strip_prefix.clone() },
        };
        let tunnels = self.tunnel_counts(site, route, config, parent);
        let stack = SiteStack {
            error_response: ErrorResponseLayer::with_hooks(
                ErrorHooks::default().close_on_blocked_path(config.path_filter.status == BlockedPathResponse::Close),
            ),
            security_headers: self.layers.security_headers(config),
            rate_limit: self.rate_limit(site, route, config, parent)?.map(|limit| limit.layer),
            guard: self.layers.guard(config),
            path_filter: self.layers.path_filter(config),
            ws_passthrough: self.layers.ws_passthrough(config, tunnels),
            forward_headers: self.layers.forward_headers(config),
            client_certificate: self.layers.client_certificate(config),
            cache: self.layers.cache(config, self.kept.cache.as_ref()),
            compression: config.compression.layer(),
            handler,
        };
        let backends = self.backends(config)?;
        self.stacks.push(stack);
        self.indices.push(backends);
        let label = self.kept.labels.get(&(site.to_owned(), route.to_owned())).cloned();
        self.labels.push(label.unwrap_or_else(|| SiteLabel::new(site, route)));
        Ok(())
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
        let kept = self.kept.limits.get(&name).filter(|(before, _)| have_same_values(before, settings));
        let limit = match kept {
            Some((_, limit)) => limit.clone(),
            None => settings.build()?,
        };
        self.limits.insert(name, (settings.clone(), limit.clone()));
        Ok(Some(limit))
    }

    /// Returns the numbers of tunnels that the limits of a site or route apply to, if it has limits. A route that changes no
    /// setting of WebSockets shares those of its site.
    fn tunnel_counts(
        &mut self,
        site: &str,
        route: &str,
        config: &Config,
        parent: Option<&Config>,
    ) -> Option<TunnelCounts> {
        if !config.websocket.has_limits() {
            return None;
        }
        let is_shared = parent.is_some_and(|parent| have_same_values(&parent.websocket, &config.websocket));
        let name = (site.to_owned(), if is_shared { String::new() } else { route.to_owned() });
        // Tunnels survive a reload, even one that changes a limit.
        let kept = self.kept.tunnels.get(&name).cloned().unwrap_or_default();
        Some(self.tunnels.entry(name).or_insert(kept).clone())
    }

    /// Returns the index of the backends of a site or route. Equal settings share them, with their connections.
    fn backends(&mut self, config: &Config) -> Result<usize, StackError> {
        match self.backends_by_settings.entry(shown(&*config.upstream)) {
            Entry::Occupied(index) => Ok(*index.get()),
            Entry::Vacant(vacant) => {
                self.backends.push(config.upstream.build()?);
                Ok(*vacant.insert(self.backends.len() - 1))
            }
        }
    }
}

/// Returns whether all settings of a concern have the same values.
fn have_same_values<S>(one: &Shared<S>, other: &Shared<S>) -> bool
where
    S: Settings,
{
    one.id() == other.id() || shown(&**one) == shown(&**other)
}

/// Returns the values of the settings of a concern, as they are shown.
fn shown<S>(settings: &S) -> Vec<Option<String>>
where
    S: Settings,
{
    S::ENTRIES.iter().map(|entry| (entry.show)(settings)).collect()
}
