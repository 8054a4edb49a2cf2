//! The settings of the response cache.

use std::path::PathBuf;

use http::HeaderName;
use hyper::ext::Protocol;
use rproxy_cache::{
    CacheLayer, CachePaths, CacheStore, DefaultLifetimeLayer, QueryRules, RequestHead, SetCookiePolicy,
};
use rproxy_static_files::FileDecision;
use rproxy_upstream::{ProxyError, ProxyErrorKind};

use crate::known_rejection::KnownRejection;
use crate::setting::{PATHS, SWITCH, settings};
use crate::values::cache_ttl::lifetimes;
use crate::values::parsed::Parsed;
use crate::values::paths;
use crate::values::value::{ParseError, boolean, format_size, optional, path, size};

/// The rejections of the cache.
pub(crate) const REJECTIONS: &[KnownRejection] = &[KnownRejection::new("only_if_cached", "only_if_cached")];

settings! {
    /// The settings of the response cache.
    CacheSettings, "Cache"

    "cache_enabled" => enabled: bool {
        value: "BOOL",
        default: "true",
        help: "Enables the response cache",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.enabled.to_string()),
    }

    "cache_size" => size: u64 {
        value: "SIZE",
        default: "64MiB",
        help: "Memory for the cache, including response heads",
        accepted: "a size such as 64MiB or 1GiB; a bare number is bytes",
        scope: Process,
        reload: Live,
        parse: store_size,
        show: |s| Some(format_size(s.size)),
    }

    "cache_paths" => paths: Parsed<CachePaths> {
        value: "GLOB,...",
        default: paths::CACHED,
        help: "Paths whose responses may be cached; /** for all",
        accepted: PATHS,
        scope: Route,
        reload: Live,
        parse: paths::globs,
        show: |s| Some(s.paths.text().to_owned()),
    }

    "cache_max_object" => max_object: u64 {
        value: "SIZE",
        default: "8MiB",
        help: "Maximum size of a stored response body; larger ones are forwarded without being stored",
        accepted: "a size such as 8MiB; a bare number is bytes",
        scope: Route,
        reload: Live,
        parse: |t| size(t, 1),
        show: |s| Some(format_size(s.max_object)),
    }

    "cache_disk" => disk: Option<PathBuf> {
        value: "PATH",
        default: "none" => None,
        help: "Directory of a second-level disk cache, which no other program uses; the cache survives restarts and can be larger than memory",
        accepted: "a path",
        scope: Process,
        reload: Restart,
        parse: |t| optional(t, path),
        show: |s| s.disk.as_ref().map(|path| path.display().to_string()),
    }

    "cache_disk_size" => disk_size: u64 {
        value: "SIZE",
        default: "1GiB",
        help: "Maximum size of the disk cache",
        accepted: "a size such as 512MiB or 10GiB; a bare number is bytes",
        scope: Process,
        reload: Restart,
        parse: store_size,
        show: |s| Some(format_size(s.disk_size)),
    }

    "cache_query" => query: QueryRules {
        value: "RULE,...",
        default: "the whole query" => QueryRules::new(),
        help: "Normalises the query in the cache key: sorts the parameters, or removes some of them",
        accepted: "sort, and drop followed by parameter names: sort, drop utm_*, fbclid",
        scope: Route,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.query.to_string()).filter(|rules| !rules.is_empty()),
    }

    "cache_no_vary_search" => no_vary_search: bool {
        value: "BOOL",
        default: "false",
        help: "Honours the No-Vary-Search response header, which names query parameters to ignore",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.no_vary_search.to_string()),
    }

    "cache_set_cookie" => set_cookie: SetCookiePolicy {
        value: "MODE",
        default: "strip",
        help: "Set-Cookie in cacheable responses: strip removes it from the stored copy, store replays it to all clients (RFC 9111), refuse does not store the response",
        accepted: "strip, store or refuse",
        scope: Route,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.set_cookie.to_string()),
    }

    "cache_ttl" => ttl: Parsed<DefaultLifetimeLayer> {
        value: "GLOB=TIME,...",
        default: "none" => Parsed::default(),
        help: "Adds Cache-Control: max-age to responses without caching fields, for rproxy and for browsers; not for requests with credentials",
        accepted: "comma-separated globs with a time of at most 1y: /static/**=1y, /img/*.{png,jpg}=30d",
        scope: Route,
        reload: Live,
        parse: lifetimes,
        show: |s| (!s.ttl.is_empty()).then(|| s.ttl.text().to_owned()),
    }

    "cache_heuristic" => heuristic: bool {
        value: "BOOL",
        default: "false",
        help: "Caches responses with Last-Modified but without a lifetime, for a tenth of the time since the last modification (RFC 9111 section 4.2.2)",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.heuristic.to_string()),
    }

    "cache_request_directives" => request_directives: bool {
        value: "BOOL",
        default: "false",
        help: "Honours no-cache, no-store, max-age and min-fresh in requests, with which clients bypass fresh responses (RFC 9111 section 5.2.1)",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.request_directives.to_string()),
    }

    "cache_status_key" => status_key: bool {
        value: "BOOL",
        default: "false",
        help: "Includes the cache key in the Cache-Status response header",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.status_key.to_string()),
    }


    rules {
        ["cache_size", "cache_enabled"] => |s, c| {
            let nothing = s.enabled && s.size == 0;
            nothing.then(|| {
                format!("a cache of size 0 stores nothing; set {}=false to disable the cache", c.name("cache_enabled"))
            })
        },
    }

    idle {
        ["cache_disk_size"] => |s, _| {
            (s.disk.is_none() || !s.enabled).then(|| "cache_disk is not set".to_owned())
        },
        ["cache_max_object"] => |s, _| {
            (s.enabled && s.max_object > s.size).then(|| "the maximum is larger than cache_size".to_owned())
        },
    }
}

/// Parses the size of a cache store, which must be at least 1 MiB. Less than 1 MiB holds nothing useful, and is
/// probably a number of MiB without its unit.
fn store_size(text: &str) -> Result<u64, ParseError> {
    match size(text, 1)? {
        bytes @ 1..=0xf_ffff => {
            let is_bare = text.bytes().all(|byte| byte.is_ascii_digit());
            let hint = if is_bare { format!("; did you mean {text}MiB?") } else { String::new() };
            Err(ParseError::new("size", text, format!("{} is less than 1MiB{hint}", format_size(bytes))))
        }
        bytes => Ok(bytes),
    }
}

impl CacheSettings {
    /// Returns the cache layer that uses the store `store`. Requests with one of the `uncacheable` fields bypass it; if
    /// other protocols than WebSocket may be upgraded to, so do their handshakes.
    pub(crate) fn layer(&self, store: CacheStore, uncacheable: Vec<HeaderName>, has_upgrades: bool) -> CacheLayer {
        // The cache recognises a WebSocket handshake by its key, which other upgrades do not have.
        let is_upgrade = |head: RequestHead<'_>| head.extensions.get::<Protocol>().is_some();
        let layer = match (has_upgrades, uncacheable.is_empty()) {
            (false, true) => CacheLayer::new(store),
            (true, true) => CacheLayer::new(store).bypass_when(is_upgrade),
            (_, false) => CacheLayer::new(store).bypass_when(move |head| {
                is_upgrade(head) || uncacheable.iter().any(|name| head.headers.contains_key(name))
            }),
        };
        layer
            .paths(self.paths.value().clone())
            .max_object(self.max_object)
            .query(self.query.clone())
            .no_vary_search(self.no_vary_search)
            .set_cookie(self.set_cookie)
            .heuristic_freshness(self.heuristic)
            .request_directives(self.request_directives)
            .status_key(self.status_key)
            // The kernel has the files of the root in memory.
            .store_unless(|head| {
                head.extensions.get::<FileDecision>().is_some_and(|decision| *decision != FileDecision::SendFile)
            })
            .unreachable_when(|head| {
                // An aborted request body does not mean that the backend is unreachable.
                let error = head.extensions.get::<ProxyError>();
                error.is_some_and(|error| error.kind() != ProxyErrorKind::HttpRequestError)
            })
    }

    pub(crate) fn describe(&self) -> Option<String> {
        self.enabled.then(|| format!("Cache            {}", self.paths.text()))
    }
}
