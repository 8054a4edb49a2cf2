use std::net::Ipv4Addr;

use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;
use crate::client_limits::ClientLimits;
use crate::config::PingConfig;
use crate::message::{MessageAction, WsMessage};
use crate::summary::ClosedBy;
use crate::tunnel_counts::TunnelCounts;
use crate::tunnels::Tunnels;

type Socket = WebSocketStream<DuplexStream>;

/// Spawns a message relay between two raw sockets that buffer 1024 bytes each.
fn relay(
    config: MessageConfig,
    rate: Option<u32>,
    (tunnels, counts): (&Tunnels, &TunnelCounts),
) -> (DuplexStream, DuplexStream, JoinHandle<TunnelSummary>) {
    let ((client, near), (far, upstream)) = (duplex(1024), duplex(1024));
    let timeouts = Timeouts { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    let rate = rate.and_then(NonZeroU32::new);
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let limits = ClientLimits { message_rate: rate, ..ClientLimits::default() };
    let guard = tunnels.open(|| counts.acquire(&[], Some(ip), None, &limits)).unwrap();
    let relayed = tokio::spawn(async move {
        let relay = MessageRelay::new(near, far, &config, timeouts).await;
        let info = HandshakeInfo { path: "/live".into(), ip: Some(ip), opened: Instant::now() };
        relay.run(&guard, None, rate, info).await
    });
    (client, upstream, relayed)
}

async fn connect(config: MessageConfig) -> (Socket, Socket, JoinHandle<TunnelSummary>) {
    let (client, upstream, relayed) = relay(config, None, (&Tunnels::new(), &TunnelCounts::default()));
    (as_client(client).await, as_server(upstream).await, relayed)
}

async fn as_client(socket: DuplexStream) -> Socket {
    WebSocketStream::from_raw_socket(socket, Role::Client, None).await
}

async fn as_server(socket: DuplexStream) -> Socket {
    WebSocketStream::from_raw_socket(socket, Role::Server, None).await
}

async fn close_code(socket: &mut Socket) -> u16 {
    match socket.next().await {
        Some(Ok(Message::Close(Some(close)))) => close.code.into(),
        other => panic!("no Close: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn closes_idle_tunnel_and_counts_pings_as_activity() {
    let opened = Instant::now();
    let (mut client, mut upstream, relayed) = connect(MessageConfig::default()).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    upstream.send(Message::Ping("ping".into())).await.unwrap();
    assert_eq!(upstream.next().await.unwrap().unwrap(), Message::Pong("ping".into()));
    assert_eq!((close_code(&mut client).await, opened.elapsed()), (1001, Duration::from_secs(110)));
    assert_eq!(close_code(&mut upstream).await, 1001);
    drop((client, upstream));
    let summary = relayed.await.unwrap();
    assert_eq!((summary.closed_by, summary.close_code()), (ClosedBy::IdleTimeout, Some(1001)));
}

#[tokio::test(start_paused = true)]
async fn slow_message_counts_as_activity() {
    let (mut client, upstream, _relayed) =
        relay(MessageConfig::default(), None, (&Tunnels::new(), &TunnelCounts::default()));
    let mut upstream = as_server(upstream).await;
    client.write_all(&[0x82, 0x80 | 3, 0, 0, 0, 0]).await.unwrap();
    for byte in 1..=3 {
        tokio::time::sleep(Duration::from_secs(50)).await;
        client.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(upstream.next().await.unwrap().unwrap(), Message::binary(vec![1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_send_before_they_read_cause_no_deadlock() {
    let (client, upstream, relayed) = connect(MessageConfig::default()).await;
    let ((mut to_client, mut from_client), (mut to_upstream, mut from_upstream)) = (client.split(), upstream.split());
    let large = Message::binary(vec![7; 50_000]);
    let (sent, other_sent, received, other_received) = tokio::join!(
        to_client.send(large.clone()),
        to_upstream.send(large.clone()),
        from_client.next(),
        from_upstream.next(),
    );
    sent.and(other_sent).unwrap();
    assert!(received.unwrap().unwrap() == large && other_received.unwrap().unwrap() == large);
    drop((to_client, from_client));
    let last = from_upstream.next().await.unwrap().unwrap();
    assert!(last.is_close());
    drop((to_upstream, from_upstream));
    let summary = relayed.await.unwrap();
    assert_eq!(
        (summary.closed_by, summary.messages_from_client, summary.messages_from_upstream),
        (ClosedBy::Client, 1, 1)
    );
    // Including frame headers.
    assert_eq!(summary.bytes_from_upstream, 50_004);
}

#[tokio::test(start_paused = true)]
async fn closes_tunnel_if_an_endpoint_does_not_reply_to_a_ping() {
    let pings = PingConfig { interval: Duration::from_secs(20), timeout: Duration::from_secs(7) };
    let config = MessageConfig { pings: Some(pings), ..MessageConfig::default() };
    for client_stops in [true, false] {
        let opened = Instant::now();
        let (mut client, mut upstream, relayed) = connect(config.clone()).await;
        // An endpoint replies to pings only while its socket is read.
        let (stopped, alive) = if client_stops { (client, &mut upstream) } else { (upstream, &mut client) };
        assert!(matches!(alive.next().await, Some(Ok(Message::Ping(_)))));
        assert_eq!(opened.elapsed(), Duration::from_secs(20));
        assert_eq!(close_code(alive).await, if client_stops { 1001 } else { 1011 });
        assert_eq!(opened.elapsed(), Duration::from_secs(27));
        while alive.next().await.is_some() {}
        assert_eq!(relayed.await.unwrap().closed_by, ClosedBy::PongTimeout);
        drop(stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_tunnel_open_while_endpoints_reply_to_pings_in_time() {
    let pings = PingConfig { interval: Duration::from_secs(20), timeout: Duration::from_secs(7) };
    let (client, upstream, _relayed) = connect(MessageConfig { pings: Some(pings), ..MessageConfig::default() }).await;
    // The pong is sent while the socket is read.
    let read = |mut socket: Socket| async move {
        let mut pings = 0;
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Ping(_) => pings += 1,
                other => panic!("after {pings} pings: {other:?}"),
            }
        }
    };
    // Longer than the idle timeout, because pongs count as activity.
    timeout(Duration::from_secs(200), join(read(client), read(upstream))).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn message_rate_applies_to_all_tunnels_of_a_client() {
    let (tunnels, counts) = (Tunnels::new(), TunnelCounts::default());
    let config = MessageConfig::default();
    let (first, second) =
        (relay(config.clone(), Some(10), (&tunnels, &counts)), relay(config, Some(10), (&tunnels, &counts)));
    let (mut client, mut other) = (as_client(first.0).await, as_client(second.0).await);
    let (mut upstream, mut other_upstream) = (as_server(first.1).await, as_server(second.1).await);
    for _ in 0..8 {
        client.send(Message::text("x")).await.unwrap();
        upstream.next().await.unwrap().unwrap();
    }
    for _ in 0..2 {
        other.send(Message::text("x")).await.unwrap();
        other_upstream.next().await.unwrap().unwrap();
    }
    other.send(Message::text("excess")).await.unwrap();
    assert_eq!(close_code(&mut other).await, 1008);
    assert_eq!(close_code(&mut other_upstream).await, 1001);
    drop((other, other_upstream));
    let summary = second.2.await.unwrap();
    assert_eq!((summary.closed_by, summary.close_code()), (ClosedBy::ClientFault, Some(1008)));
    // The first tunnel stays open, and may send again a second later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.send(Message::text("x")).await.unwrap();
    assert_eq!(upstream.next().await.unwrap().unwrap(), Message::text("x"));
}

#[tokio::test(start_paused = true)]
async fn on_message_can_change_and_drop_messages_and_close_the_tunnel() {
    let config = MessageConfig {
        on_message: Some(Arc::new(|context, message| {
            assert_eq!((context.path, context.client), ("/live", Some(Ipv4Addr::LOCALHOST.into())));
            match (context.from, message) {
                (WsEndpoint::Client, WsMessage::Text(text)) => {
                    text.push('!');
                    MessageAction::Forward
                }
                (WsEndpoint::Client, WsMessage::Binary(_)) => MessageAction::Drop,
                (WsEndpoint::Upstream, WsMessage::Text(_)) => MessageAction::Forward,
                (WsEndpoint::Upstream, WsMessage::Binary(_)) => MessageAction::Close(4000),
            }
        })),
        ..MessageConfig::default()
    };
    let (mut client, mut upstream, relayed) = connect(config).await;
    client.send(Message::binary(vec![1])).await.unwrap();
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(upstream.next().await.unwrap().unwrap(), Message::text("hello!"));
    upstream.send(Message::text("hello")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("hello"));
    upstream.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!((close_code(&mut client).await, close_code(&mut upstream).await), (4000, 4000));
    drop((client, upstream));
    let summary = relayed.await.unwrap();
    assert_eq!((summary.closed_by, summary.close_code()), (ClosedBy::Hook, Some(4000)));
}

#[tokio::test(start_paused = true)]
async fn draining_completes_the_message_in_progress() {
    let (tunnels, counts) = (Tunnels::new(), TunnelCounts::default());
    let (client, upstream, relayed) = relay(MessageConfig::default(), None, (&tunnels, &counts));
    let (mut client, mut upstream) = (as_client(client).await, as_server(upstream).await);
    let large = Message::binary(vec![7; 10_000]);
    // The relay has read it, but the client does not read yet.
    upstream.send(large.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    tunnels.drain_within(Duration::from_secs(30));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(client.next().await.unwrap().unwrap() == large);
    assert_eq!(close_code(&mut client).await, 1001);
    assert_eq!(close_code(&mut upstream).await, 1001);
    drop((client, upstream));
    assert_eq!(relayed.await.unwrap().closed_by, ClosedBy::Drain);
}

#[tokio::test(start_paused = true)]
async fn forwards_close_frames_and_closes_the_connections() {
    for (code, upstream_closes) in [(Some(1000), false), (Some(4001), true), (None, false)] {
        let (mut client, mut upstream, relayed) = connect(MessageConfig::default()).await;
        let (from, to) = if upstream_closes { (&mut upstream, &mut client) } else { (&mut client, &mut upstream) };
        let frame = code.map(|code| tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: CloseCode::from(code),
            reason: "why".into(),
        });
        from.close(frame.clone()).await.unwrap();
        assert_eq!(to.next().await.unwrap().unwrap(), Message::Close(frame));
        let (from_end, to_end) = tokio::join!(from.next(), to.next());
        assert!(matches!(from_end, Some(Ok(Message::Close(_)))) && to_end.is_none());
        drop((client, upstream));
        let summary = relayed.await.unwrap();
        let by = if upstream_closes { ClosedBy::Upstream } else { ClosedBy::Client };
        assert_eq!((summary.closed_by, summary.close_code(), summary.duration), (by, code, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn max_frame_size_can_be_less_than_max_message_size() {
    let config = MessageConfig { max_frame: 10, max_message: 100, ..MessageConfig::default() };
    let (mut client, upstream, _relayed) = relay(config, None, (&Tunnels::new(), &TunnelCounts::default()));
    let mut upstream = as_server(upstream).await;
    let fragment =
        |first: u8, length: u8| [&[first, 0x80 | length, 0, 0, 0, 0][..], &vec![b'x'; length.into()]].concat();
    client.write_all(&[fragment(0x01, 10), fragment(0x80, 10)].concat()).await.unwrap();
    assert_eq!(upstream.next().await.unwrap().unwrap(), Message::text("x".repeat(20)));
    client.write_all(&fragment(0x81, 11)).await.unwrap();
    let mut close = [0; 4];
    client.read_exact(&mut close).await.unwrap();
    assert_eq!(close, [0x88, 2, 0x03, 0xf1]);
}
