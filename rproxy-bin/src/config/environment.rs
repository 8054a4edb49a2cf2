//! Reads settings from environment variables.

use std::ffi::{OsStr, OsString};

use super::error::Problem;
use super::settings;
use super::source::{Assignment, ValueSource};
use crate::setting::{PREFIX, variable};

pub(super) const RUST_LOG: &str = "RUST_LOG";

/// Returns whether an environment variable is meant for this program. The prefix is matched in any case, so that
/// `rproxy_listen` is reported as an error.
pub(super) fn is_relevant(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name == RUST_LOG.as_bytes()
        || name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

pub(super) fn read(env: &[(OsString, OsString)], assignments: &mut Vec<Assignment>, problems: &mut Vec<Problem>) {
    let mut variables: Vec<_> = env.iter().filter(|(name, _)| name != RUST_LOG).collect();
    // The environment has no order; messages get one.
    variables.sort();
    for (name, value) in variables {
        let (name, value) = (name.to_string_lossy(), value.to_str());
        if is_service_variable(&name, value.unwrap_or_default()) {
            continue;
        }
        let key = name.strip_prefix(PREFIX).map(str::to_ascii_lowercase);
        let key = key.filter(|key| variable(key) == name).unwrap_or_default();
        match (settings::find(&key), value) {
            (Some(setting), Some(value)) => {
                assignments.push(Assignment { setting, key, text: value.to_owned(), source: ValueSource::Environment });
            }
            (Some(setting), None) => problems.push(Problem::BadValue {
                location: ValueSource::Environment.locate(setting.key),
                reason: "not UTF-8".to_owned(),
                accepted: setting.accepted,
            }),
            (None, _) => {
                let mut location = ValueSource::Environment.locate("");
                location.name = name.clone().into_owned();
                problems.push(Problem::Unknown { location, hint: settings::hint(&name, &ValueSource::Environment) });
            }
        }
    }
}

/// Returns whether Kubernetes or Docker links set the variable for a service called `rproxy`.
///
/// Such variables are `RPROXY_SERVICE_HOST`, `RPROXY_SERVICE_PORT_HTTP`, `RPROXY_PORT=tcp://...` and
/// `RPROXY_PORT_80_TCP_ADDR`. They are not mistakes of the user.
fn is_service_variable(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let link = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_port_variable =
        rest.strip_prefix("PORT_").and_then(|rest| rest.split_once('_')).is_some_and(|(port, rest)| {
            let protocol = rest.split('_').next().unwrap_or_default();
            port.parse::<u16>().is_ok() && matches!(protocol, "TCP" | "UDP" | "SCTP")
        });
    rest == "SERVICE_HOST"
        || rest == "SERVICE_PORT"
        || rest.starts_with("SERVICE_PORT_")
        || rest == "PORT" && link
        || is_port_variable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignores_variables_of_a_kubernetes_service() {
        for (name, value, foreign) in [
            ("RPROXY_SERVICE_HOST", "10.0.0.1", true),
            ("RPROXY_SERVICE_PORT", "80", true),
            ("RPROXY_SERVICE_PORT_HTTP", "80", true),
            ("RPROXY_PORT", "tcp://10.0.0.1:80", true),
            ("RPROXY_PORT_80_TCP", "tcp://10.0.0.1:80", true),
            ("RPROXY_PORT_80_TCP_ADDR", "10.0.0.1", true),
            ("RPROXY_PORT", "8080", false),
            ("RPROXY_PORT_HTTP", "80", false),
            ("RPROXY_LISTEN", "tcp://10.0.0.1:80", false),
        ] {
            assert_eq!(is_service_variable(name, value), foreign, "{name}={value}");
        }
    }
}
