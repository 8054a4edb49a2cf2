//! The HTTP/1.1 fast path, which bypasses hyper for requests that have no content.
//!
//! Most requests consist only of a head. Their head is read into an allocation of its size, the response is written
//! without a copy, and an idle connection has no buffers. All other requests are passed to hyper.

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

use super::framed_io::FramedIo;
use super::interim::InterimResponses;
use super::preface;
use super::request_head::{self, ResponseContext};
use super::response::{self, Framing};
use super::serve::IDLE_LINGER;
use super::yield_budget::YieldBudget;
use crate::client_socket::ClientSocket;
use crate::connection::{BoxError, ConnectionConfig};
use crate::service::ConnectionService;
use crate::{CloseConnection, RequestBody};

/// The reason that the fast path of a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FastPathEnd {
    /// Only hyper can serve the next request.
    Hyper,
    /// The first bytes of the connection may be the HTTP/2 preface.
    Preface,
    /// The connection closes after the last response has been sent.
    Close,
    /// The connection closes while idle or without a response, so no response can be lost.
    Idle,
}

/// The state of the connection after a request on the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterResponse {
    /// The connection stays open for the next request.
    KeepAlive,
    /// The connection closes after the response.
    Close,
    /// The connection closes without a response to the request.
    Cancelled,
}

/// Serves requests on the fast path until a request needs hyper. `served` counts the requests.
pub(super) async fn serve<T, S, B>(
    io: &mut FramedIo<T>,
    service: &mut ConnectionService<S>,
    config: &ConnectionConfig,
    draining: &mut watch::Receiver<bool>,
    served: &mut u64,
) -> Result<FastPathEnd, BoxError>
where
    T: ClientSocket + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let is_draining = draining.clone();
    let mut drained = pin!(draining.wait_for(|draining| *draining));
    // The idle timeout is divided into ticks, so that a request needs no timer reset.
    let tick = config.limits.idle_timeout / TICKS;
    let mut timer = pin!(sleep(tick));
    let (mut idle_ticks, mut is_lingering, mut is_registered) = (0, false, false);
    let mut interim = None;
    loop {
        let bytes = match io.take_held() {
            Some(held) => held,
            None => {
                let mut is_first_poll = true;
                let first = poll_fn(|cx| {
                    if let Poll::Ready(first) = io.poll_first(cx) {
                        return Poll::Ready(first);
                    }
                    // Both are registered to wake this task, unless they have already fired.
                    let has_fired = is_draining.has_changed().unwrap_or(true) || timer.is_elapsed();
                    if std::mem::take(&mut is_first_poll) && is_registered && !has_fired {
                        return Poll::Pending;
                    }
                    is_registered = true;
                    if !is_lingering && drained.as_mut().poll(cx).is_ready() {
                        is_lingering = true;
                        timer.as_mut().reset(Instant::now() + IDLE_LINGER);
                    }
                    while timer.as_mut().poll(cx).is_ready() {
                        idle_ticks += 1;
                        // Frees memory while the connection is idle.
                        interim = None;
                        if is_lingering || idle_ticks > TICKS {
                            return Poll::Ready(None);
                        }
                        timer.as_mut().reset(Instant::now() + tick);
                    }
                    Poll::Pending
                });
                match first.await {
                    Some(bytes) => bytes,
                    None => return Ok(FastPathEnd::Idle),
                }
            }
        };
        idle_ticks = 0;
        let is_first = *served == 0 && service.state.calls() == 0;
        if is_first && config.h2c && service.tls.is_none() && preface::may_be_preface(&bytes) {
            io.put_back(&bytes);
            return Ok(FastPathEnd::Preface);
        }
        // Boxed, and its parts dropped before the await, so that an idle connection is smaller than a busy one.
        let response = {
            let Some(parsed) = request_head::parse(&bytes, &config.head_limits) else {
                io.hold(&bytes);
                return Ok(FastPathEnd::Hyper);
            };
            io.put_back(&bytes[parsed.length..]);
            let mut context = parsed.context;
            *served += 1;
            if config.limits.requests.is_some() {
                // Includes the requests that hyper served.
                context.keep_alive &= !config.limits.is_request_limit_reached(*served + service.state.calls());
            }
            let mut request = parsed.request.map(|()| RequestBody::default());
            // The request holds references to the bytes, which are freed with it.
            drop(bytes);
            service.extend(&mut request);
            let interim = interim.get_or_insert_with(InterimResponses::new);
            if !context.is_http10 {
                // RFC 9110 §15.2: HTTP/1.0 has no interim responses.
                request.extensions_mut().insert(interim.begin());
            }
            Box::pin(respond(io, &mut service.inner, request, context, interim, &is_draining))
        };
        match response.await? {
            AfterResponse::KeepAlive => {}
            AfterResponse::Close => return Ok(FastPathEnd::Close),
            AfterResponse::Cancelled => return Ok(FastPathEnd::Idle),
        }
    }
}

/// Calls the service with a request, and writes its response to the client.
// The future is boxed for each request, so it should be small: the inner scopes limit the lifetime of borrowed values, for
// which the future reserves space.
#[expect(clippy::manual_async_fn, reason = "an `async fn` would store its arguments twice in its future")]
fn respond<T, S, B>(
    io: &mut FramedIo<T>,
    service: &mut S,
    request: Request<RequestBody>,
    mut context: ResponseContext,
    interim: &InterimResponses,
    draining: &watch::Receiver<bool>,
) -> impl Future<Output = Result<AfterResponse, BoxError>>
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
                    Poll::Ready(response) => Poll::Ready(Event::Response(response.map_err(Into::into))),
                    Poll::Pending if io.is_closed(cx) => Poll::Ready(Event::Closed),
                    Poll::Pending => interim.poll(cx).map(Event::Interim),
                });
                match next.await {
                    Event::Response(response) => break response?,
                    Event::Interim(heads) => {
                        write(io, &heads, &[][..], b"").await?;
                        poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await?;
                    }
                    Event::Closed => return Ok(AfterResponse::Cancelled),
                }
            }
        };
        if CloseConnection::applies_to(&response) {
            return Ok(AfterResponse::Cancelled);
        }
        let (head, body) = response.into_parts();
        let body = pin!(body);
        let (out, framing, keep_alive) = {
            let head = head;
            if head.status.is_informational() {
                return Err("the service returned an interim response (1xx) as the final response".into());
            }
            context.keep_alive &= !*draining.borrow() && (!io.is_half_closed() || io.has_held());
            let mut out = interim.end();
            let (framing, keep_alive) = response::write_head(&mut out, &head, context, &body.size_hint());
            (out, framing, keep_alive)
        };
        match framing {
            Framing::Empty => write(io, &out, &[][..], b"").await?,
            Framing::Length(length) => send_sized(io, out, body, length).await?,
            Framing::Chunked => send_chunked(io, out, body, context.takes_trailers).await?,
            Framing::Close => send_until_close(io, out, body).await?,
        }
        poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await?;
        Ok(if keep_alive { AfterResponse::KeepAlive } else { AfterResponse::Close })
    }
}

/// An event that can occur while a request is in flight.
enum Event<B> {
    Response(Result<Response<B>, BoxError>),
    /// The serialised heads of interim responses.
    Interim(Vec<u8>),
    /// The client closed the connection.
    Closed,
}

/// Writes the head in `out`, then a body of `length` bytes.
async fn send_sized<T, B>(
    io: &mut FramedIo<T>,
    mut out: Vec<u8>,
    mut body: Pin<&mut B>,
    mut length: u64,
) -> Result<(), BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    let (mut is_first, mut budget) = (true, YieldBudget::default());
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
            failed => return send_truncated(io, &out, failed.and_then(Result::err)).await,
        };
        // A body of known length has no trailers.
        let Ok(mut data) = frame.into_data() else { continue };
        let too_long = "the response body is longer than its Content-Length";
        length = length.checked_sub(data.remaining() as u64).ok_or(too_long)?;
        while let Some(piece) = budget.split_off(&mut data) {
            write(io, &out, piece, b"").await?;
            out.clear();
            budget.wait().await;
        }
        if out.len() + data.remaining() <= SMALL {
            append(&mut out, data);
        } else {
            write(io, &out, data, b"").await?;
            out.clear();
        }
    }
    // Writes the head if no data was written with it.
    write(io, &out, &[][..], b"").await.map_err(Into::into)
}

/// Writes the head in `out`, then a body in chunks (RFC 9112 §7.1).
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
    let (mut polled, mut budget) = (first_frame(io, body.as_mut()).await?, YieldBudget::default());
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
            Err(error) => return send_truncated(io, &out, Some(error)).await,
        };
        match frame.map(Frame::into_data) {
            Some(Ok(mut data)) if data.has_remaining() => {
                response::put_chunk_size(&mut out, data.remaining());
                while let Some(piece) = budget.split_off(&mut data) {
                    write(io, &out, piece, b"").await?;
                    out.clear();
                    budget.wait().await;
                }
                // The end is often ready, and can be written with the last data.
                polled = ready_frame(body.as_mut()).await;
                let is_last = matches!(polled, Poll::Ready(None));
                write(io, &out, data, if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" }).await?;
                out.clear();
                if is_last {
                    return Ok(());
                }
            }
            // Skipped, because an empty chunk would end the body.
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

/// Writes the head in `out`, then a body that ends when the connection closes.
///
/// If the body fails, the connection is reset.
async fn send_until_close<T, B>(io: &mut FramedIo<T>, mut out: Vec<u8>, mut body: Pin<&mut B>) -> Result<(), BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    io.reset_unless_shut_down();
    let (mut polled, mut budget) = (first_frame(io, body.as_mut()).await?, YieldBudget::default());
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
                while let Some(piece) = budget.split_off(&mut data) {
                    write(io, &out, piece, b"").await?;
                    out.clear();
                    budget.wait().await;
                }
                write(io, &out, data, b"").await?;
                out.clear();
            }
            // HTTP/1.0 has no trailers.
            Some(Ok(Err(_))) => {}
            Some(Err(error)) => return send_truncated(io, &out, Some(error)).await,
            None => return Ok(write(io, &out, &[][..], b"").await?),
        }
        polled = ready_frame(body.as_mut()).await;
    }
}

/// Writes the part of a truncated response that is available, and returns an error.
///
/// A client that receives no part of a response would assume that the connection was closed before its request, and retry.
async fn send_truncated<T>(io: &mut FramedIo<T>, out: &[u8], error: Option<BoxError>) -> Result<(), BoxError>
where
    T: ClientSocket,
{
    write(io, out, &[][..], b"").await?;
    poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await?;
    Err(error.unwrap_or_else(|| "the response body is shorter than its Content-Length".into()))
}

/// Appends the data of a small frame to `out`, because a copy is cheaper than a vectored write.
fn append(out: &mut Vec<u8>, mut data: impl Buf) {
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

/// Returns the next body frame if one is ready.
async fn ready_frame<B>(mut body: Pin<&mut B>) -> Poll<NextFrame<B>>
where
    B: Body<Error: Into<BoxError>>,
{
    poll_fn(|cx| Poll::Ready(poll_frame(body.as_mut(), cx))).await
}

/// Waits up to 2 ms for the first body frame, so that it can be written together with the head.
///
/// Many backends send head and body separately within microseconds. Written together, they need a single system call and
/// TCP segment.
async fn first_frame<T, B>(io: &mut FramedIo<T>, mut body: Pin<&mut B>) -> Result<Poll<NextFrame<B>>, BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    if let Poll::Ready(frame) = ready_frame(body.as_mut()).await {
        return Ok(Poll::Ready(frame));
    }
    match timeout(FIRST_FRAME_WAIT, next_frame(io, body)).await {
        Ok(frame) => frame.map(Poll::Ready),
        Err(_) => Ok(Poll::Pending),
    }
}

/// Flushes the socket, and waits for the next body frame.
async fn next_frame<T, B>(io: &mut FramedIo<T>, mut body: Pin<&mut B>) -> Result<NextFrame<B>, BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await?;
    poll_fn(|cx| match poll_frame(body.as_mut(), cx) {
        Poll::Pending if io.is_closed(cx) => Poll::Ready(Err("the client closed the connection".into())),
        polled => polled.map(Ok),
    })
    .await
}

/// Writes a response head, body data and a tail, in a single system call if possible.
async fn write<T>(io: &mut FramedIo<T>, head: &[u8], data: impl Buf, tail: &[u8]) -> io::Result<()>
where
    T: ClientSocket,
{
    let mut all = head.chain(data).chain(tail);
    poll_fn(|cx| {
        while all.has_remaining() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let written = match all.chunks_vectored(&mut slices) {
                // Cheaper than a vectored write for a single part.
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

/// The number of clock ticks in the idle timeout.
const TICKS: u32 = 4;

/// The maximum time that a response head waits for the first frame of its body.
const FIRST_FRAME_WAIT: Duration = Duration::from_millis(2);

/// The maximum size of a frame that is copied, because a copy is cheaper than a vectored write.
const SMALL: usize = 4096;

/// The maximum number of slices in a vectored write of response head, body data and tail.
const SLICES: usize = 4;

#[cfg(test)]
mod tests;
