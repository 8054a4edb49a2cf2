//! The layers of one site or route, and the innermost service behind the layers.

mod authentication;
mod handler;
mod hosts;
mod stack;

pub(crate) use self::authentication::{AuthClients, Authentication, ForwardAuth};
pub(crate) use self::handler::{AmbiguousPath, Files, Handler};
pub(crate) use self::hosts::{SiteHosts, SiteNames};
pub(crate) use self::stack::SiteStack;
