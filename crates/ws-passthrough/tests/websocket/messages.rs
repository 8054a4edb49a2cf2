//! Tests of message mode: size limits, message rates, pings and the `on_message` function.

use crate::proxy::{
    Client, connect, echo, field, handshake, proxy as serve, send, switching_protocols, text, upstream,
};
use futures_util::{SinkExt, StreamExt};
use rproxy_ws_passthrough::{ClosedBy, WsPassthroughLayer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::{Bytes, Message};

fn layer() -> WsPassthroughLayer {
    WsPassthroughLayer::new().max_message_size(1000)
}

async fn close_code(client: &mut Client) -> Option<CloseCode> {
    match client.next().await {
        Some(Ok(Message::Close(close))) => close.map(|close| close.code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn relays_messages_up_to_the_maximum_size_and_replies_to_pings() {
    let (sender, mut summaries) = mpsc::unbounded_channel();
    let layer = layer().on_close(move |summary| sender.send(summary.clone()).unwrap());
    let mut client = connect(serve(layer, echo().await).await).await;
    let fragment = |data, last| Message::Frame(Frame::message(Bytes::from_static(b"half"), OpCode::Data(data), last));
    for (sent, expected) in [
        (vec![Message::text("hello")], Message::text("hello")),
        (vec![Message::binary(vec![7; 1000])], Message::binary(vec![7; 1000])),
        (vec![fragment(Data::Text, false), fragment(Data::Continue, true)], Message::text("halfhalf")),
        (vec![Message::Ping(Bytes::from_static(b"ping"))], Message::Pong(Bytes::from_static(b"ping"))),
    ] {
        for message in sent {
            client.send(message).await.unwrap();
        }
        assert_eq!(client.next().await.unwrap().unwrap(), expected);
    }
    client.close(Some(CloseFrame { code: CloseCode::Library(4001), reason: "bye".into() })).await.unwrap();
    assert_eq!(close_code(&mut client).await, Some(CloseCode::Library(4001)));
    assert!(client.next().await.is_none());
    drop(client);
    let summary = summaries.recv().await.unwrap();
    assert_eq!((summary.messages_from_client, summary.messages_from_upstream), (3, 3));
    assert_eq!(summary.closed_by, ClosedBy::Client);
}

#[tokio::test]
async fn closes_the_tunnel_with_the_close_code_of_the_violation() {
    let invalid = text("\u{7f}", true).into_iter().map(|byte| byte ^ 0x80).skip(6);
    let invalid: Vec<u8> = [0x81, 0x81, 1, 2, 3, 4].into_iter().chain(invalid).collect();
    for (bytes, code) in [
        (text(&"x".repeat(1001), true), CloseCode::Size),
        (invalid, CloseCode::Invalid),
        (text("not masked", false), CloseCode::Protocol),
        (vec![0x83, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
    ] {
        let mut client = connect(serve(layer(), echo().await).await).await;
        client.get_mut().write_all(&bytes).await.unwrap();
        assert_eq!(close_code(&mut client).await, Some(code), "{bytes:?}");
        assert!(client.next().await.is_none());
    }
}

#[tokio::test]
async fn max_message_size_applies_to_all_fragments_together() {
    let mut client = connect(serve(layer(), echo().await).await).await;
    let fragment = |data, last| Message::Frame(Frame::message(vec![1; 600], OpCode::Data(data), last));
    client.send(fragment(Data::Binary, false)).await.unwrap();
    client.send(fragment(Data::Continue, false)).await.unwrap();
    assert_eq!(close_code(&mut client).await, Some(CloseCode::Size));
}

#[tokio::test]
async fn sends_1011_to_the_client_when_the_upstream_disconnects() {
    let upstream = upstream(async |head, mut socket| {
        socket.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
    });
    let mut client = connect(serve(layer(), upstream.await).await).await;
    assert_eq!(close_code(&mut client).await, Some(CloseCode::Error));
}

#[tokio::test]
async fn draining_closes_message_mode_tunnels_with_1001() {
    let layer = layer();
    let tunnels = layer.tunnels();
    let mut client = connect(serve(layer, echo().await).await).await;
    tunnels.drain();
    assert_eq!(close_code(&mut client).await, Some(CloseCode::Away));
    assert!(client.next().await.is_none());
    drop(client);
    tunnels.closed().await;
}

#[tokio::test]
async fn message_mode_neither_offers_nor_accepts_websocket_extensions() {
    for (chosen, status) in [("", 101), ("Sec-WebSocket-Extensions: permessage-deflate\r\n", 502)] {
        let upstream = upstream(async move |head, mut socket| {
            assert_eq!(field(&head, "sec-websocket-extensions"), None);
            let response = switching_protocols(&head).replace("\r\n\r\n", &format!("\r\n{chosen}\r\n"));
            socket.write_all(response.as_bytes()).await.unwrap();
            let _ = socket.read_u8().await;
        });
        let proxy = serve(layer(), upstream.await).await;
        let request = handshake(&[("sec-websocket-extensions", "permessage-deflate")]);
        let (head, _) = send(proxy, &request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
}
