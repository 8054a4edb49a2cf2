//! Access by the client's address.

mod layer;
mod list;
mod rules;
mod service;

pub use self::layer::AddressFilterLayer;
pub use self::list::{AddressList, AddressListError};
pub use self::rules::{AddressDecision, AddressRules};
pub use self::service::AddressFilterService;
