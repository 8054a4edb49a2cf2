//! Explains how the proxy would process a request, without sending one.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, LOCATION};
use http::uri::Scheme;
use http::{Method, Request, Response, Uri};
use http_body_util::Full;
use rproxy_client_ip::PeerAddr;
use rproxy_core::Rejection;
use rproxy_request_guard::GuardBody;
use rproxy_router::{Found, request_host};
use rproxy_server::CloseConnection;
use rproxy_static_files::FileDecision;
use rproxy_target_rules::TargetDecision;
use tower::{ServiceExt, service_fn};

use crate::ErrorChain;
use crate::config::{Config, Shared};
use crate::edge::layers;
use crate::path_prefix::without_prefix;
use crate::state::ProcessState;

/// Explains how the proxy processes a path of the default site, or a URL of any site.
///
/// # Errors
///
/// Returns a message if the target is neither.
pub(crate) fn explain(config: &Config, method: &Method, target: &str) -> Result<String, String> {
    // A path can contain `://` as well.
    if !target.starts_with('/') && target.contains("://") {
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
    let outcome = outcome(config, method, &uri).map_err(|reason| invalid(&reason))?;
    let path = uri.path().to_owned();
    let request = Request::get(uri).body(()).map_err(|_| invalid("not a URL"))?;
    let host = request_host(&request);
    let mut text = format!("{target}\n");
    // The layers of the process reject requests without a site, so that its path filter applies to them.
    let config = match table.find(&host, method, &path) {
        Found::Route { site, route } => {
            let (name, routes, own) = match site.checked_sub(1).map(|site| &config.sites[site]) {
                Some(site) => (site.name(), &site.routes, &site.config),
                None => ("default".to_owned(), &config.default_routes, config),
            };
            let route = route.map(|route| &routes[route]);
            let shown = route.map(|route| route.route.to_string());
            let _ = writeln!(text, "  site {name}");
            let _ = writeln!(text, "  route {}", shown.as_deref().unwrap_or("none, the settings of the site apply"));
            let config = route.map_or(own, |route| &route.config);
            for layer in layers(config) {
                let _ = writeln!(text, "  {layer}");
            }
            config
        }
        Found::AmbiguousPath { .. } => {
            text += "  no route: servers can resolve the path to different routes\n";
            config
        }
        _ => {
            let _ = writeln!(text, "  no site has the host {host}");
            config
        }
    };
    text += &explain_path(config, &path);
    let prefix = config.routing.strip_prefix.as_deref();
    if let Some(forwarded) = prefix.and_then(|prefix| without_prefix(request.uri(), prefix)) {
        let _ = writeln!(text, "without the prefix, the path is {}", forwarded.path());
        text += &explain_path(config, forwarded.path());
    }
    let rewritten = config.routing.target_rules().and_then(|rules| rules.rewritten(request.uri()));
    if let Some(uri) = &rewritten {
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let _ = writeln!(text, "rewritten, the target is {target}");
        text += &explain_path(config, uri.path());
    }
    if let Outcome::Forwarded { .. } = outcome
        && config.cache.enabled
    {
        let served = if config.cache.paths.contains(rewritten.as_ref().map_or(&path, |uri| uri.path())) {
            "is served by"
        } else {
            "bypasses"
        };
        let _ = writeln!(text, "the path {served} the cache");
    }
    let _ = writeln!(text, "result: {outcome}");
    if config.access.is_restricted() {
        text += "  (for clients that pass the filter of addresses and the authentication)\n";
    }
    if matches!(&outcome, Outcome::Rejected { reason, .. } if reason == "unknown_host") {
        text += "  (over TLS, the status is 421)\n";
    }
    Ok(text)
}

/// The action of the proxy on a request.
#[derive(Debug)]
enum Outcome {
    Forwarded { target: String },
    Rejected { status: u16, reason: String, closes: bool },
    Redirected { status: u16, location: String, rule: Option<String> },
    Answered { status: u16, rule: Option<String> },
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forwarded { target } => write!(f, "forwarded as {target}"),
            Self::Rejected { reason, closes: true, .. } => write!(f, "the connection is closed ({reason})"),
            Self::Rejected { status, reason, .. } => write!(f, "rejected with {status} ({reason})"),
            Self::Redirected { status, location, rule } => {
                write!(f, "redirected with {status} to {location}{}", by_rule(rule.as_deref()))
            }
            Self::Answered { status, rule } => write!(f, "answered with {status}{}", by_rule(rule.as_deref())),
        }
    }
}

fn by_rule(rule: Option<&str>) -> String {
    rule.map_or_else(String::new, |rule| format!(" ({rule})"))
}

/// Returns the setting and the rule that responded.
fn responding_rule(decision: &TargetDecision) -> Option<String> {
    Some(match decision {
        TargetDecision::CanonicalHost => "canonical_host".to_owned(),
        TargetDecision::Redirect { rule } => format!("redirects: {rule}"),
        TargetDecision::FixedResponse { rule } => format!("responses: {rule}"),
        TargetDecision::TrailingSlash => "trailing_slash".to_owned(),
        _ => return None,
    })
}

/// Returns the setting of the file that served a request.
fn serving_setting(decision: &FileDecision) -> Option<String> {
    Some(match decision {
        FileDecision::File => "a file of root".to_owned(),
        FileDecision::Fallback => "root_fallback".to_owned(),
        FileDecision::FolderRedirect => "a folder of root".to_owned(),
        _ => return None,
    })
}

/// Sends a request for the URL through the layers of the configuration, whose backends are replaced.
///
/// The layers therefore decide in their real order. Off are limits that depend on earlier requests, and decisions about the
/// client: it counts as one that may access the site.
fn outcome(config: &Config, method: &Method, uri: &Uri) -> Result<Outcome, String> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let scheme = uri.scheme().cloned().unwrap_or(Scheme::HTTP);
    let request = Request::builder()
        .method(method)
        .uri(if target.starts_with('/') { target.to_owned() } else { format!("/{target}") })
        .header(HOST, host)
        // As a browser that opens the URL.
        .header(ACCEPT, "text/html,*/*;q=0.8")
        .extension(scheme)
        .extension(PeerAddr(([127, 0, 0, 1], 0).into()))
        .body(Full::<Bytes>::default())
        .map_err(|error| error.to_string())?;
    let mut config = config.clone();
    let admit = |config: &mut Config| {
        config.rate_limit.enabled = false;
        config.access = Shared::default();
    };
    admit(&mut config);
    let sites = config.sites.iter_mut().flat_map(|site| {
        std::iter::once(&mut site.config).chain(site.routes.iter_mut().map(|route| &mut route.config))
    });
    sites.chain(config.default_routes.iter_mut().map(|route| &mut route.config)).for_each(admit);
    let stack = ProcessState::without_files().stack(&config).map_err(|error| ErrorChain(&error).to_string())?;
    let forwarded: Arc<Mutex<Option<String>>> = Arc::default();
    let seen = Arc::clone(&forwarded);
    let backend = service_fn(move |request: Request<GuardBody<Full<Bytes>>>| {
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.uri().to_string());
        async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
    });
    // In a separate thread, because a caller can be in another runtime.
    let answered = thread::scope(|scope| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let Ok(response) = runtime.block_on(async { stack.wrap(backend).oneshot(request).await });
            Ok::<_, std::io::Error>(response.into_parts().0)
        };
        scope.spawn(run).join()
    });
    let head = match answered {
        Ok(head) => head.map_err(|error| error.to_string())?,
        Err(_) => return Err("a layer panicked".to_owned()),
    };
    let status = head.status.as_u16();
    let rule = head.extensions.get::<TargetDecision>().and_then(responding_rule);
    let rule = rule.or_else(|| head.extensions.get::<FileDecision>().and_then(serving_setting));
    let location = head.headers.get(LOCATION).and_then(|location| location.to_str().ok());
    Ok(match (head.extensions.get::<Rejection>(), location) {
        (Some(rejection), _) => Outcome::Rejected {
            status,
            reason: rejection.reason().to_owned(),
            closes: head.extensions.get::<CloseConnection>().is_some(),
        },
        (None, Some(location)) => Outcome::Redirected { status, location: location.to_owned(), rule },
        (None, None) => match forwarded.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(target) => Outcome::Forwarded { target },
            None => Outcome::Answered { status, rule },
        },
    })
}
