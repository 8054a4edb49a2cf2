//! The command that switches an upstream by a request to the admin listener.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rproxy_server::ListenAddr;
use rproxy_upstream::{Backend, Upstream};
use serde_json::Value;
use tower::{BoxError, ServiceExt};

use crate::values::value::format_duration;

/// A request to the admin listener of a running proxy to switch an upstream to other backends.
#[derive(Clone, Debug)]
pub struct Switch {
    admin: Backend,
    target: String,
    deadline: Duration,
}

/// The error of a switch. Nothing was switched, unless the connection to the admin listener failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchCommandError {
    /// The proxy rejected the request, or the new backends are not healthy.
    #[error("not switched: {0}")]
    Rejected(String),
    /// The admin listener did not respond.
    #[error("cannot send the request to the admin listener {admin}: {cause}")]
    Admin {
        /// The address of the admin listener.
        admin: String,
        /// The cause.
        cause: String,
    },
}

/// The arguments of the command.
pub(super) struct Arguments<'a> {
    pub(super) site: Option<&'a str>,
    pub(super) route: Option<&'a str>,
    pub(super) backends: Vec<&'a str>,
    pub(super) deadline: Duration,
    pub(super) is_shared: bool,
}

impl Switch {
    pub(super) fn new(admin: Backend, arguments: &Arguments<'_>) -> Self {
        let encoded = |value: &str| utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
        let Arguments { site, route, backends, deadline, is_shared } = arguments;
        let deadline = *deadline;
        let mut target = format!("/upstream?set={}", encoded(&backends.join(",")));
        target += &format!("&deadline={}ms", deadline.as_millis());
        for (name, value) in [("site", site), ("route", route)] {
            if let Some(value) = value {
                target += &format!("&{name}={}", encoded(value));
            }
        }
        if *is_shared {
            target += "&shared=true";
        }
        Self { admin, target, deadline }
    }

    /// Sends the request, waits for its result, and describes it. Blocks.
    ///
    /// # Errors
    ///
    /// Returns the reason why nothing was switched, or why the result is not known.
    pub fn run(&self) -> Result<String, SwitchCommandError> {
        let failed =
            |cause: BoxError| SwitchCommandError::Admin { admin: self.admin.origin(), cause: cause.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let sent = runtime.map_err(BoxError::from).and_then(|runtime| runtime.block_on(self.send()));
        let (status, body) = sent.map_err(failed)?;
        match status {
            StatusCode::OK => Ok(description(&body).unwrap_or(body)),
            _ => Err(SwitchCommandError::Rejected(body.trim_end().to_owned())),
        }
    }

    async fn send(&self) -> Result<(StatusCode, String), BoxError> {
        // The deadline applies to the health checks, and to the requests in flight.
        let timeout = self.deadline.saturating_mul(2).saturating_add(MARGIN);
        let upstream = Upstream::builder().backends([self.admin.clone()]).timeout(timeout).retries(0).build()?;
        let request = Request::post(self.target.as_str()).body(Empty::<Bytes>::new())?;
        let Ok(response) = upstream.oneshot(request).await;
        if let Some(error) = response.extensions().get::<rproxy_upstream::ProxyError>() {
            return Err(error.to_string().into());
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_RESPONSE).collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// Returns the address at which clients on this machine reach an admin listener.
pub(super) fn local_address(listener: &ListenAddr) -> String {
    match listener {
        ListenAddr::Tcp(address) if address.ip().is_unspecified() => {
            let ip = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            SocketAddr::new(ip, address.port()).to_string()
        }
        other => other.to_string(),
    }
}

/// Describes the outcome that the admin listener sent as JSON.
fn description(body: &str) -> Option<String> {
    let outcome: Value = serde_json::from_str(body).ok()?;
    let list = |key: &str, field: &str| {
        let values = outcome.get(key)?.as_array()?.iter();
        let texts = values.map(|value| value.get(field).unwrap_or(value).as_str().unwrap_or_default());
        Some(texts.collect::<Vec<_>>())
    };
    let number = |key: &str| outcome.get(key)?.as_u64();
    let time = |key: &str| number(key).map(|millis| format_duration(Duration::from_millis(millis)));
    let mut sites = list("sites", "site")?;
    sites.dedup();
    let mut text = format!("switched {} to {}", sites.join(", "), list("backends", "backend")?.join(", "));
    text += &format!("\nhealthy after {}", time("probed_ms")?);
    let removed = list("removed", "")?;
    if !removed.is_empty() {
        let (removed, drained) = (removed.join(", "), number("drained")?);
        text += &format!("\n{drained} requests to {removed} drained in {}", time("drained_ms")?);
    }
    if let Some(left) = number("in_flight").filter(|left| *left > 0) {
        text += &format!("\n{left} requests are still in flight there: do not stop these backends yet");
    }
    Some(text)
}

/// The time in which the admin listener responds in addition to the deadlines.
const MARGIN: Duration = Duration::from_secs(10);
/// The maximum size of its response in bytes.
const MAX_RESPONSE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_contains_the_encoded_arguments() {
        let arguments = Arguments {
            site: Some("a.example"),
            route: Some("GET /a&b/**"),
            backends: vec!["127.0.0.1:1 weight=2", "unix:/run/a"],
            deadline: Duration::from_millis(1500),
            is_shared: true,
        };
        let switch = Switch::new("127.0.0.1:9901".parse().unwrap(), &arguments);
        assert_eq!(
            switch.target,
            "/upstream?set=127%2E0%2E0%2E1%3A1%20weight%3D2%2Cunix%3A%2Frun%2Fa&deadline=1500ms&site=a%2Eexample\
             &route=GET%20%2Fa%26b%2F%2A%2A&shared=true"
        );
    }

    #[test]
    fn describes_the_outcome() {
        let outcome = |removed: &str, in_flight: u64| {
            format!(
                r#"{{"sites":[{{"site":"a","route":""}},{{"site":"a","route":"/x"}}],"backends":[{{"backend":"http://b:1"}}],
                    "removed":[{removed}],"probed_ms":250,"drained":3,"in_flight":{in_flight},"drained_ms":1500}}"#
            )
        };
        assert_eq!(description(&outcome("", 0)).unwrap(), "switched a to http://b:1\nhealthy after 250ms");
        assert_eq!(
            description(&outcome("\"http://b:0\"", 2)).unwrap(),
            "switched a to http://b:1\nhealthy after 250ms\n3 requests to http://b:0 drained in 1s 500ms\n\
             2 requests are still in flight there: do not stop these backends yet"
        );
    }

    #[test]
    fn admin_listener_on_all_addresses_is_reached_by_loopback() {
        for (listener, address) in [
            ("0.0.0.0:9901", "127.0.0.1:9901"),
            ("[::]:9901", "[::1]:9901"),
            ("192.0.2.1:9901", "192.0.2.1:9901"),
            ("unix:/run/admin", "unix:/run/admin"),
        ] {
            assert_eq!(local_address(&listener.parse().unwrap()), address);
        }
    }
}
