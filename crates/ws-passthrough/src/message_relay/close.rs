//! The end of a message relay: the reason for it, and the Close frames for both endpoints.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::message_direction::StopReason;
use crate::message::WsEndpoint;
use crate::summary::ClosedBy;

/// The reason for the end of a message relay, and the action for each endpoint.
#[derive(Debug)]
pub(super) struct CloseOutcome {
    pub(super) by: ClosedBy,
    /// The endpoint that sent a Close frame, and its close code, if any.
    received: Option<(WsEndpoint, Option<u16>)>,
    pub(super) to_client: CloseAction,
    pub(super) to_upstream: CloseAction,
}

/// The action by which the proxy closes the connection to an endpoint.
#[derive(Debug)]
pub(super) enum CloseAction {
    /// Sends a Close frame, and waits for the endpoint's reply.
    Close(Option<CloseFrame>),
    /// Sends a Close frame, and discards all later bytes, because they cannot be parsed.
    Fail(CloseFrame),
    /// Drops the connection, because the endpoint has disconnected.
    Drop,
}

impl CloseOutcome {
    pub(super) fn by_proxy(by: ClosedBy, code: u16) -> Self {
        Self { by, received: None, to_client: CloseAction::close(code), to_upstream: CloseAction::close(code) }
    }

    pub(super) fn by_idle_timeout() -> Self {
        Self::by_proxy(ClosedBy::IdleTimeout, CloseCode::Away.into())
    }

    /// Returns the outcome of a relay that ends because `endpoint` does not reply to pings. The other endpoint gets a
    /// Close.
    pub(super) fn by_pong_timeout(endpoint: WsEndpoint) -> Self {
        let (to_client, to_upstream) = match endpoint {
            WsEndpoint::Client => (CloseAction::Drop, CloseAction::close(CloseCode::Away)),
            WsEndpoint::Upstream => (CloseAction::close(CloseCode::Error), CloseAction::Drop),
        };
        Self { by: ClosedBy::PongTimeout, received: None, to_client, to_upstream }
    }

    /// Returns the outcome of a relay that ends because the direction from the client to the upstream stopped.
    pub(super) fn by_client(reason: StopReason) -> Self {
        let (by, received) = (ClosedBy::Client, None);
        match reason {
            StopReason::Close(frame) => Self {
                by,
                received: Some((WsEndpoint::Client, frame.as_ref().map(|frame| frame.code.into()))),
                to_client: CloseAction::Close(None),
                to_upstream: CloseAction::Close(frame),
            },
            StopReason::Violation(code) => Self {
                by: ClosedBy::ClientFault,
                received,
                to_client: CloseAction::Fail(frame(code)),
                to_upstream: CloseAction::close(CloseCode::Away),
            },
            StopReason::SourceGone => {
                Self { by, received, to_client: CloseAction::Drop, to_upstream: CloseAction::close(CloseCode::Away) }
            }
            StopReason::DestinationGone => Self::by_upstream(StopReason::SourceGone),
            StopReason::Hook(code) => Self::by_proxy(ClosedBy::Hook, code),
            StopReason::CloseCommand(command) => Self::by_proxy(command.by, command.code),
        }
    }

    /// Returns the outcome of a relay that ends because the direction from the upstream to the client stopped.
    pub(super) fn by_upstream(reason: StopReason) -> Self {
        let (by, received) = (ClosedBy::Upstream, None);
        match reason {
            StopReason::Close(frame) => Self {
                by,
                received: Some((WsEndpoint::Upstream, frame.as_ref().map(|frame| frame.code.into()))),
                to_client: CloseAction::Close(frame),
                to_upstream: CloseAction::Close(None),
            },
            // RFC 6455 §7.4.1: 1011 is for a server that cannot fulfil the request.
            StopReason::Violation(code) => Self {
                by: ClosedBy::UpstreamFault,
                received,
                to_client: CloseAction::close(CloseCode::Error),
                to_upstream: CloseAction::Fail(frame(code)),
            },
            StopReason::SourceGone => {
                Self { by, received, to_client: CloseAction::close(CloseCode::Error), to_upstream: CloseAction::Drop }
            }
            StopReason::DestinationGone => Self::by_client(StopReason::SourceGone),
            StopReason::Hook(code) => Self::by_proxy(ClosedBy::Hook, code),
            StopReason::CloseCommand(command) => Self::by_proxy(command.by, command.code),
        }
    }

    /// Returns the close code that `endpoint` sent, if any.
    pub(super) fn code_from(&self, endpoint: WsEndpoint) -> Option<u16> {
        self.received.filter(|(sender, _)| *sender == endpoint).and_then(|(_, code)| code)
    }

    /// Returns the close code that the proxy sent, unless it only replied to a Close frame.
    ///
    /// It is the code for the endpoint at fault, or else for the one that is still connected.
    pub(super) fn code_from_proxy(&self) -> Option<u16> {
        if self.received.is_some() {
            return None;
        }
        match (&self.to_client, &self.to_upstream) {
            (CloseAction::Fail(frame), _) | (_, CloseAction::Fail(frame)) => Some(frame.code.into()),
            (CloseAction::Close(Some(frame)), _) | (_, CloseAction::Close(Some(frame))) => Some(frame.code.into()),
            _ => None,
        }
    }
}

impl CloseAction {
    fn close(code: impl Into<CloseCode>) -> Self {
        Self::Close(Some(frame(code)))
    }
}

fn frame(code: impl Into<CloseCode>) -> CloseFrame {
    CloseFrame { code: code.into(), reason: "".into() }
}

/// Performs the WebSocket closing handshake with an endpoint, and closes the connection.
pub(super) async fn close<T>(mut socket: WebSocketStream<T>, action: CloseAction)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (frame, awaits_reply) = match action {
        CloseAction::Close(frame) => (frame, true),
        CloseAction::Fail(frame) => (Some(frame), false),
        CloseAction::Drop => return,
    };
    // Fails if either endpoint has sent a Close before. Pending frames are sent nonetheless.
    let _ = socket.send(Message::Close(frame)).await;
    let _ = socket.flush().await;
    // RFC 6455 §7.1.1: the server closes the connection when both have sent a Close.
    while awaits_reply && let Some(Ok(_)) = socket.next().await {}
    let mut socket = socket.into_inner();
    let _ = socket.shutdown().await;
    // A socket that is closed with unread bytes resets the connection, and the last frames may be lost.
    let mut discarded = [0; 1024];
    while !awaits_reply && let Ok(1..) = socket.read(&mut discarded).await {}
}
