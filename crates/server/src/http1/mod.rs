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

/// Request extension: the connection carried no request that may be served, and why. The request
/// that carries it is a stand-in: its method, target and fields mean nothing, and the connection
/// ends after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedHead {
    /// Not a request by the grammar of RFC 9112: 400.
    Malformed,
    /// The body's length has more than one reading (RFC 9112 §6.3): 400.
    Framing,
    /// The target is too long: 414.
    TargetTooLong,
    /// The head, or the number of its fields, is too large: 431.
    TooLarge,
    /// The head did not arrive in time: 408.
    TooSlow,
}
