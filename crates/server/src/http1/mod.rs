//! HTTP/1.1 connections: a short way for requests without content, and hyper's parser behind a look at the framing for
//! all others.

mod chunked;
mod direct;
mod framing;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod interim;
mod io;
mod last;
mod lease;
mod preface;
mod request;
mod response;
mod serve;
mod syntax;
mod turn;
mod watch;

pub(crate) use self::framing::HeadLimits;
pub use self::interim::InterimRelay;
pub(crate) use self::lease::lease;
pub(crate) use self::preface::PriorKnowledge;
pub(crate) use self::serve::serve;
pub(crate) use self::syntax::is_disguised;
pub(crate) use self::turn::Turn;
pub(crate) use self::watch::{InFlight, Watch};

/// When a client that ends its side of the connection has left, and its request is cancelled.
///
/// TCP does not tell a client that has sent all that it wants to send, and reads on, from one that has closed its socket.
/// A connection that is reset is always a client that has left, and so is one whose client ends it while it waits for an
/// upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HalfClose {
    /// The client reads on if the end comes with the request, within 200 ms; one that ends the connection later has left.
    #[default]
    WithRequest,
    /// The client reads on whenever it ends its side, as with HAProxy's default.
    Always,
    /// The client has left whenever it ends its side, as with nginx and Go.
    Never,
}
