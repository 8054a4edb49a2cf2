//! The layers of one site or route, and the innermost service behind the layers.

mod handler;
mod hosts;
mod stack;

pub(crate) use self::handler::{AmbiguousPath, Handler};
pub(crate) use self::hosts::{SiteHosts, SiteNames};
pub(crate) use self::stack::SiteStack;
