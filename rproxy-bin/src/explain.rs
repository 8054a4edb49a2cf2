//! Explains how the proxy would process a request, without sending one.

use std::fmt::Write;

use http::{Method, Uri};
use rproxy_router::{Found, request_host};

use crate::config::Config;
use crate::edge::layers;
use crate::path_prefix::without_prefix;

/// Explains how the proxy processes a path of the default site, or a URL of any site.
///
/// # Errors
///
/// Returns a message if the target is neither.
pub(crate) fn explain(config: &Config, method: &Method, target: &str) -> Result<String, String> {
    if target.contains("://") {
        return explain_url(config, method, target);
    }
    let path = target.split('?').next().unwrap_or(target);
    if !path.starts_with('/') {
        return Err(format!("invalid path {target:?}: does not start with a slash"));
    }
    Ok(explain_path(config, path))
}

fn explain_path(config: &Config, path: &str) -> String {
    let explanation = config.path_filter.blocked_paths.explain(path).to_string();
    match config.path_filter.enabled {
        true => explanation,
        false => format!("The path filter is disabled. If it were enabled:\n{explanation}"),
    }
}

fn explain_url(config: &Config, method: &Method, target: &str) -> Result<String, String> {
    let invalid = |reason: &str| format!("invalid URL {target:?}: {reason}");
    let uri: Uri = target.parse().map_err(|_| invalid("not a URL"))?;
    let table = config.route_table().map_err(|error| error.to_string())?;
    let path = uri.path().to_owned();
    let request = http::Request::get(uri).body(()).map_err(|_| invalid("not a URL"))?;
    let host = request_host(&request);
    let (name, route, config) = match table.find(&host, method, &path) {
        Found::Route { site, route } => {
            let (name, routes, own) = match site.checked_sub(1).map(|site| &config.sites[site]) {
                Some(site) => (site.name(), &site.routes, &site.config),
                None => ("default".to_owned(), &config.default_routes, config),
            };
            match route.map(|route| &routes[route]) {
                Some(route) => (name, Some(route.route.to_string()), &route.config),
                None => (name, None, own),
            }
        }
        Found::AmbiguousPath { .. } => {
            return Ok(format!("{target}\n  rejected: servers can resolve the path to different routes (400)\n"));
        }
        _ => return Ok(format!("{target}\n  rejected: no site has the host {host} (404, or 421 over TLS)\n")),
    };
    let mut text = format!("{target}\n  site {name}\n");
    let _ = writeln!(text, "  route {}", route.as_deref().unwrap_or("none, the settings of the site apply"));
    for layer in layers(config) {
        let _ = writeln!(text, "  {layer}");
    }
    if let Some(redirect) = &config.routing.redirect {
        let _ = writeln!(text, "  redirected to {redirect}");
    }
    if config.cache.enabled {
        let served = if config.cache.paths.contains(&path) { "is served by" } else { "bypasses" };
        let _ = writeln!(text, "the path {served} the cache");
    }
    text += &explain_path(config, &path);
    let prefix = config.routing.strip_prefix.as_deref();
    if let Some(forwarded) = prefix.and_then(|prefix| without_prefix(request.uri(), prefix)) {
        let _ = writeln!(text, "forwarded without the prefix, as {}", forwarded.path());
        text += &explain_path(config, forwarded.path());
    }
    Ok(text)
}
