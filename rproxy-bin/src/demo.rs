//! The built-in site of `rproxy demo`, with something to try for each layer.

mod asset;
mod banner;
mod echo;
mod events;
mod tls;
mod websocket;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, SERVER};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rproxy_tls::Certificates;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use self::asset::Asset;
pub(crate) use self::banner::banner;
use self::events::Events;
pub(crate) use self::tls::add_tls_fields;
use crate::observe::Metrics;

/// The demo site, bound to a loopback port that the operating system selects.
#[derive(Debug)]
pub(crate) struct Site {
    listener: TcpListener,
    address: SocketAddr,
}

/// The state of the proxy that the site shows.
#[derive(Debug)]
pub(crate) struct ProxyState {
    pub(crate) metrics: Metrics,
    pub(crate) certificates: Option<Certificates>,
}

impl Site {
    pub(crate) async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped. Open connections continue.
    pub(crate) async fn serve(self, proxy: ProxyState) {
        let proxy = Arc::new(proxy);
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, Arc::clone(&proxy)))),
                // Mostly a lack of file descriptors, so an immediate retry would fail again.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the demo site, retrying");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, proxy: Arc<ProxyState>) {
    // Events and echoes are small writes that must not be delayed.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service_fn(|request| disclosing_answer(request, &proxy)))
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection to the demo site failed");
    }
}

type SiteBody = Either<Full<Bytes>, Events>;

/// Adds fields that the proxy removes, to show that it does.
async fn disclosing_answer(request: Request<Incoming>, proxy: &ProxyState) -> Result<Response<SiteBody>, Infallible> {
    let mut response = answer(request, proxy).await?;
    response.headers_mut().insert(SERVER, HeaderValue::from_static("demo-site/1.0"));
    response.headers_mut().insert(HeaderName::from_static("x-powered-by"), HeaderValue::from_static("rproxy demo"));
    Ok(response)
}

async fn answer(request: Request<Incoming>, proxy: &ProxyState) -> Result<Response<SiteBody>, Infallible> {
    let path = request.uri().path();
    if path == "/api/echo" {
        return Ok(echo::answer(request).await);
    }
    let asset = Asset::at(path);
    if asset.is_none() && !DYNAMIC_PATHS.contains(&path) {
        return Ok(text(StatusCode::NOT_FOUND, "Not Found\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match (path, asset) {
        (_, Some(asset)) => asset.answer(request.headers()),
        ("/events", _) => events::seconds(request.headers()),
        ("/api/metrics", _) => events::metrics(request.headers(), &proxy.metrics),
        (tls::PATH, _) => tls::answer(request.headers(), proxy.certificates.as_ref()),
        ("/static/now.txt", _) => now(SystemTime::now()),
        ("/ws", _) => websocket::answer(request),
        _ => slow(request.uri().query()).await,
    })
}

const DYNAMIC_PATHS: [&str; 6] = ["/events", "/ws", "/slow", "/static/now.txt", "/api/metrics", tls::PATH];

async fn slow(query: Option<&str>) -> Response<SiteBody> {
    let milliseconds = query.unwrap_or("ms=500").strip_prefix("ms=").map(str::parse);
    let Some(Ok(milliseconds @ 0..=MAX_DELAY_MS)) = milliseconds else {
        return text(
            StatusCode::BAD_REQUEST,
            "expected the query parameter ms with a number of milliseconds up to 10000\n",
        );
    };
    sleep(Duration::from_millis(milliseconds)).await;
    text(StatusCode::OK, format!("responded after {milliseconds} ms\n"))
}

/// Returns the time, which shows whether a response comes from the cache.
fn now(now: SystemTime) -> Response<SiteBody> {
    let mut response = text(StatusCode::OK, format!("backend time: {}\n", httpdate::fmt_http_date(now)));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(asset::FOR_A_MINUTE));
    response
}

const MAX_DELAY_MS: u64 = 10_000;

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<SiteBody> {
    full(status, "text/plain; charset=utf-8", body)
}

/// Returns a complete response with `Cache-Control: no-store`.
fn full(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<SiteBody> {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
