//! The request extensions that this crate reads. They are aliases of standard types, so that a server does not depend on it.

/// A request extension with a function that forwards interim responses (100, 102, 103) of the backend to the client.
///
/// Without it, interim responses are dropped. `rproxy-server` inserts it. The type is an alias of standard types, so
/// that a server does not depend on this crate.
pub type InterimRelay = std::sync::Arc<dyn Fn(http::Response<()>) + Send + Sync>;

/// A request extension with the state of the client's connection, which is dropped with that connection.
///
/// It stores the connections that a backend authenticated for this client (NTLM, Negotiate). Without it, such
/// connections are closed after their response. Like [`InterimRelay`], the type is an alias of standard types.
pub type ClientConnection = std::sync::Arc<std::sync::Mutex<http::Extensions>>;
