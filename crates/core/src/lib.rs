//! Types and rules that the layers of rproxy share, without I/O.
//!
//! Most programs use the layer crates instead, which re-export the types of their interfaces.
//!
//! # Contents
//!
//! | Item | Feature | Content |
//! |---|---|---|
//! | [`credentials`] | `credentials` | Request fields that can identify the client. |
//! | [`field_name()`] | `field-name` | A parser of field names, with a fast path for common names. |
//! | [`host`] | `host` | The grammar of hosts in `Host` and `:authority`. |
//! | [`OptionalLayer`] | `optional-layer` | A layer that a setting can disable, without the same response type as without it. |
//! | [`path`] | `path` | All paths to which known servers may decode a request path. |
//! | [`target`] | `target` | Percent-encoding of request targets. |
//! | [`TlsInfo`], [`ClientCertificate`] | `tls-info` | The TLS session of a connection. |
//! | [`spelling`] | `spelling` | Spellings of a field name that backends treat as the same field. |
//! | [`Authenticated`] | `authenticated` | The mark of a request whose client was authenticated, for caches and logs. |
//! | [`PublicContent`] | `public-content` | The mark of content that is the same for all clients. |
//! | [`RejectedHead`] | `rejection` | The reason why a server rejected a request head. |
//! | [`Rejection`] | `rejection` | The reason why a layer rejected a request, for error pages, logs and metrics. |
//! | [`EitherBody`] | `response-body` | The response body of one of two services. |
//! | [`ResponseBody`] | `response-body` | The response body of layers that respond to some requests themselves. |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "authenticated")]
mod authenticated;
#[cfg(feature = "credentials")]
pub mod credentials;
#[cfg(feature = "response-body")]
mod either_body;
#[cfg(feature = "field-name")]
mod field_name;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "optional-layer")]
mod optional_layer;
#[cfg(feature = "path")]
pub mod path;
#[cfg(feature = "public-content")]
mod public_content;
#[cfg(feature = "rejection")]
mod rejected_head;
#[cfg(feature = "rejection")]
mod rejection;
#[cfg(feature = "response-body")]
mod response_body;
#[cfg(feature = "spelling")]
pub mod spelling;
#[cfg(feature = "target")]
pub mod target;
#[cfg(feature = "tls-info")]
mod tls_info;

#[cfg(feature = "authenticated")]
pub use self::authenticated::Authenticated;
#[cfg(feature = "response-body")]
pub use self::either_body::EitherBody;
#[cfg(feature = "field-name")]
pub use self::field_name::field_name;
#[cfg(feature = "optional-layer")]
pub use self::optional_layer::{OptionalFuture, OptionalLayer, OptionalService};
#[cfg(feature = "public-content")]
pub use self::public_content::PublicContent;
#[cfg(feature = "rejection")]
pub use self::rejected_head::RejectedHead;
#[cfg(feature = "rejection")]
pub use self::rejection::{ProxyErrorType, Rejection, RejectionDetail};
#[cfg(feature = "response-body")]
pub use self::response_body::ResponseBody;
#[cfg(feature = "tls-info")]
pub use self::tls_info::{ClientCertificate, TlsInfo, TlsParameters};

/// Compiles the examples in the README as doc tests.
#[cfg(all(doctest, feature = "rejection"))]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
