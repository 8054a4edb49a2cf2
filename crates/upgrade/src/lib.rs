//! Creates the upgrades of hyper for connections that another HTTP/1.1 implementation serves.
//!
//! Layers and programs know [`OnUpgrade`], a message extension that only hyper can create (RFC 9110 §7.8). So hyper serves a
//! handshake in memory: it reads a constant request, and the response that it writes is discarded. The socket that it then
//! passes to the owner of the `OnUpgrade` is the one of the connection.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use hyper_util::rt::TokioIo;
//! use rproxy_upgrade::PendingUpgrade;
//! use tokio::io::{AsyncReadExt, duplex};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let (_peer, socket) = duplex(64);
//! let (pending, on_upgrade) = PendingUpgrade::new().expect("a handshake in memory");
//! // After the response 101, with the bytes that were read after the head.
//! tokio::spawn(pending.complete(socket, Bytes::from_static(b"early")));
//!
//! let mut upgraded = TokioIo::new(on_upgrade.await.expect("the upgrade is complete"));
//! let mut read = [0; 5];
//! upgraded.read_exact(&mut read).await.expect("the bytes that were read before");
//! assert_eq!(&read, b"early");
//! # }
//! ```
//!
//! # Errors
//!
//! If a [`PendingUpgrade`] is dropped, its `OnUpgrade` returns an error.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// An upgrade that waits for the response 101.
pub struct PendingUpgrade<T> {
    handshake: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    respond: oneshot::Sender<()>,
    socket: Arc<Slot<T>>,
}

/// The place for the socket, with the bytes that were read from it.
type Slot<T> = Mutex<Option<(T, Bytes)>>;

impl<T> PendingUpgrade<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Creates an upgrade, and the extension for its request or response, which waits until the upgrade is complete.
    ///
    /// Returns `None` if the handshake in memory fails, which no known version of hyper does.
    #[must_use]
    pub fn new() -> Option<(Self, OnUpgrade)> {
        let socket = Arc::<Slot<T>>::default();
        let io = UpgradeIo { request: REQUEST, response_end: 0, slot: Arc::clone(&socket), socket: None };
        let on_upgrade = Arc::<Mutex<Option<OnUpgrade>>>::default();
        let (respond, responded) = oneshot::channel();
        let responded = Mutex::new(Some(responded));
        let service = {
            let on_upgrade = Arc::clone(&on_upgrade);
            service_fn(move |mut request: Request<Incoming>| {
                let mut slot = on_upgrade.lock().unwrap_or_else(PoisonError::into_inner);
                *slot = request.extensions_mut().remove::<OnUpgrade>();
                let responded = responded.lock().unwrap_or_else(PoisonError::into_inner).take();
                async move {
                    if let Some(responded) = responded {
                        // An error means that the request was answered otherwise, and the handshake is dropped.
                        let _ = responded.await;
                    }
                    let mut response = Response::new(Empty::<Bytes>::new());
                    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    response.headers_mut().insert(CONNECTION, UPGRADE.into());
                    response.headers_mut().insert(UPGRADE, http::HeaderValue::from_static("any"));
                    Ok::<_, Infallible>(response)
                }
            })
        };
        let builder = hyper::server::conn::http1::Builder::new();
        let mut handshake = Box::pin(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
        // Reads the request and calls the service.
        let _ = handshake.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let on_upgrade = on_upgrade.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((Self { handshake, respond, socket }, on_upgrade))
    }

    /// Passes the socket to the owner of the `OnUpgrade`, with the bytes that were read after the head.
    ///
    /// To be called after the response 101 was sent or received. Returns when the owner has the socket.
    pub async fn complete(self, socket: T, input: Bytes) {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some((socket, input));
        let _ = self.respond.send(());
        let _ = self.handshake.await;
    }
}

impl<T> fmt::Debug for PendingUpgrade<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingUpgrade").finish_non_exhaustive()
    }
}

/// The request that hyper reads.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: any\r\n\r\n";

/// The end of the response that hyper writes, and that is discarded.
const RESPONSE_END: &[u8] = b"\r\n\r\n";

/// The socket for hyper: first that of the handshake in memory, then that of the connection.
struct UpgradeIo<T> {
    /// The unread part of the request.
    request: &'static [u8],
    /// The number of bytes of [`RESPONSE_END`] at the end of what was written.
    response_end: usize,
    slot: Arc<Slot<T>>,
    socket: Option<(T, Bytes)>,
}

impl<T> UpgradeIo<T> {
    /// Returns the socket of the connection after the handshake.
    fn socket(&mut self) -> Option<&mut (T, Bytes)> {
        if self.socket.is_none() && self.response_end == RESPONSE_END.len() {
            self.socket = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        self.socket.as_mut()
    }

    /// Discards a part of the response, and returns its length.
    fn discard(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if self.response_end == RESPONSE_END.len() {
                return at;
            }
            self.response_end = match *byte == RESPONSE_END[self.response_end] {
                true => self.response_end + 1,
                false => usize::from(*byte == RESPONSE_END[0]),
            };
        }
        bytes.len()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for UpgradeIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.request.is_empty() {
            let length = this.request.len().min(buf.remaining());
            let (read, rest) = this.request.split_at(length);
            buf.put_slice(read);
            this.request = rest;
            return Poll::Ready(Ok(()));
        }
        match this.socket() {
            // The handshake waits for the response of the service.
            None => Poll::Pending,
            Some((_, input)) if !input.is_empty() => {
                let length = input.len().min(buf.remaining());
                buf.put_slice(&input[..length]);
                input.advance(length);
                Poll::Ready(Ok(()))
            }
            Some((socket, _)) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for UpgradeIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.socket() {
            None => Poll::Ready(Ok(this.discard(bytes))),
            Some((socket, _)) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.socket() {
            None => Poll::Ready(Ok(slices.iter().map(|slice| this.discard(slice)).sum())),
            Some((socket, _)) => Pin::new(socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.as_ref().is_some_and(|(socket, _)| socket.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().socket() {
            None => Poll::Ready(Ok(())),
            Some((socket, _)) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().socket() {
            None => Poll::Ready(Ok(())),
            Some((socket, _)) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    #[tokio::test]
    async fn owner_of_the_upgrade_gets_the_socket_and_the_bytes_read_before() {
        let (mut client, socket) = duplex(64);
        let (pending, on_upgrade) = PendingUpgrade::new().unwrap();
        let (_, upgraded) = tokio::join!(pending.complete(socket, Bytes::from_static(b"ear")), on_upgrade);
        let mut upgraded = TokioIo::new(upgraded.unwrap());
        client.write_all(b"ly").await.unwrap();
        let mut read = [0; 5];
        upgraded.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"early");
        upgraded.write_all(b"\r\n\r\nlate").await.unwrap();
        drop(upgraded);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"\r\n\r\nlate", "the response of the handshake in memory is discarded");
    }

    #[tokio::test]
    async fn upgrade_fails_if_the_request_is_answered_otherwise() {
        let (pending, on_upgrade) = PendingUpgrade::<DuplexStream>::new().unwrap();
        drop(pending);
        assert!(on_upgrade.await.is_err());
    }
}
