//! The end of a tunnel of messages: what the two ends are told, and how.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::pass_on::Stop;
use crate::message::WsEnd;
use crate::summary::ClosedBy;

/// Why messages go no further, and what the two ends are told.
#[derive(Debug)]
pub(super) struct End {
    pub(super) by: ClosedBy,
    /// Who said Close, and with which code.
    said: Option<(WsEnd, Option<u16>)>,
    pub(super) to_client: Farewell,
    pub(super) to_upstream: Farewell,
}

/// What one end is told.
#[derive(Debug)]
pub(super) enum Farewell {
    /// Close, and it is waited for its own.
    Close(Option<CloseFrame>),
    /// Close; whatever else it says is not understood.
    Fault(CloseFrame),
    /// It is not there.
    Nothing,
}

impl End {
    pub(super) fn by_us(by: ClosedBy, code: u16) -> Self {
        Self { by, said: None, to_client: Farewell::with(code), to_upstream: Farewell::with(code) }
    }

    pub(super) fn by_silence() -> Self {
        Self::by_us(ClosedBy::IdleTimeout, CloseCode::Away.into())
    }

    /// An end does not answer; the other is told why it is left alone.
    pub(super) fn by_missing(end: WsEnd) -> Self {
        let (to_client, to_upstream) = match end {
            WsEnd::Client => (Farewell::Nothing, Farewell::with(CloseCode::Away)),
            WsEnd::Upstream => (Farewell::with(CloseCode::Error), Farewell::Nothing),
        };
        Self { by: ClosedBy::PongTimeout, said: None, to_client, to_upstream }
    }

    pub(super) fn by_client(stop: Stop) -> Self {
        let (by, said) = (ClosedBy::Client, None);
        match stop {
            Stop::Close(frame) => Self {
                by,
                said: Some((WsEnd::Client, frame.as_ref().map(|frame| frame.code.into()))),
                to_client: Farewell::Close(None),
                to_upstream: Farewell::Close(frame),
            },
            Stop::Fault(code) => Self {
                by: ClosedBy::ClientFault,
                said,
                to_client: Farewell::Fault(frame(code)),
                to_upstream: Farewell::with(CloseCode::Away),
            },
            Stop::Gone => Self { by, said, to_client: Farewell::Nothing, to_upstream: Farewell::with(CloseCode::Away) },
            Stop::OtherGone => Self::by_upstream(Stop::Gone),
            Stop::Judged(code) => Self::by_us(ClosedBy::Hook, code),
            Stop::Ended(ending) => Self::by_us(ending.by, ending.code),
        }
    }

    pub(super) fn by_upstream(stop: Stop) -> Self {
        let (by, said) = (ClosedBy::Upstream, None);
        match stop {
            Stop::Close(frame) => Self {
                by,
                said: Some((WsEnd::Upstream, frame.as_ref().map(|frame| frame.code.into()))),
                to_client: Farewell::Close(frame),
                to_upstream: Farewell::Close(None),
            },
            // RFC 6455 §7.4.1: 1011, a server that can't go on.
            Stop::Fault(code) => Self {
                by: ClosedBy::UpstreamFault,
                said,
                to_client: Farewell::with(CloseCode::Error),
                to_upstream: Farewell::Fault(frame(code)),
            },
            Stop::Gone => {
                Self { by, said, to_client: Farewell::with(CloseCode::Error), to_upstream: Farewell::Nothing }
            }
            Stop::OtherGone => Self::by_client(Stop::Gone),
            Stop::Judged(code) => Self::by_us(ClosedBy::Hook, code),
            Stop::Ended(ending) => Self::by_us(ending.by, ending.code),
        }
    }

    pub(super) fn said_by(&self, end: WsEnd) -> Option<u16> {
        self.said.filter(|(said, _)| *said == end).and_then(|(_, code)| code)
    }

    /// What we said of our own accord: to whoever was at fault, or else to the one that is there.
    pub(super) fn said_by_us(&self) -> Option<u16> {
        if self.said.is_some() {
            return None;
        }
        match (&self.to_client, &self.to_upstream) {
            (Farewell::Fault(frame), _) | (_, Farewell::Fault(frame)) => Some(frame.code.into()),
            (Farewell::Close(Some(frame)), _) | (_, Farewell::Close(Some(frame))) => Some(frame.code.into()),
            _ => None,
        }
    }
}

impl Farewell {
    fn with(code: impl Into<CloseCode>) -> Self {
        Self::Close(Some(frame(code)))
    }
}

fn frame(code: impl Into<CloseCode>) -> CloseFrame {
    CloseFrame { code: code.into(), reason: "".into() }
}

/// Says Close, or answers it, and ends the connection.
pub(super) async fn close<T>(mut socket: WebSocketStream<T>, farewell: Farewell)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (frame, answers) = match farewell {
        Farewell::Close(frame) => (frame, true),
        Farewell::Fault(frame) => (Some(frame), false),
        Farewell::Nothing => return,
    };
    // Fails if Close was said already, by either end; what is due is sent nonetheless.
    let _ = socket.send(Message::Close(frame)).await;
    let _ = socket.flush().await;
    // RFC 6455 §7.1.1: the connection ends when both have said Close, and the server is to end it.
    while answers && let Some(Ok(_)) = socket.next().await {}
    let mut socket = socket.into_inner();
    let _ = socket.shutdown().await;
    // A socket that is closed with bytes unread resets the connection, and what was said last may
    // not arrive.
    let mut rest = [0; 1024];
    while !answers && let Ok(1..) = socket.read(&mut rest).await {}
}
