//! The parameters and the result of the [`on_message`](crate::WsPassthroughLayer::on_message) function.

use std::net::IpAddr;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

/// A complete WebSocket text or binary message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WsMessage {
    /// A text message, which is valid UTF-8.
    Text(String),
    /// A binary message.
    Binary(Bytes),
}

/// The context of a WebSocket message: its sender, and the path and client of its tunnel.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MessageContext<'a> {
    /// The endpoint that sent the message.
    pub from: WsEndpoint,
    /// The path of the handshake that opened the tunnel.
    pub path: &'a str,
    /// The address of the client, if the handshake had the extension `rproxy_client_ip::ClientIp`.
    pub client: Option<IpAddr>,
}

/// An endpoint of a tunnel: the client or the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WsEndpoint {
    /// The client, which sent the handshake.
    Client,
    /// The upstream, which accepted the handshake.
    Upstream,
}

/// The action that the `on_message` function selects for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageAction {
    /// Forwards the message, including the changes that the `on_message` function made to it.
    Forward,
    /// Drops the message without notifying the endpoints.
    Drop,
    /// Closes the tunnel, sending this close code to both endpoints.
    ///
    /// Use 1008 for a policy violation, or a private code from 4000 to 4999 (RFC 6455 §7.4).
    Close(u16),
}

pub(crate) type OnMessage = dyn Fn(&MessageContext<'_>, &mut WsMessage) -> MessageAction + Send + Sync;

impl WsMessage {
    /// Converts a text or binary message from tungstenite's type. Returns other messages unchanged.
    pub(crate) fn from_data(message: Message) -> Result<Self, Message> {
        match message {
            Message::Text(text) => Ok(Self::Text(text.to_string())),
            Message::Binary(bytes) => Ok(Self::Binary(bytes)),
            other => Err(other),
        }
    }
}

impl From<WsMessage> for Message {
    fn from(message: WsMessage) -> Self {
        match message {
            WsMessage::Text(text) => Self::text(text),
            WsMessage::Binary(bytes) => Self::Binary(bytes),
        }
    }
}
