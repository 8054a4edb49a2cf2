//! The rules of RFC 9111 as pure functions of `http` values, without I/O.

pub(crate) mod cache_control;
pub(crate) mod content_type;
pub(crate) mod date;
pub(crate) mod freshness;
pub(crate) mod no_vary_search;
pub(crate) mod range;
pub(crate) mod request_directives;
pub(crate) mod response_directives;
pub(crate) mod reuse;
pub(crate) mod storability;
pub(crate) mod stored_fields;
pub(crate) mod tags;
pub(crate) mod targeted;
pub(crate) mod validators;
pub(crate) mod vary;
