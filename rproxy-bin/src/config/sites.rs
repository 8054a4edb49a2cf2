//! Declarations of sites and routes, and the configuration of each site and route.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use rproxy_router::{HostPattern, Route, RouteTable, RouterError};

use super::error::{Problem, SettingLocation};
use super::source::{Assignment, ValueSource};
use super::{Config, rules, settings, strip_prefix};
use crate::layers::{RateLimitSettings, UpstreamSettings};
use crate::values::routes::{RouteEntry, RouteTarget};
use crate::values::tls_name::TlsName;
use crate::values::value::list;

/// The configuration of a site: its hosts, settings and routes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SiteConfig {
    /// The host patterns of the site, at least one.
    pub hosts: Vec<HostPattern>,
    /// The settings of the process, overridden by the settings of the site.
    pub config: Config,
    /// The routes of the site.
    pub routes: Vec<RouteConfig>,
}

/// The configuration of a route: the requests that it matches, and its settings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RouteConfig {
    /// The paths and methods that the route matches.
    pub route: Route,
    /// The settings of the process, overridden by the settings of the site and then of the route.
    pub config: Config,
}

impl SiteConfig {
    /// Creates a site without routes.
    pub fn new(hosts: Vec<HostPattern>, config: Config) -> Self {
        let mut site = Self { hosts, config, routes: Vec::new() };
        let name = site.name();
        RateLimitSettings::name_site(&mut site.config.rate_limit, &name);
        site
    }

    /// Returns the name of the site in logs and metrics, which is its first host.
    pub fn name(&self) -> String {
        self.hosts.first().map(ToString::to_string).unwrap_or_default()
    }
}

impl RouteConfig {
    /// Creates a route with its configuration, which is a changed copy of that of its site.
    pub fn new(route: Route, mut config: Config) -> Self {
        RateLimitSettings::name_route(&mut config.rate_limit, &route.to_string());
        Self { route, config }
    }
}

/// The settings, sites and routes that all sources declare.
#[derive(Default)]
pub(super) struct Declarations {
    /// The settings at the top level, which are the defaults of all sites.
    pub(super) assignments: Vec<Assignment>,
    pub(super) routes: Vec<RouteDeclaration>,
    pub(super) sites: Vec<SiteDeclaration>,
}

pub(super) struct SiteDeclaration {
    pub(super) source: ValueSource,
    pub(super) hosts: Option<(String, SettingLocation)>,
    pub(super) assignments: Vec<Assignment>,
    pub(super) routes: Vec<RouteDeclaration>,
}

pub(super) struct RouteDeclaration {
    pub(super) source: ValueSource,
    pub(super) paths: Option<(String, SettingLocation)>,
    pub(super) methods: Option<(String, SettingLocation)>,
    pub(super) assignments: Vec<Assignment>,
}

/// The default of `upstream_hold` with `command`.
const APPLICATION_HOLD: Duration = Duration::from_secs(30);
const HOSTS: &str = "comma-separated host names, addresses or wildcards: example.org, *.example.org";
const PATHS: &str = "comma-separated paths or globs: /login, /api/**";
const METHODS: &str = "comma-separated methods: GET, POST";

impl Config {
    /// Returns whether a default site serves the hosts that no configured site has. This is the case if there are no
    /// sites, or if `upstream`, `root`, `redirect` or routes are set at the top level.
    pub fn has_default_site(&self) -> bool {
        let is_set = |key| self.value_source(key) != ValueSource::Default;
        let is_default = ["upstream", "root", "redirect"].into_iter().any(is_set);
        self.sites.is_empty() || is_default || !self.default_routes.is_empty()
    }

    /// Returns whether requests without a file are rejected: a root is set, and no upstream.
    pub(crate) fn serves_files_only(&self) -> bool {
        // Backends that were set in code have no source.
        let is_default = || self.upstream.backends == UpstreamSettings::default().backends;
        self.static_files.root.is_some() && self.value_source("upstream") == ValueSource::Default && is_default()
    }

    /// Returns the location of the `redirect` that makes the configured `upstream` unused.
    ///
    /// At the top level, sites and routes without the redirect can use the upstream. A redirect from the environment or
    /// the command line overrides an upstream of the file.
    pub(super) fn overriding_redirect(&self) -> Option<String> {
        let (upstream, redirect) = (self.value_source("upstream"), self.value_source("redirect"));
        let is_of_file = |source: &ValueSource| matches!(source, ValueSource::File { .. });
        let is_unused = self.routing.redirect.is_some()
            && upstream != ValueSource::Default
            && redirect != ValueSource::Default
            && (is_of_file(&redirect) || !is_of_file(&upstream))
            && self.sites.is_empty()
            && self.default_routes.is_empty();
        is_unused.then(|| redirect.locate("redirect").to_string())
    }

    /// Returns a warning for each site that forwards requests to the default upstream.
    pub(super) fn default_upstream_warnings(&self) -> impl Iterator<Item = String> {
        let upstream = settings::find("upstream").and_then(|setting| self.show(setting)).unwrap_or_default();
        let default = ("the default site".to_owned(), self, &self.default_routes);
        let default = (!self.default_routes.is_empty()).then_some(default);
        let sites = self.sites.iter().map(|site| (format!("site {}", site.name()), &site.config, &site.routes));
        let is_defaulted = |config: &Self| {
            config.value_source("upstream") == ValueSource::Default
                && config.routing.redirect.is_none()
                && config.static_files.root.is_none()
        };
        default.into_iter().chain(sites).filter_map(move |(name, config, routes)| {
            let matches_all = |route: &RouteConfig| {
                route.route.methods().is_empty() && route.route.paths().iter().any(|path| path == "/**")
            };
            let own = is_defaulted(config) && !routes.iter().any(matches_all);
            let is_affected = own || routes.iter().any(|route| is_defaulted(&route.config));
            is_affected.then(|| format!("{name} has no upstream and forwards requests to the default, {upstream}"))
        })
    }

    /// Returns this configuration without its sites and routes.
    pub(crate) fn without_sites(&self) -> Self {
        let mut config = self.clone();
        (config.sites, config.default_routes) = (Vec::new(), Vec::new());
        config
    }

    /// Returns the configurations of all sites and routes, the default site first.
    pub(crate) fn configurations(&self) -> impl Iterator<Item = &Self> {
        self.named_configurations().map(|(_, config)| config)
    }

    /// Returns each configuration with the names of its site and route; the route name is empty for a site.
    pub(crate) fn named_configurations(&self) -> impl Iterator<Item = ((String, String), &Self)> {
        let default = std::iter::once(("default".to_owned(), self, &self.default_routes));
        let sites = self.sites.iter().map(|site| (site.name(), &site.config, &site.routes));
        default.chain(sites).flat_map(|(site, config, routes)| {
            let name = site.clone();
            let routes = routes.iter().map(move |route| ((site.clone(), route.route.to_string()), &route.config));
            std::iter::once(((name, String::new()), config)).chain(routes)
        })
    }

    /// Returns the table that maps hosts and paths to sites and routes. Site 0 has the settings at the top level and no
    /// host; it is the default site if there is one. The other sites follow in their order.
    ///
    /// # Errors
    ///
    /// Returns an error for a duplicate host or route.
    pub fn route_table(&self) -> Result<RouteTable, RouterError> {
        let mut table = RouteTable::new();
        let default = table.add_site();
        if self.has_default_site() {
            table.set_default(default)?;
        }
        for route in &self.default_routes {
            table.add_route(default, &route.route)?;
        }
        for site in &self.sites {
            let index = table.add_site();
            site.hosts.iter().try_for_each(|host| table.add_host(index, host))?;
            for route in &site.routes {
                table.add_route(index, &route.route)?;
            }
        }
        Ok(table)
    }

    /// Adds the declared sites and routes to the configuration.
    pub(super) fn add_sites(&mut self, mut declarations: Declarations, problems: &mut Vec<Problem>) {
        let source = self.value_source("routes");
        for entry in self.routing.routes.iter() {
            declarations.add(entry, &source);
        }
        let base = self.clone();
        let mut table = RouteTable::new();
        let default = table.add_site();
        self.default_routes = base.routes(declarations.routes, &mut table, default, problems);
        for declared in declarations.sites {
            let index = table.add_site();
            let hosts = declared.hosts(&mut table, index, problems);
            let config = base.with(declared.assignments, problems);
            let mut site = SiteConfig::new(hosts, config);
            site.routes = site.config.routes(declared.routes, &mut table, index, problems);
            self.sites.push(site);
        }
        let routes = self.sites.iter().flat_map(|site| &site.routes).chain(&self.default_routes);
        let own = self.sites.iter().map(|site| &site.config).chain(routes.map(|route| &route.config));
        let more: Vec<String> = own.flat_map(|config| config.deprecations.iter().cloned()).collect();
        for warning in more {
            if !self.deprecations.contains(&warning) {
                self.deprecations.push(warning);
            }
        }
        self.derive_certificate_names();
    }

    /// Returns a copy of this configuration with additional settings.
    fn with(&self, assignments: Vec<Assignment>, problems: &mut Vec<Problem>) -> Self {
        let mut config = self.clone();
        let keys: BTreeSet<&str> = assignments.iter().map(|assignment| assignment.setting.key).collect();
        let mut doubtful = BTreeSet::new();
        config.assign(assignments, &mut doubtful, problems);
        config.hold_for_application();
        rules::check(&config, &doubtful, Some(&keys), problems);
        config
    }

    /// Lets requests wait while the application that rproxy starts is not reachable, unless `upstream_hold` is set.
    pub(super) fn hold_for_application(&mut self) {
        if self.application.command.is_some() && self.value_source("upstream_hold") == ValueSource::Default {
            self.upstream.hold = APPLICATION_HOLD;
        }
    }

    fn routes(
        &self,
        declared: Vec<RouteDeclaration>,
        table: &mut RouteTable,
        site: usize,
        problems: &mut Vec<Problem>,
    ) -> Vec<RouteConfig> {
        let mut routes = Vec::new();
        for declared in declared {
            let route = declared.route(problems);
            if let Err(error) = table.add_route(site, &route) {
                let location = match &declared.paths {
                    Some((_, location)) => location.clone(),
                    None => declared.source.locate("paths"),
                };
                problems.push(Problem::Conflict { location, reason: error.to_string() });
            }
            let config = self.with(declared.assignments, problems);
            // A redirect forwards nothing.
            let prefix = config.routing.strip_prefix.as_deref().filter(|_| config.routing.redirect.is_none());
            if let Some(reason) = prefix.and_then(|prefix| strip_prefix::conflict(&route, prefix)) {
                let location = config.value_source("strip_prefix").locate("strip_prefix");
                problems.push(Problem::Conflict { location, reason });
            }
            routes.push(RouteConfig::new(route, config));
        }
        routes
    }

    /// Adds the hosts and the certificate files of all sites to the TLS settings of the process.
    fn derive_certificate_names(&mut self) {
        let mut names: Vec<TlsName> = Vec::new();
        for site in &self.sites {
            if site.config.value_source("tls_cert") != self.value_source("tls_cert") {
                self.tls.cert.extend(site.config.tls.cert.iter().cloned());
                self.tls.key.extend(site.config.tls.key.iter().cloned());
                continue;
            }
            // ACME with TLS-ALPN-01 does not issue wildcard certificates.
            let hosts = site.hosts.iter().filter(|host| self.tls.local || !host.is_wildcard());
            names.extend(hosts.filter_map(|host| host.to_string().parse().ok()));
        }
        let is_set = |key| self.value_source(key) != ValueSource::Default;
        if !is_set("tls_domains") && (is_set("tls_email") || self.tls.local) {
            self.tls.domains = names;
        }
    }
}

impl Declarations {
    /// Adds one entry of the `routes` setting to the declarations.
    fn add(&mut self, entry: &RouteEntry, source: &ValueSource) {
        let (key, text) = match &entry.target {
            RouteTarget::Upstream(backends) => ("upstream", backends),
            RouteTarget::Redirect(url) => ("redirect", url),
        };
        let setting = settings::find(key);
        let assignment = setting.map(|setting| Assignment {
            setting,
            key: setting.key.to_owned(),
            text: text.clone(),
            source: source.clone(),
        });
        let assignments: Vec<Assignment> = assignment.into_iter().collect();
        let route = |path: &String, assignments| RouteDeclaration {
            source: source.clone(),
            paths: Some((path.clone(), source.locate("routes"))),
            methods: None,
            assignments,
        };
        let Some(host) = &entry.host else {
            self.routes.extend(entry.path.as_ref().map(|path| route(path, assignments)));
            return;
        };
        let name = host.to_string();
        let has_host = |site: &&mut SiteDeclaration| {
            let hosts = site.hosts.as_ref().map_or("", |(hosts, _)| hosts);
            hosts.split(',').any(|other| other.trim().eq_ignore_ascii_case(&name))
        };
        match (self.sites.iter_mut().find(has_host), &entry.path) {
            (Some(site), Some(path)) => site.routes.push(route(path, assignments)),
            // The setting overrides the file, and the table reports duplicate hosts.
            (Some(site), None) if site.source != *source => site.assignments.extend(assignments),
            (Some(site), None) if !site.assignments.iter().any(|other| other.setting.key == key) => {
                site.assignments.extend(assignments);
            }
            (_, path) => {
                let (own, routes) = match path {
                    Some(path) => (Vec::new(), vec![route(path, assignments)]),
                    None => (assignments, Vec::new()),
                };
                let hosts = Some((name, source.locate("routes")));
                self.sites.push(SiteDeclaration { source: source.clone(), hosts, assignments: own, routes });
            }
        }
    }
}

impl SiteDeclaration {
    fn hosts(&self, table: &mut RouteTable, site: usize, problems: &mut Vec<Problem>) -> Vec<HostPattern> {
        let Some((text, location)) = &self.hosts else {
            let reason = "requires the hosts of the site: hosts = [\"example.org\"]".to_owned();
            problems.push(Problem::Conflict { location: self.source.locate("site"), reason });
            return Vec::new();
        };
        match list(text, str::parse::<HostPattern>) {
            Ok(hosts) if hosts.is_empty() => {
                let reason = "empty".to_owned();
                problems.push(Problem::BadValue { location: location.clone(), reason, accepted: HOSTS });
                hosts
            }
            Ok(hosts) => {
                for host in &hosts {
                    // The names of these sites in the state, in logs and in metrics.
                    if matches!(host.to_string().as_str(), "default" | "none") {
                        let reason = format!("{host} is the name of a site of the proxy itself; use a name with a dot");
                        problems.push(Problem::Conflict { location: location.clone(), reason });
                    }
                    if let Err(error) = table.add_host(site, host) {
                        problems.push(Problem::Conflict { location: location.clone(), reason: error.to_string() });
                    }
                }
                hosts
            }
            Err(error) => {
                let reason = error.to_string();
                problems.push(Problem::BadValue { location: location.clone(), reason, accepted: HOSTS });
                Vec::new()
            }
        }
    }
}

impl RouteDeclaration {
    fn route(&self, problems: &mut Vec<Problem>) -> Route {
        let mut route = Route::new();
        match &self.paths {
            Some((text, location)) => {
                let paths = split_globs(text);
                if paths.is_empty() {
                    let (location, reason) = (location.clone(), "empty".to_owned());
                    problems.push(Problem::BadValue { location, reason, accepted: PATHS });
                }
                route = paths.into_iter().fold(route, Route::path);
            }
            // A route with methods only matches every path.
            None if self.methods.is_some() => route = route.path("/**"),
            None => {
                let reason = "requires the paths of the route: paths = [\"/api/**\"]".to_owned();
                problems.push(Problem::Conflict { location: self.source.locate("route"), reason });
                route = route.path("/**");
            }
        }
        if let Some((text, location)) = &self.methods {
            let method = |text: &str| text.to_ascii_uppercase().parse::<Method>();
            match list(text, method) {
                Ok(methods) => route = methods.into_iter().fold(route, Route::method),
                Err(_) => {
                    let (location, reason) = (location.clone(), format!("bad method in {text:?}"));
                    problems.push(Problem::BadValue { location, reason, accepted: METHODS });
                }
            }
        }
        route
    }
}

/// Splits a list of globs at commas that are not inside braces.
fn split_globs(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let globs = text.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    globs.map(str::trim).filter(|glob| !glob.is_empty()).collect()
}
