//! One site or route: its layers in order, and its innermost service.

mod origin;
mod prefix;
mod stack;

pub(crate) use self::origin::{AmbiguousPath, Origin};
pub(crate) use self::stack::SiteStack;
