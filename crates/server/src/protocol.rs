//! The protocols of a connection: HTTP/1.1 and HTTP/2, and what both pass to the service.

mod close_connection;
mod connection_service;
pub(crate) mod http1;
pub(crate) mod http2;
mod loopback_client;
mod request_body;
mod request_body_error;

pub use self::close_connection::CloseConnection;
pub use self::connection_service::ClientConnection;
pub(crate) use self::connection_service::ConnectionService;
pub use self::http1::InterimRelay;
pub use self::loopback_client::LoopbackClient;
pub use self::request_body::RequestBody;
pub use self::request_body_error::RequestBodyError;
