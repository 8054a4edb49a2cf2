//! The pool of HTTP/2 connections: number of connections, stream limits, retries and closed connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::http2_backend::{Action, Backend, Server, get, post, read, upstream};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use rproxy_upstream::{InterimRelay, ProxyError, ProxyErrorKind, Upstream};
use tower::ServiceExt;

#[tokio::test]
async fn opens_a_second_http2_connection_when_all_streams_are_in_use() {
    for limit in [1, 3] {
        let backend = Backend::start(Server::default().max_streams(limit), |request, _| match request.uri().path() {
            "/events" => Action::OpenResponse("data: 1\n\n"),
            _ => Action::Respond("small"),
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
        // A released stream is used again.
        drop(open);
        for _ in 0..4 {
            assert_eq!(read(upstream.clone().oneshot(get("/small")).await.unwrap()).await.unwrap(), "small");
        }
        assert_eq!(backend.connections(), 2);
    }
}

#[tokio::test]
async fn concurrent_requests_open_only_the_connections_that_the_stream_limit_requires() {
    let backend = Backend::start(Server::default().max_streams(10), |_, _| Action::Respond("ok")).await;
    let upstream = upstream(&backend);
    let requests: Vec<_> = (0..60).map(|_| tokio::spawn(upstream.clone().oneshot(get("/")))).collect();
    for request in requests {
        assert_eq!(read(request.await.unwrap().unwrap()).await.unwrap(), "ok");
    }
    let connections = backend.connections();
    assert!((1..=6).contains(&connections), "{connections} connections");
    assert_eq!(backend.max_concurrent_streams(), 10, "at most the limit of the backend");
}

#[tokio::test]
async fn backend_that_allows_no_streams_causes_a_503_after_a_timeout() {
    let backend = Backend::start(Server::default().max_streams(0), |_, _| Action::Respond("ok")).await;
    let builder = Upstream::builder().backend(&backend.origin()).unwrap();
    let upstream =
        builder.queue_timeout(Duration::from_millis(100)).connect_timeout(Duration::from_millis(100)).build().unwrap();
    let response = upstream.oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::ConnectionLimitReached);
    assert_eq!(backend.connections(), 1, "no connection with the same limit");
}

#[tokio::test]
async fn unread_responses_do_not_stall_other_http2_streams() {
    let backend = Backend::start(Server::default(), |request, _| match request.uri().path() {
        "/large" => Action::EndlessResponse,
        _ => Action::Respond("small"),
    })
    .await;
    let upstream = upstream(&backend);
    let mut unread = Vec::new();
    for _ in 0..60 {
        unread.push(upstream.clone().oneshot(get("/large")).await.unwrap());
    }
    backend.wait_until_stalled().await;
    for _ in 0..10 {
        let small = read(upstream.clone().oneshot(get("/small")).await.unwrap());
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), small).await.unwrap().unwrap(), "small");
    }
}

#[tokio::test]
async fn retries_unprocessed_http2_requests_of_any_method() {
    type Script = fn(usize) -> Action;
    let scripts: [(&str, Script); 4] = [
        ("REFUSED_STREAM once", |number| if number == 0 { Action::Reset(7) } else { Action::Respond("ok") }),
        ("REFUSED_STREAM three times", |number| if number < 3 { Action::Reset(7) } else { Action::Respond("ok") }),
        ("GOAWAY once", |number| if number == 0 { Action::GoAwayUnprocessed } else { Action::Respond("ok") }),
        ("GOAWAY four times", |number| if number < 4 { Action::GoAwayUnprocessed } else { Action::Respond("ok") }),
    ];
    for (name, script) in scripts {
        for request in [get("/"), post(""), post("abc")] {
            let number = Arc::new(AtomicUsize::new(0));
            let backend = Backend::start(Server::default(), move |_, _| script(number.fetch_add(1, SeqCst))).await;
            let (method, body) = (request.method().clone(), request.body().clone().collect().await.unwrap().to_bytes());
            let response = upstream(&backend).oneshot(request).await.unwrap();
            assert_eq!(read(response).await.unwrap(), "ok", "{name} {method} {body:?}");
            let observations = backend.bodies();
            if method == Method::POST {
                assert_eq!(observations.last().unwrap(), &body, "{name}: the body is complete");
            }
        }
    }
}

#[tokio::test]
async fn concurrent_requests_succeed_if_the_backend_limits_requests_per_connection() {
    let backend = Backend::start(Server::default().max_requests(10), |_, _| Action::Respond("ok")).await;
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
async fn gives_up_after_five_refused_streams() {
    let backend = Backend::start(Server::default(), |_, _| Action::Reset(7)).await;
    let response = upstream(&backend).oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(backend.requests(), 5);
}

#[tokio::test]
async fn retry_budget_limits_retries_of_unprocessed_requests() {
    for action in [Action::GoAwayUnprocessed, Action::Reset(7)] {
        let backend = Backend::start(Server::default(), move |_, _| action).await;
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
async fn does_not_retry_a_request_after_an_interim_response() {
    for (action, is_post) in [
        (Action::InterimThenGoAwayUnprocessed, false),
        (Action::InterimThenGoAwayUnprocessed, true),
        (Action::InterimThenReset(7), true),
    ] {
        let backend = Backend::start(Server::default(), move |_, _| action).await;
        let interim = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&interim);
        let relay: InterimRelay = Arc::new(move |_| {
            counter.fetch_add(1, SeqCst);
        });
        let mut request = if is_post { post("abc") } else { get("/") };
        request.extensions_mut().insert(relay);
        let response = upstream(&backend).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!((backend.requests(), interim.load(SeqCst)), (1, 1), "{action:?}");
    }
}

#[tokio::test]
async fn does_not_retry_a_post_that_may_have_been_processed() {
    for action in [Action::Close, Action::Reset(2), Action::Reset(0)] {
        let backend = Backend::start(Server::default(), move |_, _| action).await;
        let response = upstream(&backend).oneshot(post("abc")).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::ConnectionTerminated);
        assert_eq!(backend.requests(), 1);
    }
}

#[tokio::test]
async fn retries_a_get_on_another_backend_after_a_failed_http2_stream() {
    for action in [Action::Close, Action::Reset(2)] {
        let good = Backend::start(Server::default(), |_, _| Action::Respond("ok")).await;
        let bad = Backend::start(Server::default(), move |_, _| action).await;
        let builder = Upstream::builder().backend(&good.origin()).unwrap().backend(&bad.origin()).unwrap();
        let upstream: Upstream<crate::http2_backend::Body> = builder.build().unwrap();
        for _ in 0..8 {
            assert_eq!(read(upstream.clone().oneshot(get("/")).await.unwrap()).await.unwrap(), "ok");
        }
        assert!(bad.requests() > 0, "the failing backend got requests");
        let none = Upstream::builder().backend(&good.origin()).unwrap().backend(&bad.origin()).unwrap().retries(0);
        let upstream: Upstream<crate::http2_backend::Body> = none.build().unwrap();
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(upstream.clone().oneshot(get("/")).await.unwrap().status());
        }
        assert!(statuses.contains(&StatusCode::BAD_GATEWAY), "without retries: {statuses:?}");
    }
}

#[tokio::test]
async fn goaway_drains_the_connection() {
    let backend = Backend::start(Server::default(), |request, _| match request.uri().path() {
        "/long" => Action::GoAwayThenOpenResponse("begin"),
        _ => Action::Respond("ok"),
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
async fn requests_succeed_if_the_backend_sends_goaway_after_each_response() {
    let backend = Backend::start(Server::default(), |_, _| Action::RespondThenGoAway("ok")).await;
    let upstream = upstream(&backend);
    for _ in 0..10 {
        assert_eq!(read(upstream.clone().oneshot(post("abc")).await.unwrap()).await.unwrap(), "ok");
    }
    // GOAWAY can arrive after the next request, which it then includes.
    assert!((5..=10).contains(&backend.connections()), "{}", backend.connections());
}

#[tokio::test]
async fn retries_a_get_after_a_reused_http2_connection_was_closed() {
    let backend = Backend::start(Server::default(), |_, number| match number {
        1 => Action::Close,
        _ => Action::Respond("ok"),
    })
    .await;
    let upstream = upstream(&backend);
    for _ in 0..3 {
        assert_eq!(read(upstream.clone().oneshot(get("/")).await.unwrap()).await.unwrap(), "ok");
    }
    assert_eq!(backend.connections(), 2);
}

#[tokio::test]
async fn cancelled_request_releases_its_stream() {
    let backend = Backend::start(Server::default().max_streams(1), |request, _| match request.uri().path() {
        "/never" => Action::NoResponse,
        _ => Action::Respond("ok"),
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
async fn cancelled_requests_share_one_connection_attempt() {
    let backend = Backend::start(Server::default(), |_, _| Action::Respond("ok")).await;
    let upstream = upstream(&backend);
    for _ in 0..50 {
        let mut request = Box::pin(upstream.clone().oneshot(get("/")));
        // The first poll begins to connect.
        assert!(futures_util::poll!(request.as_mut()).is_pending());
    }
    assert_eq!(read(upstream.oneshot(get("/")).await.unwrap()).await.unwrap(), "ok");
    assert_eq!(backend.connections(), 1);
}
