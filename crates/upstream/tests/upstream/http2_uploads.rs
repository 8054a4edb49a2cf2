//! Uploads to HTTP/2 backends: an upload that the backend does not read must not block other uploads.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::http2_backend::{Action, Backend, Server, read};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use rproxy_upstream::{Upstream, UpstreamBody};
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// A request body in frames of at most 16 KiB.
struct Upload {
    left: u64,
    /// Whether the request declares the length of the body.
    has_length: bool,
    /// The number of bytes that the upstream has read from the body.
    taken: Arc<AtomicUsize>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.left.min(16 * 1024);
        self.left -= length;
        self.taken.fetch_add(length as usize, SeqCst);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(vec![b'x'; length as usize].into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.has_length { SizeHint::with_exact(self.left) } else { SizeHint::default() }
    }
}

async fn backend(server: Server) -> Backend {
    Backend::start(server, |request, _| match request.uri().path() {
        "/stalled" => Action::NoResponse,
        _ => Action::Respond("ok"),
    })
    .await
}

fn upstream(backend: &Backend) -> Upstream<Upload> {
    Upstream::builder().backend(&backend.origin()).unwrap().build().unwrap()
}

type Sending = JoinHandle<Response<UpstreamBody<Upload>>>;

fn send(upstream: &Upstream<Upload>, path: &str, left: u64, has_length: bool) -> (Sending, Arc<AtomicUsize>) {
    let taken = Arc::<AtomicUsize>::default();
    let body = Upload { left, has_length, taken: Arc::clone(&taken) };
    let request = Request::post(path).header("host", "a.example").body(body).unwrap();
    let sending = upstream.clone().oneshot(request);
    (tokio::spawn(async move { sending.await.unwrap() }), taken)
}

/// Waits until the upstream stops reading the uploads with these byte counters.
async fn wait_until_stalled(taken: &[Arc<AtomicUsize>]) {
    let total = || taken.iter().map(|taken| taken.load(SeqCst)).sum::<usize>();
    let (mut before, mut unchanged) = (0, 0);
    while unchanged < 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        unchanged = if total() == before && before > 0 { unchanged + 1 } else { 0 };
        before = total();
    }
}

async fn has_response(sending: Sending) -> bool {
    match tokio::time::timeout(Duration::from_secs(10), sending).await {
        Ok(response) => read(response.unwrap()).await.unwrap() == "ok",
        Err(_) => false,
    }
}

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn stalled_upload_does_not_block_later_uploads() {
    for has_length in [true, false] {
        let backend = backend(Server::default()).await;
        let upstream = upstream(&backend);
        let (_stalled, taken) = send(&upstream, "/stalled", 64 * MIB, has_length);
        wait_until_stalled(&[taken]).await;
        for length in [1, 1000, MIB] {
            for has_length in [true, false] {
                assert!(has_response(send(&upstream, "/", length, has_length).0).await, "{length} {has_length}");
            }
        }
        assert_eq!(backend.connections(), 2);
    }
}

#[tokio::test]
async fn stalled_uploads_do_not_block_concurrent_uploads() {
    for window in [65_535, 1 << 20] {
        let backend = backend(Server::default().connection_window(window)).await;
        let upstream = upstream(&backend);
        let mut others = Vec::new();
        let (mut stalled, mut taken) = (Vec::new(), Vec::new());
        for number in 0..40 {
            let (sending, bytes) = send(&upstream, "/stalled", 64 * MIB, number % 2 == 0);
            stalled.push(sending);
            taken.push(bytes);
            others.push(send(&upstream, "/", MIB, number % 3 == 0).0);
        }
        for sending in others {
            assert!(has_response(sending).await, "window {window}");
        }
        wait_until_stalled(&taken).await;
        assert!(has_response(send(&upstream, "/", MIB, false).0).await);
        assert!(backend.connections() <= 82, "{} connections", backend.connections());
    }
}

#[tokio::test]
async fn uploads_within_the_send_window_share_a_connection() {
    for has_length in [true, false] {
        let backend = backend(Server::default()).await;
        let upstream = upstream(&backend);
        let sending: Vec<_> = (0..60).map(|_| send(&upstream, "/", 1000, has_length).0).collect();
        for sending in sending {
            assert!(has_response(sending).await);
        }
        assert_eq!(backend.connections(), 1);
    }
    // The window of the connection is 16 times that of a stream.
    let backend = backend(Server::default().connection_window(1 << 20)).await;
    let upstream = upstream(&backend);
    let sending: Vec<_> = (0..16).map(|_| send(&upstream, "/stalled", MIB, true)).collect();
    wait_until_stalled(&sending.iter().map(|(_, taken)| Arc::clone(taken)).collect::<Vec<_>>()).await;
    assert!(backend.connections() <= 2, "{} connections", backend.connections());
}

#[tokio::test]
async fn uploads_share_the_send_window_if_no_other_connection_can_be_opened() {
    let backend = backend(Server::default().max_connections(1)).await;
    let upstream = upstream(&backend);
    let sending: Vec<_> = (0..20).map(|number| send(&upstream, "/", MIB, number % 2 == 0).0).collect();
    for sending in sending {
        assert!(has_response(sending).await);
    }
}
