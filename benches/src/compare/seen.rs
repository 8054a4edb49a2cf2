//! Whether the proxies do the same work: not by what is configured, but by what is seen from both sides.

use anyhow::Result;
use http::{HeaderMap, StatusCode, header};

use super::load::{Target, fetch};
use super::proxies::{Place, Proxy, Running};
use super::workbench::Workbench;

/// What a proxy was seen to do.
pub(crate) type Seen = Vec<(&'static str, bool)>;

/// Asks a proxy in front of the program, without TLS and (not Varnish) with it.
pub(crate) async fn look(workbench: &Workbench, origin: &Running, proxy: Proxy) -> Result<Seen> {
    let plain = answers(workbench, origin, proxy, false).await?;
    let mut seen: Seen = vec![
        ("404 for `/.env`", plain.denied == StatusCode::NOT_FOUND),
        ("`X-Content-Type-Options`, `Referrer-Policy`, `X-Permitted-Cross-Domain-Policies`", {
            let names = ["x-content-type-options", "referrer-policy", "x-permitted-cross-domain-policies"];
            names.iter().all(|name| plain.given.contains_key(*name))
        }),
        ("`X-Powered-By` removed", !plain.given.contains_key("x-powered-by")),
        ("`Server` removed", !plain.given.contains_key(header::SERVER)),
        ("`RateLimit`, `RateLimit-Policy`", plain.given.contains_key("ratelimit")),
        ("`Host` forwarded", plain.asked("host: localhost\n")),
        ("`X-Forwarded-For`: the peer, not the spoofed value", {
            plain.asked("x-forwarded-for: 127.0.0.2\n") && !plain.asked("192.0.2.1")
        }),
        ("`X-Real-IP`", plain.asked("x-real-ip: 127.0.0.2\n")),
        ("`X-Forwarded-Proto`, `-Host`, `-Port`", {
            plain.asked("x-forwarded-proto: http\n")
                && plain.asked("x-forwarded-host: localhost\n")
                && plain.asked("x-forwarded-port: ")
        }),
        ("`X-Request-Id`", plain.asked("x-request-id: ")),
        ("`Via`", plain.asked("via: 1.1 ")),
        ("gzip if accepted", plain.compressed.get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip")),
    ];
    if proxy != Proxy::Varnish {
        let tls = answers(workbench, origin, proxy, true).await?;
        let hsts = header::STRICT_TRANSPORT_SECURITY;
        seen.push((
            "`Strict-Transport-Security` over TLS only",
            tls.given.contains_key(&hsts) && !plain.given.contains_key(&hsts),
        ));
    }
    Ok(seen)
}

struct Answers {
    denied: StatusCode,
    /// The head of an answer.
    given: HeaderMap,
    /// The request's head as the origin saw it.
    asked: String,
    compressed: HeaderMap,
}

impl Answers {
    fn asked(&self, line: &str) -> bool {
        self.asked.contains(line)
    }
}

async fn answers(workbench: &Workbench, origin: &Running, proxy: Proxy, tls: bool) -> Result<Answers> {
    let (folder, certificate) = (workbench.place()?, &workbench.certificate);
    let place = Place { folder: &folder, origin: origin.address, certificate, tls, rproxy: &workbench.rproxy };
    let running = proxy.start(place).await?;
    let target = |path: &str| {
        let certificate = tls.then(|| certificate.clone());
        Target { address: running.address, path: path.to_owned(), origin: origin.address, certificate }
    };
    let (head, body) = fetch(&target("/head"), &[("x-forwarded-for", "192.0.2.1")]).await?.into_parts();
    Ok(Answers {
        denied: fetch(&target("/.env"), &[]).await?.status(),
        given: head.headers,
        asked: String::from_utf8_lossy(&body).into_owned(),
        compressed: fetch(&target("/long"), &[("accept-encoding", "gzip")]).await?.headers().clone(),
    })
}
