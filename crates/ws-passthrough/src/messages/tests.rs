use std::net::Ipv4Addr;

use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;
use crate::clients::ClientLimits;
use crate::message::{Verdict, WsMessage};
use crate::summary::ClosedBy;
use crate::tunnels::Tunnels;

type Socket = WebSocketStream<DuplexStream>;

/// Relays between two raw sockets that have room for 1024 bytes each.
fn relay(
    settings: MessageSettings,
    rate: Option<u32>,
    tunnels: &Tunnels,
) -> (DuplexStream, DuplexStream, JoinHandle<TunnelSummary>) {
    let ((client, near), (far, upstream)) = (duplex(1024), duplex(1024));
    let limits = Limits { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
    let rate = rate.and_then(NonZeroU32::new);
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let open = tunnels.enter(Some(ip), None, &ClientLimits { messages: rate, ..ClientLimits::default() }).unwrap();
    let relayed = tokio::spawn(async move {
        let messages = Messages::new(near, far, &settings, limits).await;
        let about = About { path: "/live".into(), ip: Some(ip), opened: Instant::now() };
        messages.relay(&open, None, rate, about).await
    });
    (client, upstream, relayed)
}

async fn between(settings: MessageSettings) -> (Socket, Socket, JoinHandle<TunnelSummary>) {
    let (client, upstream, relayed) = relay(settings, None, &Tunnels::new());
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
async fn silence_ends_it_and_a_ping_is_none() {
    let opened = Instant::now();
    let (mut client, mut upstream, relayed) = between(MessageSettings::default()).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    upstream.send(Message::Ping("there?".into())).await.unwrap();
    assert_eq!(upstream.next().await.unwrap().unwrap(), Message::Pong("there?".into()));
    assert_eq!((close_code(&mut client).await, opened.elapsed()), (1001, Duration::from_secs(110)));
    assert_eq!(close_code(&mut upstream).await, 1001);
    drop((client, upstream));
    let summary = relayed.await.unwrap();
    assert_eq!((summary.closed_by, summary.close_code()), (ClosedBy::IdleTimeout, Some(1001)));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_takes_long_is_no_silence() {
    let (mut client, upstream, _relayed) = relay(MessageSettings::default(), None, &Tunnels::new());
    let mut upstream = as_server(upstream).await;
    client.write_all(&[0x82, 0x80 | 3, 0, 0, 0, 0]).await.unwrap();
    for byte in 1..=3 {
        tokio::time::sleep(Duration::from_secs(50)).await;
        client.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(upstream.next().await.unwrap().unwrap(), Message::binary(vec![1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn two_ends_that_both_send_before_they_read_do_not_wait_for_each_other() {
    let (client, upstream, relayed) = between(MessageSettings::default()).await;
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
    let gone = from_upstream.next().await.unwrap().unwrap();
    assert!(gone.is_close());
    drop((to_upstream, from_upstream));
    let summary = relayed.await.unwrap();
    assert_eq!(
        (summary.closed_by, summary.messages_from_client, summary.messages_from_upstream),
        (ClosedBy::Client, 1, 1)
    );
    // Frame headers included.
    assert_eq!(summary.bytes_from_upstream, 50_004);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_does_not_answer_a_ping_in_time_is_gone() {
    let pings = Pings { interval: Duration::from_secs(20), timeout: Duration::from_secs(7) };
    let settings = MessageSettings { pings: Some(pings), ..MessageSettings::default() };
    for client_stops in [true, false] {
        let opened = Instant::now();
        let (mut client, mut upstream, relayed) = between(settings.clone()).await;
        // Nobody reads at one end, so nobody answers.
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
async fn ends_that_answer_pings_stay() {
    let pings = Pings { interval: Duration::from_secs(20), timeout: Duration::from_secs(7) };
    let (client, upstream, _relayed) =
        between(MessageSettings { pings: Some(pings), ..MessageSettings::default() }).await;
    // An answer goes out while the socket is read.
    let read = |mut socket: Socket| async move {
        let mut pings = 0;
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Ping(_) => pings += 1,
                other => panic!("after {pings} pings: {other:?}"),
            }
        }
    };
    // Longer than the idle time: an answer is a sign of life.
    timeout(Duration::from_secs(200), join(read(client), read(upstream))).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_too_many_messages_is_told_so_in_whichever_tunnel() {
    let tunnels = Tunnels::new();
    let settings = MessageSettings::default();
    let (first, second) = (relay(settings.clone(), Some(10), &tunnels), relay(settings, Some(10), &tunnels));
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
    other.send(Message::text("one too many")).await.unwrap();
    assert_eq!(close_code(&mut other).await, 1008);
    assert_eq!(close_code(&mut other_upstream).await, 1001);
    drop((other, other_upstream));
    let summary = second.2.await.unwrap();
    assert_eq!((summary.closed_by, summary.close_code()), (ClosedBy::ClientFault, Some(1008)));
    // The first has done nothing wrong, and a second later may go on.
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.send(Message::text("x")).await.unwrap();
    assert_eq!(upstream.next().await.unwrap().unwrap(), Message::text("x"));
}

#[tokio::test(start_paused = true)]
async fn code_of_ones_own_sees_changes_drops_and_closes() {
    let settings = MessageSettings {
        judge: Some(Arc::new(|context, message| {
            assert_eq!((context.path, context.client), ("/live", Some(Ipv4Addr::LOCALHOST.into())));
            match (context.from, message) {
                (WsEnd::Client, WsMessage::Text(text)) => {
                    text.push('!');
                    Verdict::Pass
                }
                (WsEnd::Client, WsMessage::Binary(_)) => Verdict::Drop,
                (WsEnd::Upstream, WsMessage::Text(_)) => Verdict::Pass,
                (WsEnd::Upstream, WsMessage::Binary(_)) => Verdict::Close(4000),
            }
        })),
        ..MessageSettings::default()
    };
    let (mut client, mut upstream, relayed) = between(settings).await;
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
async fn draining_lets_the_message_that_is_on_its_way_out_arrive() {
    let tunnels = Tunnels::new();
    let (client, upstream, relayed) = relay(MessageSettings::default(), None, &tunnels);
    let (mut client, mut upstream) = (as_client(client).await, as_server(upstream).await);
    let large = Message::binary(vec![7; 10_000]);
    // Taken in whole, and stuck on the way to a client that does not read.
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
async fn a_close_is_passed_on_answered_and_then_the_connection_ends() {
    for (code, upstream_closes) in [(Some(1000), false), (Some(4001), true), (None, false)] {
        let (mut client, mut upstream, relayed) = between(MessageSettings::default()).await;
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
async fn a_frame_may_be_held_to_less_than_a_message() {
    let settings = MessageSettings { max_frame: 10, max_message: 100, ..MessageSettings::default() };
    let (mut client, upstream, _relayed) = relay(settings, None, &Tunnels::new());
    let mut upstream = as_server(upstream).await;
    let fragment =
        |first: u8, length: u8| [&[first, 0x80 | length, 0, 0, 0, 0][..], &vec![b'x'; length.into()]].concat();
    client.write_all(&[fragment(0x01, 10), fragment(0x80, 10)].concat()).await.unwrap();
    assert_eq!(upstream.next().await.unwrap().unwrap(), Message::text("x".repeat(20)));
    client.write_all(&fragment(0x81, 11)).await.unwrap();
    let mut said = [0; 4];
    client.read_exact(&mut said).await.unwrap();
    assert_eq!(said, [0x88, 2, 0x03, 0xf1]);
}
