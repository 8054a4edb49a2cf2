//! A mark for clients on this machine.

/// Request extension: both the client and the listener have a loopback address.
///
/// It is absent on listeners with other addresses, Unix sockets, and connections with a PROXY protocol header. The
/// client may still be a proxy on this machine, which serves clients of other machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopbackClient;
