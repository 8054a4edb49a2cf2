//! HTTP/1.1 connections.
//!
//! One loop owns a connection: it reads heads and content, calls the service, writes the responses, and keeps the idle
//! connection open. The messages are parsed and written by `rproxy-http1`.

mod client_io;
mod exchange;
mod idle;
mod interim;
mod preface;
mod request_content;
mod response;
mod serve;
mod yield_budget;

pub(crate) use self::client_io::{CONTENT_READ, MAX_AHEAD};
pub use self::interim::InterimRelay;
pub(crate) use self::preface::PriorKnowledge;
pub(crate) use self::request_content::RequestContent;
pub(crate) use self::serve::{Http1End, serve};
pub(crate) use self::yield_budget::YieldBudget;
