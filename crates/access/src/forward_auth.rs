//! Access by the decision of an authentication service (forward auth).

mod auth_request;
mod config;
mod exchange;
mod layer;
mod service;

pub use self::config::{ForwardAuthConfig, ForwardAuthConfigBuilder, ForwardAuthConfigError};
pub use self::layer::ForwardAuthLayer;
pub use self::service::ForwardAuthService;
