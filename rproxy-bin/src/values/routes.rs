//! Routes in one line of text, for environment variables.

use std::fmt;
use std::str::FromStr;

use rproxy_router::HostPattern;

use super::redirect::RedirectTarget;
use super::upstream;
use super::value::{ParseError, list};

/// The value of `routes`, such as `HOST[/PATH]=UPSTREAM,HOST[/PATH]=redirect:URL`.
///
/// Without a host, the route belongs to the default site. Several backends of a route are separated by `|`. A path
/// without a wildcard matches the paths below it as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteList {
    entries: Vec<RouteEntry>,
}

/// One entry of a [`RouteList`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteEntry {
    /// The host of the route, or `None` for the default site.
    pub(crate) host: Option<HostPattern>,
    /// The path of the route, or `None` for the whole site.
    pub(crate) path: Option<String>,
    pub(crate) target: RouteTarget,
}

/// The target of a [`RouteEntry`], in the syntax of the setting `upstream` or `redirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RouteTarget {
    Upstream(String),
    Redirect(String),
}

impl RouteList {
    /// Returns whether the list has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RouteEntry> {
        self.entries.iter()
    }
}

impl FromStr for RouteList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        list(text, RouteEntry::from_str).map(|entries| Self { entries })
    }
}

impl FromStr for RouteEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = |reason: &str| ParseError::new("route", text, reason).to_string();
        let (matched, target) = text.split_once('=').ok_or_else(|| error("no = between the host and its target"))?;
        let (matched, target) = (matched.trim(), target.trim());
        let (host, path) = match matched.find('/') {
            Some(at) => (&matched[..at], Some(&matched[at..])),
            None => (matched, None),
        };
        if host.is_empty() && path.is_none() {
            return Err(error("no host or path before ="));
        }
        let host = match host {
            "" => None,
            host => Some(host.parse::<HostPattern>().map_err(|cause| error(&cause.to_string()))?),
        };
        let path = path.filter(|path| *path != "/").map(|path| match path.contains('*') {
            true => path.to_owned(),
            false => format!("{}/**", path.trim_end_matches('/')),
        });
        if host.is_none() && path.is_none() {
            return Err(error("the default site accepts no route for /; set its upstream instead of this route"));
        }
        let target = match target.strip_prefix("redirect:") {
            Some(url) => {
                url.parse::<RedirectTarget>().map_err(|cause| cause.to_string())?;
                RouteTarget::Redirect(url.to_owned())
            }
            None => {
                let backends = target.replace('|', ",");
                upstream::backends(&backends)?;
                RouteTarget::Upstream(backends)
            }
        };
        Ok(Self { host, path, target })
    }
}

impl fmt::Display for RouteList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if let Some(host) = &entry.host {
                host.fmt(f)?;
            }
            f.write_str(entry.path.as_deref().unwrap_or_default())?;
            match &entry.target {
                RouteTarget::Upstream(backends) => write!(f, "={}", backends.replace(',', "|"))?,
                RouteTarget::Redirect(url) => write!(f, "=redirect:{url}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_hosts_paths_and_targets_of_routes() {
        for (text, shown) in [
            ("api.example.org=127.0.0.1:4000", "api.example.org=127.0.0.1:4000"),
            ("example.org/blog=127.0.0.1:5000", "example.org/blog/**=127.0.0.1:5000"),
            ("example.org/blog/=5000", "example.org/blog/**=5000"),
            ("/api=127.0.0.1:1|127.0.0.1:2", "/api/**=127.0.0.1:1|127.0.0.1:2"),
            ("/*.php=127.0.0.1:9000", "/*.php=127.0.0.1:9000"),
            ("www.example.org=redirect:https://example.org", "www.example.org=redirect:https://example.org"),
            ("*.example.org=unix:/run/app.sock", "*.example.org=unix:/run/app.sock"),
            ("A.example/=1,b.example=2", "a.example=1,b.example=2"),
        ] {
            let routes: RouteList = text.parse().unwrap();
            assert_eq!(routes.to_string(), shown);
            assert_eq!(shown.parse::<RouteList>().unwrap(), routes);
        }
    }

    #[test]
    fn rejects_invalid_rate_with_reason() {
        for (text, reason) in [
            ("example.org", "bad route \"example.org\": no = between the host and its target"),
            ("=127.0.0.1:1", "bad route \"=127.0.0.1:1\": no host or path before ="),
            (
                "/=127.0.0.1:1",
                "bad route \"/=127.0.0.1:1\": the default site accepts no route for /; set its upstream instead of this route",
            ),
            ("a.example=redirect:", "bad redirect \"\": not a URL"),
            ("a.example=", "bad list of backends \"\": empty"),
        ] {
            assert_eq!(text.parse::<RouteList>().unwrap_err(), reason);
        }
        assert!("a b=1".parse::<RouteList>().unwrap_err().contains("not a host name"));
    }
}
