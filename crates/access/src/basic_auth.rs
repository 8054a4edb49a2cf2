//! Access with a user name and a password (RFC 7617).

mod config;
mod credentials;
mod failures;
mod layer;
mod password_hash;
mod service;
mod users;
mod verifier;

pub use self::layer::{BasicAuthLayer, BasicAuthLayerBuilder, BasicAuthLayerError};
pub use self::service::BasicAuthService;
pub use self::users::{Users, UsersError};
