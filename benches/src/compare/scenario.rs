//! The benchmark scenarios.

use clap::ValueEnum;

use super::figure::Figure;
use super::load::Load;
use super::proxies::Proxy;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    Small,
    #[value(name = "100k")]
    Body100k,
    #[value(name = "10m")]
    Body10m,
    TlsH1,
    TlsH2,
    HandshakeFull,
    HandshakeResumed,
    CacheHit,
    CacheMiss,
    CacheRevalidation,
    CacheCold,
    Websocket,
    Slow,
    Latency,
    Idle,
    IdleTls,
    Empty,
}

/// The parameters of a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) title: &'static str,
    pub(crate) path: &'static str,
    pub(crate) tls: bool,
    pub(crate) origin: Origin,
    pub(crate) kind: Kind,
    /// The figure of the scenario that the summary shows. Smaller is better.
    pub(crate) headline: Figure,
    pub(crate) proxies: &'static [Proxy],
}

/// The origin to which the proxies forward requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An nginx server with static files.
    Files,
    /// This benchmark program as the origin; see [`crate::origin`].
    Program,
}

/// The type of measurement: load or memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A measurement of all proxies under this load, in alternating runs.
    Turns(Load),
    /// The memory per idle connection.
    Idle,
    /// The memory before the first request.
    Empty,
}

impl Scenario {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    #[rustfmt::skip]
    pub(crate) fn plan(self) -> Plan {
        use Kind::{Empty, Idle, Turns};
        let plan = |title, path, kind| Plan {
            title, path, tls: false, origin: Origin::Files, kind,
            headline: Figure::Processor, proxies: Proxy::REVERSE,
        };
        let tls = |plan| Plan { tls: true, ..plan };
        let program = |plan| Plan { origin: Origin::Program, ..plan };
        let headline = |headline, plan| Plan { headline, ..plan };
        let wrk = |connections| Turns(Load::Wrk { connections });
        match self {
            Self::Small => plan("small response (17 B)", "/small", wrk(32)),
            Self::Body100k => plan("100 kB response", "/100k", wrk(32)),
            Self::Body10m => plan("10 MB response", "/10m", wrk(8)),
            Self::TlsH1 => tls(plan("small response over TLS, HTTP/1.1", "/small", wrk(32))),
            Self::TlsH2 => tls(plan(
                "small response over TLS, HTTP/2 with 32 streams", "/small",
                Turns(Load::H2load { connections: 4, streams: 32 }),
            )),
            Self::HandshakeFull => tls(plan(
                "full TLS handshake with one request", "/small", Turns(Load::Handshakes { resumed: false }),
            )),
            Self::HandshakeResumed => tls(plan(
                "resumed TLS handshake with one request", "/small", Turns(Load::Handshakes { resumed: true }),
            )),
            Self::CacheHit => Plan { proxies: Proxy::CACHES, ..plan("cache hit (1 kB)", "/1k.js", wrk(32)) },
            Self::CacheMiss => Plan {
                proxies: Proxy::CACHES,
                ..plan("cache miss (1 kB, stored)", "/many/{n}.js", Turns(Load::Misses { connections: 32 }))
            },
            // The others fetch the whole response again, or serve it stale.
            Self::CacheRevalidation => Plan {
                proxies: &[Proxy::Rproxy, Proxy::Nginx],
                ..plan(
                    "cache hit after revalidation (1 kB)", "/brief/{n}.js",
                    Turns(Load::Revalidations { rate: 2500, connections: 32 }),
                )
            },
            Self::CacheCold => program(headline(Figure::Upstream, Plan {
                proxies: Proxy::CACHES,
                ..plan("1,000 clients and one uncached object", "/cold/{n}.js", Turns(Load::Cold { clients: 1000 }))
            })),
            Self::Websocket => program(plan(
                "WebSocket message, round trip", "/echo", Turns(Load::WebSocket { connections: 32 }),
            )),
            Self::Slow => program(plan("backend that responds after 200 ms", "/slow", wrk(256))),
            Self::Latency => headline(Figure::P99, plan(
                "latency at 5,000 requests per second (20 kB)", "/20k",
                Turns(Load::OpenLoop { rate: 5000, connections: 64 }),
            )),
            Self::Idle => headline(Figure::PerConnection, plan("idle connections", "/small", Idle)),
            Self::IdleTls => tls(headline(Figure::PerConnection, plan("idle TLS connections", "/small", Idle))),
            Self::Empty => headline(Figure::Proportional, plan("memory without connections", "/small", Empty)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_starts_with_rproxy_and_parses_from_its_name() {
        for scenario in Scenario::value_variants() {
            assert_eq!(scenario.plan().proxies.first(), Some(&Proxy::Rproxy));
            assert_eq!(Scenario::from_str(&scenario.name(), false), Ok(*scenario));
        }
    }

    #[test]
    fn http2_and_handshake_scenarios_use_tls() {
        for scenario in Scenario::value_variants() {
            let plan = scenario.plan();
            if let Kind::Turns(Load::H2load { .. } | Load::Handshakes { .. }) = plan.kind {
                assert!(plan.tls, "{scenario:?}");
            }
        }
    }
}
