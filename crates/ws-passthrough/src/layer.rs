//! The tower layer that forwards WebSockets.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use crate::config::{Config, MessageConfig, PingConfig};
use crate::message::{MessageAction, MessageContext, WsMessage};
use crate::origins::WsOrigins;
use crate::paths::WsPaths;
use crate::service::WsPassthroughService;
use crate::summary::TunnelSummary;
use crate::tunnel_counts::TunnelCounts;
use crate::tunnels::Tunnels;
use crate::upgrade_protocols::UpgradeProtocols;

/// A layer that forwards WebSockets to the inner service.
///
/// Clones share their [`Tunnels`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_ws_passthrough::WsPassthroughLayer;
///
/// let layer = WsPassthroughLayer::new()
///     .paths("/live/**,/hmr".parse()?)
///     .idle_timeout(Duration::from_secs(120))
///     .max_tunnels_per_client(20);
/// # let _ = layer;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct WsPassthroughLayer {
    config: Arc<Config>,
}

impl WsPassthroughLayer {
    /// Creates a layer that forwards WebSockets on all paths and closes idle WebSockets after ten minutes.
    pub fn new() -> Self {
        Self { config: Arc::new(Config::new()) }
    }

    /// Sets the paths that allow WebSockets; all by default. Handshakes for other paths are rejected with 403.
    pub fn paths(mut self, paths: WsPaths) -> Self {
        self.config_mut().paths = Some(paths);
        self
    }

    /// Rejects all WebSocket handshakes with 403.
    pub fn reject_all(mut self) -> Self {
        self.config_mut().paths = None;
        self
    }

    /// Sets the origins of pages that may open WebSockets; all by default. Handshakes of other pages are rejected with 403.
    pub fn origins(mut self, origins: WsOrigins) -> Self {
        self.config_mut().origins = Some(origins);
        self
    }

    /// Sets the protocols other than WebSocket to which clients may upgrade; none by default.
    ///
    /// Requests to upgrade to other protocols are forwarded without `Upgrade`.
    ///
    /// - Such an upgrade uses any method with `Upgrade` (RFC 9110 §7.8) and no content, or extended CONNECT (RFC 8441). The
    ///   inner service must respond with a 101 that names the protocol.
    /// - The limits for WebSockets apply as well: paths, origins, the number of tunnels and their lifetime.
    /// - The layer cannot close such a protocol gracefully, because it does not know it. A draining tunnel stays open until
    ///   the drain time is over.
    /// - When an endpoint fails or the time is over, the layer forwards the pending bytes, but drops the other connection
    ///   without a TLS `close_notify`, so that the truncation can be detected. HTTP/2 streams end normally, because hyper
    ///   cannot reset them here.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_ws_passthrough::WsPassthroughLayer;
    ///
    /// let layer = WsPassthroughLayer::new().upgrade_protocols("tcp,SPDY/3.1".parse()?);
    /// # let _ = layer;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upgrade_protocols(mut self, protocols: UpgradeProtocols) -> Self {
        self.config_mut().upgrade_protocols = protocols;
        self
    }

    /// Sets the counts to which the limits on tunnels and messages apply. By default, all clones of a layer share them.
    ///
    /// The tunnels remain part of [`tunnels`](Self::tunnels).
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_ws_passthrough::{TunnelCounts, WsPassthroughLayer};
    ///
    /// let layer = WsPassthroughLayer::new();
    /// // Up to 100 tunnels of the chat, and any number of others.
    /// let chat = layer.clone().counts(TunnelCounts::default()).max_tunnels(100);
    /// # let _ = chat;
    /// ```
    pub fn counts(mut self, counts: TunnelCounts) -> Self {
        self.config_mut().counts = counts;
        self
    }

    /// Applies the limits to the sum of this layer's [counts](Self::counts) and `others`; by default, to its counts only.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_ws_passthrough::{TunnelCounts, WsPassthroughLayer};
    ///
    /// let (site, chat) = (TunnelCounts::default(), TunnelCounts::default());
    /// let layer = WsPassthroughLayer::new().max_tunnels(100);
    /// // Up to 100 tunnels of the site, including those of the chat, which can be closed separately.
    /// let others = [site.clone(), chat.clone()];
    /// let layers = [site, chat].map(|counts| layer.clone().counts(counts).shared_limits(others.clone()));
    /// # let _ = layers;
    /// ```
    pub fn shared_limits(mut self, others: impl Into<Arc<[TunnelCounts]>>) -> Self {
        self.config_mut().shared_limits = others.into();
        self
    }

    /// Sets the maximum number of open tunnels; no maximum by default. Further handshakes are rejected with 503.
    pub fn max_tunnels(mut self, max: usize) -> Self {
        self.config_mut().max_tunnels = Some(max);
        self
    }

    /// Sets the maximum number of open tunnels per client; no maximum by default. Excess handshakes are rejected with 429.
    ///
    /// A client is identified by the request extension `rproxy_client_ip::ClientIp`; IPv6 clients by their
    /// [prefix](Self::ipv6_prefix). All requests without the extension count as one client.
    pub fn max_tunnels_per_client(mut self, max: usize) -> Self {
        self.config_mut().client_limits.max_tunnels = Some(max);
        self
    }

    /// Sets the prefix length of the network that identifies an IPv6 client; 64 by default, at most 128.
    pub fn ipv6_prefix(mut self, bits: u8) -> Self {
        self.config_mut().client_limits.ipv6_prefix = bits;
        self
    }

    /// Sets the time after which a tunnel is closed; no limit by default.
    pub fn max_lifetime(mut self, max: Duration) -> Self {
        self.config_mut().max_lifetime = Some(max);
        self
    }

    /// Sets the idle timeout, after which a tunnel without traffic is closed; ten minutes by default.
    ///
    /// The default is longer than the ping interval of common libraries.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.config_mut().timeouts.idle = timeout;
        self
    }

    /// Sets the maximum time for both endpoints to reply to this proxy's Close frame; five seconds by default.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.config_mut().timeouts.close = timeout;
        self
    }

    /// Sets the maximum size of a WebSocket message, and enables message mode.
    ///
    /// In message mode, the layer relays whole messages instead of bytes. It is off by default. The methods
    /// [`max_frame_size`](Self::max_frame_size), [`message_rate`](Self::message_rate), [`ping`](Self::ping) and
    /// [`on_message`](Self::on_message) enable it as well, with a maximum size of 16 MiB.
    ///
    /// - A tunnel buffers up to one message in each direction.
    /// - An endpoint gets a Close with 1009 for a message that is too large, 1007 for text that is not UTF-8, and 1002 for an
    ///   invalid frame (RFC 6455 §7.4.1).
    /// - If the upstream disconnects without a Close, the client gets a Close with 1011.
    /// - The layer replies to pings itself.
    /// - The layer does not offer extensions, such as compression, to the upstream.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.messages_mut().max_message = bytes;
        self
    }

    /// Sets the maximum size of a WebSocket frame, and enables [message mode](Self::max_message_size).
    ///
    /// An endpoint that sends a larger frame gets a Close with 1009. By default, the maximum is that of a message.
    pub fn max_frame_size(mut self, bytes: usize) -> Self {
        self.messages_mut().max_frame = bytes;
        self
    }

    /// Sets the maximum rate of messages per client, and enables [message mode](Self::max_message_size).
    ///
    /// All tunnels of a client count together. A client that exceeds the rate gets a Close with 1008. There is no maximum by
    /// default.
    pub fn message_rate(mut self, per_second: NonZeroU32) -> Self {
        self.messages_mut();
        self.config_mut().client_limits.message_rate = Some(per_second);
        self
    }

    /// Sends pings to both endpoints, and enables [message mode](Self::max_message_size). No pings are sent by default.
    ///
    /// The tunnel is closed if an endpoint sends nothing within `timeout` after a ping. The minimum of `interval` is one
    /// second.
    pub fn ping(mut self, interval: Duration, timeout: Duration) -> Self {
        self.messages_mut().pings = Some(PingConfig { interval: interval.max(Duration::from_secs(1)), timeout });
        self
    }

    /// Sets a function that is called with each message, and enables [message mode](Self::max_message_size).
    ///
    /// The function can change the message, drop it, or close the tunnel. It runs on the tunnel's task, so it must not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_ws_passthrough::{MessageAction, WsEndpoint, WsMessage, WsPassthroughLayer};
    ///
    /// let layer = WsPassthroughLayer::new().on_message(|context, message| match message {
    ///     WsMessage::Text(text) if context.from == WsEndpoint::Client => {
    ///         *text = text.replace("secret", "***");
    ///         MessageAction::Forward
    ///     }
    ///     WsMessage::Binary(_) => MessageAction::Close(1003),
    ///     _ => MessageAction::Forward,
    /// });
    /// # let _ = layer;
    /// ```
    pub fn on_message(
        mut self,
        on_message: impl Fn(&MessageContext<'_>, &mut WsMessage) -> MessageAction + Send + Sync + 'static,
    ) -> Self {
        self.messages_mut().on_message = Some(Arc::new(on_message));
        self
    }

    /// Sets whether the inner service receives `Connection` and `Upgrade` in a handshake; off by default.
    ///
    /// hyper-util's clients need these fields. `rproxy-upstream` needs only the extension [`hyper::ext::Protocol`], which is
    /// always present.
    pub fn keep_upgrade_fields(mut self, keep: bool) -> Self {
        self.config_mut().keep_upgrade_fields = keep;
        self
    }

    /// Calls `on_close` with a summary at the end of each tunnel. The function runs on the tunnel's task, so it must not block.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_ws_passthrough::WsPassthroughLayer;
    ///
    /// let layer = WsPassthroughLayer::new().on_close(|summary| {
    ///     println!("{} closed by {} after {:?}", summary.path, summary.closed_by.as_str(), summary.duration);
    /// });
    /// # let _ = layer;
    /// ```
    pub fn on_close(mut self, on_close: impl Fn(&TunnelSummary) + Send + Sync + 'static) -> Self {
        self.config_mut().on_close = Some(Arc::new(on_close));
        self
    }

    /// Returns the handle for counting and draining the tunnels of this layer.
    #[must_use]
    pub fn tunnels(&self) -> Tunnels {
        self.config.tunnels.clone()
    }

    fn messages_mut(&mut self) -> &mut MessageConfig {
        self.config_mut().messages.get_or_insert_default()
    }

    fn config_mut(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }
}

impl Default for WsPassthroughLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for WsPassthroughLayer {
    type Service = WsPassthroughService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WsPassthroughService::new(inner, Arc::clone(&self.config))
    }
}
