//! Access by the client's address.

mod layer;
mod service;

pub use self::layer::AddressFilterLayer;
pub use self::service::AddressFilterService;
