//! Requests without content, answered without hyper.
//!
//! Nearly all requests are a head and no more. For these a parser between two buffers is all that it takes: the head
//! is read from the socket into an allocation of its own size, the response is written from where it is, and between
//! requests there is nothing but the socket. Whatever else a request is, its bytes go to hyper.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use http::{Request, Response};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::interim::Interim;
use super::io::FramedIo;
use super::preface;
use super::request::{self, Asked};
use super::response::{self, Framing};
use super::serve::IDLE_LINGER;
use super::turn::Turn;
use crate::connection::{BoxError, Settings};
use crate::service::ConnectionService;
use crate::socket::ClientSocket;
use crate::{HangUp, RequestBody};

/// What is to become of the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It holds bytes that are not for us.
    Hyper,
    /// It holds what may be the beginning of HTTP/2's preface.
    Preface,
    /// It ends after a response.
    Close,
    /// It ends, and there is no response that could be lost.
    Idle,
}

/// What follows a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The next request.
    Request,
    /// The end of the connection.
    Close,
    /// The end of the connection, without a response.
    Nothing,
}

/// Serves one request after the other, until there is one that is for hyper; `answered` counts them.
pub(super) async fn serve<T, S, B>(
    io: &mut FramedIo<T>,
    service: &mut ConnectionService<S>,
    settings: &Settings,
    draining: &mut watch::Receiver<bool>,
    answered: &mut u64,
) -> Result<Next, BoxError>
where
    T: ClientSocket + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let is_draining = draining.clone();
    let mut drained = pin!(draining.wait_for(|draining| *draining));
    // The idle time is told by ticks, so that a request costs no timer.
    let tick = settings.limits.idle_timeout / TICKS;
    let mut timer = pin!(sleep(tick));
    let (mut still, mut lingers, mut is_registered) = (0, false, false);
    let mut interim = None;
    loop {
        let bytes = match io.take_held() {
            Some(held) => held,
            None => {
                let mut is_first_look = true;
                let first = poll_fn(|cx| {
                    if let Poll::Ready(first) = io.poll_first(cx) {
                        return Poll::Ready(first);
                    }
                    // Both wake this task already, unless they have done so.
                    let is_quiet = !is_draining.has_changed().unwrap_or(true) && !timer.is_elapsed();
                    if std::mem::take(&mut is_first_look) && is_registered && is_quiet {
                        return Poll::Pending;
                    }
                    is_registered = true;
                    if !lingers && drained.as_mut().poll(cx).is_ready() {
                        lingers = true;
                        timer.as_mut().reset(Instant::now() + IDLE_LINGER);
                    }
                    while timer.as_mut().poll(cx).is_ready() {
                        still += 1;
                        // Who is idle holds nothing that can be had again.
                        interim = None;
                        if lingers || still > TICKS {
                            return Poll::Ready(None);
                        }
                        timer.as_mut().reset(Instant::now() + tick);
                    }
                    Poll::Pending
                });
                match first.await {
                    Some(bytes) => bytes,
                    None => return Ok(Next::Idle),
                }
            }
        };
        still = 0;
        let is_first = *answered == 0 && service.watch.calls() == 0;
        if is_first && settings.h2c && service.tls.is_none() && preface::may_be(&bytes) {
            io.put_back(&bytes);
            return Ok(Next::Preface);
        }
        // Boxed, and all that it is made of gone by then, so that an idle connection has not the size of a busy one.
        let answer = {
            let Some(plain) = request::read(&bytes, &settings.head_limits) else {
                io.hold(&bytes);
                return Ok(Next::Hyper);
            };
            io.put_back(&bytes[plain.length..]);
            let mut asked = plain.asked;
            *answered += 1;
            if settings.limits.requests.is_some() {
                // The others are hyper's.
                asked.keep_alive &= !settings.limits.are_served(*answered + service.watch.calls());
            }
            let mut request = plain.request.map(|()| RequestBody::default());
            // What is left of them is in the request, and goes with it.
            drop(bytes);
            service.extend(&mut request);
            let interim = interim.get_or_insert_with(Interim::new);
            if !asked.is_http10 {
                // RFC 9110 §15.2: HTTP/1.0 has no interim responses.
                request.extensions_mut().insert(interim.begin());
            }
            Box::pin(answer(io, &mut service.inner, request, asked, interim, &is_draining))
        };
        match answer.await? {
            After::Request => {}
            After::Close => return Ok(Next::Close),
            After::Nothing => return Ok(Next::Idle),
        }
    }
}

/// Answers `request`.
// It is moved to the heap with each request; hence the scopes within, too: what was lent out has room until its scope ends.
#[expect(clippy::manual_async_fn, reason = "an `async fn` has room for its arguments twice")]
fn answer<T, S, B>(
    io: &mut FramedIo<T>,
    service: &mut S,
    request: Request<RequestBody>,
    mut asked: Asked,
    interim: &Interim,
    draining: &watch::Receiver<bool>,
) -> impl Future<Output = Result<After, BoxError>>
where
    T: ClientSocket,
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Error: Into<BoxError>>,
{
    async move {
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
        let response = {
            let mut response = pin!(service.call(request));
            loop {
                let next = poll_fn(|cx| match response.as_mut().poll(cx) {
                    Poll::Ready(response) => Poll::Ready(Came::Answer(response.map_err(Into::into))),
                    Poll::Pending if io.is_gone(cx) => Poll::Ready(Came::End),
                    Poll::Pending => interim.poll(cx).map(Came::Interim),
                });
                match next.await {
                    Came::Answer(response) => break response?,
                    Came::Interim(heads) => {
                        write(io, &heads, &[][..], b"").await?;
                        poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await?;
                    }
                    // Nobody waits for it any more.
                    Came::End => return Ok(After::Nothing),
                }
            }
        };
        if HangUp::is_for(&response) {
            return Ok(After::Nothing);
        }
        let (head, body) = response.into_parts();
        let body = pin!(body);
        let (out, framing, keep_alive) = {
            let head = head;
            if head.status.is_informational() {
                return Err("an interim response is no response".into());
            }
            asked.keep_alive &= !*draining.borrow() && (!io.is_half_closed() || io.has_held());
            let mut out = interim.end();
            let (framing, keep_alive) = response::write_head(&mut out, &head, asked, &body.size_hint());
            (out, framing, keep_alive)
        };
        match framing {
            Framing::Empty => write(io, &out, &[][..], b"").await?,
            Framing::Length(length) => send(io, out, body, length).await?,
            Framing::Chunked => send_chunked(io, out, body, asked.takes_trailers).await?,
            Framing::Close => send_to_end(io, out, body).await?,
        }
        poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await?;
        Ok(if keep_alive { After::Request } else { After::Close })
    }
}

/// What comes first, while a client waits.
enum Came<B> {
    Answer(Result<Response<B>, BoxError>),
    /// Heads of interim responses.
    Interim(Vec<u8>),
    /// The client has gone.
    End,
}

/// Sends `out`, and then `length` bytes of body.
async fn send<T, B>(
    io: &mut FramedIo<T>,
    mut out: Vec<u8>,
    mut body: Pin<&mut B>,
    mut length: u64,
) -> Result<(), BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    let (mut is_first, mut turn) = (true, Turn::default());
    while length > 0 {
        let polled = match std::mem::take(&mut is_first) {
            true => first_frame(io, body.as_mut()).await?,
            false => ready_frame(body.as_mut()).await,
        };
        let frame = match polled {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                write(io, &out, &[][..], b"").await?;
                out.clear();
                next_frame(io, body.as_mut()).await?
            }
        };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            failed => return broken_off(io, &out, failed.and_then(Result::err)).await,
        };
        // A body of known length is not followed by anything.
        let Ok(mut data) = frame.into_data() else { continue };
        let long = "the body is longer than its length";
        length = length.checked_sub(data.remaining() as u64).ok_or(long)?;
        while let Some(piece) = turn.piece(&mut data) {
            write(io, &out, piece, b"").await?;
            out.clear();
            turn.next().await;
        }
        if out.len() + data.remaining() <= SMALL {
            put_small(&mut out, data);
        } else {
            write(io, &out, data, b"").await?;
            out.clear();
        }
    }
    // There is no data to go along with the head.
    write(io, &out, &[][..], b"").await.map_err(Into::into)
}

/// Sends `out`, and then the body in chunks (RFC 9112 §7.1).
async fn send_chunked<T, B>(
    io: &mut FramedIo<T>,
    mut out: Vec<u8>,
    mut body: Pin<&mut B>,
    takes_trailers: bool,
) -> Result<(), BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    let (mut polled, mut turn) = (first_frame(io, body.as_mut()).await?, Turn::default());
    loop {
        let frame = match polled {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                write(io, &out, &[][..], b"").await?;
                out.clear();
                next_frame(io, body.as_mut()).await?
            }
        };
        let frame = match frame.transpose() {
            Ok(frame) => frame,
            Err(error) => return broken_off(io, &out, Some(error)).await,
        };
        match frame.map(Frame::into_data) {
            Some(Ok(mut data)) if data.has_remaining() => {
                response::put_chunk_size(&mut out, data.remaining());
                while let Some(piece) = turn.piece(&mut data) {
                    write(io, &out, piece, b"").await?;
                    out.clear();
                    turn.next().await;
                }
                // The end is often there already, and goes along with the last of the data.
                polled = ready_frame(body.as_mut()).await;
                let is_last = matches!(polled, Poll::Ready(None));
                write(io, &out, data, if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" }).await?;
                out.clear();
                if is_last {
                    return Ok(());
                }
            }
            // An empty chunk would be the last.
            Some(Ok(_)) => polled = ready_frame(body.as_mut()).await,
            Some(Err(frame)) => {
                let trailers = frame.into_trailers().ok().filter(|_| takes_trailers);
                response::put_last_chunk(&mut out, trailers.as_ref());
                return Ok(write(io, &out, &[][..], b"").await?);
            }
            None => {
                response::put_last_chunk(&mut out, None);
                return Ok(write(io, &out, &[][..], b"").await?);
            }
        }
    }
}

/// Sends `out`, and then the body, which ends with the connection. If the body fails, a reset says so.
async fn send_to_end<T, B>(io: &mut FramedIo<T>, mut out: Vec<u8>, mut body: Pin<&mut B>) -> Result<(), BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    io.resets_unless_shut_down();
    let (mut polled, mut turn) = (first_frame(io, body.as_mut()).await?, Turn::default());
    loop {
        let frame = match polled {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                write(io, &out, &[][..], b"").await?;
                out.clear();
                next_frame(io, body.as_mut()).await?
            }
        };
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(mut data))) => {
                while let Some(piece) = turn.piece(&mut data) {
                    write(io, &out, piece, b"").await?;
                    out.clear();
                    turn.next().await;
                }
                write(io, &out, data, b"").await?;
                out.clear();
            }
            // HTTP/1.0 has no trailers.
            Some(Ok(Err(_))) => {}
            Some(Err(error)) => return broken_off(io, &out, Some(error)).await,
            None => return Ok(write(io, &out, &[][..], b"").await?),
        }
        polled = ready_frame(body.as_mut()).await;
    }
}

/// Sends what there is of a response that breaks off: whoever gets nothing at all takes it for a connection that was closed
/// before the request, and sends that again.
async fn broken_off<T>(io: &mut FramedIo<T>, out: &[u8], error: Option<BoxError>) -> Result<(), BoxError>
where
    T: ClientSocket,
{
    write(io, out, &[][..], b"").await?;
    poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await?;
    Err(error.unwrap_or_else(|| "the body is shorter than its length".into()))
}

/// Copies what is so little that a system call that gathers it would cost more.
fn put_small(out: &mut Vec<u8>, mut data: impl Buf) {
    out.reserve(data.remaining());
    while data.has_remaining() {
        let chunk = data.chunk();
        out.extend_from_slice(chunk);
        let length = chunk.len();
        data.advance(length);
    }
}

type NextFrame<B> = Option<Result<Frame<<B as Body>::Data>, BoxError>>;

fn poll_frame<B>(body: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<NextFrame<B>>
where
    B: Body<Error: Into<BoxError>>,
{
    body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
}

/// The next frame, if it is there.
async fn ready_frame<B>(mut body: Pin<&mut B>) -> Poll<NextFrame<B>>
where
    B: Body<Error: Into<BoxError>>,
{
    poll_fn(|cx| Poll::Ready(poll_frame(body.as_mut(), cx))).await
}

/// The first frame, for which the head waits a moment: many backends send head and body apart, a few microseconds from
/// each other. Together they cost one system call and one segment, apart two of each.
async fn first_frame<T, B>(io: &mut FramedIo<T>, mut body: Pin<&mut B>) -> Result<Poll<NextFrame<B>>, BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    if let Poll::Ready(frame) = ready_frame(body.as_mut()).await {
        return Ok(Poll::Ready(frame));
    }
    match timeout(HEAD_WAITS, next_frame(io, body)).await {
        Ok(frame) => frame.map(Poll::Ready),
        Err(_) => Ok(Poll::Pending),
    }
}

/// Waits for the next frame, with all that came before it sent.
async fn next_frame<T, B>(io: &mut FramedIo<T>, mut body: Pin<&mut B>) -> Result<NextFrame<B>, BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await?;
    poll_fn(|cx| match poll_frame(body.as_mut(), cx) {
        Poll::Pending if io.is_gone(cx) => Poll::Ready(Err("the client is gone".into())),
        polled => polled.map(Ok),
    })
    .await
}

/// Writes all of it, in one go if the socket takes it.
async fn write<T>(io: &mut FramedIo<T>, head: &[u8], data: impl Buf, tail: &[u8]) -> io::Result<()>
where
    T: ClientSocket,
{
    let mut all = head.chain(data).chain(tail);
    poll_fn(|cx| {
        while all.has_remaining() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let written = match all.chunks_vectored(&mut slices) {
                // Cheaper for one piece.
                1 => Pin::new(&mut *io).poll_write(cx, &slices[0]),
                count => Pin::new(&mut *io).poll_write_vectored(cx, &slices[..count]),
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => all.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// How many times a connection that does nothing is looked at before its idle time is over.
const TICKS: u32 = 4;

/// How long a head waits for its body: less than anybody notices, and more than a backend takes that has it ready.
const HEAD_WAITS: Duration = Duration::from_millis(2);

/// Below this, copying costs less than a system call that gathers.
const SMALL: usize = 4096;

/// What is before the data, the data, and what is behind it.
const SLICES: usize = 4;

#[cfg(test)]
mod tests;
