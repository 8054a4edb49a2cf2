//! Multiple backends: load balancing, retries, ejection, health checks, limits and timeouts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, StatusCode};
use rproxy_upstream::{Balance, Builder, HealthCheck, ProxyError, ProxyErrorKind, Upstream};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::support::{Body, backend, get, read_head, send, static_backend, text, unused_address};

/// Starts three backends that respond with `a`, `b` and `c`, and adds them with `weights` to an upstream.
async fn three_backends(weights: [u16; 3]) -> Builder {
    let mut builder = Upstream::builder();
    for (name, weight) in ["a", "b", "c"].into_iter().zip(weights) {
        builder = builder.backend(&format!("{} weight={weight}", static_backend(name).await.0)).unwrap();
    }
    builder
}

async fn response_text(upstream: &Upstream<Body>, request: Request<Body>) -> String {
    let response = upstream.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    text(response).await
}

#[tokio::test]
async fn round_robin_distributes_requests_by_weight() {
    let upstream = three_backends([2, 1, 1]).await.build().unwrap();
    let mut names = String::new();
    for _ in 0..8 {
        names += &response_text(&upstream, get("/")).await;
    }
    assert_eq!(names, "abcaabca");
}

#[tokio::test]
async fn each_key_of_an_unreachable_backend_moves_to_a_stable_replacement() {
    let balance = Balance::by_key(|head| head.headers.get("x-tenant").cloned());
    let (unreachable, other, third) =
        (unused_address().await, static_backend("b").await.0, static_backend("c").await.0);
    let backends = [unreachable, other, third].map(|address| address.into());
    let upstream = Upstream::builder().backends(backends).balance(balance).build().unwrap();
    let mut assignments = HashMap::new();
    for _ in 0..2 {
        for tenant in 0..30 {
            let request = Request::get("/").header("x-tenant", tenant).body(Body::default()).unwrap();
            let name = response_text(&upstream, request).await;
            assert_eq!(*assignments.entry(tenant).or_insert_with(|| name.clone()), name, "{tenant}");
        }
    }
    assert!(assignments.values().any(|name| name == "b") && assignments.values().any(|name| name == "c"));
    // Requests without a key use round robin.
    let names = [
        response_text(&upstream, get("/")).await,
        response_text(&upstream, get("/")).await,
        response_text(&upstream, get("/")).await,
    ];
    assert!(names.contains(&"b".into()) && names.contains(&"c".into()), "{names:?}");
}

#[tokio::test]
async fn least_pending_avoids_a_busy_backend_until_its_response_ends() {
    let (release, released) = watch::channel(false);
    let (slow, connections) = backend(move |mut stream, _| {
        let mut released = released.clone();
        async move {
            while read_head(&mut stream).await.is_some() {
                send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await;
                released.wait_for(|released| *released).await.unwrap();
                send(&mut stream, "slow").await;
            }
        }
    })
    .await;
    let (fast, _) = static_backend("fast").await;
    let upstream: Upstream<Body> =
        Upstream::builder().backends([slow.into(), fast.into()]).balance(Balance::LeastPending).build().unwrap();
    // The first requests use random backends, until one uses the slow backend. Its body stays open.
    let mut open = None;
    while open.is_none() {
        let response = upstream.clone().oneshot(get("/")).await.unwrap();
        match connections.load(Ordering::SeqCst) {
            0 => drop(text(response).await),
            _ => open = Some(response),
        }
    }
    for _ in 0..20 {
        assert_eq!(response_text(&upstream, get("/")).await, "fast");
    }
    release.send(true).unwrap();
    assert_eq!(text(open.unwrap()).await, "slow");
    let mut chosen_again = false;
    for _ in 0..200 {
        chosen_again |= response_text(&upstream, get("/")).await == "slow";
    }
    assert!(chosen_again);
}

#[tokio::test]
async fn retries_idempotent_requests_on_another_backend_after_a_closed_connection() {
    let (broken, _) = backend(async |mut stream, _| {
        read_head(&mut stream).await;
    })
    .await;
    let (healthy, _) = static_backend("healthy").await;
    let make = |retries| {
        let builder = Upstream::builder().backends([broken.into(), healthy.into()]).retries(retries).max_failures(1000);
        builder.build::<Body>().unwrap()
    };
    for (method, retries, statuses) in
        [("GET", 1, [200, 200]), ("GET", 0, [502, 200]), ("POST", 1, [502, 200]), ("DELETE", 1, [200, 200])]
    {
        let upstream = make(retries);
        for expected in statuses {
            let request = Request::builder().method(method).uri("/").body(Body::default()).unwrap();
            let response = upstream.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), expected, "{method} with {retries} retries");
        }
    }
    // A request with content may have been processed.
    let put = Request::put("/").body(Body::from("data")).unwrap();
    assert_eq!(make(1).oneshot(put).await.unwrap().status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn retry_budget_stops_retries_if_most_requests_fail() {
    let (broken, connections) = backend(async |mut stream, _| {
        read_head(&mut stream).await;
    })
    .await;
    let (other, others) = backend(async |mut stream, _| {
        read_head(&mut stream).await;
    })
    .await;
    let upstream: Upstream<Body> =
        Upstream::builder().backends([broken.into(), other.into()]).max_failures(1_000_000).build().unwrap();
    for _ in 0..200 {
        assert_eq!(upstream.clone().oneshot(get("/")).await.unwrap().status(), StatusCode::BAD_GATEWAY);
    }
    let sent = connections.load(Ordering::SeqCst) + others.load(Ordering::SeqCst);
    assert!((201..230).contains(&sent), "{sent} for 200 requests");
}

#[tokio::test]
async fn ejects_a_backend_after_max_failures() {
    let (broken, connections) = backend(async |mut stream, _| {
        read_head(&mut stream).await;
        send(&mut stream, "nonsense\r\n\r\n").await;
    })
    .await;
    let (healthy, _) = static_backend("healthy").await;
    let upstream: Upstream<Body> =
        Upstream::builder().backends([broken.into(), healthy.into()]).max_failures(3).build().unwrap();
    let mut failed = 0;
    while connections.load(Ordering::SeqCst) < 3 {
        failed += usize::from(!upstream.clone().oneshot(get("/")).await.unwrap().status().is_success());
    }
    assert_eq!(failed, 3);
    for _ in 0..6 {
        assert_eq!(response_text(&upstream, get("/")).await, "healthy");
    }
}

#[tokio::test]
async fn holds_requests_while_the_only_backend_restarts() {
    let address = unused_address().await;
    let upstream: Upstream<Body> =
        Upstream::builder().backends([address.into()]).hold(Duration::from_secs(20)).build().unwrap();
    let held: Vec<_> = (0..10).map(|_| tokio::spawn(upstream.clone().oneshot(get("/")))).collect();
    // Each request has been tried once, or waits for a probe.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(held.iter().all(|request| !request.is_finished()));
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while read_head(&mut stream).await.is_some() {
                    send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nback").await;
                }
            });
        }
    });
    for request in held {
        assert_eq!(text(request.await.unwrap().unwrap()).await, "back");
    }
}

/// Starts a backend that closes its first connection after it has received a request, and responds on all others.
async fn crashing_once() -> SocketAddr {
    let serve = |mut stream, connection| async move {
        while read_head(&mut stream).await.is_some() && connection > 0 {
            send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nback").await;
        }
    };
    backend(serve).await.0
}

#[tokio::test]
async fn holds_an_idempotent_request_that_the_only_backend_received_before_it_crashed() {
    let held = |address: SocketAddr| Upstream::builder().backends([address.into()]).hold(Duration::from_secs(20));
    for (request, hold, retries, status) in [
        (get("/"), true, 1, 200),
        (get("/"), false, 1, 502),
        (get("/"), true, 0, 502),
        // RFC 9110 §9.2.2: it is not known whether the backend has processed the request.
        (Request::post("/").body(Body::default()).unwrap(), true, 1, 502),
    ] {
        let builder = held(crashing_once().await).retries(retries);
        let builder = if hold { builder } else { builder.hold(Duration::ZERO) };
        let upstream: Upstream<Body> = builder.build().unwrap();
        assert_eq!(upstream.oneshot(request).await.unwrap().status(), status, "hold: {hold}, retries: {retries}");
    }
}

#[tokio::test]
async fn held_request_fails_when_the_hold_time_is_over() {
    let builder = Upstream::builder().backends([unused_address().await.into()]).hold(Duration::from_millis(300));
    let upstream: Upstream<Body> = builder.build().unwrap();
    let begin = tokio::time::Instant::now();
    let response = upstream.oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn requests_over_the_connection_limit_wait_for_at_most_the_queue_timeout() {
    let (release, released) = watch::channel(false);
    let (address, connections) = backend(move |mut stream, _| {
        let mut released = released.clone();
        async move {
            while read_head(&mut stream).await.is_some() {
                released.wait_for(|released| *released).await.unwrap();
                send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let backends = Upstream::builder()
        .backends([address.into()])
        .max_connections(2)
        .queue_timeout(Duration::from_millis(300))
        .build_backends()
        .unwrap();
    // Upstreams of two workers.
    let upstreams: [Upstream<Body>; 2] = [backends.upstream(), backends.upstream()];
    let requests: Vec<_> = (0..2).map(|n| tokio::spawn(upstreams[n].clone().oneshot(get("/")))).collect();
    while connections.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    let response = upstreams[0].clone().oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::ConnectionLimitReached);
    release.send(true).unwrap();
    for request in requests {
        assert_eq!(text(request.await.unwrap().unwrap()).await, "ok");
    }
    // Each worker has one idle connection. Two concurrent requests of one worker need both.
    let both = tokio::join!(upstreams[0].clone().oneshot(get("/")), upstreams[0].clone().oneshot(get("/")));
    assert_eq!((text(both.0.unwrap()).await, text(both.1.unwrap()).await), ("ok".into(), "ok".into()));
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn read_timeout_interrupts_a_stalled_response_body_but_not_a_slow_one() {
    let (address, _) = backend(async |mut stream, _| {
        while let Some(head) = read_head(&mut stream).await {
            send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n").await;
            if head.starts_with("GET /silent") {
                send(&mut stream, "abc").await;
                let _ = stream.read_u8().await;
                return;
            }
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                send(&mut stream, "x").await;
            }
        }
    })
    .await;
    let builder = Upstream::builder().backends([address.into()]).read_timeout(Duration::from_millis(400));
    let upstream: Upstream<Body> = builder.build().unwrap();
    assert_eq!(text(upstream.clone().oneshot(get("/slow")).await.unwrap()).await, "xxxxxx");
    let silent = upstream.oneshot(get("/silent")).await.unwrap();
    let error = http_body_util::BodyExt::collect(silent.into_body()).await.unwrap_err();
    assert_eq!(error.to_string(), "timeout waiting for the rest of the response body");
}

#[tokio::test]
async fn request_timeout_covers_the_response_head_and_body() {
    let (address, _) = backend(async |mut stream, _| {
        let head = read_head(&mut stream).await.unwrap();
        if head.starts_with("GET /body") {
            send(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            // Until the client closes the connection.
            while tokio::io::AsyncWriteExt::write_all(&mut stream, b"1\r\nx\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        std::future::pending::<()>().await;
    })
    .await;
    let builder = Upstream::builder().backends([address.into()]).request_timeout(Duration::from_millis(300));
    let upstream: Upstream<Body> = builder.build().unwrap();
    assert_eq!(upstream.clone().oneshot(get("/head")).await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    let response = upstream.oneshot(get("/body")).await.unwrap();
    assert!(http_body_util::BodyExt::collect(response.into_body()).await.is_err());
}

#[tokio::test]
async fn health_checks_exclude_a_backend_until_it_recovers() {
    let (health, state) = watch::channel(503);
    let (unhealthy, _) = backend(move |mut stream, _| {
        let state = state.clone();
        async move {
            while let Some(head) = read_head(&mut stream).await {
                let status = if head.starts_with("GET /healthz") { *state.borrow() } else { 200 };
                send(&mut stream, &format!("HTTP/1.1 {status} Status\r\ncontent-length: 9\r\n\r\nunhealthy")).await;
            }
        }
    })
    .await;
    let (healthy, _) = static_backend("healthy").await;
    let check = HealthCheck::new("/healthz").unwrap().interval(Duration::from_millis(20));
    let builder = Upstream::builder().health_check(check);
    let backends = builder.clone().backends([unhealthy.into(), healthy.into()]).build_backends().unwrap();
    let checks = tokio::spawn(backends.run_health_checks());
    let upstream: Upstream<Body> = backends.upstream();
    // Several requests in a row, so that round robin reaches all healthy backends.
    let wait_for_backends = async |expected: &[&str]| loop {
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(response_text(&upstream, get("/")).await);
        }
        all.sort();
        all.dedup();
        if all == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    wait_for_backends(&["healthy"]).await;
    health.send(204).unwrap();
    wait_for_backends(&["healthy", "unhealthy"]).await;
    health.send(500).unwrap();
    wait_for_backends(&["healthy"]).await;
    checks.abort();

    // A single unhealthy backend gets no requests, either.
    let backends = builder.backends([unhealthy.into()]).build_backends().unwrap();
    let _checks = tokio::spawn(backends.run_health_checks());
    let upstream: Upstream<Body> = backends.upstream();
    while upstream.clone().oneshot(get("/")).await.unwrap().status() != StatusCode::SERVICE_UNAVAILABLE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn new_backends_share_the_connection_limit_of_the_previous_ones() {
    let (address, connections) = backend(async |mut stream, _| {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let builder = |max| {
        let builder = Upstream::builder().backends([address.into()]);
        builder.max_connections(max).queue_timeout(Duration::from_millis(50))
    };
    let before = builder(1).build_backends().unwrap();
    let request = tokio::spawn(before.upstream::<Body>().oneshot(get("/")));
    while connections.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let after = builder(1).retries(3).previous(before).build_backends().unwrap();
    let response = after.upstream::<Body>().oneshot(get("/")).await.unwrap();
    assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::ConnectionLimitReached);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    request.abort();
}

#[tokio::test]
async fn new_backends_continue_the_failed_health_checks_of_the_previous_ones() {
    let (address, _) = backend(async |mut stream, _| {
        while let Some(head) = read_head(&mut stream).await {
            let status = if head.starts_with("GET /up ") { "500 No" } else { "200 OK" };
            send(&mut stream, &format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
        }
    })
    .await;
    let builder = || {
        let check = HealthCheck::new("/up").unwrap().interval(Duration::from_secs(3600));
        Upstream::builder().backends([address.into()]).health_check(check)
    };
    let status = async |builder: Builder| {
        let upstream: Upstream<Body> = builder.build().unwrap();
        upstream.oneshot(get("/")).await.unwrap().status()
    };
    let before = builder().build_backends().unwrap();
    let checks = tokio::spawn(before.run_health_checks());
    while status(builder().previous(before.clone())).await == StatusCode::OK {}
    assert_eq!(status(builder().retries(3).previous(before.clone())).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(builder().health_check(None).previous(before)).await, StatusCode::OK);
    assert_eq!(status(builder()).await, StatusCode::OK);
    checks.abort();
}
