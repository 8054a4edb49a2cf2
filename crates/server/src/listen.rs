//! Listening sockets: bound here, inherited from a service manager or from the old process; and the PROXY protocol.

mod address;
mod handover;
mod inherited_sockets;
pub(crate) mod proxy_protocol;

pub(crate) use self::address::{BoundSocket, set_send_timeout};
pub use self::address::{ListenAddr, ListenAddrError};
pub use self::handover::{HandoverClient, HandoverError, HandoverListener};
pub use self::inherited_sockets::InheritedSockets;
pub use self::proxy_protocol::ProxyProtocolVersions;
