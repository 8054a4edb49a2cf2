//! A tower layer that proxies WebSockets over HTTP/1.1 and HTTP/2.
//!
//! [`WsPassthroughLayer`] checks handshakes, forwards them through the inner service like any request, and tunnels
//! bytes after a 101. It counts tunnels, limits them, and closes them gracefully at shutdown.
//!
//! # Example
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
//!     // A WebSocket backend that sends "hello".
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
//!     // Other paths get 403.
//!     assert!(connect_async(format!("ws://{address}/other")).await.is_err());
//!
//!     // Shutdown: both sides get a Close frame and time to answer it.
//!     tunnels.drain();
//!     while let Some(Ok(_)) = client.next().await {}
//!     tunnels.closed().await;
//!     Ok(())
//! }
//! ```
//!
//! # Handshakes
//!
//! A handshake (RFC 6455 §4.2.1) is validated and forwarded to the inner service. If the response is a 101 with the
//! correct `Sec-WebSocket-Accept`, the tunnel starts. Any other response is forwarded to the client.
//!
//! | Side | Protocols |
//! |---|---|
//! | Client | `Upgrade` over HTTP/1.1; extended CONNECT over HTTP/2 (RFC 8441), if the server allows it (`enable_connect_protocol`) |
//! | Inner service | a GET with the extension `hyper::ext::Protocol` `websocket`, for both. It returns 101 with `hyper::upgrade::OnUpgrade` in its extensions, as `rproxy-upstream` does |
//!
//! An inner service that uses HTTP/2 returns the same `hyper::ext::Protocol` in its response instead of
//! `Sec-WebSocket-Accept` (RFC 8441 §5). Clients such as hyper-util's need the header fields of the handshake:
//! [`keep_upgrade_fields`](WsPassthroughLayer::keep_upgrade_fields).
//!
//! A request to upgrade to another protocol is forwarded without `Upgrade` (RFC 9110 §7.8), unless that protocol is
//! [allowed by name](WsPassthroughLayer::upgrade_protocols). Other requests pass unchanged.
//!
//! # Tunnels
//!
//! Bytes are copied in both directions, with back pressure and half-close; subprotocols and extensions are negotiated
//! by the two sides. A tunnel holds at most 8 KiB in each direction, and no buffer while it is idle. It closes after
//! [ten minutes](WsPassthroughLayer::idle_timeout) without data.
//!
//! | Limit | Default |
//! |---|---|
//! | [`paths`](WsPassthroughLayer::paths) | all |
//! | [`origins`](WsPassthroughLayer::origins) | all; browsers send cookies from pages of any origin |
//! | [`max_tunnels`](WsPassthroughLayer::max_tunnels), [`max_tunnels_per_client`](WsPassthroughLayer::max_tunnels_per_client) | none |
//! | [`max_lifetime`](WsPassthroughLayer::max_lifetime) | none |
//! | [`idle_timeout`](WsPassthroughLayer::idle_timeout) | 10 min |
//!
//! A tunnel continues after its request, and servers do not count it. [`Tunnels`] counts and drains: both sides get a
//! Close frame with code 1001 at a message boundary, and have five seconds to answer.
//! [`drain_within`](Tunnels::drain_within) spreads this over a period, so that clients do not all reconnect in one
//! second. [`restart_counted_within`](Tunnels::restart_counted_within) closes the tunnels of some [counts](TunnelCounts)
//! only, when their upstream has changed. To find message boundaries, only frame headers are parsed; of the payloads,
//! only the code of a Close frame is read.
//!
//! [`on_close`](WsPassthroughLayer::on_close) and the response extension [`TunnelHandle`] report how a tunnel ended.
//!
//! # Messages
//!
//! With [`max_message_size`](WsPassthroughLayer::max_message_size), the layer forwards messages instead of bytes, and
//! rejects those that are too large or violate RFC 6455. This is required for
//!
//! - a [rate](WsPassthroughLayer::message_rate) of messages per client,
//! - [pings](WsPassthroughLayer::ping) that detect vanished clients and backends,
//! - a [hook](WsPassthroughLayer::on_message) that inspects or changes each message.
//!
//! A tunnel then holds one message in each direction and 8 KiB for each socket. Compression (RFC 7692) is not offered
//! to the backend; a backend that uses it all the same gets 502.
//!
//! # Below a router
//!
//! Below a router that strips a prefix, such as axum's `Router::nest`, [`paths`](WsPassthroughLayer::paths) apply to
//! the rest of the path; with the feature `axum` they apply to the path that the client sent (axum's `OriginalUri`).
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `axum` | Uses the path that the client sent (axum's `OriginalUri`), also below `Router::nest` |
//!
//! # Rejections
//!
//! | Status | When |
//! |---|---|
//! | 400 | invalid handshake: method, HTTP version, `Sec-WebSocket-Key`, content |
//! | 403 | the path or the origin is not allowed |
//! | 426 | `Sec-WebSocket-Version` is not 13 |
//! | 429 | the client has its maximum of tunnels |
//! | 501 | extended CONNECT for a protocol that is not allowed; the server does not support upgrades |
//! | 502 | the inner service switched protocols without a request or without the correct `Sec-WebSocket-Accept` |
//! | 503 | the maximum of tunnels is reached, or the tunnels are draining |
//!
//! The response to an upgrade has a [`WsDecision`] in its extensions, or a [`Rejection`]. Errors of the inner service pass
//! through. If one side of a tunnel fails, the data that it sent is still delivered, and both connections close.
//!
//! The reason of a rejection is `websocket`. Its cause is `bad_method`, `bad_http_version`, `bad_key`, `unexpected_body`,
//! `unsupported_version`, `forbidden_path`, `forbidden_origin`, `too_many_tunnels`, `too_many_tunnels_per_client`,
//! `unsupported_protocol`, `upgrade_unavailable`, `draining` or `invalid_switch`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod byte_relay;
mod client_limits;
mod config;
mod decision;
mod frame_tracker;
mod future;
/// The fuzz targets of this crate. Not part of the public API.
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
mod tunnel_counts;
mod tunnel_handle;
mod tunnels;
mod upgrade_protocols;

pub use rproxy_core::{Rejection, ResponseBody};

pub use self::decision::WsDecision;
pub use self::future::ResponseFuture;
pub use self::layer::WsPassthroughLayer;
pub use self::message::{MessageAction, MessageContext, WsEndpoint, WsMessage};
pub use self::origins::{WsOrigins, WsOriginsError};
pub use self::paths::{WsPaths, WsPathsError};
pub use self::service::WsPassthroughService;
pub use self::stats::TunnelStats;
pub use self::summary::{ClosedBy, TunnelSummary};
pub use self::tunnel_counts::TunnelCounts;
pub use self::tunnel_handle::TunnelHandle;
pub use self::tunnels::Tunnels;
pub use self::upgrade_protocols::{UpgradeProtocols, UpgradeProtocolsError};

/// A type whose documentation is the README, so that its examples are compiled as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
