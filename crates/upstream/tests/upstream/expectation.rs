//! Requests with `Expect: 100-continue` (RFC 9110 §10.1.1).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use rproxy_upstream::{ExpectContinue, InterimRelay, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tower::ServiceExt;

/// The content `hello`, which records whether it was read.
struct Content {
    inner: Full<Bytes>,
    is_read: Arc<AtomicBool>,
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.is_read.store(true, Ordering::SeqCst);
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An upstream with one backend, and the state that the tests check.
struct Fixture {
    upstream: Upstream<Content>,
    connections: Arc<AtomicUsize>,
    is_read: Arc<AtomicBool>,
    /// The relayed interim responses, and whether the content had been read before.
    interim: Arc<Mutex<Vec<(u16, bool)>>>,
    /// The notification that an interim response was relayed.
    relayed: Arc<Notify>,
}

impl Fixture {
    /// Starts a backend that calls `serve` with each connection and with the notification that an interim response was
    /// relayed.
    async fn start<F>(handling: ExpectContinue, serve: impl Fn(TcpStream, Arc<Notify>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (connections, relayed) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
        let (counter, notification) = (Arc::clone(&connections), Arc::clone(&relayed));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&notification)));
            }
        });
        let builder = Upstream::builder().backend(&address).unwrap().expect_continue(handling);
        let upstream = builder.timeout(Duration::from_secs(20)).build().unwrap();
        Self { upstream, connections, is_read: Arc::default(), interim: Arc::default(), relayed }
    }

    async fn send(&self, method: Method) -> (StatusCode, Bytes) {
        self.is_read.store(false, Ordering::SeqCst);
        let (interim, is_read, relayed) =
            (Arc::clone(&self.interim), Arc::clone(&self.is_read), Arc::clone(&self.relayed));
        let relay: InterimRelay = Arc::new(move |head: Response<()>| {
            interim.lock().unwrap().push((head.status().as_u16(), is_read.load(Ordering::SeqCst)));
            relayed.notify_one();
        });
        let content = Content { inner: Full::from("hello"), is_read: Arc::clone(&self.is_read) };
        let request = Request::builder().method(method).uri("/").header("host", "a.example");
        let request = request.header("expect", "100-continue").extension(relay).body(content).unwrap();
        let response = self.upstream.clone().oneshot(request).await.unwrap();
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn has_read_content(&self) -> bool {
        self.is_read.load(Ordering::SeqCst)
    }
}

/// Reads from a connection up to and including `end`. Returns `None` at the end of the connection.
async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<String> {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        read.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(read).unwrap())
}

async fn write(stream: &mut TcpStream, text: &str) -> Option<()> {
    stream.write_all(text.as_bytes()).await.ok()
}

const HEAD: &str = "/ HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";

#[tokio::test]
async fn content_is_sent_after_the_backend_has_sent_a_100() {
    let fixture = Fixture::start(ExpectContinue::Forward, async |mut stream, relayed| {
        loop {
            assert_eq!(read_until(&mut stream, b"\r\n\r\n").await?, format!("POST {HEAD}"));
            // Another interim response does not release the content.
            write(&mut stream, "HTTP/1.1 103 Early Hints\r\n\r\n").await?;
            relayed.notified().await;
            write(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await?;
            relayed.notified().await;
            let content = read_until(&mut stream, b"hello").await?;
            write(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{content}")).await?;
        }
    })
    .await;
    for _ in 0..2 {
        assert_eq!(fixture.send(Method::POST).await, (StatusCode::OK, "hello".into()));
    }
    assert_eq!(fixture.connections(), 1);
    assert_eq!(*fixture.interim.lock().unwrap(), [(103, false), (100, false), (103, false), (100, false)]);
}

#[tokio::test]
async fn content_is_not_sent_after_a_final_response_and_the_connection_is_closed() {
    for status in ["200 OK", "401 Unauthorized", "417 Expectation Failed", "413 Content Too Large"] {
        let fixture = Fixture::start(ExpectContinue::Forward, move |mut stream, _| async move {
            read_until(&mut stream, b"\r\n\r\n").await?;
            write(&mut stream, &format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\nno\n")).await?;
            // The next bytes would be content or another request.
            assert_eq!(stream.read_u8().await.ok(), None);
            Some(())
        })
        .await;
        for sent in 1..=2 {
            let (code, body) = fixture.send(Method::POST).await;
            assert_eq!((code.as_str(), &*body), (&status[..3], &b"no\n"[..]));
            assert_eq!((fixture.connections(), fixture.has_read_content()), (sent, false), "{status}");
        }
    }
}

#[tokio::test]
async fn content_is_sent_after_one_second_without_a_response() {
    let fixture = Fixture::start(ExpectContinue::Forward, async |mut stream, _| {
        read_until(&mut stream, b"\r\n\r\n").await?;
        read_until(&mut stream, b"hello").await?;
        // Late, but allowed.
        write(&mut stream, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n").await
    })
    .await;
    let start = Instant::now();
    assert_eq!(fixture.send(Method::POST).await.0, StatusCode::NO_CONTENT);
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn expectation_is_removed_and_content_is_sent_at_once_with_answer() {
    let fixture = Fixture::start(ExpectContinue::Answer, async |mut stream, _| {
        let head = read_until(&mut stream, b"\r\n\r\n").await?;
        assert_eq!(head, "POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 5\r\n\r\n");
        read_until(&mut stream, b"hello").await?;
        write(&mut stream, "HTTP/1.1 204 No Content\r\n\r\n").await
    })
    .await;
    assert_eq!(fixture.send(Method::POST).await.0, StatusCode::NO_CONTENT);
    assert_eq!(fixture.interim.lock().unwrap().len(), 0);
}

// RFC 9110 §9.2.2
#[tokio::test]
async fn retries_an_idempotent_request_whose_content_was_not_sent() {
    for (method, first, status) in [
        (Method::PUT, "", StatusCode::NO_CONTENT),
        (Method::POST, "", StatusCode::BAD_GATEWAY),
        // The client has received a part of the response, and may have sent its content.
        (Method::PUT, "HTTP/1.1 100 Continue\r\n\r\n", StatusCode::BAD_GATEWAY),
    ] {
        let fixture = Fixture::start(ExpectContinue::Forward, move |mut stream, _| async move {
            // The connection is closed when its second request arrives.
            read_until(&mut stream, b"\r\n\r\n").await?;
            write(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await?;
            read_until(&mut stream, b"hello").await?;
            write(&mut stream, "HTTP/1.1 204 No Content\r\n\r\n").await?;
            read_until(&mut stream, b"\r\n\r\n").await?;
            write(&mut stream, first).await
        })
        .await;
        assert_eq!(fixture.send(method.clone()).await.0, StatusCode::NO_CONTENT);
        assert_eq!(fixture.connections(), 1);
        assert_eq!(fixture.send(method.clone()).await.0, status, "{method} {first:?}");
        let expected = if status == StatusCode::NO_CONTENT { 2 } else { 1 };
        assert_eq!(fixture.connections(), expected, "{method} {first:?}");
    }
}
