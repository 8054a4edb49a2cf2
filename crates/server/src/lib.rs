//! The outermost part of a proxy: listeners, one worker per core, TLS handshakes, hyper connections,
//! limits on what a client may make us hold, and draining.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::Response;
//! use http_body_util::Full;
//! use rproxy_server::Server;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tower::service_fn;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let hello = service_fn(async |_request| {
//!         Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from_static(b"hello"))))
//!     });
//!     // `serve` runs until the server has drained; `start` gives it back while it runs.
//!     let server = Server::bind("127.0.0.1:0".parse()?).workers(1).start(move |_worker| hello)?;
//!
//!     let address = server.local_addr().ok_or("bound to no address")?;
//!     let mut client = tokio::net::TcpStream::connect(address).await?;
//!     client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
//!     let mut answer = String::new();
//!     client.read_to_string(&mut answer).await?;
//!     assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"));
//!
//!     server.handle().drain();
//!     server.wait().await;
//!     Ok(())
//! }
//! ```
//!
//! # What it does
//!
//! Each worker is a thread with a current-thread runtime, a listening socket of its own
//! (`SO_REUSEPORT`: the kernel spreads connections) and a service of its own, made by the closure
//! given to [`Server::serve`]: a request is born, served and finished on one core. With
//! [certificates](Server::tls) a connection starts with a TLS handshake, and ALPN decides between
//! HTTP/2 and HTTP/1.1; without, it is HTTP/1.1.
//!
//! Each request carries the extensions `PeerAddr` (of `rproxy-client-ip`) and [`http::uri::Scheme`],
//! and over TLS [`TlsInfo`]. Those that can have interim responses, `103 Early Hints` say, ahead of their answer (RFC 9110
//! §15.2) carry an [`InterimRelay`] for them: requests without content over HTTP/1.1. Those that hyper serves can't, for it
//! has no way to send any; nor can those over HTTP/2.
//!
//! An HTTP/1.1 request that is a head and no more, as nearly all are, is read and answered here; one
//! with a body, an upgrade, or anything else to it is hyper's. The bytes that hyper gets are looked
//! at before it parses them: a message whose framing could be read in two ways (RFC 9112 §6.3), or
//! whose head is too large or too slow, reaches the service as a [`RejectedHead`] in place of the
//! request, so that the answer is made where all answers are made. [`RequestGuardLayer`] makes it. A response with the
//! extension [`CloseConnection`] is not sent: the connection ends instead.
//!
//! An HTTP/1 client that ends its side of the connection behind its request gets its response; one that has left has its
//! request cancelled ([`HalfClose`]). After the last response of a connection its other side is read on for a while, so
//! that no reset destroys the response.
//!
//! What a client can make the server hold is limited ([`Limits`]), on HTTP/2 frame by frame. The listening sockets may be
//! a service manager's, or those of the process before ([`InheritedSockets`], [`HandoverClient`], [`HandoverListener`]).
//!
//! # Features
//!
//! | Feature | Default | Adds |
//! |---|---|---|
//! | `tls` | yes | [`Server::tls`], [`ClientCertificateLayer`]: rustls and the certificates of `rproxy-tls`, with its ACME client. Implies `server` |
//! | `server` | yes, by `tls` | [`Server`]: listeners, workers, HTTP/1.1 and HTTP/2 connections |
//!
//! Without features there is [`RequestGuardLayer`] alone, with about 30 dependencies, for a program with another server.
//!
//! # How it fails
//!
//! [`Server::start`] fails with a [`ServerError`] that names the address. A connection that fails
//! costs itself alone; out of file descriptors, the listener waits and says so once.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod guard;
mod rejected_head;
mod target;

#[cfg(feature = "server")]
mod body;
#[cfg(feature = "tls")]
mod client_certificate;
#[cfg(feature = "server")]
mod client_socket;
#[cfg(feature = "server")]
mod close_connection;
#[cfg(feature = "server")]
mod connection;
#[cfg(feature = "server")]
mod connection_counts;
#[cfg(feature = "server")]
mod drain;
#[cfg(all(feature = "server", any(test, fuzzing)))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "server")]
mod handover;
#[cfg(feature = "tls")]
mod handshake_limit;
#[cfg(feature = "server")]
mod http1;
#[cfg(feature = "server")]
mod http2;
#[cfg(feature = "server")]
mod inherited_sockets;
#[cfg(feature = "server")]
mod limits;
#[cfg(feature = "server")]
mod listen;
#[cfg(feature = "server")]
mod proxy_protocol;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod service;
#[cfg(feature = "server")]
mod worker;

use std::sync::Arc;

#[cfg(feature = "tls")]
pub use self::client_certificate::{ClientCertificate, ClientCertificateLayer, ClientCertificateService};
pub use self::guard::{
    GuardBody, RequestBodyError, RequestGuardLayer, RequestGuardService, RequestRejection, ResponseFuture,
    normalized_host,
};
pub use self::rejected_head::RejectedHead;
#[cfg(feature = "server")]
pub use self::{
    body::RequestBody,
    close_connection::CloseConnection,
    drain::Handle,
    handover::{HandoverClient, HandoverError, HandoverListener},
    http1::{HalfClose, InterimRelay},
    inherited_sockets::InheritedSockets,
    limits::{Limits, WorstCaseMemory},
    listen::{ListenAddr, ListenAddrError},
    proxy_protocol::ProxyProtocolVersions,
    server::{RunningServer, Server, ServerError},
    service::ClientConnection,
    worker::Worker,
};

/// Request extension: the TLS session of the connection. Absent without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The server name that the client sent (SNI, RFC 6066 §3), in lower case.
    pub server_name: Option<Arc<str>>,
    /// The verified certificate of the client, if the server requests one (`rproxy_tls::ClientAuth`).
    #[cfg(feature = "tls")]
    pub client_certificate: Option<ClientCertificate>,
}
