use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::frames::{GOING_AWAY, close};

#[tokio::test(start_paused = true)]
async fn what_an_end_holds_back_is_flushed_when_there_is_no_more() {
    let ((mut client, near), (far, mut upstream)) = (duplex(64), duplex(64));
    let limits = Limits { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    let mut tunnel = Tunnel::new(BufStream::new(near), BufStream::new(far), limits, Tunnels::new());
    let relayed = async {
        client.write_all(b"ping").await.unwrap();
        assert_eq!(read(&mut upstream, 4).await, b"ping");
        upstream.write_all(b"pong").await.unwrap();
        assert_eq!(read(&mut client, 4).await, b"pong");
        Instant::now()
    };
    let begin = Instant::now();
    tokio::select! {
        () = &mut tunnel => panic!("over too soon"),
        end = relayed => assert_eq!(end, begin),
    }
}

type Ends = (DuplexStream, DuplexStream, Tunnel<DuplexStream, DuplexStream>);

/// A client, an upstream, and the tunnel between; each has room for `room` bytes.
fn tunnel(room: usize) -> Ends {
    let ((client, near), (far, upstream)) = (duplex(room), duplex(room));
    let limits = Limits { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    (client, upstream, Tunnel::new(near, far, limits, Tunnels::new()))
}

/// Runs `tunnel`, closing it as soon as it is asked to.
fn run(
    mut tunnel: Tunnel<DuplexStream, DuplexStream>,
) -> (tokio::sync::oneshot::Sender<()>, JoinHandle<TunnelSummary>) {
    let (close, closing) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        let opened = Instant::now();
        let asked = tokio::select! {
            biased;
            () = &mut tunnel => false,
            asked = closing => asked.is_ok(),
        };
        if asked {
            tunnel.close(Ending { by: ClosedBy::Drain, code: GOING_AWAY, patience: PATIENCE });
        }
        if !matches!(tunnel.phase, Phase::Ending { .. }) {
            (&mut tunnel).await;
        }
        tunnel.summary("/".into(), opened)
    });
    (close, running)
}

fn going_away(mask: Option<[u8; 4]>) -> Vec<u8> {
    close(GOING_AWAY, mask)
}

const PATIENCE: Duration = Duration::from_secs(20);

async fn read(socket: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// A message of 5 bytes, in two fragments.
const FRAGMENTS: [&[u8]; 2] = [&[0x01, 3, b'o', b'n', b'e'], &[0x80, 2, b'!', b'!']];

#[tokio::test(start_paused = true)]
async fn a_message_is_sent_to_its_end_before_close_and_nothing_after() {
    let (mut client, mut upstream, tunnel) = tunnel(1024);
    let (close, running) = run(tunnel);
    upstream.write_all(FRAGMENTS[0]).await.unwrap();
    assert_eq!(read(&mut client, 5).await, FRAGMENTS[0]);
    close.send(()).unwrap();
    // The other way there is no message to wait for.
    let to_upstream = read(&mut upstream, 8).await;
    assert_eq!(to_upstream[..2], [0x88, 0x82]);
    let key = &to_upstream[2..6];
    assert_eq!([to_upstream[6] ^ key[0], to_upstream[7] ^ key[1]], 1001_u16.to_be_bytes());

    // The rest of the message, one more that is not wanted, and the answer to Close.
    let more = [0x82, 1, 9];
    upstream.write_all(&[FRAGMENTS[1], &more, &going_away(None)].concat()).await.unwrap();
    assert_eq!(read(&mut client, 4).await, FRAGMENTS[1]);
    assert_eq!(read(&mut client, 4).await, going_away(None));
    client.write_all(&going_away(Some([1, 2, 3, 4]))).await.unwrap();
    // Both have answered: over at once, and both hear it.
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
    let summary = running.await.unwrap();
    assert_eq!((summary.closed_by, summary.duration), (ClosedBy::Drain, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn ends_that_do_not_answer_have_until_the_close_timeout() {
    let (mut client, mut upstream, tunnel) = tunnel(1024);
    let (close, running) = run(tunnel);
    close.send(()).unwrap();
    let (mut to_client, mut to_upstream) = (Vec::new(), Vec::new());
    client.read_to_end(&mut to_client).await.unwrap();
    upstream.read_to_end(&mut to_upstream).await.unwrap();
    assert_eq!((to_client, to_upstream.len()), (going_away(None), 8));
    assert_eq!(running.await.unwrap().duration, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_has_closed_already_is_not_closed_twice() {
    let (mut client, mut upstream, tunnel) = tunnel(1024);
    let (close, running) = run(tunnel);
    client.write_all(&going_away(Some([1; 4]))).await.unwrap();
    assert_eq!(read(&mut upstream, 8).await, going_away(Some([1; 4])));
    close.send(()).unwrap();
    assert_eq!(read(&mut client, 4).await, going_away(None));
    upstream.write_all(&going_away(None)).await.unwrap();
    assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(running.await.unwrap().closed_by, ClosedBy::Client);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_tunnel_and_a_byte_either_way_is_none() {
    let (mut client, mut upstream, tunnel) = tunnel(1024);
    let (_close, running) = run(tunnel);
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
async fn a_slow_reader_slows_the_sender_down() {
    let (mut client, mut upstream, tunnel) = tunnel(64);
    let (close, running) = run(tunnel);
    let sent: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let mut written = 0;
    while let Ok(taken) = tokio::time::timeout(Duration::from_secs(1), client.write(&sent[written..])).await {
        written += taken.unwrap();
    }
    // What the two pipes hold, and one read.
    assert!(written <= 3 * 64, "{written}");
    // Nor does it lose a byte, nor the order.
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
async fn an_end_that_is_gone_takes_the_other_with_it() {
    for (hangs_up, time) in [(true, Duration::ZERO), (false, Duration::from_secs(5))] {
        let (client, mut upstream, tunnel) = tunnel(64);
        let (_close, running) = run(tunnel);
        drop(client);
        assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
        upstream.write_all(b"anybody there?").await.unwrap();
        let upstream = (!hangs_up).then_some(upstream);
        let summary = running.await.unwrap();
        assert_eq!((summary.closed_by, summary.duration), (ClosedBy::Client, time));
        drop(upstream);
    }
}

/// A socket that takes nothing, as one whose other end has closed it, and still has something to give.
#[derive(Debug)]
struct Deaf(DuplexStream);

impl AsyncRead for Deaf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Deaf {
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
async fn the_last_words_of_an_end_that_takes_no_more_arrive() {
    let ((mut client, near), (far, mut upstream)) = (duplex(64), duplex(64));
    let limits = Limits { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    let running = tokio::spawn(Tunnel::new(near, Deaf(far), limits, Tunnels::new()));
    // More than the client's socket has room for, while the client goes on sending.
    let last: Vec<u8> = (0..200).collect();
    let (said, heard) = (last.clone(), async {
        client.write_all(b"more").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.write_all(b"and more").await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        client.shutdown().await.unwrap();
        heard
    });
    let ((), heard) = tokio::join!(
        async move {
            upstream.write_all(&said).await.unwrap();
            drop(upstream);
        },
        heard
    );
    assert_eq!(heard, last);
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_under_way_has_its_time_and_the_answers_have_theirs() {
    let (mut client, mut upstream, tunnel) = tunnel(1024);
    let (close, running) = run(tunnel);
    upstream.write_all(FRAGMENTS[0]).await.unwrap();
    close.send(()).unwrap();
    read(&mut upstream, 8).await;
    // Longer than an answer may take, but not than there is patience.
    tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
    upstream.write_all(FRAGMENTS[1]).await.unwrap();
    assert_eq!(read(&mut client, 9).await, FRAGMENTS.concat());
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, going_away(None));
    let summary = running.await.unwrap();
    assert_eq!(summary.duration, PATIENCE + Duration::from_secs(4));
    assert_eq!((summary.close_code(), summary.close_from_upstream), (Some(GOING_AWAY), None));
}

#[tokio::test(start_paused = true)]
async fn after_both_have_said_close_an_end_that_stays_is_not_waited_for_long() {
    let (mut client, mut upstream, tunnel) = tunnel(64);
    let (_close, running) = run(tunnel);
    client.write_all(&close(1000, Some([1; 4]))).await.unwrap();
    read(&mut upstream, 8).await;
    upstream.write_all(&close(1000, None)).await.unwrap();
    drop(upstream);
    assert_eq!(read(&mut client, 4).await, close(1000, None));
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    let summary = running.await.unwrap();
    assert_eq!((summary.closed_by, summary.close_code()), (ClosedBy::Client, Some(1000)));
    assert_eq!(summary.duration, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn an_opaque_one_that_is_drained_goes_on_for_as_long_as_there_is_time_and_is_told_nothing() {
    for finishes in [true, false] {
        let (mut client, mut upstream, tunnel) = tunnel(1024);
        let (close, running) = run(tunnel.opaque());
        close.send(()).unwrap();
        tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
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
        assert_eq!(summary.duration, PATIENCE - Duration::from_secs(u64::from(finishes)));
    }
}

/// A socket that is reset where it would have nothing more to give, and remembers whether it was flushed and whether it
/// was shut down.
#[derive(Debug)]
struct Watched {
    socket: DuplexStream,
    resets: bool,
    seen: Arc<Mutex<(bool, bool)>>,
}

impl Watched {
    fn new(socket: DuplexStream, resets: bool) -> (Self, Arc<Mutex<(bool, bool)>>) {
        let seen = Arc::<Mutex<(bool, bool)>>::default();
        (Self { socket, resets, seen: Arc::clone(&seen) }, seen)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_read(cx, buf) {
            Poll::Pending if self.resets => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            polled => polled,
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seen.lock().unwrap().0 = true;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seen.lock().unwrap().1 = true;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_does_not_look_like_a_good_end_where_nothing_else_would_tell() {
    let limits = Limits { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    for is_opaque in [true, false] {
        let ((_client, near), (far, _upstream)) = (duplex(64), duplex(64));
        let ((near, _), (far, seen)) = (Watched::new(near, true), Watched::new(far, false));
        let tunnel = Tunnel::new(near, far, limits, Tunnels::new());
        if is_opaque {
            tunnel.opaque().await
        } else {
            tunnel.await
        };
        let (is_flushed, is_shut) = *seen.lock().unwrap();
        // A WebSocket without a Close has no good end, whatever its connection says.
        assert_eq!((is_flushed, is_shut), (is_opaque, !is_opaque));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_an_end_that_is_reset_arrive_though_the_other_goes_on_sending() {
    let ((mut client, near), (far, mut upstream)) = (duplex(64), duplex(64));
    upstream.write_all(b"last").await.unwrap();
    let (far, _) = Watched::new(far, true);
    let limits = Limits { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    let running = tokio::spawn(Tunnel::new(near, far, limits, Tunnels::new()));
    // Read to the end, so that nothing is left that would reset the connection.
    for _ in 0..100 {
        client.write_all(b"and more").await.unwrap();
    }
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"last");
    client.shutdown().await.unwrap();
    let begin = Instant::now();
    running.await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
}
