//! The transport of a connection: its socket and TLS session.

pub(crate) mod client_socket;
mod half_close;
#[cfg(feature = "tls")]
pub(crate) mod handshake_limit;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(feature = "tls")]
mod tls_parameters;

pub use self::half_close::HalfClose;
