//! A WebSocket chat behind a proxy that limits connections and messages.
//!
//! ```sh
//! cargo run -p rproxy-examples --bin websocket-chat -- 127.0.0.1:8080
//! npx wscat -c ws://127.0.0.1:8080/chat          # in two terminals
//! ```

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rproxy_client_ip::{ClientIpLayer, TrustedProxies};
use rproxy_server::{RequestBody, Server};
use rproxy_upstream::Upstream;
use rproxy_ws_passthrough::WsPassthroughLayer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tower::ServiceBuilder;

const FIVE: NonZeroU32 = NonZeroU32::new(5).unwrap();

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());

    let chat = TcpListener::bind("127.0.0.1:0").await?;
    let backend = chat.local_addr()?.to_string();
    tokio::spawn(serve(chat));

    let sockets = WsPassthroughLayer::new()
        .paths("/chat".parse()?)
        // Three connections per client; messages of up to 4 KiB, five per second.
        .max_tunnels_per_client(3)
        .max_message_size(4 << 10)
        .message_rate(FIVE)
        // Detects clients that vanished without a Close.
        .ping(Duration::from_secs(30), Duration::from_secs(10))
        .on_close(|summary| eprintln!("{summary:?}"));
    let tunnels = sockets.tunnels();
    let backends = Upstream::builder().backend(&backend)?.build_backends()?;
    let server = Server::bind(address.parse()?).start(move |_worker| {
        ServiceBuilder::new()
            .layer(ClientIpLayer::new(TrustedProxies::none()))
            .layer(sockets.clone())
            // Each worker has its own connections; all share the health of the backend.
            .service(backends.upstream::<RequestBody>())
    })?;
    println!("listening on {}", server.local_addr().ok_or("no address")?);

    tokio::signal::ctrl_c().await?;
    server.handle().drain();
    // Each client gets a Close with code 1001 (going away), and time to respond.
    tunnels.drain();
    server.wait().await;
    tunnels.closed().await;
    Ok(())
}

/// The chat server, which is independent of the proxy.
async fn serve(listener: TcpListener) {
    let (room, _) = broadcast::channel(64);
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(member(socket, room.clone()));
    }
}

/// Broadcasts the messages of one chat member, and sends all messages to this member.
async fn member(socket: TcpStream, room: broadcast::Sender<Utf8Bytes>) -> Result<(), Error> {
    let (mut outgoing, mut incoming) = accept_async(socket).await?.split();
    let mut messages = room.subscribe();
    loop {
        tokio::select! {
            received = incoming.next() => match received.transpose()? {
                // An error means that the room has no members, which is fine.
                Some(Message::Text(text)) => drop(room.send(text)),
                Some(Message::Close(_)) | None => return Ok(()),
                Some(_) => {}
            },
            Ok(text) = messages.recv() => outgoing.send(Message::Text(text)).await?,
        }
    }
}
