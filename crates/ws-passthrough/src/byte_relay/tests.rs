use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::frame_tracker::{GOING_AWAY, close_frame};

#[tokio::test(start_paused = true)]
async fn flushes_buffered_writes_while_the_source_is_idle() {
    let ((mut client, near), (far, mut upstream)) = (duplex(64), duplex(64));
    let timeouts = Timeouts { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    let mut relay = ByteRelay::new(BufStream::new(near), BufStream::new(far), timeouts, Tunnels::new());
    let exchange = async {
        client.write_all(b"ping").await.unwrap();
        assert_eq!(read(&mut upstream, 4).await, b"ping");
        upstream.write_all(b"pong").await.unwrap();
        assert_eq!(read(&mut client, 4).await, b"pong");
        Instant::now()
    };
    let begin = Instant::now();
    tokio::select! {
        () = &mut relay => panic!("the relay ended"),
        end = exchange => assert_eq!(end, begin),
    }
}

type TestRelay = (DuplexStream, DuplexStream, ByteRelay<DuplexStream, DuplexStream>);

/// Creates a client, an upstream and a byte relay between them. Each connection buffers `buffer` bytes.
fn relay(buffer: usize) -> TestRelay {
    let ((client, near), (far, upstream)) = (duplex(buffer), duplex(buffer));
    let timeouts = Timeouts { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    (client, upstream, ByteRelay::new(near, far, timeouts, Tunnels::new()))
}

/// Spawns a task that relays bytes between the client and the upstream. A message on the returned sender closes it.
fn run(
    mut relay: ByteRelay<DuplexStream, DuplexStream>,
) -> (tokio::sync::oneshot::Sender<()>, JoinHandle<TunnelSummary>) {
    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        let opened = Instant::now();
        let must_close = tokio::select! {
            biased;
            () = &mut relay => false,
            received = closed => received.is_ok(),
        };
        if must_close {
            let by = ClosedBy::Drain;
            relay.close(CloseCommand { by, code: GOING_AWAY, message_timeout: MESSAGE_TIMEOUT });
        }
        if !matches!(relay.phase, Phase::ShuttingDown { .. }) {
            (&mut relay).await;
        }
        relay.summary("/".into(), opened)
    });
    (close, running)
}

fn going_away(mask: Option<[u8; 4]>) -> Vec<u8> {
    close_frame(GOING_AWAY, mask)
}

const MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);

async fn read(socket: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// A WebSocket message in two unmasked fragments.
const FRAGMENTS: [&[u8]; 2] = [&[0x01, 3, b'o', b'n', b'e'], &[0x80, 2, b'!', b'!']];

#[tokio::test(start_paused = true)]
async fn sends_close_frame_after_the_message_in_progress_and_nothing_after_it() {
    let (mut client, mut upstream, relay) = relay(1024);
    let (close, running) = run(relay);
    upstream.write_all(FRAGMENTS[0]).await.unwrap();
    assert_eq!(read(&mut client, 5).await, FRAGMENTS[0]);
    close.send(()).unwrap();
    // No message is in progress to the upstream.
    let to_upstream = read(&mut upstream, 8).await;
    assert_eq!(to_upstream[..2], [0x88, 0x82]);
    let key = &to_upstream[2..6];
    assert_eq!([to_upstream[6] ^ key[0], to_upstream[7] ^ key[1]], 1001_u16.to_be_bytes());

    // The rest of the message, another message, which must be dropped, and the reply to the Close.
    let dropped = [0x82, 1, 9];
    upstream.write_all(&[FRAGMENTS[1], &dropped, &going_away(None)].concat()).await.unwrap();
    assert_eq!(read(&mut client, 4).await, FRAGMENTS[1]);
    assert_eq!(read(&mut client, 4).await, going_away(None));
    client.write_all(&going_away(Some([1, 2, 3, 4]))).await.unwrap();
    // Both have replied, so both connections are closed at once.
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
    let summary = running.await.unwrap();
    assert_eq!((summary.closed_by, summary.duration), (ClosedBy::Drain, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn waits_up_to_the_close_timeout_for_endpoints_that_do_not_reply() {
    let (mut client, mut upstream, relay) = relay(1024);
    let (close, running) = run(relay);
    close.send(()).unwrap();
    let (mut to_client, mut to_upstream) = (Vec::new(), Vec::new());
    client.read_to_end(&mut to_client).await.unwrap();
    upstream.read_to_end(&mut to_upstream).await.unwrap();
    assert_eq!((to_client, to_upstream.len()), (going_away(None), 8));
    assert_eq!(running.await.unwrap().duration, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn sends_no_second_close_frame_to_an_endpoint() {
    let (mut client, mut upstream, relay) = relay(1024);
    let (close, running) = run(relay);
    client.write_all(&going_away(Some([1; 4]))).await.unwrap();
    assert_eq!(read(&mut upstream, 8).await, going_away(Some([1; 4])));
    close.send(()).unwrap();
    assert_eq!(read(&mut client, 4).await, going_away(None));
    upstream.write_all(&going_away(None)).await.unwrap();
    assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(running.await.unwrap().closed_by, ClosedBy::Client);
}

#[tokio::test(start_paused = true)]
async fn closes_idle_tunnel_only_without_traffic_in_either_direction() {
    let (mut client, mut upstream, relay) = relay(1024);
    let (_close, running) = run(relay);
    let ping = [0x89, 0];
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(50)).await;
        upstream.write_all(&ping).await.unwrap();
        assert_eq!(read(&mut client, 2).await, ping);
    }
    assert_eq!(read(&mut client, 4).await, going_away(None));
    client.write_all(&going_away(Some([1; 4]))).await.unwrap();
    read(&mut upstream, 8).await;
    upstream.write_all(&going_away(None)).await.unwrap();
    let summary = running.await.unwrap();
    assert_eq!((summary.closed_by, summary.duration), (ClosedBy::IdleTimeout, Duration::from_secs(50 * 3 + 60)));
}

#[tokio::test(start_paused = true)]
async fn slow_reader_slows_the_sender_without_losing_bytes() {
    let (mut client, mut upstream, relay) = relay(64);
    let (close, running) = run(relay);
    let sent: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let mut written = 0;
    while let Ok(taken) = tokio::time::timeout(Duration::from_secs(1), client.write(&sent[written..])).await {
        written += taken.unwrap();
    }
    // Two connection buffers and one read.
    assert!(written <= 3 * 64, "{written}");
    let rest = sent.clone();
    tokio::spawn(async move {
        client.write_all(&rest[written..]).await.unwrap();
        client.shutdown().await.unwrap();
        client
    });
    let mut received = Vec::new();
    upstream.read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
    drop((upstream, close));
    assert_eq!(running.await.unwrap().bytes_from_client, 100_000);
}

#[tokio::test(start_paused = true)]
async fn closes_the_other_connection_when_an_endpoint_disconnects() {
    for (disconnects, time) in [(true, Duration::ZERO), (false, Duration::from_secs(5))] {
        let (client, mut upstream, relay) = relay(64);
        let (_close, running) = run(relay);
        drop(client);
        assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
        upstream.write_all(b"unread").await.unwrap();
        let upstream = (!disconnects).then_some(upstream);
        let summary = running.await.unwrap();
        assert_eq!((summary.closed_by, summary.duration), (ClosedBy::Client, time));
        drop(upstream);
    }
}

/// A socket whose reads succeed and whose writes fail, as after its peer has closed the connection.
#[derive(Debug)]
struct FailingWrites(DuplexStream);

impl AsyncRead for FailingWrites {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for FailingWrites {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn relays_pending_bytes_of_an_endpoint_whose_writes_fail() {
    let ((mut client, near), (far, mut upstream)) = (duplex(64), duplex(64));
    let timeouts = Timeouts { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    let running = tokio::spawn(ByteRelay::new(near, FailingWrites(far), timeouts, Tunnels::new()));
    // More than the client's connection buffers, while the client continues to send.
    let last: Vec<u8> = (0..200).collect();
    let (sent, received) = (last.clone(), async {
        client.write_all(b"more").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.write_all(b"and more").await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        client.shutdown().await.unwrap();
        received
    });
    let ((), received) = tokio::join!(
        async move {
            upstream.write_all(&sent).await.unwrap();
            drop(upstream);
        },
        received
    );
    assert_eq!(received, last);
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn message_in_progress_and_close_replies_have_separate_timeouts() {
    let (mut client, mut upstream, relay) = relay(1024);
    let (close, running) = run(relay);
    upstream.write_all(FRAGMENTS[0]).await.unwrap();
    close.send(()).unwrap();
    read(&mut upstream, 8).await;
    // Longer than the close timeout, but shorter than the message timeout.
    tokio::time::sleep(MESSAGE_TIMEOUT - Duration::from_secs(1)).await;
    upstream.write_all(FRAGMENTS[1]).await.unwrap();
    assert_eq!(read(&mut client, 9).await, FRAGMENTS.concat());
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, going_away(None));
    let summary = running.await.unwrap();
    assert_eq!(summary.duration, MESSAGE_TIMEOUT + Duration::from_secs(4));
    assert_eq!((summary.close_code(), summary.close_from_upstream), (Some(GOING_AWAY), None));
}

#[tokio::test(start_paused = true)]
async fn closes_a_connection_that_stays_open_after_both_endpoints_sent_close() {
    let (mut client, mut upstream, relay) = relay(64);
    let (_close, running) = run(relay);
    client.write_all(&close_frame(1000, Some([1; 4]))).await.unwrap();
    read(&mut upstream, 8).await;
    upstream.write_all(&close_frame(1000, None)).await.unwrap();
    drop(upstream);
    assert_eq!(read(&mut client, 4).await, close_frame(1000, None));
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    let summary = running.await.unwrap();
    assert_eq!((summary.closed_by, summary.close_code()), (ClosedBy::Client, Some(1000)));
    assert_eq!(summary.duration, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn drained_non_websocket_tunnel_stays_open_for_the_message_timeout() {
    for finishes in [true, false] {
        let (mut client, mut upstream, relay) = relay(1024);
        let (close, running) = run(relay.opaque());
        close.send(()).unwrap();
        tokio::time::sleep(MESSAGE_TIMEOUT - Duration::from_secs(1)).await;
        upstream.write_all(b"\x88\x00").await.unwrap();
        assert_eq!(read(&mut client, 2).await, b"\x88\x00");
        let (mut to_client, mut to_upstream) = (Vec::new(), Vec::new());
        if finishes {
            client.shutdown().await.unwrap();
            upstream.shutdown().await.unwrap();
        }
        client.read_to_end(&mut to_client).await.unwrap();
        upstream.read_to_end(&mut to_upstream).await.unwrap();
        assert!(to_client.is_empty() && to_upstream.is_empty());
        let summary = running.await.unwrap();
        assert_eq!((summary.closed_by, summary.close_code()), (ClosedBy::Drain, None));
        assert_eq!(summary.duration, MESSAGE_TIMEOUT - Duration::from_secs(u64::from(finishes)));
    }
}

/// A socket that records whether it was flushed and shut down. It can fail with a reset instead of waiting for bytes.
#[derive(Debug)]
struct RecordingSocket {
    socket: DuplexStream,
    resets: bool,
    calls: Arc<Mutex<Calls>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Calls {
    is_flushed: bool,
    is_shut_down: bool,
}

impl RecordingSocket {
    fn new(socket: DuplexStream, resets: bool) -> (Self, Arc<Mutex<Calls>>) {
        let calls = Arc::<Mutex<Calls>>::default();
        (Self { socket, resets, calls: Arc::clone(&calls) }, calls)
    }
}

impl AsyncRead for RecordingSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_read(cx, buf) {
            Poll::Pending if self.resets => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            polled => polled,
        }
    }
}

impl AsyncWrite for RecordingSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.calls.lock().unwrap().is_flushed = true;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.calls.lock().unwrap().is_shut_down = true;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn shuts_down_a_truncated_tunnel_cleanly_only_if_the_peer_can_detect_truncation() {
    let timeouts = Timeouts { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    for is_opaque in [true, false] {
        let ((_client, near), (far, _upstream)) = (duplex(64), duplex(64));
        let ((near, _), (far, calls)) = (RecordingSocket::new(near, true), RecordingSocket::new(far, false));
        let relay = ByteRelay::new(near, far, timeouts, Tunnels::new());
        if is_opaque {
            relay.opaque().await
        } else {
            relay.await
        };
        // A WebSocket without a Close is truncated even if its connection ends cleanly.
        let expected = Calls { is_flushed: is_opaque, is_shut_down: !is_opaque };
        assert_eq!(*calls.lock().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn relays_pending_bytes_of_a_reset_endpoint_while_the_other_endpoint_sends() {
    let ((mut client, near), (far, mut upstream)) = (duplex(64), duplex(64));
    upstream.write_all(b"last").await.unwrap();
    let (far, _) = RecordingSocket::new(far, true);
    let timeouts = Timeouts { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    let running = tokio::spawn(ByteRelay::new(near, far, timeouts, Tunnels::new()));
    // The relay must read all of it, because unread bytes would reset the connection.
    for _ in 0..100 {
        client.write_all(b"and more").await.unwrap();
    }
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"last");
    client.shutdown().await.unwrap();
    let begin = Instant::now();
    running.await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
}
