//! Parses requests that switch an upstream to other backends, and formats the upstreams.

use std::time::Duration;

use http::StatusCode;
use rproxy_upstream::BackendStatus;
use serde_json::{Value, json};

use super::parameters::{ParameterError, Parameters, decoded};
use crate::state::Name;
use crate::switch::{SwitchError, SwitchRequest, SwitchableUpstream, Switched};
use crate::values::upstream::backends;
use crate::values::value::{ParseError, boolean, timeout};

/// Parses the parameters of a switch. One invalid parameter rejects the whole request.
pub(super) fn parse(parameters: &Parameters) -> Result<SwitchRequest, ParameterError> {
    parse_all(parameters).map_err(|reason| ParameterError::Invalid { reason, accepted: ACCEPTED })
}

fn parse_all(parameters: &Parameters) -> Result<SwitchRequest, String> {
    let text = |error: ParseError| error.to_string();
    let (mut site, mut route, mut set, mut deadline, mut is_shared) = (None, None, None, None, None);
    for pair in parameters.pairs() {
        let (name, value) = decoded(pair)?;
        let is_repeated = match name {
            "site" => site.replace(value.into_owned()).is_some(),
            "route" => route.replace(value.into_owned()).is_some(),
            "set" => set.replace(backends(&value)?).is_some(),
            "deadline" => deadline.replace(timeout(&value).map_err(text)?).is_some(),
            "shared" => is_shared.replace(value.is_empty() || boolean(&value).map_err(text)?).is_some(),
            _ => return Err(format!("unknown parameter {name:?}")),
        };
        if is_repeated {
            return Err(format!("the parameter {name} is repeated"));
        }
    }
    let backends = set.ok_or("the request has no parameter set")?;
    if backends.len() > MAX_BACKENDS {
        return Err(format!("more than {MAX_BACKENDS} backends"));
    }
    let deadline = deadline.unwrap_or(DEFAULT_DEADLINE);
    if deadline > MAX_DEADLINE {
        return Err("the deadline is longer than an hour".to_owned());
    }
    let (route, is_shared) = (route.unwrap_or_default(), is_shared.unwrap_or(false));
    Ok(SwitchRequest { site, route, backends, deadline, is_shared })
}

/// Returns the upstreams of all sites and routes as JSON.
pub(super) fn status(upstreams: &[SwitchableUpstream]) -> Value {
    let status = |upstream: &SwitchableUpstream| {
        json!({
            "sites": names(&upstream.names),
            "backends": states(&upstream.backends.status()),
            "switched_from": upstream.switched_from,
        })
    };
    json!({ "upstreams": upstreams.iter().map(status).collect::<Vec<_>>() })
}

/// Returns the outcome of a switch as JSON.
pub(super) fn outcome(switched: &Switched) -> Value {
    let (before, left) = switched.in_flight;
    json!({
        "sites": names(&switched.names),
        "backends": states(&switched.backends),
        "removed": switched.removed,
        "probed_ms": millis(switched.probed_in),
        "drained": before.saturating_sub(left),
        "in_flight": left,
        "drained_ms": millis(switched.drained_in),
    })
}

/// Returns the status of a request that switched nothing.
pub(super) fn status_code(error: &SwitchError) -> StatusCode {
    match error {
        SwitchError::Target(_) | SwitchError::Loop(_) | SwitchError::Build(_) => StatusCode::BAD_REQUEST,
        SwitchError::Shared(_) | SwitchError::Sandbox(_) | SwitchError::InProgress | SwitchError::Reloaded => {
            StatusCode::CONFLICT
        }
        SwitchError::Unhealthy { .. } => StatusCode::GATEWAY_TIMEOUT,
    }
}

fn names(names: &[Name]) -> Vec<Value> {
    names.iter().map(|(site, route)| json!({ "site": site, "route": route })).collect()
}

fn states(backends: &[BackendStatus]) -> Vec<Value> {
    let state = |status: &BackendStatus| {
        json!({
            "backend": status.backend.to_string(),
            "healthy": status.is_healthy,
            "in_flight": status.in_flight,
        })
    };
    backends.iter().map(state).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The maximum number of backends in one request, each of which is probed at the same time.
const MAX_BACKENDS: usize = 100;
/// The deadline if the request has none.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
const MAX_DEADLINE: Duration = Duration::from_secs(60 * 60);
const ACCEPTED: &str =
    "?set=BACKEND,..., &site=HOST, &route=ROUTE, &deadline=DURATION and &shared=true, in the query or as a form";
