//! Observes the requests and responses of a proxy, to check that all proxies do equal work.

use anyhow::Result;
use http::{HeaderMap, StatusCode, header};

use super::certificate::HOST;
use super::load::{Target, fetch};
use super::programs::Program;
use super::proxies::{Place, Proxy, Running};
use super::template::Conditions;
use super::workbench::Workbench;

/// The features of a proxy, and whether each was observed.
pub(crate) type Seen = Vec<(&'static str, bool)>;

/// Sends requests through a proxy with and without TLS (for Varnish only without).
pub(crate) async fn look(workbench: &Workbench, origin: &Running, program: &Program) -> Result<Seen> {
    let plain = observe(workbench, origin, program, false).await?;
    let mut seen: Seen = vec![
        ("404 for `/.env`", plain.denied == StatusCode::NOT_FOUND),
        ("`X-Content-Type-Options`, `Referrer-Policy`, `X-Permitted-Cross-Domain-Policies`", {
            let names = ["x-content-type-options", "referrer-policy", "x-permitted-cross-domain-policies"];
            names.iter().all(|name| plain.response.contains_key(*name))
        }),
        ("`X-Powered-By` removed", !plain.response.contains_key("x-powered-by")),
        ("`Server` removed", !plain.response.contains_key(header::SERVER)),
        ("`RateLimit`, `RateLimit-Policy`", plain.response.contains_key("ratelimit")),
        ("`Host` forwarded", plain.forwards(&format!("host: {HOST}\n"))),
        ("`X-Forwarded-For`: the peer, not the spoofed value", {
            plain.forwards("x-forwarded-for: 127.0.0.2\n") && !plain.forwards("192.0.2.1")
        }),
        ("`X-Real-IP`", plain.forwards("x-real-ip: 127.0.0.2\n")),
        ("`X-Forwarded-Proto`, `-Host`, `-Port`", {
            plain.forwards("x-forwarded-proto: http\n")
                && plain.forwards(&format!("x-forwarded-host: {HOST}\n"))
                && plain.forwards("x-forwarded-port: ")
        }),
        ("`X-Request-Id`", plain.forwards("x-request-id: ")),
        ("`Via`", plain.forwards("via: 1.1 ")),
        ("gzip if accepted", plain.compressed.get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip")),
    ];
    if program.proxy != Proxy::Varnish {
        let tls = observe(workbench, origin, program, true).await?;
        let hsts = header::STRICT_TRANSPORT_SECURITY;
        seen.push((
            "`Strict-Transport-Security` over TLS only",
            tls.response.contains_key(&hsts) && !plain.response.contains_key(&hsts),
        ));
    }
    Ok(seen)
}

struct Observation {
    denied: StatusCode,
    /// The header fields of the response that the client received.
    response: HeaderMap,
    /// The request head as the origin received it.
    forwarded: String,
    compressed: HeaderMap,
}

impl Observation {
    fn forwards(&self, line: &str) -> bool {
        self.forwarded.contains(line)
    }
}

async fn observe(workbench: &Workbench, origin: &Running, program: &Program, tls: bool) -> Result<Observation> {
    let (folder, certificate) = (workbench.place()?, &workbench.certificate);
    let conditions = Conditions { tls, ..Conditions::default() };
    let place = Place { folder: &folder, origin: origin.address, certificate, conditions };
    let running = program.start(place).await?;
    let target = |path: &str| {
        let certificate = tls.then(|| certificate.clone());
        Target { address: running.address, path: path.to_owned(), origin: origin.address, certificate }
    };
    let (head, body) = fetch(&target("/head"), &[("x-forwarded-for", "192.0.2.1")]).await?.into_parts();
    Ok(Observation {
        denied: fetch(&target("/.env"), &[]).await?.status(),
        response: head.headers,
        forwarded: String::from_utf8_lossy(&body).into_owned(),
        compressed: fetch(&target("/long"), &[("accept-encoding", "gzip")]).await?.headers().clone(),
    })
}
