//! A load of WebSocket messages that the backend echoes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinSet;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::{Tally, Target};

const TEXT: &str = "sixty-four bytes of text, the length of an ordinary chat message";

pub(super) async fn run(target: &Target, connections: usize, duration: Duration) -> Result<Tally> {
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..connections {
        clients.spawn(client(target.clone(), number, started + duration));
    }
    let mut requests = 0;
    while let Some(one) = clients.join_next().await {
        requests += one??;
    }
    Ok(Tally::new(requests, started.elapsed()))
}

/// Runs one WebSocket client until `end`. Returns the number of echoes.
async fn client(target: Target, number: usize, end: Instant) -> Result<u64> {
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let (stream, url) = (target.tcp(number).await?, target.public_url().replacen("http", "ws", 1));
    let (mut socket, _) = client_async_with_config(url, stream, Some(config)).await?;
    let mut messages = 0;
    while Instant::now() < end {
        socket.send(Message::text(TEXT)).await?;
        let echo = socket.next().await.context("closed")??;
        ensure!(echo == Message::text(TEXT), "the echo differs from the message");
        messages += 1;
    }
    socket.close(None).await?;
    Ok(messages)
}
