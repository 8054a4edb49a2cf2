//! HTTP/1.1 connections: a fast path for requests without content, and hyper behind a framing scanner.

mod chunked;
mod connection_state;
mod fast_path;
mod framed_io;
mod framing;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod interim;
mod last_response;
mod preface;
mod reclaimable_io;
mod request_head;
mod response;
mod scanner;
mod serve;
mod syntax;
mod yield_budget;

pub(crate) use self::connection_state::{ConnectionState, InFlightRequest};
pub(crate) use self::framing::HeadLimits;
pub use self::interim::InterimRelay;
pub(crate) use self::preface::PriorKnowledge;
pub(crate) use self::reclaimable_io::reclaimable;
pub(crate) use self::serve::serve;
pub(crate) use self::syntax::is_disguised;
pub(crate) use self::yield_budget::YieldBudget;

/// The policy for clients that half-close the connection while a request is in flight.
///
/// TCP does not distinguish a client that has finished sending, but still reads, from one that has closed its socket. If
/// the policy assumes that the client has closed the connection, its request is cancelled. A connection that is reset, or
/// half-closed while an upgrade is pending, always counts as closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HalfClose {
    /// Serves a client that half-closes within 200 ms of its request, and otherwise cancels the request.
    #[default]
    WithRequest,
    /// Always serves a client that half-closed, as HAProxy does by default.
    Always,
    /// Always cancels the request of a client that half-closed, as nginx and Go do.
    Never,
}
