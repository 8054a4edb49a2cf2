//! The settings of WebSockets and other upgrades.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use rproxy_ws_passthrough::{UpgradeProtocols, WsOrigins, WsPassthroughLayer, WsPaths};

use crate::known_rejection::KnownRejection;
use crate::setting::{DURATION, PATHS, SWITCH, connections, settings};
use crate::values::parsed::Parsed;
use crate::values::paths;
use crate::values::value::{boolean, count, duration, format_duration, format_size, optional, size, timeout};

/// The rejections of WebSocket handshakes.
pub(crate) const REJECTIONS: &[KnownRejection] = &[
    // The causes that no setting decides.
    KnownRejection::new("websocket", "websocket"),
    KnownRejection::new("websocket", "forbidden_path")
        .explained("RPROXY_WS_PATHS does not match the path, or RPROXY_WS_ENABLED is false"),
    KnownRejection::new("websocket", "forbidden_origin").explained("RPROXY_WS_ORIGINS does not list the origin"),
    KnownRejection::new("websocket", "too_many_tunnels")
        .explained("the limit of RPROXY_WS_MAX_CONNECTIONS open WebSockets is reached"),
    KnownRejection::new("websocket", "too_many_tunnels_per_client")
        .explained("the client has reached the limit of RPROXY_WS_MAX_PER_CLIENT open WebSockets")
        .logged(),
    KnownRejection::new("websocket", "unsupported_protocol").explained("RPROXY_UPGRADES does not list the protocol"),
];

settings! {
    /// The settings of WebSockets and other upgrades.
    WebSocketSettings, "WebSocket"

    "ws_enabled" => enabled: bool {
        value: "BOOL",
        default: "true",
        help: "Forwards WebSocket upgrades",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.enabled.to_string()),
    }

    "ws_paths" => paths: Parsed<WsPaths> {
        value: "GLOB,...",
        default: paths::WEBSOCKETS,
        help: "Paths on which upgrades are forwarded; upgrades on other paths are rejected",
        accepted: PATHS,
        scope: Route,
        reload: Live,
        parse: paths::globs,
        show: |s| Some(s.paths.text().to_owned()),
    }

    "ws_origins" => origins: Option<Parsed<WsOrigins>> {
        value: "ORIGIN,...",
        default: "any" => None,
        help: "Web origins that may open a WebSocket; other origins get 403. Clients that send no Origin are allowed",
        accepted: "comma-separated origins: https://app.example, https://*.example.org, self, null",
        scope: Route,
        reload: Live,
        parse: |t| optional(t, str::parse),
        show: |s| s.origins.as_ref().map(|origins| origins.text().to_owned()),
    }

    "upgrades" => upgrades: Option<Parsed<UpgradeProtocols>> {
        value: "PROTOCOL,...",
        default: "none" => None,
        help: "Additional protocols for which upgrades are forwarded as byte tunnels, under the rules for WebSockets",
        accepted: "comma-separated protocol names as in Upgrade, such as tcp or SPDY/3.1; HTTP and TLS are not accepted",
        scope: Route,
        reload: Live,
        parse: |t| optional(t, str::parse),
        show: |s| s.upgrades.as_ref().map(|protocols| protocols.text().to_owned()),
    }

    "ws_idle_timeout" => idle_timeout: Duration {
        value: "DURATION",
        default: "10m",
        help: "Closes a WebSocket after this time without traffic",
        accepted: DURATION,
        scope: Route,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.idle_timeout)),
    }

    "ws_lifetime" => lifetime: Option<Duration> {
        value: "DURATION",
        default: "`0` (no limit)" => None,
        help: "Closes a WebSocket after this time, even if it is active",
        accepted: "a duration such as 500ms, 2m or 1h; a bare number is seconds; 0 for no limit",
        scope: Route,
        reload: Live,
        parse: |t| duration(t).map(|time| (!time.is_zero()).then_some(time)),
        show: |s| Some(s.lifetime.map_or_else(|| "0".to_owned(), format_duration)),
    }

    "ws_max_connections" => max_connections: Option<NonZeroUsize> {
        value: "NUMBER",
        default: "`0` (no limit)" => None,
        help: "Maximum number of open WebSockets; additional ones get 503",
        accepted: "a whole number up to 1000000; 0 for no limit",
        scope: Route,
        reload: Live,
        parse: |t| count(t, 1_000_000).map(connections),
        show: |s| Some(s.max_connections.map_or_else(|| "0".to_owned(), |most| most.to_string())),
    }

    "ws_max_per_client" => max_per_client: Option<NonZeroUsize> {
        value: "NUMBER",
        default: "`0` (no limit)" => None,
        help: "Maximum number of open WebSockets per client; additional ones get 429",
        accepted: "a whole number up to 1000000; 0 for no limit",
        scope: Route,
        reload: Live,
        parse: |t| count(t, 1_000_000).map(connections),
        show: |s| Some(s.max_per_client.map_or_else(|| "0".to_owned(), |most| most.to_string())),
    }

    "ws_max_message" => max_message: Option<u64> {
        value: "SIZE",
        default: "`0` (no limit)" => None,
        help: "Maximum size of a WebSocket message; a larger one closes the WebSocket with 1009. Disables WebSocket compression",
        accepted: "a size such as 1MiB; a bare number is bytes; 0 for no limit",
        scope: Route,
        reload: Live,
        parse: |t| size(t, 1).map(|bytes| (bytes > 0).then_some(bytes)),
        show: |s| Some(s.max_message.map_or_else(|| "0".to_owned(), format_size)),
    }

    "ws_message_rate" => message_rate: Option<NonZeroU32> {
        value: "NUMBER",
        default: "`0` (no limit)" => None,
        help: "Maximum number of WebSocket messages per second from one client; a higher rate closes the WebSocket with 1008. Disables WebSocket compression",
        accepted: "a whole number up to 1000000; 0 for no limit",
        scope: Route,
        reload: Live,
        parse: |t| count(t, 1_000_000).map(NonZeroU32::new),
        show: |s| Some(s.message_rate.map_or_else(|| "0".to_owned(), |rate| rate.to_string())),
    }

    "ws_ping_interval" => ping_interval: Option<Duration> {
        value: "DURATION",
        default: "`0` (never)" => None,
        help: "Interval of pings to both endpoints of a WebSocket; an endpoint that is silent for 10 s after a ping is disconnected. Disables WebSocket compression",
        accepted: "a duration such as 500ms, 2m or 1h; a bare number is seconds; 0 for no pings",
        scope: Route,
        reload: Live,
        parse: |t| duration(t).map(|time| (!time.is_zero()).then_some(time)),
        show: |s| Some(s.ping_interval.map_or_else(|| "0".to_owned(), format_duration)),
    }
}

impl WebSocketSettings {
    /// Returns whether tunnels or messages are limited.
    pub(crate) fn has_limits(&self) -> bool {
        self.max_connections.is_some() || self.max_per_client.is_some() || self.message_rate.is_some()
    }

    /// Applies these settings to the WebSocket layer. Clients are counted by IPv6 prefixes of `ipv6_prefix` bits.
    pub(crate) fn apply(&self, layer: WsPassthroughLayer, ipv6_prefix: u8) -> WsPassthroughLayer {
        if !self.enabled {
            return layer.reject_all();
        }
        let mut layer =
            layer.paths(self.paths.value().clone()).idle_timeout(self.idle_timeout).ipv6_prefix(ipv6_prefix);
        if let Some(origins) = &self.origins {
            layer = layer.origins(origins.value().clone());
        }
        if let Some(protocols) = &self.upgrades {
            layer = layer.upgrade_protocols(protocols.value().clone());
        }
        if let Some(time) = self.lifetime {
            layer = layer.max_lifetime(time);
        }
        if let Some(max) = self.max_connections {
            layer = layer.max_tunnels(max.get());
        }
        if let Some(max) = self.max_per_client {
            layer = layer.max_tunnels_per_client(max.get());
        }
        if let Some(bytes) = self.max_message {
            layer = layer.max_message_size(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        if let Some(rate) = self.message_rate {
            layer = layer.message_rate(rate);
        }
        if let Some(interval) = self.ping_interval {
            layer = layer.ping(interval, Duration::from_secs(10));
        }
        layer
    }

    pub(crate) fn describe(&self) -> String {
        if !self.enabled {
            return "WsPassthrough    rejects every upgrade".to_owned();
        }
        let others = self.upgrades.as_ref().map(|others| format!(", and upgrades to {}", others.text()));
        format!("WsPassthrough    {}{}", self.paths.text(), others.unwrap_or_default())
    }
}
