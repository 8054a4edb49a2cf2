//! Messages as code sees them that is asked about each.

use std::net::IpAddr;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

/// A message in whole, to see or to change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WsMessage {
    /// Text.
    Text(String),
    /// Anything else.
    Binary(Bytes),
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MessageContext<'a> {
    /// Who sent it.
    pub from: WsEnd,
    /// The path of the handshake.
    pub path: &'a str,
    /// The client, if a layer outside has told who it is.
    pub client: Option<IpAddr>,
}

/// An end of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WsEnd {
    /// The client.
    Client,
    /// The upstream.
    Upstream,
}

/// What is to become of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is passed on, as it is now.
    Pass,
    /// It is not, and nobody is told.
    Drop,
    /// The tunnel is closed, with this code to both ends: 1008 for a policy, or one of an
    /// application's own from 4000 to 4999 (RFC 6455 §7.4).
    Close(u16),
}

pub(crate) type OnMessage = dyn Fn(&MessageContext<'_>, &mut WsMessage) -> Verdict + Send + Sync;

impl WsMessage {
    /// The data messages; the others are none of anybody's business but ours.
    pub(crate) fn of(message: Message) -> Result<Self, Message> {
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
