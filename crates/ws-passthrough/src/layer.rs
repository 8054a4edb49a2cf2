//! The layer and its settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use crate::paths::WsPaths;
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
    pub(crate) keep_upgrade_fields: bool,
    pub(crate) limits: Limits,
    /// `None`: bytes, not messages.
    pub(crate) max_message_size: Option<usize>,
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
                keep_upgrade_fields: false,
                limits,
                max_message_size: None,
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
    /// to the upstream. Off, unless said otherwise.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.change().max_message_size = Some(bytes);
        self
    }

    /// Whether the inner service is told of a WebSocket by `Connection` and `Upgrade`, too, as
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
        let Self { paths, keep_upgrade_fields, limits, max_message_size, tunnels, on_close: _ } = self;
        f.debug_struct("Settings")
            .field("paths", paths)
            .field("keep_upgrade_fields", keep_upgrade_fields)
            .field("limits", limits)
            .field("max_message_size", max_message_size)
            .field("tunnels", tunnels)
            .finish_non_exhaustive()
    }
}
