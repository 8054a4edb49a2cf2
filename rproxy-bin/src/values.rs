//! The types of setting values, and the parsers for them.

pub(crate) mod balance;
pub(crate) mod cache_ttl;
pub(crate) mod choice;
pub(crate) mod command;
pub(crate) mod filter;
pub(crate) mod forward_auth;
pub(crate) mod header_rules;
pub(crate) mod listen;
pub(crate) mod parsed;
pub(crate) mod paths;
pub(crate) mod rate;
pub(crate) mod rate_limit;
pub(crate) mod readable_file;
pub(crate) mod redirect;
pub(crate) mod routes;
pub(crate) mod rule_list;
pub(crate) mod sandbox;
pub(crate) mod security_headers;
pub(crate) mod shared;
pub(crate) mod target_rules;
pub(crate) mod tls;
pub(crate) mod tls_name;
pub(crate) mod upstream;
pub(crate) mod value;
