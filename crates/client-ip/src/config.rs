//! The configuration that a layer shares with its services.

use crate::resolve::ClientIpSource;
use crate::trusted_proxies::TrustedProxies;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) trusted: TrustedProxies,
    pub(crate) source: ClientIpSource,
}
