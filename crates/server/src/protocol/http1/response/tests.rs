//! Tests of how a connection groups response head and body into writes, with a paused clock.

use std::convert::Infallible;
use std::pin::pin;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, duplex};
use tokio::time::{Instant, Sleep, sleep};

use super::*;
use crate::transport::HalfClose;

/// A response body with a single delayed frame.
struct DelayedBody {
    until: Pin<Box<Sleep>>,
    data: Option<Bytes>,
}

impl DelayedBody {
    fn new(delay: Duration) -> Self {
        Self { until: Box::pin(sleep(delay)), data: Some(Bytes::from_static(b"body")) }
    }
}

impl Body for DelayedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.until.as_mut().poll(cx));
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }
}

/// Returns the bytes of the client's first read, and the time until that read.
async fn first_read(delay: Duration, is_chunked: bool) -> (String, Duration) {
    let (near, mut far) = duplex(1024);
    let mut io = ClientIo::new(near, HalfClose::default());
    let mut client = Client { io: &mut io, content: None, awaits_upgrade: false, is_cancelled_by_close: true };
    let started = Instant::now();
    let sent = async {
        let (head, body) = (b"head|".to_vec(), pin!(DelayedBody::new(delay)));
        match is_chunked {
            true => send_chunked(&mut client, head, body, false).await,
            false => send_sized(&mut client, head, body, 4).await,
        }
    };
    let read = async {
        let mut bytes = [0; 64];
        let length = far.read(&mut bytes).await.unwrap();
        (String::from_utf8_lossy(&bytes[..length]).into_owned(), started.elapsed())
    };
    let (sent, read) = tokio::join!(sent, read);
    sent.unwrap();
    read
}

#[tokio::test(start_paused = true)]
async fn head_is_written_together_with_a_body_that_follows_within_2_ms() {
    let soon = Duration::from_millis(1);
    assert_eq!(first_read(soon, false).await, ("head|body".to_owned(), soon));
    assert_eq!(first_read(soon, true).await, ("head|4\r\nbody\r\n0\r\n\r\n".to_owned(), soon));
}

#[tokio::test(start_paused = true)]
async fn head_is_written_alone_if_the_body_follows_later() {
    for is_chunked in [false, true] {
        assert_eq!(first_read(Duration::from_secs(1), is_chunked).await, ("head|".to_owned(), FIRST_FRAME_WAIT));
    }
}
