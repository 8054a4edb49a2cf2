//! A server for `tower` services on the public internet: HTTP/1.1, HTTP/2 and TLS, with limits and draining.
//!
//! [`Server`] accepts connections, enforces [limits](Limits) and rejects ambiguous requests. It serves any `tower`
//! service, such as an axum `Router`.
//!
//! # Example
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
//!     // `serve` runs until the server has drained; `start` returns a handle while it runs.
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
//! # Workers
//!
//! Each worker is a thread with a current-thread runtime, its own listening socket (`SO_REUSEPORT`) and its own
//! service, made by the closure that is given to [`Server::start`]. A request is accepted, served and finished on one
//! core.
//!
//! # Protocols
//!
//! | Listener | Protocols |
//! |---|---|
//! | With [TLS](Server::tls) | HTTP/2 or HTTP/1.1, by ALPN |
//! | Without TLS | HTTP/1.1, and HTTP/2 with prior knowledge, unless [`h2c`](Server::h2c) is off |
//! | With [`proxy_protocol`](Server::proxy_protocol) | the PROXY protocol, versions 1 and 2, from trusted peers |
//!
//! This crate serves HTTP/1.1 with the parsers of `rproxy-http1`, and HTTP/2 with hyper. A message that is ambiguous (RFC
//! 9112 §6.3), malformed, too large or too slow reaches the service as a request with the extension [`RejectedHead`], so that the application logs and
//! counts it. `RequestGuardLayer` of `rproxy-request-guard` turns it into a response with a [`Rejection`] in its extensions.
//!
//! | Request extension | Content |
//! |---|---|
//! | `PeerAddr` (of `rproxy-client-ip`) | the address of the TCP peer |
//! | `http::uri::Scheme` | `http` or `https` |
//! | [`TlsInfo`] | server name, negotiated parameters and client certificate, over TLS |
//! | [`InterimRelay`] | sends `100 Continue`, `103 Early Hints` and other interim responses, for HTTP/1.1 requests |
//! | `ReceivedHead` (of `rproxy-http1`) | the letter case of the field names, for HTTP/1 requests. In a response, it determines theirs |
//! | [`ClientConnection`] | state that is kept for the connection, for NTLM and Negotiate |
//!
//! A response with the extension [`CloseConnection`] is not sent; the connection closes instead. An HTTP/1.1 client
//! that half-closes its connection with the request still gets its response ([`HalfClose`]).
//!
//! # Shutdown and handover
//!
//! [`Handle::drain`] stops accepting, lets in-flight requests finish, and closes idle connections. Listening sockets
//! can come from systemd ([`InheritedSockets`]) or from the running process ([`HandoverClient`], [`HandoverListener`]),
//! so that an upgrade rejects no connection.
//!
//! # Features
//!
//! | Feature | Default | Adds |
//! |---|---|---|
//! | `tls` | yes | [`Server::tls`], [`ClientCertificate`]: rustls and the certificates of `rproxy-tls`, with its ACME client |
//!
//! # Errors
//!
//! [`Server::start`] returns a [`ServerError`] that names the address. A failing connection affects no other. Without
//! free file descriptors the listener waits, and logs one warning.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod box_error;
mod connection;
mod connection_config;
mod connection_counts;
mod connection_settings;
mod drain;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod limits;
mod listen;
mod protocol;
mod server;
mod transport;
mod worker;
mod worker_settings;
mod worst_case_memory;

pub use rproxy_core::{ClientCertificate, RejectedHead, Rejection, TlsInfo, TlsParameters};

pub use self::{
    drain::Handle,
    limits::Limits,
    listen::{
        HandoverClient, HandoverError, HandoverListener, InheritedSockets, ListenAddr, ListenAddrError,
        ProxyProtocolVersions,
    },
    protocol::{ClientConnection, CloseConnection, InterimRelay, LoopbackClient, RequestBody, RequestBodyError},
    server::{RunningServer, Server, ServerError, ServerSockets},
    transport::HalfClose,
    worker::Worker,
    worst_case_memory::WorstCaseMemory,
};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
