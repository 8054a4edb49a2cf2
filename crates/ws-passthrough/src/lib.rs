//! A [`tower_layer::Layer`] that lets WebSockets through a proxy.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod direction;
mod frames;
mod future;
mod handshake;
mod layer;
mod opening;
mod paths;
mod refusal;
mod service;
mod summary;
mod tunnel;
mod tunnels;

pub use self::future::ResponseFuture;
pub use self::layer::WsPassthroughLayer;
pub use self::paths::{WsPaths, WsPathsError};
pub use self::refusal::{BadHandshake, Refusal, WsDecision};
pub use self::service::WsPassthroughService;
pub use self::summary::{ClosedBy, TunnelSummary};
pub use self::tunnels::Tunnels;
