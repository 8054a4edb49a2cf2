//! Settings from environment variables.

use std::ffi::{OsStr, OsString};

use super::error::Problem;
use super::settings::{self, PREFIX};
use super::source::{Assignment, ValueSource};

pub(super) const RUST_LOG: &str = "RUST_LOG";

/// Whether a variable says something to this program. Case is looked past, so that `rproxy_listen` is an error and
/// not silence.
pub(super) fn concerns_us(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name == RUST_LOG.as_bytes()
        || name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

pub(super) fn read(env: &[(OsString, OsString)], given: &mut Vec<Assignment>, problems: &mut Vec<Problem>) {
    let mut variables: Vec<_> = env.iter().filter(|(name, _)| name != RUST_LOG).collect();
    // An environment has no order of its own; messages should have one.
    variables.sort();
    for (name, value) in variables {
        let (name, value) = (name.to_string_lossy(), value.to_str());
        if is_of_a_service(&name, value.unwrap_or_default()) {
            continue;
        }
        let key = name.strip_prefix(PREFIX).map(str::to_ascii_lowercase);
        let setting = key.as_deref().and_then(settings::find).filter(|setting| setting.variable() == name);
        match (setting, value) {
            (Some(setting), Some(value)) => {
                given.push(Assignment { setting, text: value.to_owned(), source: ValueSource::Environment });
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

/// Whether Kubernetes (or Docker's links) put the variable there because a service is called `rproxy`:
/// `RPROXY_SERVICE_HOST`, `RPROXY_SERVICE_PORT_HTTP`, `RPROXY_PORT=tcp://...`, `RPROXY_PORT_80_TCP_ADDR`.
/// Nobody asked for them, so they are no mistake of the user's.
fn is_of_a_service(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let link = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let of_a_port = rest.strip_prefix("PORT_").and_then(|rest| rest.split_once('_')).is_some_and(|(port, rest)| {
        let protocol = rest.split('_').next().unwrap_or_default();
        port.parse::<u16>().is_ok() && matches!(protocol, "TCP" | "UDP" | "SCTP")
    });
    rest == "SERVICE_HOST"
        || rest == "SERVICE_PORT"
        || rest.starts_with("SERVICE_PORT_")
        || rest == "PORT" && link
        || of_a_port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_a_kubernetes_service_are_no_mistake() {
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
            assert_eq!(is_of_a_service(name, value), foreign, "{name}={value}");
        }
    }
}
