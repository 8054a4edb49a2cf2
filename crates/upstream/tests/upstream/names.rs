//! Backends with DNS names, which a test name server resolves.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use http::{Response, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rproxy_upstream::{ProxyError, ProxyErrorKind, Upstream};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::support::{Body, get, read_head, send, text};

/// A name server for `app.test`, whose addresses can be changed.
struct NameServer {
    address: SocketAddr,
    addresses: Arc<Mutex<Vec<Ipv4Addr>>>,
    /// The number of received queries for IPv4 addresses.
    queries: Arc<AtomicUsize>,
    /// Whether the name server ignores queries.
    is_silent: Arc<AtomicBool>,
}

async fn name_server(ttl: u32, addresses: &[Ipv4Addr]) -> NameServer {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let addresses = Arc::new(Mutex::new(addresses.to_vec()));
    let queries = Arc::new(AtomicUsize::new(0));
    let is_silent = Arc::<AtomicBool>::default();
    let (zone, counter, ignores_queries) = (Arc::clone(&addresses), Arc::clone(&queries), Arc::clone(&is_silent));
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            if ignores_queries.load(Ordering::SeqCst) {
                continue;
            }
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let question = query.queries[0].clone();
            let mut response = query.into_response();
            if question.name().to_ascii() != "app.test." {
                response.metadata.response_code = ResponseCode::NXDomain;
            } else if question.query_type() == RecordType::A {
                counter.fetch_add(1, Ordering::SeqCst);
                for address in zone.lock().unwrap().iter() {
                    let record = Record::from_rdata(question.name().clone(), ttl, RData::A(A(*address)));
                    response.add_answer(record);
                }
            }
            socket.send_to(&response.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    NameServer { address, addresses, queries, is_silent }
}

/// Listens on one port of several local addresses.
async fn listeners(addresses: &[Ipv4Addr]) -> (u16, Vec<TcpListener>) {
    'port: loop {
        let first = TcpListener::bind((addresses[0], 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for address in &addresses[1..] {
            match TcpListener::bind((*address, port)).await {
                Ok(listener) => listeners.push(listener),
                Err(_) => continue 'port,
            }
        }
        return (port, listeners);
    }
}

/// Starts HTTP/1.1 backends on one port of several addresses. Each backend responds with its address.
async fn backends(addresses: &[Ipv4Addr]) -> u16 {
    let (port, listeners) = listeners(addresses).await;
    for listener in listeners {
        let name = listener.local_addr().unwrap().ip().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                tokio::spawn(async move {
                    while read_head(&mut stream).await.is_some() {
                        send(&mut stream, &response).await;
                    }
                });
            }
        });
    }
    port
}

/// Starts HTTP/2 backends on one port of several addresses. Each backend responds with its address.
async fn http2_backends(addresses: &[Ipv4Addr]) -> u16 {
    let (port, listeners) = listeners(addresses).await;
    for listener in listeners {
        let name = listener.local_addr().unwrap().ip().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let name = name.clone();
                let service = service_fn(move |_| {
                    let response = Response::new(Body::from(name.clone()));
                    async { Ok::<_, Infallible>(response) }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
    }
    port
}

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Creates an upstream that opens a connection for each request.
fn upstream(port: u16, names: &NameServer) -> Upstream<Body> {
    let builder = Upstream::builder().backend(&format!("app.test:{port}")).unwrap();
    builder.name_servers([names.address]).max_idle(0).build().unwrap()
}

#[tokio::test]
async fn resolves_a_backend_name_again_after_its_dns_ttl() {
    let (names, port) = (name_server(1, &[ONE]).await, backends(&[ONE, TWO]).await);
    let upstream = upstream(port, &names);
    let request = async || text(upstream.clone().oneshot(get("/")).await.unwrap()).await;
    let begin = Instant::now();
    assert_eq!(request().await, "127.0.0.1");
    *names.addresses.lock().unwrap() = vec![TWO];
    let mut before = 1;
    while request().await == "127.0.0.1" {
        before += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begin.elapsed() >= Duration::from_millis(900), "after {:?}", begin.elapsed());
    assert!(before > 5 && names.queries.load(Ordering::SeqCst) <= 3, "{before} requests");
}

#[tokio::test]
async fn uses_the_last_known_addresses_while_the_name_server_does_not_respond() {
    let (names, port) = (name_server(1, &[ONE]).await, backends(&[ONE, TWO]).await);
    let upstream = upstream(port, &names);
    let request = async || text(upstream.clone().oneshot(get("/")).await.unwrap()).await;
    assert_eq!(request().await, "127.0.0.1");
    names.is_silent.store(true, Ordering::SeqCst);
    // The addresses are used for their TTL, and then for some seconds after each query without a response.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        assert_eq!(request().await, "127.0.0.1");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    *names.addresses.lock().unwrap() = vec![TWO];
    names.is_silent.store(false, Ordering::SeqCst);
    while request().await != "127.0.0.2" {
        assert!(begin.elapsed() < Duration::from_secs(30), "new addresses after the name server recovered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn uses_all_addresses_of_a_backend_name() {
    let (names, port) = (name_server(60, &[ONE, TWO]).await, backends(&[ONE, TWO]).await);
    let upstream = upstream(port, &names);
    let mut seen = [false; 2];
    for _ in 0..100 {
        let name = text(upstream.clone().oneshot(get("/")).await.unwrap()).await;
        seen[usize::from(name == "127.0.0.2")] = true;
    }
    assert_eq!(seen, [true, true]);
    assert_eq!(names.queries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn distributes_http2_requests_over_all_addresses_of_a_backend_name() {
    let (names, port) = (name_server(60, &[ONE, TWO]).await, http2_backends(&[ONE, TWO]).await);
    let builder = Upstream::builder().backend(&format!("h2c://app.test:{port}")).unwrap();
    let upstream: Upstream<Body> = builder.name_servers([names.address]).build().unwrap();
    let request = async || text(upstream.clone().oneshot(get("/")).await.unwrap()).await;
    let (first, begin) = (request().await, Instant::now());
    while request().await == first {
        assert!(begin.elapsed() < Duration::from_secs(20), "the other address is not used");
    }
    let mut first_count = 0;
    for _ in 0..40 {
        first_count += usize::from(request().await == first);
    }
    assert!((15..=25).contains(&first_count), "{first_count} of 40");
}

#[tokio::test]
async fn skips_an_unreachable_address_of_a_backend_name() {
    let (names, port) = (name_server(60, &[TWO, ONE]).await, backends(&[ONE]).await);
    let upstream = upstream(port, &names);
    for _ in 0..20 {
        assert_eq!(text(upstream.clone().oneshot(get("/")).await.unwrap()).await, "127.0.0.1");
    }
}

#[tokio::test]
async fn unknown_backend_name_causes_a_502_with_dns_error() {
    let names = name_server(60, &[]).await;
    for name in ["other.test", "app.test"] {
        let builder = Upstream::builder().backend(&format!("http://{name}")).unwrap();
        let upstream: Upstream<Body> = builder.name_servers([names.address]).build().unwrap();
        let response = upstream.oneshot(get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{name}");
        assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::DnsError, "{name}");
    }
}

#[tokio::test]
async fn resolves_localhost_without_a_name_server() {
    let (address, _) = crate::support::static_backend("ok").await;
    let builder = Upstream::builder().backend(&format!("localhost:{}", address.port())).unwrap();
    let upstream: Upstream<Body> = builder.build().unwrap();
    assert_eq!(text(upstream.oneshot(get("/")).await.unwrap()).await, "ok");
}
