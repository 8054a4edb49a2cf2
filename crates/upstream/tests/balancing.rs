//! Several backends: who is asked, and who is not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, StatusCode};
use rproxy_upstream::{Balance, Builder, HealthCheck, ProxyError, ProxyErrorKind, Upstream};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt;

use self::support::{Body, answer, backend, get, head, nobody, saying, text};

/// Three backends that say `a`, `b` and `c`, of these weights.
async fn three(weights: [u16; 3]) -> Builder {
    let mut builder = Upstream::builder();
    for (name, weight) in ["a", "b", "c"].into_iter().zip(weights) {
        builder = builder.backend(&format!("{} weight={weight}", saying(name).await.0)).unwrap();
    }
    builder
}

async fn said(upstream: &Upstream<Body>, request: Request<Body>) -> String {
    let response = upstream.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    text(response).await
}

#[tokio::test]
async fn turns_follow_the_weights() {
    let upstream = three([2, 1, 1]).await.build().unwrap();
    let mut said_all = String::new();
    for _ in 0..8 {
        said_all += &said(&upstream, get("/")).await;
    }
    assert_eq!(said_all, "abcaabca");
}

#[tokio::test]
async fn a_key_goes_to_one_backend_and_to_the_same_other_one_when_that_is_gone() {
    let balance = Balance::by_key(|head| head.headers.get("x-tenant").cloned());
    let (gone, other, third) = (nobody().await, saying("b").await.0, saying("c").await.0);
    let backends = [gone, other, third].map(|address| address.into());
    let upstream = Upstream::builder().backends(backends).balance(balance).build().unwrap();
    let mut places = HashMap::new();
    for _ in 0..2 {
        for tenant in 0..30 {
            let request = Request::get("/").header("x-tenant", tenant).body(Body::default()).unwrap();
            let place = said(&upstream, request).await;
            assert_eq!(*places.entry(tenant).or_insert_with(|| place.clone()), place, "{tenant}");
        }
    }
    assert!(places.values().any(|place| place == "b") && places.values().any(|place| place == "c"));
    // Without a key, in turn.
    let turns = [said(&upstream, get("/")).await, said(&upstream, get("/")).await, said(&upstream, get("/")).await];
    assert!(turns.contains(&"b".into()) && turns.contains(&"c".into()), "{turns:?}");
}

#[tokio::test]
async fn least_pending_avoids_who_is_busy_until_it_is_done() {
    let (release, released) = watch::channel(false);
    let (slow, asked) = backend(move |mut stream, _| {
        let mut released = released.clone();
        async move {
            while head(&mut stream).await.is_some() {
                answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await;
                released.wait_for(|released| *released).await.unwrap();
                answer(&mut stream, "slow").await;
            }
        }
    })
    .await;
    let (fast, _) = saying("fast").await;
    let upstream: Upstream<Body> =
        Upstream::builder().backends([slow.into(), fast.into()]).balance(Balance::LeastPending).build().unwrap();
    // One of the first requests goes to the slow one, as chance has it, and its body stays open.
    let mut open = None;
    while open.is_none() {
        let response = upstream.clone().oneshot(get("/")).await.unwrap();
        match asked.load(Ordering::SeqCst) {
            0 => drop(text(response).await),
            _ => open = Some(response),
        }
    }
    for _ in 0..20 {
        assert_eq!(said(&upstream, get("/")).await, "fast");
    }
    release.send(true).unwrap();
    assert_eq!(text(open.unwrap()).await, "slow");
    let mut chosen_again = false;
    for _ in 0..200 {
        chosen_again |= said(&upstream, get("/")).await == "slow";
    }
    assert!(chosen_again);
}

#[tokio::test]
async fn a_request_that_a_backend_dropped_goes_to_another_one_where_that_is_safe() {
    let (broken, _) = backend(async |mut stream, _| {
        head(&mut stream).await;
    })
    .await;
    let (good, _) = saying("good").await;
    let make = |retries| {
        let builder = Upstream::builder().backends([broken.into(), good.into()]).retries(retries).max_failures(1000);
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
    // A request with content may have been acted upon.
    let put = Request::put("/").body(Body::from("data")).unwrap();
    assert_eq!(make(1).oneshot(put).await.unwrap().status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn when_most_fail_nothing_is_repeated_any_longer() {
    let (broken, connections) = backend(async |mut stream, _| {
        head(&mut stream).await;
    })
    .await;
    let (other, others) = backend(async |mut stream, _| {
        head(&mut stream).await;
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
async fn a_backend_that_only_fails_is_left_alone() {
    let (broken, connections) = backend(async |mut stream, _| {
        head(&mut stream).await;
        answer(&mut stream, "nonsense\r\n\r\n").await;
    })
    .await;
    let (good, _) = saying("good").await;
    let upstream: Upstream<Body> =
        Upstream::builder().backends([broken.into(), good.into()]).max_failures(3).build().unwrap();
    let mut failed = 0;
    while connections.load(Ordering::SeqCst) < 3 {
        failed += usize::from(!upstream.clone().oneshot(get("/")).await.unwrap().status().is_success());
    }
    assert_eq!(failed, 3);
    for _ in 0..6 {
        assert_eq!(said(&upstream, get("/")).await, "good");
    }
}

#[tokio::test]
async fn requests_are_held_while_the_only_backend_restarts() {
    let address = nobody().await;
    let upstream: Upstream<Body> =
        Upstream::builder().backends([address.into()]).hold(Duration::from_secs(20)).build().unwrap();
    let held: Vec<_> = (0..10).map(|_| tokio::spawn(upstream.clone().oneshot(get("/")))).collect();
    // All of them have found nobody, or wait for the one who asks.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(held.iter().all(|request| !request.is_finished()));
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while head(&mut stream).await.is_some() {
                    answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nback").await;
                }
            });
        }
    });
    for request in held {
        assert_eq!(text(request.await.unwrap().unwrap()).await, "back");
    }
}

#[tokio::test]
async fn requests_are_not_held_for_ever() {
    let builder = Upstream::builder().backends([nobody().await.into()]).hold(Duration::from_millis(300));
    let upstream: Upstream<Body> = builder.build().unwrap();
    let begin = tokio::time::Instant::now();
    let response = upstream.oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_cap_makes_requests_wait_for_their_turn_and_some_leave() {
    let (release, released) = watch::channel(false);
    let (address, connections) = backend(move |mut stream, _| {
        let mut released = released.clone();
        async move {
            while head(&mut stream).await.is_some() {
                released.wait_for(|released| *released).await.unwrap();
                answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
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
    // Of two workers.
    let upstreams: [Upstream<Body>; 2] = [backends.upstream(), backends.upstream()];
    let asking: Vec<_> = (0..2).map(|n| tokio::spawn(upstreams[n].clone().oneshot(get("/")))).collect();
    while connections.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    let response = upstreams[0].clone().oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::ConnectionLimitReached);
    release.send(true).unwrap();
    for request in asking {
        assert_eq!(text(request.await.unwrap().unwrap()).await, "ok");
    }
    // Each worker has one idle connection; two at once in one of them need both.
    let both = tokio::join!(upstreams[0].clone().oneshot(get("/")), upstreams[0].clone().oneshot(get("/")));
    assert_eq!((text(both.0.unwrap()).await, text(both.1.unwrap()).await), ("ok".into(), "ok".into()));
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_silent_body_breaks_off_and_a_slow_one_does_not() {
    let (address, _) = backend(async |mut stream, _| {
        while let Some(head) = head(&mut stream).await {
            answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n").await;
            if head.starts_with("GET /silent") {
                answer(&mut stream, "abc").await;
                let _ = stream.read_u8().await;
                return;
            }
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                answer(&mut stream, "x").await;
            }
        }
    })
    .await;
    let builder = Upstream::builder().backends([address.into()]).read_timeout(Duration::from_millis(400));
    let upstream: Upstream<Body> = builder.build().unwrap();
    assert_eq!(text(upstream.clone().oneshot(get("/slow")).await.unwrap()).await, "xxxxxx");
    let silent = upstream.oneshot(get("/silent")).await.unwrap();
    let error = http_body_util::BodyExt::collect(silent.into_body()).await.unwrap_err();
    assert_eq!(error.to_string(), "the backend took too long within a body");
}

#[tokio::test]
async fn the_whole_exchange_may_have_an_end() {
    let (address, _) = backend(async |mut stream, _| {
        let head = head(&mut stream).await.unwrap();
        if head.starts_with("GET /body") {
            answer(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            // As long as it is read.
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
async fn checks_take_a_backend_out_and_bring_it_back() {
    let (health, state) = watch::channel(503);
    let (sick, _) = backend(move |mut stream, _| {
        let state = state.clone();
        async move {
            while let Some(head) = head(&mut stream).await {
                let status = if head.starts_with("GET /healthz") { *state.borrow() } else { 200 };
                answer(&mut stream, &format!("HTTP/1.1 {status} So\r\ncontent-length: 4\r\n\r\nsick")).await;
            }
        }
    })
    .await;
    let (good, _) = saying("good").await;
    let check = HealthCheck::new("/healthz").unwrap().interval(Duration::from_millis(20));
    let builder = Upstream::builder().health_check(check);
    let backends = builder.clone().backends([sick.into(), good.into()]).build_backends().unwrap();
    let checks = tokio::spawn(backends.run_health_checks());
    let upstream: Upstream<Body> = backends.upstream();
    // Three in a row are more than chance and turns would give.
    let settled = async |wanted: &[&str]| loop {
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(said(&upstream, get("/")).await);
        }
        all.sort();
        all.dedup();
        if all == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    settled(&["good"]).await;
    health.send(204).unwrap();
    settled(&["good", "sick"]).await;
    health.send(500).unwrap();
    settled(&["good"]).await;
    checks.abort();

    // Alone it is not asked either.
    let backends = builder.backends([sick.into()]).build_backends().unwrap();
    let _checks = tokio::spawn(backends.run_health_checks());
    let upstream: Upstream<Body> = backends.upstream();
    while upstream.clone().oneshot(get("/")).await.unwrap().status() != StatusCode::SERVICE_UNAVAILABLE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
