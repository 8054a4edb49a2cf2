//! The hosts of a site, which select the responses of the site in the cache.

use std::sync::Arc;

use http::uri::Authority;
use rproxy_router::RouteTable;

/// The sites of a configuration, by host and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct SiteNames {
    table: Arc<RouteTable>,
    /// The index of each site in the table, by host name or, for the default site, by the name `default`.
    names: Arc<[(String, usize)]>,
}

impl SiteNames {
    pub(crate) fn new(table: Arc<RouteTable>, names: Vec<(String, usize)>) -> Self {
        Self { table, names: names.into() }
    }

    /// Returns the hosts of the site that has this name or host.
    pub(crate) fn hosts(&self, name: &str) -> Option<SiteHosts> {
        Some(SiteHosts { table: Arc::clone(&self.table), site: self.index(name)? })
    }

    /// Returns the name of the site that has this name or host.
    pub(crate) fn name(&self, name: &str) -> Option<&str> {
        let site = self.index(name)?;
        self.names.iter().find(|(_, index)| *index == site).map(|(name, _)| name.as_str())
    }

    /// Returns the index of the site that has this name or host. The default site has the index 0.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        let (_, site) = self.names.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(*site)
    }
}

/// The hosts of one site, which select its responses in the cache.
#[derive(Clone, Debug)]
pub(crate) struct SiteHosts {
    table: Arc<RouteTable>,
    site: usize,
}

impl SiteHosts {
    /// Returns whether the site serves requests for a URL, whose scheme and host are in lower case.
    pub(crate) fn contain(&self, url: &str) -> bool {
        let authority = url.split_once("://").and_then(|(_, rest)| rest.split('/').next());
        let Some(Ok(authority)) = authority.map(str::parse::<Authority>) else { return false };
        let host = authority.host();
        self.table.site(host.strip_suffix('.').unwrap_or(host)) == Some(self.site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_cached_urls_by_site() {
        let mut table = RouteTable::new();
        let sites: Vec<usize> = (0..3).map(|_| table.add_site()).collect();
        table.set_default(sites[0]).unwrap();
        for (site, host) in [(1, "example.org"), (1, "[2001:db8::1]"), (2, "*.example.org")] {
            table.add_host(site, &host.parse().unwrap()).unwrap();
        }
        let names = [("default", 0), ("example.org", 1), ("[2001:db8::1]", 1), ("*.example.org", 2)];
        let names = SiteNames::new(Arc::new(table), names.map(|(name, site)| (name.to_owned(), site)).into());
        for (name, url, expected) in [
            ("Example.org", "https://example.org/", true),
            ("example.org", "http://example.org:8080/a", true),
            ("example.org", "https://[2001:db8::1]:8443/a", true),
            ("[2001:DB8::1]", "https://example.org/", true),
            ("example.org", "https://www.example.org/", false),
            ("*.example.org", "https://www.example.org/", true),
            ("*.example.org", "https://example.org/", false),
            ("default", "https://other.example/x//example.org", true),
            ("default", "https://example.org/", false),
            ("default", "not a URL", false),
        ] {
            assert_eq!(names.hosts(name).unwrap().contain(url), expected, "{name} {url}");
        }
        assert!(names.hosts("www.example.org").is_none());
    }
}
