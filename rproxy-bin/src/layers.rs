//! The settings of each area of the configuration, and the layers that are built from them.

use std::path::PathBuf;

use http::uri::InvalidUri;
use rproxy_access::{BasicAuthLayerError, ForwardAuthConfigError, UsersError};
use rproxy_cache::DiskError;
use rproxy_router::RouterError;
use rproxy_static_files::StaticFilesError;
use rproxy_upstream::BuildError;
use rustls_pki_types::pem as pem_file;

pub use self::access::AccessSettings;
pub use self::application::ApplicationSettings;
pub use self::cache::CacheSettings;
pub use self::client_ip::ClientIpSettings;
pub use self::compression::CompressionSettings;
pub use self::error_pages::ErrorPagesSettings;
pub use self::forward_headers::ForwardHeadersSettings;
pub use self::header_rules::HeaderRulesSettings;
pub use self::limits::LimitSettings;
pub use self::listeners::ListenerSettings;
pub use self::maintenance::MaintenanceSettings;
pub use self::observe::ObserveSettings;
pub use self::path_filter::PathFilterSettings;
pub use self::process::ProcessSettings;
pub use self::rate_limit::{RateLimitError, RateLimitSettings};
pub use self::request_guard::RequestGuardSettings;
pub use self::routing::RoutingSettings;
pub use self::sandbox::SandboxSettings;
pub use self::security_headers::SecurityHeadersSettings;
pub use self::static_files::StaticFilesSettings;
pub use self::tls::TlsSettings;
pub use self::upstream::UpstreamSettings;
pub use self::websocket::WebSocketSettings;

use crate::known_rejection::KnownRejection;

mod access;
mod application;
mod cache;
mod client_ip;
mod compression;
mod error_pages;
mod forward_headers;
mod header_rules;
mod limits;
mod listeners;
mod maintenance;
mod observe;
mod path_filter;
mod pem;
mod process;
pub(crate) mod rate_limit;
pub(crate) mod request_guard;
mod routing;
mod sandbox;
mod security_headers;
mod static_files;
mod tls;
mod upstream;
mod websocket;

/// Returns the rejections that the layers are known for.
pub(crate) fn rejections() -> impl Iterator<Item = &'static KnownRejection> {
    let of_layers = [
        request_guard::REJECTIONS,
        path_filter::REJECTIONS,
        access::REJECTIONS,
        maintenance::REJECTIONS,
        websocket::REJECTIONS,
        cache::REJECTIONS,
        upstream::REJECTIONS,
        rate_limit::REJECTIONS,
        forward_headers::REJECTIONS,
        routing::REJECTIONS,
        static_files::REJECTIONS,
    ];
    of_layers.into_iter().flatten()
}

/// An error that prevents the layer stack from being built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// The upstream settings do not result in a valid upstream.
    #[error(transparent)]
    Upstream(#[from] BuildError),
    /// [`UpstreamSettings::health_path`] is not a valid path.
    #[error("bad upstream_health_path {0:?}")]
    HealthPath(String, #[source] InvalidUri),
    /// [`UpstreamSettings::server_name`] is not a valid DNS name or IP address.
    #[error("bad upstream_server_name {0:?}: neither a DNS name nor an IP address")]
    ServerName(String),
    /// The file contains no certificate or private key in PEM format.
    #[error("cannot read a certificate or key from {}", file.display())]
    Pem {
        /// The path of the affected file.
        file: PathBuf,
        /// The reason that the PEM file was rejected.
        #[source]
        error: pem_file::Error,
    },
    /// The directory in [`CacheSettings::disk`] cannot be used.
    #[error("cannot open the disk cache in cache_disk")]
    CacheDisk(#[from] DiskError),
    /// The file in [`AccessSettings::basic_auth`] cannot be used.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The layer of basic authentication cannot be built.
    #[error(transparent)]
    BasicAuth(#[from] BasicAuthLayerError),
    /// The layer of forward auth cannot be built.
    #[error(transparent)]
    ForwardAuth(#[from] ForwardAuthConfigError),
    /// A folder in [`StaticFilesSettings`] cannot be used.
    #[error(transparent)]
    StaticFiles(#[from] StaticFilesError),
    /// The rate limit layer cannot be built.
    #[error(transparent)]
    RateLimit(#[from] RateLimitError),
    /// The sites or routes conflict with each other.
    #[error(transparent)]
    Routes(#[from] RouterError),
    /// The thread that writes the access log cannot be started.
    #[error("cannot start the access log thread")]
    AccessLog(#[source] std::io::Error),
}
