//! The layer and its settings.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use crate::clients::ClientLimits;
use crate::message::{MessageContext, OnMessage, Verdict, WsMessage};
use crate::messages::{MessageSettings, Pings};
use crate::origins::WsOrigins;
use crate::paths::WsPaths;
use crate::protocols::UpgradeProtocols;
use crate::service::WsPassthroughService;
use crate::summary::TunnelSummary;
use crate::tunnel::Limits;
use crate::tunnels::Tunnels;

/// Lets WebSockets through. Clones share their [`Tunnels`].
#[derive(Clone, Debug)]
#[must_use]
pub struct WsPassthroughLayer {
    settings: Arc<Settings>,
}

pub(crate) type OnClose = dyn Fn(&TunnelSummary) + Send + Sync;

#[derive(Clone)]
pub(crate) struct Settings {
    /// `None`: nowhere.
    pub(crate) paths: Option<WsPaths>,
    /// `None`: all.
    pub(crate) origins: Option<WsOrigins>,
    /// What else than a WebSocket is let through.
    pub(crate) upgrades: UpgradeProtocols,
    pub(crate) keep_upgrade_fields: bool,
    pub(crate) limits: Limits,
    /// How long a tunnel may last; `None` for any time.
    pub(crate) lifetime: Option<Duration>,
    /// How many tunnels there may be.
    pub(crate) max_tunnels: Option<usize>,
    pub(crate) client_limits: ClientLimits,
    /// `None`: bytes, not messages.
    pub(crate) messages: Option<MessageSettings>,
    pub(crate) tunnels: Tunnels,
    pub(crate) on_close: Option<Arc<OnClose>>,
}

impl WsPassthroughLayer {
    /// On every path; ten minutes of silence end a tunnel.
    pub fn new() -> Self {
        let limits = Limits { idle: Duration::from_secs(600), close: Duration::from_secs(5) };
        Self {
            settings: Arc::new(Settings {
                paths: Some(WsPaths::all()),
                origins: None,
                upgrades: UpgradeProtocols::default(),
                keep_upgrade_fields: false,
                limits,
                lifetime: None,
                max_tunnels: None,
                client_limits: ClientLimits::default(),
                messages: None,
                tunnels: Tunnels::new(),
                on_close: None,
            }),
        }
    }

    /// Where WebSockets are let through; elsewhere a handshake gets 403.
    pub fn paths(mut self, paths: WsPaths) -> Self {
        self.change().paths = Some(paths);
        self
    }

    /// Lets no WebSocket through: every handshake gets 403.
    pub fn refuse_all(mut self) -> Self {
        self.change().paths = None;
        self
    }

    /// Which pages may open a WebSocket; a handshake from others gets 403. All may, unless said otherwise.
    pub fn origins(mut self, origins: WsOrigins) -> Self {
        self.change().origins = Some(origins);
        self
    }

    /// Protocols besides WebSocket that clients may change to. None, unless said otherwise: a request to change to any
    /// other goes on as an ordinary one.
    ///
    /// ```
    /// # use rproxy_ws_passthrough::WsPassthroughLayer;
    /// let layer = WsPassthroughLayer::new().upgrades("tcp,SPDY/3.1".parse()?);
    /// # let _ = layer;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A client asks with any method by `Upgrade` (RFC 9110 §7.8), as long as it sends no content, or by extended
    /// CONNECT (RFC 8441); the inner service sees the one that is asked for, and must answer 101 and name it. The rules
    /// for WebSockets hold: paths, origins, how many, for how long. But of what is said then, nothing is known. A tunnel
    /// that is to end is told so by nobody: when it is drained, it may go on for as long as there is time. And when an
    /// end fails, or time is up, the other gets what there was to send and no good end, so that over TLS it can tell. (Over
    /// HTTP/2 it can't: all that hyper does to a stream that is dropped is to end it.)
    pub fn upgrades(mut self, protocols: UpgradeProtocols) -> Self {
        self.change().upgrades = protocols;
        self
    }

    /// How many tunnels may be open, of all clients together; a further handshake gets 503. Any number,
    /// unless said otherwise.
    pub fn max_tunnels(mut self, tunnels: usize) -> Self {
        self.change().max_tunnels = Some(tunnels);
        self
    }

    /// How many tunnels one client may have open; its next handshake gets 429. Any number, unless said
    /// otherwise.
    ///
    /// A client is who the extension `rproxy_client_ip::ClientIp` of the request says it is, by the
    /// [prefix](Self::ipv6_prefix) of an IPv6 address. Those that nobody has told of count as one.
    pub fn max_tunnels_per_client(mut self, tunnels: usize) -> Self {
        self.change().client_limits.tunnels = Some(tunnels);
        self
    }

    /// How many bits of an IPv6 address tell clients apart. 64, unless said otherwise; more than 128 are 128.
    pub fn ipv6_prefix(mut self, bits: u8) -> Self {
        self.change().client_limits.ipv6_prefix = bits;
        self
    }

    /// How long a tunnel may be open before it is closed. Any time, unless said otherwise.
    pub fn lifetime(mut self, time: Duration) -> Self {
        self.change().lifetime = Some(time);
        self
    }

    /// After how long without a byte either way a tunnel is closed. Ten minutes, unless said
    /// otherwise: longer than the pings of any usual library are apart.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.change().limits.idle = timeout;
        self
    }

    /// How long both ends have to answer when the proxy closes a tunnel. Five seconds, unless said
    /// otherwise.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.change().limits.close = timeout;
        self
    }

    /// Passes messages on rather than bytes, and none of more than `bytes`, which is what a tunnel may
    /// then hold in each direction.
    ///
    /// Whoever sends a larger one gets a Close with 1009, for text that is not UTF-8 with 1007, and
    /// for what is no WebSocket frame with 1002 (RFC 6455 §7.4.1). If the upstream is gone, the client
    /// is told so: 1011. Pings are answered here. Extensions, such as compression, are not offered
    /// to the upstream. Off, unless said otherwise, here or by one of the next four; then 16 MiB.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.messages().max_message = bytes;
        self
    }

    /// [Passes messages on](Self::max_message_size), and no frame of more than `bytes`: 1009. As large
    /// as a message, unless said otherwise.
    pub fn max_frame_size(mut self, bytes: usize) -> Self {
        self.messages().max_frame = bytes;
        self
    }

    /// [Passes messages on](Self::max_message_size), and no more than so many in a second from one
    /// client, in all of its tunnels together: it gets a Close with 1008. Any number, unless said
    /// otherwise.
    pub fn message_rate(mut self, per_second: NonZeroU32) -> Self {
        self.messages();
        self.change().client_limits.messages = Some(per_second);
        self
    }

    /// [Passes messages on](Self::max_message_size), and pings both ends every `interval`. If then
    /// nothing comes from one within `timeout`, it is taken for gone. No pings, unless said otherwise.
    ///
    /// An interval below a second is one second.
    pub fn ping(mut self, interval: Duration, timeout: Duration) -> Self {
        self.messages().pings = Some(Pings { interval: interval.max(Duration::from_secs(1)), timeout });
        self
    }

    /// [Passes messages on](Self::max_message_size), and asks `judge` about each, which may change it.
    ///
    /// ```
    /// use rproxy_ws_passthrough::{Verdict, WsEnd, WsMessage, WsPassthroughLayer};
    ///
    /// let layer = WsPassthroughLayer::new().on_message(|context, message| match message {
    ///     WsMessage::Text(text) if context.from == WsEnd::Client => {
    ///         *text = text.replace("secret", "***");
    ///         Verdict::Pass
    ///     }
    ///     WsMessage::Binary(_) => Verdict::Close(1003),
    ///     _ => Verdict::Pass,
    /// });
    /// # let _ = layer;
    /// ```
    ///
    /// It runs on the tunnel's task, and must not block.
    pub fn on_message(
        mut self,
        judge: impl Fn(&MessageContext<'_>, &mut WsMessage) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        let judge: Arc<OnMessage> = Arc::new(judge);
        self.messages().judge = Some(judge);
        self
    }

    /// Whether the inner service is told of a switch of protocols by `Connection` and `Upgrade`, too, as
    /// hyper-util's clients need it. Without, it is told by the extension [`hyper::ext::Protocol`]
    /// alone, as `rproxy-upstream` wants it.
    pub fn keep_upgrade_fields(mut self, keep: bool) -> Self {
        self.change().keep_upgrade_fields = keep;
        self
    }

    /// Calls `tell` at the end of each tunnel. It runs on the tunnel's task, and must not block.
    pub fn on_close(mut self, tell: impl Fn(&TunnelSummary) + Send + Sync + 'static) -> Self {
        self.change().on_close = Some(Arc::new(tell));
        self
    }

    /// The tunnels, to count and to drain.
    #[must_use]
    pub fn tunnels(&self) -> Tunnels {
        self.settings.tunnels.clone()
    }

    fn messages(&mut self) -> &mut MessageSettings {
        self.change().messages.get_or_insert_default()
    }

    fn change(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
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
        WsPassthroughService::new(inner, Arc::clone(&self.settings))
    }
}

impl Settings {
    pub(crate) fn allows(&self, path: &str) -> bool {
        self.paths.as_ref().is_some_and(|paths| paths.contains(path))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            paths,
            origins,
            upgrades,
            keep_upgrade_fields,
            limits,
            lifetime,
            max_tunnels,
            client_limits,
            messages,
            tunnels: _,
            on_close: _,
        } = self;
        f.debug_struct("Settings")
            .field("paths", paths)
            .field("origins", origins)
            .field("upgrades", upgrades)
            .field("keep_upgrade_fields", keep_upgrade_fields)
            .field("limits", limits)
            .field("lifetime", lifetime)
            .field("max_tunnels", max_tunnels)
            .field("client_limits", client_limits)
            .field("messages", messages)
            .finish_non_exhaustive()
    }
}
