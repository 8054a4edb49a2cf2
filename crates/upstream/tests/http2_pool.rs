//! HTTP/2 to backends: how many connections there are, which requests share them, and what ends them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/http2.rs"]
mod backends;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use backends::{Act, Backend, Server, get, post, read, upstream};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use rproxy_upstream::{InterimRelay, ProxyError, ProxyErrorKind, Upstream};
use tower::ServiceExt;

#[tokio::test]
async fn a_new_connection_is_made_when_the_streams_of_the_others_are_used_up() {
    for limit in [1, 3] {
        let backend = Backend::start(Server::default().max_streams(limit), |request, _| match request.uri().path() {
            "/events" => Act::Open("data: 1\n\n"),
            _ => Act::Answer("small"),
        })
        .await;
        let upstream = upstream(&backend);
        let mut open = Vec::new();
        for _ in 0..limit {
            let mut body = upstream.clone().oneshot(get("/events")).await.unwrap().into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
            open.push(body);
        }
        assert_eq!(backend.connections(), 1);
        assert_eq!(read(upstream.clone().oneshot(get("/small")).await.unwrap()).await.unwrap(), "small");
        assert_eq!(backend.connections(), 2);
        // A stream that is free again is used again.
        drop(open);
        for _ in 0..4 {
            assert_eq!(read(upstream.clone().oneshot(get("/small")).await.unwrap()).await.unwrap(), "small");
        }
        assert_eq!(backend.connections(), 2);
    }
}

#[tokio::test]
async fn a_burst_waits_for_the_settings_and_makes_as_many_connections_as_it_needs() {
    let backend = Backend::start(Server::default().max_streams(10), |_, _| Act::Answer("ok")).await;
    let upstream = upstream(&backend);
    let requests: Vec<_> = (0..60).map(|_| tokio::spawn(upstream.clone().oneshot(get("/")))).collect();
    for request in requests {
        assert_eq!(read(request.await.unwrap().unwrap()).await.unwrap(), "ok");
    }
    let connections = backend.connections();
    assert!((1..=6).contains(&connections), "{connections} connections");
    assert_eq!(backend.most_streams(), 10, "never more than the backend allows");
}

#[tokio::test]
async fn a_backend_that_allows_no_streams_is_an_error_in_time() {
    let backend = Backend::start(Server::default().max_streams(0), |_, _| Act::Answer("ok")).await;
    let builder = Upstream::builder().backend(&backend.origin()).unwrap();
    let upstream =
        builder.queue_timeout(Duration::from_millis(100)).connect_timeout(Duration::from_millis(100)).build().unwrap();
    let response = upstream.oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::ConnectionLimitReached);
    assert_eq!(backend.connections(), 1, "others would be no better");
}

#[tokio::test]
async fn slow_readers_do_not_stall_other_responses() {
    let backend = Backend::start(Server::default(), |request, _| match request.uri().path() {
        "/large" => Act::Endless,
        _ => Act::Answer("small"),
    })
    .await;
    let upstream = upstream(&backend);
    let mut unread = Vec::new();
    for _ in 0..60 {
        unread.push(upstream.clone().oneshot(get("/large")).await.unwrap());
    }
    backend.until_stalled().await;
    for _ in 0..10 {
        let small = read(upstream.clone().oneshot(get("/small")).await.unwrap());
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), small).await.unwrap().unwrap(), "small");
    }
}

#[tokio::test]
async fn requests_that_were_not_processed_are_sent_again_whatever_their_method() {
    type Script = fn(usize) -> Act;
    let scripts: [(&str, Script); 4] = [
        ("refused once", |number| if number == 0 { Act::Reset(7) } else { Act::Answer("fine") }),
        ("refused three times", |number| if number < 3 { Act::Reset(7) } else { Act::Answer("fine") }),
        ("gone away below", |number| if number == 0 { Act::GoAwayBelow } else { Act::Answer("fine") }),
        ("gone away below four times", |number| if number < 4 { Act::GoAwayBelow } else { Act::Answer("fine") }),
    ];
    for (name, script) in scripts {
        for request in [get("/"), post(""), post("abc")] {
            let number = Arc::new(AtomicUsize::new(0));
            let backend = Backend::start(Server::default(), move |_, _| script(number.fetch_add(1, SeqCst))).await;
            let (method, body) = (request.method().clone(), request.body().clone().collect().await.unwrap().to_bytes());
            let response = upstream(&backend).oneshot(request).await.unwrap();
            assert_eq!(read(response).await.unwrap(), "fine", "{name} {method} {body:?}");
            let seen = backend.bodies();
            if method == Method::POST {
                assert_eq!(seen.last().unwrap(), &body, "{name}: the body is whole");
            }
        }
    }
}

#[tokio::test]
async fn a_backend_that_ends_each_connection_after_some_requests_loses_none_of_a_burst() {
    let backend = Backend::start(Server::default().max_requests(10), |_, _| Act::Answer("ok")).await;
    let upstream = upstream(&backend);
    for _ in 0..3 {
        let requests: Vec<_> = (0..200).map(|_| tokio::spawn(upstream.clone().oneshot(post("abc")))).collect();
        for request in requests {
            assert_eq!(read(request.await.unwrap().unwrap()).await.unwrap(), "ok");
        }
    }
    assert!(backend.connections() >= 60);
}

#[tokio::test]
async fn a_backend_that_refuses_every_time_is_an_error_and_not_a_loop() {
    let backend = Backend::start(Server::default(), |_, _| Act::Reset(7)).await;
    let response = upstream(&backend).oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(backend.requests(), 5);
}

#[tokio::test]
async fn a_backend_that_processes_nothing_costs_few_connections_and_fewer_without_retry_budget() {
    for act in [Act::GoAwayBelow, Act::Reset(7)] {
        let backend = Backend::start(Server::default(), move |_, _| act).await;
        let upstream = upstream(&backend);
        let mut counts = Vec::new();
        for _ in 0..60 {
            let before = (backend.connections(), backend.requests());
            let response = upstream.clone().oneshot(get("/")).await.unwrap();
            assert!(response.status().is_server_error());
            counts.push((backend.connections() - before.0, backend.requests() - before.1));
        }
        assert!(counts.iter().all(|(connections, requests)| *connections <= 5 && *requests <= 5), "{counts:?}");
        assert!(counts[40..].iter().all(|(connections, requests)| *connections <= 3 && *requests <= 3), "{counts:?}");
    }
}

#[tokio::test]
async fn a_request_is_not_sent_again_after_an_interim_response() {
    for (act, is_post) in
        [(Act::InterimThenGoAwayBelow, false), (Act::InterimThenGoAwayBelow, true), (Act::InterimThenReset(7), true)]
    {
        let backend = Backend::start(Server::default(), move |_, _| act).await;
        let interim = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&interim);
        let relay: InterimRelay = Arc::new(move |_| {
            counter.fetch_add(1, SeqCst);
        });
        let mut request = if is_post { post("abc") } else { get("/") };
        request.extensions_mut().insert(relay);
        let response = upstream(&backend).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!((backend.requests(), interim.load(SeqCst)), (1, 1), "{act:?}");
    }
}

#[tokio::test]
async fn a_post_that_a_backend_may_have_processed_is_not_sent_again() {
    for act in [Act::Close, Act::Reset(2), Act::Reset(0)] {
        let backend = Backend::start(Server::default(), move |_, _| act).await;
        let response = upstream(&backend).oneshot(post("abc")).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::ConnectionTerminated);
        assert_eq!(backend.requests(), 1);
    }
}

#[tokio::test]
async fn a_get_that_one_backend_drops_goes_to_another_as_over_http1() {
    for act in [Act::Close, Act::Reset(2)] {
        let good = Backend::start(Server::default(), |_, _| Act::Answer("ok")).await;
        let bad = Backend::start(Server::default(), move |_, _| act).await;
        let builder = Upstream::builder().backend(&good.origin()).unwrap().backend(&bad.origin()).unwrap();
        let upstream: Upstream<backends::Body> = builder.build().unwrap();
        for _ in 0..8 {
            assert_eq!(read(upstream.clone().oneshot(get("/")).await.unwrap()).await.unwrap(), "ok");
        }
        assert!(bad.requests() > 0, "it was asked first now and then");
        let none = Upstream::builder().backend(&good.origin()).unwrap().backend(&bad.origin()).unwrap().retries(0);
        let upstream: Upstream<backends::Body> = none.build().unwrap();
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(upstream.clone().oneshot(get("/")).await.unwrap().status());
        }
        assert!(statuses.contains(&StatusCode::BAD_GATEWAY), "without retries: {statuses:?}");
    }
}

#[tokio::test]
async fn a_connection_that_says_goaway_ends_its_streams_and_gets_no_others() {
    let backend = Backend::start(Server::default(), |request, _| match request.uri().path() {
        "/long" => Act::GoAwayThenOpen("begin"),
        _ => Act::Answer("ok"),
    })
    .await;
    let upstream = upstream(&backend);
    let mut long = upstream.clone().oneshot(get("/long")).await.unwrap().into_body();
    assert_eq!(long.frame().await.unwrap().unwrap().into_data().unwrap(), "begin");
    for _ in 0..3 {
        assert_eq!(read(upstream.clone().oneshot(post("abc")).await.unwrap()).await.unwrap(), "ok");
    }
    assert_eq!(backend.connections(), 2);
    backend.finish();
    assert!(long.frame().await.is_none_or(|frame| frame.unwrap().into_data().unwrap().is_empty()));
}

#[tokio::test]
async fn a_backend_that_ends_the_connection_after_each_response_loses_none() {
    let backend = Backend::start(Server::default(), |_, _| Act::AnswerThenGoAway("ok")).await;
    let upstream = upstream(&backend);
    for _ in 0..10 {
        assert_eq!(read(upstream.clone().oneshot(post("abc")).await.unwrap()).await.unwrap(), "ok");
    }
    // GOAWAY may come after the next request, which it then includes.
    assert!((5..=10).contains(&backend.connections()), "{}", backend.connections());
}

#[tokio::test]
async fn a_kept_connection_that_the_backend_has_closed_costs_no_request() {
    let backend = Backend::start(Server::default(), |_, number| match number {
        1 => Act::Close,
        _ => Act::Answer("ok"),
    })
    .await;
    let upstream = upstream(&backend);
    for _ in 0..3 {
        assert_eq!(read(upstream.clone().oneshot(get("/")).await.unwrap()).await.unwrap(), "ok");
    }
    assert_eq!(backend.connections(), 2);
}

#[tokio::test]
async fn a_cancelled_request_frees_its_stream_and_leaves_the_connection() {
    let backend = Backend::start(Server::default().max_streams(1), |request, _| match request.uri().path() {
        "/never" => Act::Silence,
        _ => Act::Answer("ok"),
    })
    .await;
    let upstream = upstream(&backend);
    for _ in 0..20 {
        let cancelled = upstream.clone().oneshot(get("/never"));
        assert!(tokio::time::timeout(Duration::from_millis(5), cancelled).await.is_err());
        assert_eq!(read(upstream.clone().oneshot(get("/")).await.unwrap()).await.unwrap(), "ok");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn clients_that_cancel_while_a_connection_is_made_do_not_cost_one_each() {
    let backend = Backend::start(Server::default(), |_, _| Act::Answer("ok")).await;
    let upstream = upstream(&backend);
    for _ in 0..50 {
        let mut request = Box::pin(upstream.clone().oneshot(get("/")));
        // Polled once, which begins to connect.
        assert!(futures_util::poll!(request.as_mut()).is_pending());
    }
    assert_eq!(read(upstream.oneshot(get("/")).await.unwrap()).await.unwrap(), "ok");
    assert_eq!(backend.connections(), 1);
}
