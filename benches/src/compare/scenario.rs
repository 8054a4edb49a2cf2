//! The benchmark scenarios.

use clap::ValueEnum;

use super::figure::Figure;
use super::load::{Load, Requests};
use super::proxies::Proxy;
use super::template::Conditions;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    Small,
    #[value(name = "100k")]
    Body100k,
    #[value(name = "10m")]
    Body10m,
    #[value(name = "post-1k")]
    Post1k,
    #[value(name = "post-1k-chunked")]
    Post1kChunked,
    #[value(name = "post-100k")]
    Post100k,
    #[value(name = "post-100k-chunked")]
    Post100kChunked,
    Pipelined,
    Sites,
    Mix,
    TlsH1,
    #[value(name = "tls-h1-1k")]
    TlsH1Of1k,
    TlsH2,
    #[value(name = "tls-h2-1k")]
    TlsH2Of1k,
    #[value(name = "tls-h2-1k-100")]
    TlsH2With100,
    Grpc,
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

/// The number of sites in the scenario `sites`.
const SITES: usize = 200;

/// The parameters of a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) title: &'static str,
    pub(crate) path: &'static str,
    pub(crate) conditions: Conditions,
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
            title, path, conditions: Conditions::default(), origin: Origin::Files, kind,
            headline: Figure::Processor, proxies: Proxy::REVERSE,
        };
        let tls = |plan: Plan| Plan { conditions: Conditions { tls: true, ..plan.conditions }, ..plan };
        let program = |plan| Plan { origin: Origin::Program, ..plan };
        let headline = |headline, plan| Plan { headline, ..plan };
        let send = |requests, connections| Turns(Load::Wrk { connections, requests });
        let wrk = |connections| send(Requests::Get, connections);
        let post = |title, path, bytes, is_chunked| {
            program(plan(title, path, send(Requests::Post { bytes, is_chunked }, 32)))
        };
        let http2 = |streams| Turns(Load::H2load { connections: 4, streams });
        match self {
            Self::Small => plan("small response (17 B)", "/small", wrk(32)),
            Self::Body100k => plan("100 kB response", "/100k", wrk(32)),
            Self::Body10m => plan("10 MB response", "/10m", wrk(8)),
            Self::Post1k => post("POST of 1 kB", "/receive/1000", 1000, false),
            Self::Post1kChunked => post("POST of 1 kB, chunked", "/receive/1000", 1000, true),
            Self::Post100k => post("POST of 100 kB", "/receive/100000", 100_000, false),
            Self::Post100kChunked => post("POST of 100 kB, chunked", "/receive/100000", 100_000, true),
            Self::Pipelined => plan(
                "20 pipelined requests, small response", "/small", send(Requests::Pipelined(20), 32),
            ),
            Self::Sites => Plan {
                conditions: Conditions { sites: SITES, ..Conditions::default() },
                ..plan("small response, 200 sites", "/small", send(Requests::Sites(SITES), 32))
            },
            Self::Mix => plan("mix of requests", "/small", send(Requests::Mix, 32)),
            Self::TlsH1 => tls(plan("small response over TLS, HTTP/1.1", "/small", wrk(32))),
            Self::TlsH1Of1k => tls(plan("1 kB response over TLS, HTTP/1.1", "/1k", wrk(32))),
            Self::TlsH2 => tls(plan("small response over TLS, HTTP/2 with 32 streams", "/small", http2(32))),
            Self::TlsH2Of1k => tls(plan("1 kB response over TLS, HTTP/2 with 32 streams", "/1k", http2(32))),
            Self::TlsH2With100 => tls(plan("1 kB response over TLS, HTTP/2 with 100 streams", "/1k", http2(100))),
            Self::Grpc => Plan {
                conditions: Conditions { tls: true, h2c: true, sites: 0 },
                ..program(plan(
                    "gRPC call over TLS, backend over h2c", "/benchmark.Echo/Unary",
                    Turns(Load::Grpc { connections: 4, streams: 32 }),
                ))
            },
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
            // HAProxy fetches the whole response again.
            Self::CacheRevalidation => Plan {
                proxies: Proxy::REVALIDATING,
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
    fn each_scenario_includes_rproxy_and_nginx_and_parses_from_its_name() {
        for scenario in Scenario::value_variants() {
            let proxies = scenario.plan().proxies;
            assert!(proxies.contains(&Proxy::Rproxy) && proxies.contains(&Proxy::Nginx), "{scenario:?}");
            assert_eq!(Scenario::from_str(&scenario.name(), false), Ok(*scenario));
        }
    }

    #[test]
    fn http2_and_handshake_scenarios_use_tls() {
        for scenario in Scenario::value_variants() {
            let plan = scenario.plan();
            if let Kind::Turns(Load::H2load { .. } | Load::Grpc { .. } | Load::Handshakes { .. }) = plan.kind {
                assert!(plan.conditions.tls, "{scenario:?}");
            }
        }
    }
}
