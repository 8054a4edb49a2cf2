//! Replacement of the backends at run time: requests in flight, connections, health.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http_body_util::BodyExt;
use rproxy_upstream::{Backend, Backends, HealthCheck, Upstream};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tower::ServiceExt;

use crate::http2_backend::{Action, Backend as Http2Backend, Server};
use crate::support::{Body, backend, get, read_head, send, static_backend, text, unused_address};

fn backends(addresses: &[SocketAddr]) -> Backends {
    let backends = addresses.iter().map(|address| Backend::from(*address));
    Upstream::builder().backends(backends).timeout(Duration::from_secs(5)).build_backends().unwrap()
}

async fn answer(upstream: &Upstream<Body>) -> String {
    text(upstream.clone().oneshot(get("/")).await.unwrap()).await
}

/// Starts a backend that sends the second half of each body after a notification, and reports each closed connection.
async fn slow_backend() -> (SocketAddr, Arc<Notify>, mpsc::UnboundedReceiver<()>) {
    let (finish, (sender, closed)) = (Arc::<Notify>::default(), mpsc::unbounded_channel());
    let finishing = Arc::clone(&finish);
    let serve = move |mut stream: TcpStream, _| {
        let (finish, sender) = (Arc::clone(&finishing), sender.clone());
        async move {
            while read_head(&mut stream).await.is_some() {
                send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nol").await;
                finish.notified().await;
                send(&mut stream, "d.").await;
            }
            sender.send(()).unwrap();
        }
    };
    (backend(serve).await.0, finish, closed)
}

#[tokio::test]
async fn replacement_reaches_all_clones_and_workers_at_once() {
    let ((old, _), (new, _)) = (static_backend("old").await, static_backend("new").await);
    let backends = backends(&[old]);
    let workers: Vec<Upstream<Body>> = (0..3).map(|_| backends.upstream()).collect();
    let clones = workers.clone();
    for upstream in workers.iter().chain(&clones) {
        assert_eq!(answer(upstream).await, "old");
    }
    let removed = workers[0].backends().replace([new.into()]).unwrap();
    assert_eq!(removed.origins().collect::<Vec<_>>(), [format!("http://{old}")]);
    removed.drained().await;
    for upstream in workers.iter().chain(&clones) {
        assert_eq!(answer(upstream).await, "new");
    }
    let late: Upstream<Body> = backends.upstream();
    assert_eq!(answer(&late).await, "new");
    assert!(format!("{backends:?} {late:?}").contains(&new.to_string()));
}

#[tokio::test]
async fn request_in_flight_to_a_removed_backend_finishes_before_the_backend_has_drained() {
    let ((old, finish, mut closed), (new, _)) = (slow_backend().await, static_backend("new").await);
    let backends = backends(&[old]);
    let upstream: Upstream<Body> = backends.upstream();
    // One idle connection, and two in use.
    finish.notify_one();
    assert_eq!(answer(&upstream).await, "old.");
    let first = upstream.clone().oneshot(get("/")).await.unwrap();
    let second = upstream.clone().oneshot(get("/")).await.unwrap();
    assert_eq!(backends.status()[0].in_flight, 2);

    let removed = backends.replace([new.into()]).unwrap();
    assert_eq!((removed.in_flight(), backends.status()[0].in_flight), (2, 0));
    assert_eq!(answer(&upstream).await, "new");
    // A client that cancels its request ends it.
    drop(second);
    let timeout = removed.drained_within(Duration::from_millis(30)).await.unwrap_err();
    assert_eq!(timeout.to_string(), "1 requests to removed backends are still in flight");

    // Another call, after the first one was cancelled, waits for the same request.
    let waiting = tokio::spawn(async move { removed.drained().await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    finish.notify_waiters();
    finish.notify_one();
    assert_eq!(text(first).await, "old.");
    waiting.await.unwrap();
    // All connections to the backend are closed, without the end of an idle timeout.
    closed.recv().await.unwrap();
}

#[tokio::test]
async fn request_without_a_response_head_is_in_flight() {
    let (received, release) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let notifies = (Arc::clone(&received), Arc::clone(&release));
    let (old, _) = backend(move |mut stream, _| {
        let (received, release) = notifies.clone();
        async move {
            read_head(&mut stream).await;
            received.notify_one();
            release.notified().await;
            send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold").await;
        }
    })
    .await;
    let (new, _) = static_backend("new").await;
    let backends = backends(&[old]);
    let upstream: Upstream<Body> = backends.upstream();
    let request = tokio::spawn(async move { answer(&upstream).await });
    received.notified().await;
    let removed = backends.replace([new.into()]).unwrap();
    assert_eq!(removed.in_flight(), 1);
    // The pools of the removed backend belong to the request, not to the upstream that was dropped.
    release.notify_one();
    removed.drained().await;
    assert_eq!(request.await.unwrap(), "old");
}

#[tokio::test]
async fn backend_in_both_sets_keeps_its_connections_and_its_count_of_requests() {
    let ((kept, finish, _closed), (other, _)) = (slow_backend().await, static_backend("new").await);
    let backends = backends(&[kept]);
    let upstream: Upstream<Body> = backends.upstream();
    let response = upstream.clone().oneshot(get("/")).await.unwrap();
    let removed = backends.replace([other.into(), Backend::from(kept).weight(3)]).unwrap();
    assert!(removed.is_empty());
    removed.drained().await;
    let status = backends.status();
    assert_eq!(status.iter().map(|status| status.in_flight).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(status[1].backend.to_string(), format!("http://{kept} weight=3"));
    finish.notify_one();
    assert_eq!(text(response).await, "old.");
    // Three of four requests, by the new weight, and all on the connection that was open before.
    let removed = backends.replace([kept.into()]).unwrap();
    removed.drained().await;
    finish.notify_one();
    assert_eq!(answer(&upstream).await, "old.");
}

#[tokio::test]
async fn retained_backend_keeps_its_idle_connection() {
    let ((kept, connections), (other, _)) = (static_backend("kept").await, static_backend("other").await);
    let backends = backends(&[kept]);
    let upstream: Upstream<Body> = backends.upstream();
    assert_eq!(answer(&upstream).await, "kept");
    backends.replace([kept.into(), other.into()]).unwrap();
    backends.replace([kept.into()]).unwrap();
    assert_eq!(answer(&upstream).await, "kept");
    assert_eq!(connections.load(SeqCst), 1);
}

#[tokio::test]
async fn backend_that_returns_while_it_drains_gets_requests_again() {
    let ((old, finish, _closed), (new, _)) = (slow_backend().await, static_backend("new").await);
    let backends = backends(&[old]);
    let upstream: Upstream<Body> = backends.upstream();
    let response = upstream.clone().oneshot(get("/")).await.unwrap();
    let removed = backends.replace([new.into()]).unwrap();
    // A rollback, which does not wait.
    backends.replace([old.into()]).unwrap().drained().await;
    finish.notify_one();
    assert_eq!(text(response).await, "old.");
    let again = upstream.clone().oneshot(get("/")).await.unwrap();
    assert_eq!((removed.in_flight(), backends.status()[0].in_flight), (0, 1));
    removed.drained().await;
    drop(again);
}

#[tokio::test]
async fn http2_request_in_flight_to_a_removed_backend_finishes() {
    let old = Http2Backend::start(Server::default(), |_, _| Action::OpenResponse("old")).await;
    let (new, _) = static_backend("new").await;
    let backends = Upstream::builder().backend(&old.origin()).unwrap().build_backends().unwrap();
    let upstream: Upstream<Body> = backends.upstream();
    let mut response = upstream.clone().oneshot(get("/")).await.unwrap();
    assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "old");
    let removed = backends.replace([new.into()]).unwrap();
    assert_eq!(removed.in_flight(), 1);
    assert_eq!(answer(&upstream).await, "new");
    old.finish();
    assert_eq!(text(response).await, "");
    removed.drained().await;
    assert_eq!(old.requests(), 1);
}

#[tokio::test]
async fn held_request_uses_the_new_backend() {
    let (new, _) = static_backend("new").await;
    let builder = Upstream::builder().backends([unused_address().await.into()]).hold(Duration::from_secs(60));
    let backends = builder.build_backends().unwrap();
    let upstream: Upstream<Body> = backends.upstream();
    let request = tokio::spawn(async move { answer(&upstream).await });
    // Until the request has found no backend.
    while backends.status()[0].is_healthy {
        tokio::task::yield_now().await;
    }
    backends.replace([new.into()]).unwrap();
    assert_eq!(request.await.unwrap(), "new");
}

#[tokio::test]
async fn failed_request_is_retried_on_a_new_backend() {
    let (received, release) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let notifies = (Arc::clone(&received), Arc::clone(&release));
    let (old, _) = backend(move |mut stream, _| {
        let (received, release) = notifies.clone();
        async move {
            read_head(&mut stream).await;
            received.notify_one();
            release.notified().await;
            // Closes the connection without a response.
        }
    })
    .await;
    let (new, _) = static_backend("new").await;
    let backends = backends(&[old]);
    let upstream: Upstream<Body> = backends.upstream();
    let request = tokio::spawn(async move { answer(&upstream).await });
    received.notified().await;
    backends.replace([new.into()]).unwrap();
    release.notify_one();
    assert_eq!(request.await.unwrap(), "new");
}

#[tokio::test]
async fn no_request_fails_while_backends_are_replaced_under_load() {
    let ((one, _), (two, _)) = (static_backend("x").await, static_backend("x").await);
    let backends = backends(&[one]);
    let done = Arc::<AtomicUsize>::default();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (upstream, done) = (backends.upstream::<Body>(), Arc::clone(&done));
            tokio::spawn(async move {
                for _ in 0..100 {
                    assert_eq!(answer(&upstream).await, "x");
                    done.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    let mut replacements = 0;
    while done.load(SeqCst) < 1600 {
        let new = if replacements % 2 == 0 { two } else { one };
        backends.replace([new.into()]).unwrap().drained().await;
        replacements += 1;
        assert!(!clients.iter().any(|client| client.is_finished() && done.load(SeqCst) < 100));
        tokio::task::yield_now().await;
    }
    for client in clients {
        client.await.unwrap();
    }
    assert!(replacements > 10, "{replacements}");
}

#[tokio::test]
async fn health_checks_follow_the_replacement() {
    let checked = |is_healthy: bool| {
        let checks = Arc::<Notify>::default();
        let counted = Arc::clone(&checks);
        let serve = move |mut stream: TcpStream, _| {
            let checks = Arc::clone(&counted);
            async move {
                while read_head(&mut stream).await.is_some_and(|head| head.starts_with("GET /healthz")) {
                    let status = if is_healthy { "200 OK" } else { "500 Error" };
                    send(&mut stream, &format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
                    checks.notify_one();
                }
            }
        };
        async move { (backend(serve).await.0, checks) }
    };
    let ((old, old_checks), (new, new_checks)) = (checked(true).await, checked(false).await);
    let check = HealthCheck::new("/healthz").unwrap().interval(Duration::from_millis(5));
    let builder = Upstream::builder().backends([old.into()]).health_check(check);
    let backends = builder.build_backends().unwrap();
    let _checks = tokio::task::JoinSet::from_iter([backends.run_health_checks()]);
    old_checks.notified().await;
    backends.replace([new.into()]).unwrap();
    new_checks.notified().await;
    while backends.status()[0].is_healthy {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // At most one check of the removed backend was still in progress.
    let _ = tokio::time::timeout(Duration::from_millis(20), old_checks.notified()).await;
    tokio::time::timeout(Duration::from_millis(50), old_checks.notified()).await.unwrap_err();
}

#[tokio::test]
async fn rejects_a_replacement_without_backends() {
    let (old, _) = static_backend("old").await;
    let backends = backends(&[old]);
    let error = backends.replace([]).unwrap_err();
    assert_eq!(error.to_string(), "an upstream needs at least one backend");
    assert_eq!(answer(&backends.upstream()).await, "old");
}

#[tokio::test]
async fn first_backend_with_a_name_can_be_added_later() {
    let ((old, _), (new, _)) = (static_backend("old").await, static_backend("new").await);
    let backends = backends(&[old]);
    backends.replace([format!("localhost:{}", new.port()).parse().unwrap()]).unwrap();
    assert_eq!(answer(&backends.upstream()).await, "new");
}

#[tokio::test]
async fn probe_accepts_any_status_without_a_health_check() {
    let (probed, requests) = (Arc::<std::sync::Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
    let log = Arc::clone(&probed);
    let (address, _) = backend(move |mut stream, _| {
        let (log, requests) = (Arc::clone(&log), Arc::clone(&requests));
        async move {
            while let Some(head) = read_head(&mut stream).await {
                log.lock().unwrap().push(head.lines().next().unwrap().to_owned());
                let status = if requests.fetch_add(1, SeqCst) < 2 { "503 Not Yet" } else { "204 No Content" };
                send(&mut stream, &format!("HTTP/1.1 {status}\r\n\r\n")).await;
            }
        }
    })
    .await;
    let without = backends(&[unused_address().await]);
    without.probe(&address.into()).await.unwrap();
    let check = HealthCheck::new("/ready?full").unwrap();
    let builder = Upstream::builder().backends([unused_address().await.into()]).health_check(check);
    let with = builder.build_backends().unwrap();
    assert_eq!(with.probe(&address.into()).await.unwrap_err().to_string(), "status 503 Service Unavailable");
    with.probe(&address.into()).await.unwrap();
    assert_eq!(*probed.lock().unwrap(), ["GET / HTTP/1.1", "GET /ready?full HTTP/1.1", "GET /ready?full HTTP/1.1"]);
    let refused = without.probe(&unused_address().await.into()).await.unwrap_err().to_string();
    assert!(refused.contains("refused"), "{refused}");
}
