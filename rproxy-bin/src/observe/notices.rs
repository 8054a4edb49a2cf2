//! Log messages that name the setting behind a rejection, and proxies that `RPROXY_TRUSTED_PROXIES` lacks.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use rproxy_client_ip::{Cdn, ClientIp, TrustedPeer, TrustedProxies};
use rproxy_core::Rejection;
use rproxy_forward_headers::has_forwarding_field;
use rproxy_rate_limit::RateLimitDecision;

use crate::config::spelled;
use crate::log_throttle::LogThrottle;
use crate::rejections;

/// Logs the first rejection of each kind per minute, and at most one warning per hour about untrusted proxies. Clones
/// share the throttles.
///
/// All workers and reloads share one, so that a flood costs a few lines only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notices {
    throttles: Arc<Throttles>,
}

#[derive(Debug)]
struct Throttles {
    /// One for each rejection that the log mentions.
    rejections: Box<[LogThrottle]>,
    unserved_host: LogThrottle,
    shared_quota: LogThrottle,
}

impl Default for Throttles {
    fn default() -> Self {
        let per_minute = || LogThrottle::every(Duration::from_secs(60));
        Self {
            rejections: (0..rejections::logged_count()).map(|_| per_minute()).collect(),
            unserved_host: per_minute(),
            shared_quota: LogThrottle::every(Duration::from_secs(3600)),
        }
    }
}

impl Notices {
    /// Logs the rejection of a request, if the log mentions this kind of rejection.
    pub(super) fn rejected(&self, rejection: &Rejection, status: StatusCode, client: Option<IpAddr>) {
        let Some(index) = rejections::logged_index(rejection) else { return };
        let Some(suppressed) = self.throttles.rejections[index].permit_at(Instant::now()) else { return };
        let client = client.map(tracing::field::display);
        let explanation = rejections::explanation(rejection).unwrap_or_default();
        tracing::info!(client, suppressed, "request rejected with {}: {explanation}", status.as_u16());
    }

    /// Logs the rejection of a request for a host that is not served.
    pub(crate) fn unserved_host(&self, host: &str, rejection: &Rejection) {
        let Some(suppressed) = self.throttles.unserved_host.permit_at(Instant::now()) else { return };
        let explanation = rejections::explanation(rejection).unwrap_or_default();
        tracing::info!(host, suppressed, "request for an unknown host rejected: {explanation}");
    }

    /// Logs a warning if a rate limit has counted the request of an untrusted proxy, whose clients share the quota.
    ///
    /// It is either not trusted, or does not report the client in the expected field.
    ///
    /// On the Internet, a client may send such fields itself. A public peer is therefore reported only if its quota is
    /// exhausted, unless it is a CDN. A private one is a proxy.
    pub(super) fn counted(&self, client: Client, decision: &RateLimitDecision) {
        // The client is the peer in these cases.
        let Some(peer) = client.address else { return };
        let is_exhausted = matches!(
            decision,
            RateLimitDecision::Rejected { .. }
                | RateLimitDecision::WouldReject { .. }
                | RateLimitDecision::TooManyInFlight
        );
        let is_proxy = || PRIVATE.contains(peer) || Cdn::from_address(peer).is_some();
        let message = match client.reporting {
            Reporting::None => return,
            Reporting::Untrusted if !is_exhausted && !is_proxy() => return,
            Reporting::Untrusted => {
                "requests have forwarding fields such as X-Forwarded-For, but their peer is not a trusted proxy: all its \
                 clients share one rate limit; if it is your proxy, add it to RPROXY_TRUSTED_PROXIES"
            }
            Reporting::WithoutClient => {
                "a proxy in RPROXY_TRUSTED_PROXIES sends forwarding fields, but no valid address in the \
                 field that RPROXY_CLIENT_IP_FROM names: all its clients share one rate limit; set RPROXY_CLIENT_IP_FROM to the field that the proxy sends"
            }
        };
        if self.throttles.shared_quota.permit_at(Instant::now()).is_some() {
            tracing::warn!(%peer, "{}", spelled(message));
        }
    }
}

static PRIVATE: LazyLock<TrustedProxies> = LazyLock::new(|| TrustedProxies::none().trust_private().trust_loopback());

/// The client address for log messages, and whether forwarding fields were ignored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) address: Option<IpAddr>,
    pub(super) reporting: Reporting,
}

/// The reason that the peer's forwarding fields have no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reporting {
    /// There are no forwarding fields, or a trusted proxy reports the client address correctly.
    None,
    /// A peer that is not a trusted proxy sent forwarding fields.
    Untrusted,
    /// A trusted proxy sent forwarding fields without the client address.
    WithoutClient,
}

impl Client {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let extensions = request.extensions();
        let reporting = match extensions.get::<TrustedPeer>() {
            Some(peer) if !peer.lacks_client() => Reporting::None,
            _ if !has_forwarding_field(request.headers()) => Reporting::None,
            Some(_) => Reporting::WithoutClient,
            None => Reporting::Untrusted,
        };
        Self { address: extensions.get::<ClientIp>().map(|client| client.0), reporting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_client_ip::{ClientIpLayer, PeerAddr};
    use tower::{Layer, ServiceExt, service_fn};

    #[test]
    fn warns_of_private_peers_and_cdns_immediately_and_of_others_after_quota_exhaustion() {
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
            let client = Client { address: peer.parse().ok(), reporting: Reporting::Untrusted };
            notices.counted(client, &decision);
            let is_suppressed = notices.throttles.shared_quota.permit_at(Instant::now()).is_none();
            assert_eq!(is_suppressed, is_reported, "{peer} {decision:?}");
        }
    }

    #[tokio::test]
    async fn detects_proxies_whose_clients_share_one_address() {
        for (peer, field, reporting) in [
            ("192.0.2.1:1", "x-forwarded-for", Reporting::Untrusted),
            ("192.0.2.1:1", "cf-connecting-ip", Reporting::Untrusted),
            ("192.0.2.1:1", "accept", Reporting::None),
            ("10.0.0.1:1", "x-forwarded-for", Reporting::None),
            ("10.0.0.1:1", "x-real-ip", Reporting::WithoutClient),
            ("10.0.0.1:1", "accept", Reporting::None),
        ] {
            let inner = service_fn(async |request: Request<()>| {
                assert_eq!(Client::of(&request).reporting, reporting, "{peer} {field}");
                Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
            });
            let request = Request::get("/").header(field, "192.0.2.7").extension(PeerAddr(peer.parse().unwrap()));
            let layer = ClientIpLayer::new("10.0.0.0/8".parse().unwrap());
            layer.layer(inner).oneshot(request.body(()).unwrap()).await.unwrap();
        }
    }
}
