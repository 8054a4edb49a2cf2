//! A [`tower_layer::Layer`] that lets WebSockets through a proxy.
//!
//! ```
//! use axum::Router;
//! use axum::body::Body;
//! use futures_util::{SinkExt, StreamExt};
//! use rproxy_upstream::Upstream;
//! use rproxy_ws_passthrough::WsPassthroughLayer;
//! use tokio::net::TcpListener;
//! use tokio_tungstenite::tungstenite::Message;
//! use tokio_tungstenite::{accept_async, connect_async};
//! use tower::BoxError;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     // A WebSocket server that says hello.
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let backend = format!("http://{}", listener.local_addr()?);
//!     tokio::spawn(async move {
//!         let (socket, _) = listener.accept().await?;
//!         let mut socket = accept_async(socket).await?;
//!         socket.send(Message::text("hello")).await?;
//!         while let Some(Ok(_)) = socket.next().await {}
//!         Ok::<_, BoxError>(())
//!     });
//!
//!     // The proxy in front of it.
//!     let upstream: Upstream<Body> = Upstream::builder().backend(&backend)?.build()?;
//!     let layer = WsPassthroughLayer::new().paths("/live/**,/hmr".parse()?);
//!     let tunnels = layer.tunnels();
//!     let proxy = Router::new().fallback_service(upstream).layer(layer);
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?;
//!     tokio::spawn(async move { axum::serve(listener, proxy).await });
//!
//!     let (mut client, _) = connect_async(format!("ws://{address}/live/news")).await?;
//!     assert_eq!(client.next().await.transpose()?, Some(Message::text("hello")));
//!     // Elsewhere: 403.
//!     assert!(connect_async(format!("ws://{address}/other")).await.is_err());
//!
//!     // At the end: Close to both ends, and time to answer.
//!     tunnels.drain();
//!     while let Some(Ok(_)) = client.next().await {}
//!     tunnels.closed().await;
//!     Ok(())
//! }
//! ```
//!
//! # What it does
//!
//! A handshake (RFC 6455 §4.2.1) is checked in full and goes down the same stack as any request. If
//! the answer is a 101 with the right `Sec-WebSocket-Accept`, the client gets it, and from then on
//! bytes flow both ways, as they are: subprotocols and extensions are a matter between the two ends.
//! Any other answer goes to the client as it is.
//!
//! By HTTP/2, a client asks with an extended CONNECT (RFC 8441); the inner service sees the
//! handshake of HTTP/1.1 all the same. The server must have been told to allow it
//! (`enable_connect_protocol`).
//!
//! The inner service sees a GET with the extension [`hyper::ext::Protocol`] `websocket`, without
//! `Upgrade` and without the connection options that belong to it. It opens a connection of its own
//! and returns the 101 with [`hyper::upgrade::OnUpgrade`] in its extensions, as `rproxy-upstream`
//! does. If it asks by HTTP/2 in turn, there is no `Sec-WebSocket-Accept` (RFC 8441 §5); it says so by the
//! same [`hyper::ext::Protocol`] in the response. Clients that want to see the fields, such as hyper-util's, get them with
//! [`keep_upgrade_fields`](WsPassthroughLayer::keep_upgrade_fields).
//!
//! A request to upgrade to anything else goes on as an ordinary one, without `Upgrade` (RFC 9110
//! §7.8), unless that is [allowed by name](WsPassthroughLayer::upgrade_protocols). Other requests pass untouched.
//!
//! A tunnel that is silent for ten minutes [is closed](WsPassthroughLayer::idle_timeout). An end that
//! has no more to say can still listen. A slow reader slows the sender down: in each direction, a
//! tunnel holds no more than the 8 KiB that it could not pass on yet, and nothing while it is idle.
//!
//! Below a router that strips a prefix from the path, as axum's `Router::nest` does, [`paths`](WsPassthroughLayer::paths) are for the
//! rest; with the feature `axum` they are for the path that the client sent (axum's `OriginalUri`).
//!
//! Tunnels outlive their requests, and servers do not count them: [`Tunnels`] does. When it drains
//! them, or when one is idle, both ends get a Close with 1001 (going away), not before the end of the
//! message that they are being sent, and have five seconds to answer. With
//! [`drain_within`](Tunnels::drain_within) they are told one after the other, so that clients do not all
//! come back in one second. To know where a message ends, frame headers are followed; of payloads,
//! nothing is looked at but the code of a Close.
//!
//! What there may be is limited by [`max_tunnels`](WsPassthroughLayer::max_tunnels),
//! [`max_tunnels_per_client`](WsPassthroughLayer::max_tunnels_per_client) and
//! [`max_lifetime`](WsPassthroughLayer::max_lifetime), and who may have one by
//! [`origins`](WsPassthroughLayer::origins): a browser sends cookies along, whatever page it is that asks.
//!
//! What became of a tunnel is told by [`on_close`](WsPassthroughLayer::on_close), and to a layer outside
//! by the [`TunnelHandle`] in the response that opened it.
//!
//! # By message
//!
//! With [`max_message_size`](WsPassthroughLayer::max_message_size), messages are passed on instead of
//! bytes, and those that are too large, or not what RFC 6455 allows, are not. Then there can be a
//! [rate](WsPassthroughLayer::message_rate), [pings](WsPassthroughLayer::ping) to find ends that are
//! gone, and [code](WsPassthroughLayer::on_message) that sees each message and may change it. That takes
//! memory: a message each way, and 8 KiB for each of the two sockets. And there is no compression: frames
//! are read and written by tungstenite, which knows no extension (RFC 7692), so none is offered to the upstream, and
//! one that it takes all the same is a 502.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `axum` | Matches the path that the client sent (axum's `OriginalUri`), also below `Router::nest` |
//!
//! # How it fails
//!
//! With a response, and a [`WsDecision`] in its extensions; errors of the inner service pass through.
//!
//! | Status | When |
//! |---|---|
//! | 400 | not a handshake: method, HTTP version, `Sec-WebSocket-Key`, a body |
//! | 426 | a `Sec-WebSocket-Version` other than 13, with the one that is |
//! | 403 | a path without WebSockets, a page of another origin |
//! | 429 | as many tunnels of this client as one may have |
//! | 501 | extended CONNECT for a protocol that is not allowed; a server that can't let go of the connection |
//! | 502 | the inner service switched protocols unasked, or without the right `Sec-WebSocket-Accept` |
//! | 503 | the tunnels are being drained, or there are as many as may be |
//!
//! When one end of a tunnel fails, what it has said still arrives, and both connections are ended: in good order,
//! as a WebSocket without a Close has no good end anyway, and [otherwise](WsPassthroughLayer::upgrade_protocols) so that it
//! does not look like one.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod byte_relay;
mod client_limits;
mod config;
mod decision;
mod frame_tracker;
mod future;
/// The functions that the fuzz targets call. Not part of the public API.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod handshake;
mod layer;
mod message;
mod message_relay;
mod metered_socket;
mod original_uri;
mod origins;
mod paths;
mod pending_handshake;
mod protocol_switch;
mod rejection;
mod service;
mod stats;
mod summary;
mod tunnel_handle;
mod tunnels;
mod upgrade_protocols;

pub use self::decision::WsDecision;
pub use self::future::{ResponseBody, ResponseFuture};
pub use self::layer::WsPassthroughLayer;
pub use self::message::{MessageAction, MessageContext, WsEndpoint, WsMessage};
pub use self::origins::{WsOrigins, WsOriginsError};
pub use self::paths::{WsPaths, WsPathsError};
pub use self::rejection::{BadHandshake, WsRejection};
pub use self::service::WsPassthroughService;
pub use self::stats::TunnelStats;
pub use self::summary::{ClosedBy, TunnelSummary};
pub use self::tunnel_handle::TunnelHandle;
pub use self::tunnels::Tunnels;
pub use self::upgrade_protocols::{UpgradeProtocols, UpgradeProtocolsError};
