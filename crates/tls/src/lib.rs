//! Certificates for a server: ACME, files, a local development authority; chosen by SNI, kept fresh.
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
//!         // A task for each, so that a slow handshake holds up nobody else.
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
//! # What it does
//!
//! [`Certificates`] holds the certificates of a server, from three sources that may be mixed:
//!
//! - [`Acme`] orders them, by default from Let's Encrypt, validates by TLS-ALPN-01 on the very port that is served,
//!   and renews each at two thirds of its lifetime. Account and certificates are kept in a folder, files 0600 and
//!   written in one step, so that a restart asks for nothing; servers that share the folder order once between them.
//!   With the feature `redis`, so do machines behind one address that share a Redis or Valkey, and whichever of them the
//!   directory reaches answers its challenge.
//! - [Files](CertificatesBuilder::files) are PEM that something else keeps up to date. A chain in the wrong order is
//!   put right. They are read again when they change, or on [`reload`](Certificates::reload). An OCSP response
//!   [beside them](CertificatesBuilder::files_with_ocsp) is stapled while it is good.
//! - [`LocalCa`] is a certificate authority for development, made once, for `localhost`, loopback and given names.
//!
//! All of them are served by one [`rustls::ServerConfig`]: TLS 1.3 and 1.2, AEAD suites with forward secrecy only,
//! X25519MLKEM768 preferred, HTTP/2 and HTTP/1.1 by ALPN, sessions resumed by tickets that all clones share. The
//! certificate is chosen by server name, exact before wildcard before the default, which is the first pair of files,
//! else the local authority's, else the first one by ACME.
//!
//! [Version](CertificatesBuilder::min_version) and [suites](CertificatesBuilder::cipher_suites) can be narrowed, and
//! clients [asked for certificates](CertificatesBuilder::client_auth).
//!
//! Nothing is ordered or reloaded unless [`Certificates::run`] is being polled. The provider is aws-lc-rs, named
//! explicitly, so it does not matter which one the process has installed, if any.
//!
//! # In axum
//!
//! `rproxy_server::Server::bind(address).tls(certificates)` serves a router as it is. So does any server that takes a
//! [`rustls::ServerConfig`], such as `axum-server`. For `axum::serve` it takes a listener:
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
//!                     self.handshakes.spawn(async move { Ok((acceptor.accept(socket).await?, peer)) });
//!                 }
//!                 Some(Ok(Ok((stream, peer)))) = self.handshakes.join_next() => {
//!                     if !is_challenge(stream.get_ref().1.alpn_protocol()) {
//!                         return (stream, peer);
//!                     }
//!                 }
//!                 // Out of descriptors, perhaps.
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
//!         .acme(Acme::new("/var/lib/app/certs").domain("example.com").contact("admin@example.com"))
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
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `redis` | `Acme::redis`: ACME account, certificates and challenges shared by several machines, in Redis or Valkey |
//!
//! # How it fails
//!
//! What can be known beforehand is an [`Error`] of [`build`](CertificatesBuilder::build): a name that ACME can't
//! certify, a key that does not fit, a folder that can't be written. Afterwards, nothing that goes wrong takes a
//! served certificate away. A bad new file is warned of. So is a refused order, with the reason in the directory's
//! words and the time of the next try: 30 seconds, then four times as long each time, up to three hours, and a
//! restart does not shorten the wait; a directory that is down is asked again after two seconds, then twice as long,
//! up to ten minutes. [`status`](Certificates::status) has all of it for metrics.
//!
//! A handshake for a name whose certificate is still on order fails; it is not answered with another name's, nor, unless
//! [enabled](Acme::self_signed_fallback), with a self-signed one.
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
pub use local_ca::LocalCa;
pub use protocol::{CipherSuites, TlsVersion};
pub use server_config::is_challenge;
pub use status::{CertificateStatus, Source};
