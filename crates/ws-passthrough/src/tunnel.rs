//! Bytes between a client and an upstream, for as long as both want it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use crate::direction::{Closing, Direction, Fault};
use crate::handshake::masking_key;
use crate::summary::{ClosedBy, TunnelSummary};

/// Two directions and a timer. Spawned, as it outlives the request that asked for it.
pub(crate) struct Tunnel<C, U> {
    client: C,
    upstream: U,
    inbound: Direction,
    outbound: Direction,
    phase: Phase,
    closed_by: Option<ClosedBy>,
    limits: Limits,
    last_move: Instant,
    timer: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) idle: Duration,
    /// How long the ends have to answer a Close of ours.
    pub(crate) close: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Open,
    /// We say Close to both ends, and wait for their answers.
    Closing {
        mask: [u8; 4],
    },
    /// Nothing more is read.
    Ending {
        client_shut: bool,
        upstream_shut: bool,
    },
}

impl<C, U> Tunnel<C, U> {
    pub(crate) fn new(client: C, upstream: U, limits: Limits) -> Self {
        Self {
            client,
            upstream,
            inbound: Direction::new(),
            outbound: Direction::new(),
            phase: Phase::Open,
            closed_by: None,
            limits,
            last_move: Instant::now(),
            timer: Box::pin(sleep(limits.idle)),
        }
    }

    /// Has both ends told at the end of the message that they are being sent.
    pub(crate) fn close(&mut self, by: ClosedBy) {
        if matches!(self.phase, Phase::Open) {
            self.closed_by.get_or_insert(by);
            self.phase = Phase::Closing { mask: masking_key() };
            self.timer.as_mut().reset(Instant::now() + self.limits.close);
        }
    }

    /// What became of it.
    pub(crate) fn summary(&self, path: Box<str>, opened: Instant) -> TunnelSummary {
        TunnelSummary {
            path,
            bytes_from_client: self.inbound.bytes(),
            bytes_from_upstream: self.outbound.bytes(),
            messages_from_client: self.inbound.messages(),
            messages_from_upstream: self.outbound.messages(),
            duration: opened.elapsed(),
            closed_by: self.closed_by.unwrap_or(ClosedBy::Client),
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Ending { client_shut: false, upstream_shut: false };
        self.timer.as_mut().reset(Instant::now() + self.limits.close);
    }
}

impl<C, U> Tunnel<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Moves bytes both ways. Ready when there is nothing left to do.
    fn poll_relay(&mut self, cx: &mut Context<'_>, mask: Option<[u8; 4]>) -> Poll<()> {
        let (to_upstream, to_client) =
            (mask.map(|key| Closing { mask: Some(key) }), mask.map(|_| Closing { mask: None }));
        let inbound = self.inbound.poll(cx, &mut self.client, &mut self.upstream, to_upstream);
        if self.inbound.source_closed() {
            self.closed_by.get_or_insert(ClosedBy::Client);
        }
        let outbound = self.outbound.poll(cx, &mut self.upstream, &mut self.client, to_client);
        if self.outbound.source_closed() {
            self.closed_by.get_or_insert(ClosedBy::Upstream);
        }
        if self.inbound.take_moved() | self.outbound.take_moved() {
            self.last_move = Instant::now();
        }
        let fault = match (inbound, outbound) {
            (Poll::Ready(Err(Fault::Source)), _) | (_, Poll::Ready(Err(Fault::Destination))) => Some(ClosedBy::Client),
            (Poll::Ready(Err(Fault::Destination)), _) | (_, Poll::Ready(Err(Fault::Source))) => {
                Some(ClosedBy::Upstream)
            }
            _ => None,
        };
        if let Some(by) = fault {
            self.closed_by.get_or_insert(by);
            return Poll::Ready(());
        }
        let settled = |direction: &Direction| match mask {
            Some(_) => direction.is_settled(),
            None => direction.is_shut(),
        };
        match settled(&self.inbound) && settled(&self.outbound) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Ends both connections in good order. An end that fails is one that ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Phase::Ending { client_shut, upstream_shut } = &mut self.phase else { return Poll::Pending };
        *client_shut = *client_shut || Pin::new(&mut self.client).poll_shutdown(cx).is_ready();
        *upstream_shut = *upstream_shut || Pin::new(&mut self.upstream).poll_shutdown(cx).is_ready();
        match *client_shut && *upstream_shut {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<C, U> Future for Tunnel<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            // The work before the timer.
            let done = match this.phase {
                Phase::Open => this.poll_relay(cx, None),
                Phase::Closing { mask } => this.poll_relay(cx, Some(mask)),
                Phase::Ending { .. } => this.poll_end(cx),
            };
            match (done, this.phase) {
                (Poll::Ready(()), Phase::Ending { .. }) => return Poll::Ready(()),
                (Poll::Ready(()), _) => {
                    this.end();
                    continue;
                }
                (Poll::Pending, _) => {}
            }
            if this.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match this.phase {
                Phase::Open => {
                    // Set anew only when it has run out, not with every byte.
                    let deadline = this.last_move + this.limits.idle;
                    match deadline <= Instant::now() {
                        true => this.close(ClosedBy::IdleTimeout),
                        false => this.timer.as_mut().reset(deadline),
                    }
                }
                Phase::Closing { .. } => this.end(),
                Phase::Ending { .. } => return Poll::Ready(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::frames::going_away;

    #[tokio::test(start_paused = true)]
    async fn what_an_end_holds_back_is_flushed_when_there_is_no_more() {
        let ((mut client, near), (far, mut upstream)) = (duplex(64), duplex(64));
        let limits = Limits { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
        let mut tunnel = Tunnel::new(BufStream::new(near), BufStream::new(far), limits);
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
        (client, upstream, Tunnel::new(near, far, limits))
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
                tunnel.close(ClosedBy::Drain);
            }
            if !matches!(tunnel.phase, Phase::Ending { .. }) {
                (&mut tunnel).await;
            }
            tunnel.summary("/".into(), opened)
        });
        (close, running)
    }

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
        let (client, mut upstream, tunnel) = tunnel(64);
        let (_close, running) = run(tunnel);
        drop(client);
        assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
        upstream.write_all(b"anybody there?").await.unwrap();
        let summary = running.await.unwrap();
        assert_eq!((summary.closed_by, summary.duration), (ClosedBy::Client, Duration::ZERO));
    }
}
