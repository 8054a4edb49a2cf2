//! Certificates for a TLS server: ordered by ACME, read from files, or issued by a local CA for development.
//!
//! [`Certificates`] selects a certificate by server name (SNI), renews and reloads certificates while the server runs,
//! and serves all of them through one `rustls::ServerConfig`.
//!
//! # Example
//!
//! ```
//! use rproxy_tls::{Certificates, LocalCa, is_challenge};
//! use tokio::{io::AsyncWriteExt, net::TcpListener};
//! use tokio_rustls::TlsAcceptor;
//! # use std::sync::Arc;
//! # use tokio::{io::AsyncReadExt, net::TcpStream};
//! # use tokio_rustls::TlsConnector;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     # let folder = tempfile::tempdir()?;
//!     # let cache_dir = folder.path();
//!     // On a public server: `.acme(Acme::new("/var/lib/app/certs").domain("example.com"))`.
//!     let certificates = Certificates::builder()
//!         .local(LocalCa::new(cache_dir).name("app.localhost"))
//!         .build()?;
//!     tokio::spawn(certificates.clone().run());
//!
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     # let address = listener.local_addr()?;
//!     # let mut roots = rustls::RootCertStore::empty();
//!     # let ca = certificates.local_ca_pem_path().ok_or("no CA")?;
//!     # roots.add(rustls_pki_types::pem::PemObject::from_pem_file(ca)?)?;
//!     # let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
//!     # let client = rustls::ClientConfig::builder_with_provider(provider)
//!     #     .with_safe_default_protocol_versions()?
//!     #     .with_root_certificates(roots)
//!     #     .with_no_client_auth();
//!     # let client = tokio::spawn(async move {
//!     #     let socket = TcpStream::connect(address).await?;
//!     #     let name = rustls_pki_types::ServerName::try_from("app.localhost").unwrap();
//!     #     let mut stream = TlsConnector::from(Arc::new(client)).connect(name, socket).await?;
//!     #     let mut said = String::new();
//!     #     stream.read_to_string(&mut said).await.map(|_| said)
//!     # });
//!     let acceptor = TlsAcceptor::from(certificates.server_config());
//!     # for _ in 0..1 {
//!     # /*
//!     loop {
//!     # */
//!         let (socket, _) = listener.accept().await?;
//!         let acceptor = acceptor.clone();
//!         // A task for each connection, so that a slow handshake delays no other.
//!         tokio::spawn(async move {
//!             let mut stream = acceptor.accept(socket).await?;
//!             if !is_challenge(stream.get_ref().1.alpn_protocol()) {
//!                 stream.write_all(b"hello\n").await?;
//!                 stream.shutdown().await?;
//!             }
//!             Ok::<_, std::io::Error>(())
//!         });
//!     }
//!     # assert_eq!(client.await??, "hello\n");
//!     # Ok(())
//! }
//! ```
//!
//! # Sources
//!
//! The sources can be combined:
//!
//! - [`Acme`] orders certificates, by default from Let's Encrypt, and renews each after two thirds of its lifetime.
//!   Names are validated by TLS-ALPN-01 on the served port, so no other port is needed. Account and certificates are
//!   stored in a folder (files 0600, atomic writes). Servers that share the folder order once; with the feature
//!   `redis`, so do machines that share a Redis or Valkey.
//! - [PEM files](CertificatesBuilder::files) are reloaded when they change, or by [`reload`](Certificates::reload). A
//!   chain in the wrong order is sorted. An [OCSP response](CertificatesBuilder::files_with_ocsp) is stapled while it
//!   is current.
//! - [`LocalCa`] issues a certificate for `localhost`, loopback addresses and given names, for development.
//!
//! [`Certificates::run`] must be polled: it orders, renews and reloads.
//!
//! # Defaults
//!
//! | Subject | Default |
//! |---|---|
//! | Protocol versions | TLS 1.3 and 1.2 ([`min_version`](CertificatesBuilder::min_version)) |
//! | Cipher suites | AEAD with forward secrecy ([`cipher_suites`](CertificatesBuilder::cipher_suites)) |
//! | Key exchange | X25519MLKEM768 preferred (post-quantum hybrid) |
//! | ALPN | `h2`, `http/1.1` |
//! | Session resumption | tickets, shared by all clones |
//! | Selection by server name | exact name, then wildcard, then the default certificate: the first PEM files, else the local CA, else the first ACME certificate |
//! | Several certificates for one name | the first whose key type the client supports; ECDSA and Ed25519 before RSA, then in the order of configuration |
//! | Client certificates | not requested ([`client_auth`](CertificatesBuilder::client_auth)) |
//! | Crypto provider | aws-lc-rs, passed explicitly; a provider that the process installs is not used |
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `redis` | `Acme::redis`: ACME account, certificates and challenges shared by several machines, in Redis or Valkey |
//!
//! # Errors
//!
//! [`build`](CertificatesBuilder::build) returns an [`Error`] for everything that can be known in advance: a name that
//! ACME cannot certify, a key that does not match its certificate, a folder that cannot be written.
//!
//! Afterwards no failure removes a certificate that is being served. Failures are logged as warnings and reported by
//! [`status`](Certificates::status):
//!
//! | Failure | Retry |
//! |---|---|
//! | Invalid new file | when it changes again; the current certificate stays |
//! | Rejected order | after 30 s, then four times as long each time, up to 3 h; a restart does not shorten the wait |
//! | Unreachable directory | after 2 s, then twice as long each time, up to 10 min |
//!
//! A handshake for a name whose certificate is still on order fails, unless a [self-signed
//! fallback](Acme::self_signed_fallback) is enabled.
//!
//! # With axum
//!
//! `rproxy_server::Server::bind(address).tls(certificates)` serves a router, and so does any server that accepts a
//! `rustls::ServerConfig`, such as `axum-server`. With `axum::serve`, implement a listener:
//!
//! ```no_run
//! use std::io;
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! use axum::Router;
//! use axum::routing::get;
//! use rproxy_tls::{Acme, Certificates, is_challenge};
//! use tokio::net::{TcpListener, TcpStream};
//! use tokio::task::JoinSet;
//! use tokio_rustls::TlsAcceptor;
//! use tokio_rustls::server::TlsStream;
//!
//! struct TlsListener {
//!     listener: TcpListener,
//!     acceptor: TlsAcceptor,
//!     handshakes: JoinSet<io::Result<(TlsStream<TcpStream>, SocketAddr)>>,
//! }
//!
//! impl axum::serve::Listener for TlsListener {
//!     type Io = TlsStream<TcpStream>;
//!     type Addr = SocketAddr;
//!
//!     async fn accept(&mut self) -> (Self::Io, Self::Addr) {
//!         loop {
//!             tokio::select! {
//!                 Ok((socket, peer)) = self.listener.accept() => {
//!                     let acceptor = self.acceptor.clone();
//!                     self.handshakes
//!                         .spawn(async move { Ok((acceptor.accept(socket).await?, peer)) });
//!                 }
//!                 Some(Ok(Ok((stream, peer)))) = self.handshakes.join_next() => {
//!                     if !is_challenge(stream.get_ref().1.alpn_protocol()) {
//!                         return (stream, peer);
//!                     }
//!                 }
//!                 // For example, no free descriptors.
//!                 else => tokio::time::sleep(Duration::from_millis(100)).await,
//!             }
//!         }
//!     }
//!
//!     fn local_addr(&self) -> io::Result<SocketAddr> {
//!         self.listener.local_addr()
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let certificates = Certificates::builder()
//!         .acme(Acme::new("/var/lib/app/certs").domain("example.com"))
//!         .build()?;
//!     tokio::spawn(certificates.clone().run());
//!
//!     let listener = TcpListener::bind("0.0.0.0:443").await?;
//!     let acceptor = TlsAcceptor::from(certificates.server_config());
//!     let app = Router::new().route("/", get(async || "hello"));
//!     axum::serve(TlsListener { listener, acceptor, handshakes: JoinSet::new() }, app).await?;
//!     Ok(())
//! }
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod acme;
mod certificates;
mod chain;
mod client_auth;
mod crypto;
mod error;
mod file_watcher;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod identity;
mod key_log;
mod key_type;
mod loaded_certificate;
mod local_ca;
mod names;
mod ocsp;
mod pem_files;
mod protocol;
mod resolver;
mod roots;
mod secret_folder;
mod server_config;
mod sni_table;
mod status;
#[cfg(test)]
mod testing;
mod validity;

pub use acme::Acme;
pub use certificates::{Certificates, CertificatesBuilder};
pub use client_auth::ClientAuth;
pub use error::{Error, PemError};
pub use identity::Identity;
pub use key_type::KeyType;
pub use local_ca::LocalCa;
pub use protocol::{CipherSuites, TlsVersion};
pub use server_config::is_challenge;
pub use status::{CertificateStatus, Source};

/// A type whose documentation is the README, so that its examples are compiled as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
