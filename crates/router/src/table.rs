//! A table for the lookup of the site and the route of a request.

use std::collections::HashMap;
use std::fmt;

use http::Method;
use rproxy_core::path::Decodings;

use crate::error::RouterError;
use crate::host::{HostPattern, parent};
use crate::pattern::{PathPattern, comparable};

/// The conditions of a route: path patterns, and optionally methods.
///
/// ```
/// use http::Method;
/// use rproxy_router::Route;
///
/// let login = Route::new().path("/login").path("/accounts/login").method(Method::POST);
/// # let _ = login;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Route {
    paths: Vec<String>,
    methods: Vec<Method>,
}

impl Route {
    /// Creates a route without a path; at least one path must be added.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a path pattern to the route.
    pub fn path(mut self, pattern: impl Into<String>) -> Self {
        self.paths.push(pattern.into());
        self
    }

    /// Returns the path patterns of the route.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Returns the methods of the route, or an empty slice if the route matches every method.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// Adds a method to the route. `GET` matches `HEAD` as well. The default is every method.
    pub fn method(mut self, method: Method) -> Self {
        self.methods.push(method);
        self
    }
}

/// Formats the route as `/api/**` or `POST /login`, with commas between several paths or methods.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.methods.is_empty() {
            let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
            write!(f, "{} ", methods.join(","))?;
        }
        f.write_str(&self.paths.join(","))
    }
}

/// The site and the route of a request, as indices in the order of their addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// The host belongs to a site, and the path matches at most one route of the site.
    Route {
        /// The index of the selected site.
        site: usize,
        /// The index of the selected route within the site, or `None` if no route matches.
        route: Option<usize>,
    },
    /// The host belongs to no site, and no default site is set.
    UnknownHost,
    /// Different servers could resolve the path to different routes of the site.
    AmbiguousPath {
        /// The index of the selected site.
        site: usize,
    },
}

/// A lookup table of hosts and routes.
///
/// Finding a site costs one or two hash look-ups for any number of sites. Finding a route compares the path with the
/// patterns of the site in turn, the most specific first.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    hosts: HashMap<Box<str>, usize>,
    /// The sites with a wildcard host, by the name after `*.`.
    wildcards: HashMap<Box<str>, usize>,
    default: Option<usize>,
    sites: Vec<Site>,
}

#[derive(Clone, Debug, Default)]
struct Site {
    /// The path patterns of the site, with the most specific pattern first.
    patterns: Vec<Pattern>,
    routes: usize,
}

#[derive(Clone, Debug)]
struct Pattern {
    path: PathPattern,
    /// The methods to which the pattern applies, or an empty list for all methods.
    methods: Vec<Method>,
    route: usize,
}

impl RouteTable {
    /// Creates an empty route table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a site without hosts, and returns the index of the site.
    pub fn add_site(&mut self) -> usize {
        self.sites.push(Site::default());
        self.sites.len() - 1
    }

    /// Assigns a host to a site.
    ///
    /// # Errors
    ///
    /// Returns an error if another site has the host.
    ///
    /// # Panics
    ///
    /// Panics if there is no such site.
    pub fn add_host(&mut self, site: usize, host: &HostPattern) -> Result<(), RouterError> {
        assert!(site < self.sites.len(), "no site has the index {site}");
        let hosts = if host.is_wildcard() { &mut self.wildcards } else { &mut self.hosts };
        match hosts.insert(host.name().into(), site) {
            Some(other) if other != site => Err(RouterError::DuplicateHost(host.to_string())),
            _ => Ok(()),
        }
    }

    /// Sets the site for hosts that belong to no other site.
    ///
    /// # Errors
    ///
    /// Returns an error if another site is the default.
    ///
    /// # Panics
    ///
    /// Panics if there is no such site.
    pub fn set_default(&mut self, site: usize) -> Result<(), RouterError> {
        assert!(site < self.sites.len(), "no site has the index {site}");
        match self.default.replace(site) {
            Some(other) if other != site => Err(RouterError::DuplicateDefault),
            _ => Ok(()),
        }
    }

    /// Adds a route to a site, and returns the index of the route within the site.
    ///
    /// # Errors
    ///
    /// Returns an error if a path pattern is malformed, if there is none, or if another route of the site has the same
    /// pattern for the same method.
    ///
    /// # Panics
    ///
    /// Panics if there is no such site.
    pub fn add_route(&mut self, site: usize, route: &Route) -> Result<usize, RouterError> {
        let site = &mut self.sites[site];
        let index = site.routes;
        if route.paths.is_empty() {
            return Err(RouterError::NoPath);
        }
        for text in &route.paths {
            let path = PathPattern::parse(text)?;
            let same = |other: &&Pattern| other.path.text() == path.text();
            for other in site.patterns.iter().filter(same) {
                let shared = route.methods.iter().find(|method| other.methods.contains(method));
                if shared.is_some() || (route.methods.is_empty() && other.methods.is_empty()) {
                    return Err(RouterError::DuplicateRoute { path: text.clone(), method: shared.cloned() });
                }
            }
            site.patterns.push(Pattern { path, methods: route.methods.clone(), route: index });
        }
        // The sort is stable, so that equal patterns stay in the order of declaration.
        site.patterns.sort_by_key(|pattern| (pattern.path.rank(), pattern.methods.is_empty()));
        site.routes += 1;
        Ok(index)
    }

    /// Returns the site of a host, which must be in lower case and without a port.
    pub fn site(&self, host: &str) -> Option<usize> {
        let exact = self.hosts.get(host);
        let wildcard = || self.wildcards.get(parent(host)?);
        // Without wildcards there is nothing to look up, and an empty map costs no hash.
        exact.or_else(wildcard).copied().or(self.default)
    }

    /// Returns the site and the route of a request.
    ///
    /// `host` is in lower case and has no port; `path` is as the client sent it.
    pub fn find(&self, host: &str, method: &Method, path: &str) -> Found {
        let Some(site) = self.site(host) else { return Found::UnknownHost };
        let patterns = &self.sites[site].patterns;
        if patterns.is_empty() {
            return Found::Route { site, route: None };
        }
        let route = |decoding: &[u8]| {
            let decoding = comparable(decoding);
            let found = patterns.iter().find(|pattern| pattern.is_for(method) && pattern.path.matches(&decoding));
            found.map(|pattern| pattern.route)
        };
        match Decodings::of(path.as_bytes()) {
            Decodings::One(decoding) => Found::Route { site, route: route(&decoding) },
            Decodings::Several(decodings) => {
                let mut routes = decodings.iter().map(|decoding| route(decoding));
                let first = routes.next().flatten();
                match routes.all(|other| other == first) {
                    true => Found::Route { site, route: first },
                    false => Found::AmbiguousPath { site },
                }
            }
            Decodings::TooMany => Found::AmbiguousPath { site },
        }
    }
}

impl Pattern {
    fn is_for(&self, method: &Method) -> bool {
        if self.methods.is_empty() {
            return true;
        }
        // RFC 8441: over HTTP/2, a WebSocket is opened by CONNECT instead of GET.
        let is_like_get = matches!(*method, Method::HEAD | Method::CONNECT);
        // Methods are case-sensitive (RFC 9110 §9.1), but some servers read `post` as POST.
        let is_same = |other: &Method| other.as_str().eq_ignore_ascii_case(method.as_str());
        self.methods.iter().any(is_same) || (is_like_get && self.methods.contains(&Method::GET))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> RouteTable {
        let mut table = RouteTable::new();
        let site = table.add_site();
        table.add_host(site, &"example.org".parse().unwrap()).unwrap();
        for route in [
            Route::new().path("/admin/**"),
            Route::new().path("/static/**"),
            Route::new().path("/login").method(Method::POST),
            Route::new().path("/login").method(Method::GET),
            Route::new().path("/static/private"),
            Route::new().path("/caf\u{e9}/**"),
        ] {
            table.add_route(site, &route).unwrap();
        }
        table
    }

    fn route(path: &str) -> Found {
        table().find("example.org", &Method::GET, path)
    }

    #[test]
    fn exact_host_takes_precedence_over_wildcard_and_wildcard_over_default_site() {
        let mut table = RouteTable::new();
        for host in ["www.example.org", "*.example.org", "example.org"] {
            let site = table.add_site();
            table.add_host(site, &host.parse().unwrap()).unwrap();
        }
        let find = |table: &RouteTable, host: &str| table.site(host);
        assert_eq!(find(&table, "www.example.org"), Some(0));
        assert_eq!(find(&table, "a.example.org"), Some(1));
        assert_eq!(find(&table, "example.org"), Some(2));
        for unknown in ["a.b.example.org", "example.com", "", ".example.org", "org"] {
            assert_eq!(find(&table, unknown), None, "{unknown}");
        }
        let site = table.add_site();
        table.set_default(site).unwrap();
        assert_eq!(find(&table, "example.com"), Some(3));
        assert_eq!(find(&table, "www.example.org"), Some(0));
    }

    #[test]
    fn selects_the_most_specific_route_that_matches_the_method() {
        for (method, path, expected) in [
            (Method::GET, "/", None),
            (Method::GET, "/admin", Some(0)),
            (Method::GET, "/admin/users", Some(0)),
            (Method::GET, "/ADMIN/", Some(0)),
            (Method::GET, "/administrator", None),
            (Method::GET, "/static/app.css", Some(1)),
            (Method::GET, "/static/private", Some(4)),
            (Method::GET, "/static/private/x", Some(1)),
            (Method::POST, "/login", Some(2)),
            (Method::POST, "/login/", Some(2)),
            (Method::GET, "/login", Some(3)),
            (Method::HEAD, "/login", Some(3)),
            (Method::from_bytes(b"Post").unwrap(), "/login", Some(2)),
            (Method::CONNECT, "/login", Some(3)),
            (Method::PUT, "/login", None),
        ] {
            let found = table().find("example.org", &method, path);
            assert_eq!(found, Found::Route { site: 0, route: expected }, "{method} {path}");
        }
    }

    #[test]
    fn rejects_a_path_whose_decodings_match_different_routes() {
        for path in [
            "/static/..%2fadmin",
            "/static/../admin",
            "/static/%2e%2e/admin",
            "/static/..%5cadmin",
            "/static/..;/admin",
            "/x/..%252fadmin",
            "/a%64min%2f../x/",
            "/admin%00.css",
            "/admin;x=1",
            "/%61dmin%20",
            "/static/private.",
            "/caf%E9/x",
            "/CAF%C9/x",
            "/caf%25E9/x",
            "/cafe%25CC%2581/x",
            "/static/..%2fcaf%E9",
        ] {
            assert_eq!(route(path), Found::AmbiguousPath { site: 0 }, "{path}");
        }
    }

    #[test]
    fn accepts_an_ambiguous_path_whose_decodings_match_the_same_route() {
        for (path, expected) in [
            ("/static/a%20b", Some(1)),
            ("/static/a%2fb", Some(1)),
            ("/static//a", Some(1)),
            ("/%61dmin", Some(0)),
            ("/api/v4/projects/group%2Fproject", None),
            ("/wiki/C%2B%2B", None),
            ("/a:b", None),
            // Case and composition do not matter in non-ASCII names, either.
            ("/caf%C3%A9/x", Some(5)),
            ("/CAF%C3%89/x", Some(5)),
            ("/cafe%CC%81/x", Some(5)),
            ("/caf%C3%A9/%E9", Some(5)),
            ("/static/%E9", Some(1)),
            ("/caf%E8", None),
        ] {
            assert_eq!(route(path), Found::Route { site: 0, route: expected }, "{path}");
        }
    }

    #[test]
    fn rejects_duplicate_hosts_and_routes() {
        let mut table = table();
        let site = table.add_site();
        let host: HostPattern = "EXAMPLE.org".parse().unwrap();
        assert_eq!(table.add_host(site, &host), Err(RouterError::DuplicateHost("example.org".to_owned())));
        for (route, error) in [
            (
                Route::new().path("/Admin/**"),
                RouterError::DuplicateRoute { path: "/Admin/**".to_owned(), method: None },
            ),
            (
                Route::new().path("/login/").method(Method::PUT).method(Method::POST),
                RouterError::DuplicateRoute { path: "/login/".to_owned(), method: Some(Method::POST) },
            ),
            (Route::new(), RouterError::NoPath),
        ] {
            assert_eq!(table.add_route(0, &route), Err(error));
        }
        assert_eq!(table.add_route(0, &Route::new().path("/login")), Ok(6));
    }

    proptest! {
        /// Any encoding of a path below `/admin` matches the route `/admin/**` or is rejected.
        #[test]
        fn encoding_a_path_never_selects_a_less_protected_route(
            encoded in proptest::collection::vec(0u8..3, 12),
            prefix in "(/static/\\.\\./|/|//|/\\./|/x/%2e%2e/|/static/%252e%252e%252f)",
        ) {
            let mut path = prefix;
            for (byte, how) in b"admin/users".iter().zip(encoded) {
                match how {
                    0 => path.push(char::from(*byte)),
                    1 => path.push_str(&format!("%{byte:02X}")),
                    _ => path.push_str(&format!("%25{byte:02x}")),
                }
            }
            let found = route(&path);
            let is_safe = matches!(found, Found::Route { route: Some(0), .. } | Found::AmbiguousPath { .. });
            prop_assert!(is_safe, "{} {:?}", path, found);
        }

        #[test]
        fn route_lookup_never_panics(path in "/.{0,60}") {
            route(&path);
        }
    }
}
