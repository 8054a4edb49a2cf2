//! The configuration of a layer, shared with its services.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client_limits::ClientLimits;
use crate::message::OnMessage;
use crate::origins::WsOrigins;
use crate::paths::WsPaths;
use crate::summary::TunnelSummary;
use crate::tunnel_counts::TunnelCounts;
use crate::tunnels::Tunnels;
use crate::upgrade_protocols::UpgradeProtocols;

pub(crate) type OnClose = dyn Fn(&TunnelSummary) + Send + Sync;

#[derive(Clone)]
pub(crate) struct Config {
    /// The paths that allow WebSockets, or `None` to reject all handshakes.
    pub(crate) paths: Option<WsPaths>,
    /// The origins whose pages may open WebSockets, or `None` to allow all origins.
    pub(crate) origins: Option<WsOrigins>,
    pub(crate) upgrade_protocols: UpgradeProtocols,
    pub(crate) keep_upgrade_fields: bool,
    pub(crate) timeouts: Timeouts,
    /// The time after which a tunnel is closed, or `None` for no limit.
    pub(crate) max_lifetime: Option<Duration>,
    /// The maximum number of open tunnels, or `None` for no limit.
    pub(crate) max_tunnels: Option<usize>,
    pub(crate) client_limits: ClientLimits,
    /// The configuration of message mode, or `None` to relay bytes instead of messages.
    pub(crate) messages: Option<MessageConfig>,
    pub(crate) counts: TunnelCounts,
    /// Further counts to which the limits apply.
    pub(crate) shared_limits: Arc<[TunnelCounts]>,
    pub(crate) tunnels: Tunnels,
    pub(crate) on_close: Option<Arc<OnClose>>,
}

/// The idle timeout and the close timeout of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) idle: Duration,
    /// The maximum time for both endpoints to reply to a Close frame of this proxy.
    pub(crate) close: Duration,
}

/// The configuration of message mode: size limits, pings and the `on_message` function.
#[derive(Clone)]
pub(crate) struct MessageConfig {
    pub(crate) max_message: usize,
    pub(crate) max_frame: usize,
    pub(crate) pings: Option<PingConfig>,
    pub(crate) on_message: Option<Arc<OnMessage>>,
}

/// The interval of pings, and the maximum time for an endpoint to reply to one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PingConfig {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

impl Config {
    pub(crate) fn new() -> Self {
        Self {
            paths: Some(WsPaths::all()),
            origins: None,
            upgrade_protocols: UpgradeProtocols::default(),
            keep_upgrade_fields: false,
            timeouts: Timeouts { idle: Duration::from_secs(600), close: Duration::from_secs(5) },
            max_lifetime: None,
            max_tunnels: None,
            client_limits: ClientLimits::default(),
            messages: None,
            counts: TunnelCounts::default(),
            shared_limits: Arc::default(),
            tunnels: Tunnels::new(),
            on_close: None,
        }
    }

    pub(crate) fn allows_path(&self, path: &str) -> bool {
        self.paths.as_ref().is_some_and(|paths| paths.contains(path))
    }
}

impl Default for MessageConfig {
    fn default() -> Self {
        Self { max_message: 16 << 20, max_frame: usize::MAX, pings: None, on_message: None }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            paths,
            origins,
            upgrade_protocols,
            keep_upgrade_fields,
            timeouts,
            max_lifetime,
            max_tunnels,
            client_limits,
            messages,
            counts: _,
            shared_limits: _,
            tunnels: _,
            on_close: _,
        } = self;
        f.debug_struct("Config")
            .field("paths", paths)
            .field("origins", origins)
            .field("upgrade_protocols", upgrade_protocols)
            .field("keep_upgrade_fields", keep_upgrade_fields)
            .field("timeouts", timeouts)
            .field("max_lifetime", max_lifetime)
            .field("max_tunnels", max_tunnels)
            .field("client_limits", client_limits)
            .field("messages", messages)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MessageConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_message, max_frame, pings, on_message: _ } = self;
        f.debug_struct("MessageConfig")
            .field("max_message", max_message)
            .field("max_frame", max_frame)
            .field("pings", pings)
            .finish_non_exhaustive()
    }
}
