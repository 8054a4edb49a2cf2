//! Log messages that name the setting behind a rejection, and proxies that are missing in `RPROXY_TRUSTED_PROXIES`.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use http::{Extensions, Request, StatusCode};
use rproxy_client_ip::{Cdn, ClientIp, TrustedPeer, TrustedProxies};
use rproxy_forward_headers::has_forwarding_field;
use rproxy_rate_limit::RateLimitDecision;

use crate::error_response::ErrorReason;
use crate::log_throttle::LogThrottle;

/// Logs the first rejection of each kind per minute, and one warning per hour. Clones share the throttles.
///
/// All workers and reloads share one, so that a flood costs a few lines only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notices {
    throttles: Arc<Throttles>,
}

#[derive(Debug)]
struct Throttles {
    rate_limited: LogThrottle,
    blocked_path: LogThrottle,
    unserved_host: LogThrottle,
    shared_quota: LogThrottle,
}

impl Default for Throttles {
    fn default() -> Self {
        let [rate_limited, blocked_path, unserved_host] = [(); 3].map(|()| LogThrottle::every(Duration::from_secs(60)));
        let shared_quota = LogThrottle::every(Duration::from_secs(3600));
        Self { rate_limited, blocked_path, unserved_host, shared_quota }
    }
}

impl Notices {
    /// Logs the rejection of a request by the rate limit, the path filter or the limit of WebSockets.
    pub(super) fn rejected(&self, reason: ErrorReason, status: StatusCode, client: Option<IpAddr>, ext: &Extensions) {
        let throttle = match reason {
            ErrorReason::BlockedPath => &self.throttles.blocked_path,
            _ if status == StatusCode::TOO_MANY_REQUESTS => &self.throttles.rate_limited,
            _ => return,
        };
        let Some(suppressed) = throttle.permit_at(Instant::now()) else { return };
        let client = client.map(tracing::field::display);
        let explanation = reason.explanation(ext).unwrap_or_default();
        tracing::info!(client, suppressed, "request rejected with {}: {explanation}", status.as_u16());
    }

    /// Logs the rejection of a request for a host that is not served.
    pub(crate) fn unserved_host(&self, host: &str, reason: ErrorReason) {
        let Some(suppressed) = self.throttles.unserved_host.permit_at(Instant::now()) else { return };
        let explanation = reason.explanation(&Extensions::new()).unwrap_or_default();
        tracing::info!(host, suppressed, "request for an unknown host rejected: {explanation}");
    }

    /// Warns of a peer that reports clients without being trusted, if its request counted towards a rate limit.
    ///
    /// On the Internet, a client may send such fields itself. A public peer is therefore reported only if its quota is
    /// exhausted, unless it is a CDN. A private one is a proxy.
    pub(super) fn counted(&self, peer: IpAddr, decision: &RateLimitDecision) {
        let is_exhausted = matches!(
            decision,
            RateLimitDecision::Rejected { .. }
                | RateLimitDecision::WouldReject { .. }
                | RateLimitDecision::TooManyInFlight
        );
        if !is_exhausted && !PRIVATE.contains(peer) && Cdn::from_address(peer).is_none() {
            return;
        }
        if self.throttles.shared_quota.permit_at(Instant::now()).is_some() {
            tracing::warn!(
                %peer,
                "requests have forwarding fields such as X-Forwarded-For, but their peer is not a trusted proxy: all its \
                 clients share one rate limit and one address; if it is your proxy, add {peer} to RPROXY_TRUSTED_PROXIES"
            );
        }
    }
}

static PRIVATE: LazyLock<TrustedProxies> = LazyLock::new(|| TrustedProxies::none().trust_private().trust_loopback());

/// The client of a request, for log messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) address: Option<IpAddr>,
    /// Whether it reports other clients, without being a trusted proxy.
    pub(super) is_untrusted_proxy: bool,
}

impl Client {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let extensions = request.extensions();
        let address = extensions.get::<ClientIp>().map(|client| client.0);
        let is_untrusted = extensions.get::<TrustedPeer>().is_none();
        Self { address, is_untrusted_proxy: is_untrusted && has_forwarding_field(request.headers()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_private_peers_and_cdns_at_once_and_others_when_their_quota_is_exhausted() {
        let allowed = RateLimitDecision::Allowed { remaining: 10 };
        let rejected = RateLimitDecision::Rejected { retry_after: Duration::from_secs(1) };
        for (peer, decision, is_reported) in [
            ("127.0.0.1", allowed, true),
            ("172.17.0.1", allowed, true),
            ("fd00::1", allowed, true),
            ("104.16.0.1", allowed, true),
            ("192.0.2.1", allowed, false),
            ("192.0.2.1", rejected, true),
            ("192.0.2.1", RateLimitDecision::TooManyInFlight, true),
        ] {
            let notices = Notices::default();
            notices.counted(peer.parse().unwrap(), &decision);
            let is_suppressed = notices.throttles.shared_quota.permit_at(Instant::now()).is_none();
            assert_eq!(is_suppressed, is_reported, "{peer} {decision:?}");
        }
    }

    #[test]
    fn only_an_untrusted_peer_with_forwarding_fields_is_an_untrusted_proxy() {
        for (field, is_trusted, expected) in [
            ("x-forwarded-for", false, true),
            ("cf-connecting-ip", false, true),
            ("x-forwarded-for", true, false),
            ("accept", false, false),
        ] {
            let mut request = Request::get("/").header(field, "192.0.2.1").body(()).unwrap();
            if is_trusted {
                request.extensions_mut().insert(TrustedPeer::default());
            }
            assert_eq!(Client::of(&request).is_untrusted_proxy, expected, "{field} {is_trusted}");
        }
    }
}
