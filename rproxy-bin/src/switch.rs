//! The switch of an upstream to other backends at run time, once they are healthy.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rproxy_upstream::{Backend, BackendStatus, Backends, BuildError, ProbeError, RemovedBackends};
use tokio::time::{sleep, timeout_at};

use crate::ErrorChain;
use crate::sandbox::{self, SandboxError};
use crate::state::{Name, ProcessState};

/// A request to switch the upstream of a site or route to other backends.
#[derive(Clone, Debug)]
pub(crate) struct SwitchRequest {
    /// A host of the site. It can be omitted if there is one upstream.
    pub(crate) site: Option<String>,
    /// The route with an upstream of its own; empty for the upstream of the site.
    pub(crate) route: String,
    pub(crate) backends: Vec<Backend>,
    /// The maximum time until the backends are healthy, and again until the removed ones have drained.
    pub(crate) deadline: Duration,
    /// Whether other sites with the same upstream are switched, too.
    pub(crate) is_shared: bool,
}

/// The upstream of some sites and routes, which have equal settings.
#[derive(Clone, Debug)]
pub(crate) struct SwitchableUpstream {
    /// The sites and routes that forward requests to it.
    pub(crate) names: Vec<Name>,
    pub(crate) backends: Backends,
    /// The value of the setting `upstream`, if the backends were switched.
    pub(crate) switched_from: Option<String>,
}

/// The outcome of a successful switch.
#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) names: Vec<Name>,
    pub(crate) backends: Vec<BackendStatus>,
    pub(crate) removed: Vec<String>,
    /// The time until all backends were healthy.
    pub(crate) probed_in: Duration,
    /// The requests that were in flight to removed backends at the switch, and those that still are.
    pub(crate) in_flight: (usize, usize),
    pub(crate) drained_in: Duration,
}

/// The reason why nothing was switched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwitchError {
    #[error("{0}")]
    Target(String),
    #[error("{0} is a listener of this proxy: requests would loop")]
    Loop(Backend),
    #[error("the upstream is also that of {0}; to switch all of them, add shared=true")]
    Shared(String),
    #[error(transparent)]
    Sandbox(SandboxError),
    #[error("another switch of this upstream is in progress")]
    InProgress,
    #[error("a reload has changed the upstream meanwhile")]
    Reloaded,
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("the backend {backend} is not healthy after {}: {cause}", humantime::format_duration(*deadline))]
    Unhealthy { backend: Backend, deadline: Duration, cause: String },
}

/// The switches in progress, and the counts of those that ended.
#[derive(Debug, Default)]
pub(crate) struct Switches {
    in_progress: Mutex<HashSet<Name>>,
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// Held while a reload builds a configuration and applies it, so that a switch is not lost meanwhile.
    pub(crate) changes: tokio::sync::Mutex<()>,
}

/// The names of a switch in progress, until it is dropped.
struct InProgress<'s> {
    switches: &'s Switches,
    names: Vec<Name>,
}

impl Switches {
    /// Returns the number of switches by outcome.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 2] {
        [("switched", self.succeeded.load(Relaxed)), ("unhealthy", self.failed.load(Relaxed))]
    }

    fn begin(&self, names: &[Name]) -> Result<InProgress<'_>, SwitchError> {
        let mut in_progress = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        if names.iter().any(|name| in_progress.contains(name)) {
            return Err(SwitchError::InProgress);
        }
        in_progress.extend(names.iter().cloned());
        Ok(InProgress { switches: self, names: names.to_vec() })
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        let mut in_progress = self.switches.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        in_progress.retain(|name| !self.names.contains(name));
    }
}

impl ProcessState {
    /// Switches the upstream of a site or route to other backends, once all of them are healthy, and waits until the removed
    /// ones have no requests in flight.
    ///
    /// If the future is dropped before the backends are healthy, nothing changes. If it is dropped later, the switch stays,
    /// and requests in flight to the removed backends continue.
    pub(crate) async fn switch(&self, request: &SwitchRequest) -> Result<Switched, SwitchError> {
        let target = self.switchable(request.site.as_deref(), &request.route)?;
        if let Some(backend) = request.backends.iter().find(|backend| self.is_listener(backend)) {
            return Err(SwitchError::Loop(backend.clone()));
        }
        for backend in &request.backends {
            sandbox::check_backend("set", backend).map_err(SwitchError::Sandbox)?;
        }
        let site = &target.names[0].0;
        let others = target.names.iter().map(|name| &name.0).filter(|other| *other != site);
        let others: Vec<&str> = others.map(String::as_str).collect();
        if !request.is_shared && !others.is_empty() {
            return Err(SwitchError::Shared(listed(&others)));
        }
        let in_progress = self.switches().begin(&target.names)?;
        let began = Instant::now();
        if let Err(error) = probe_all(&target.backends, &request.backends, request.deadline).await {
            self.switches().failed.fetch_add(1, Relaxed);
            tracing::warn!(site, "upstream is not switched: {error}");
            return Err(error);
        }
        let probed_in = began.elapsed();
        let removed = {
            let _unchanged = self.switches().changes.lock().await;
            self.replace_backends(&target, &request.backends)?
        };
        // A switch back does not wait until the requests have ended.
        drop(in_progress);
        self.switches().succeeded.fetch_add(1, Relaxed);
        let in_flight = removed.in_flight();
        let shown = request.backends.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        tracing::info!(site, in_flight, "upstream switched to {shown}");
        let began = Instant::now();
        let left = self.drain(&target.names, &removed, request.deadline).await;
        if left > 0 {
            tracing::warn!(site, in_flight = left, "requests to the former backends are still in flight");
        }
        Ok(Switched {
            backends: target.backends.status(),
            names: target.names,
            removed: removed.origins().map(str::to_owned).collect(),
            probed_in,
            in_flight: (in_flight, left),
            drained_in: began.elapsed(),
        })
    }

    /// Closes the tunnels to removed backends, and waits for the requests. Returns the number of those that are left.
    async fn drain(&self, names: &[Name], removed: &RemovedBackends, deadline: Duration) -> usize {
        if removed.is_empty() {
            return 0;
        }
        for counts in names.iter().filter_map(|name| self.tunnel_counts(name)) {
            // Clients reconnect to the new backends.
            self.ws_passthrough.tunnels().restart_counted_within(&counts, deadline);
        }
        removed.drained_within(deadline).await.map_or_else(|timeout| timeout.in_flight, |()| 0)
    }
}

/// Probes the backends until each of them is healthy.
async fn probe_all(upstream: &Backends, backends: &[Backend], deadline: Duration) -> Result<(), SwitchError> {
    let until = tokio::time::Instant::now() + deadline;
    try_join_all(backends.iter().map(|backend| async move {
        let mut cause = "no response to the health check".to_owned();
        let healthy = async {
            loop {
                match upstream.probe(backend).await {
                    Ok(()) => return Ok(()),
                    Err(ProbeError::Build(error)) => return Err(SwitchError::Build(error)),
                    Err(error) => cause = ErrorChain(&error).to_string(),
                }
                sleep(PROBE_INTERVAL).await;
            }
        };
        match timeout_at(until, healthy).await {
            Ok(probed) => probed,
            Err(_) => Err(SwitchError::Unhealthy { backend: backend.clone(), deadline, cause }),
        }
    }))
    .await
    .map(drop)
}

/// Formats the first names of a list, and the number of the others.
fn listed(names: &[&str]) -> String {
    let shown = names[..names.len().min(MAX_SHOWN)].join(", ");
    match names.len() {
        count if count > MAX_SHOWN => format!("{shown} and {} more", count - MAX_SHOWN),
        _ => shown,
    }
}

/// The time between two probes of a backend that is not healthy.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// The maximum number of names in an error message.
const MAX_SHOWN: usize = 10;
