//! Tests of the limits on origins, on the number of tunnels, and on their lifetime.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::proxy::{connect, echo, field, handshake, proxy as serve, send};
use futures_util::StreamExt;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rproxy_client_ip::ClientIp;
use rproxy_upstream::Upstream;
use rproxy_ws_passthrough::{ClosedBy, WsPassthroughLayer};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tower::{Layer, ServiceBuilder};

async fn status(proxy: SocketAddr, fields: &[(&str, &str)]) -> (u16, Option<String>, tokio::net::TcpStream) {
    let (head, socket) = send(proxy, &handshake(fields)).await;
    (head.split(' ').nth(1).unwrap().parse().unwrap(), field(&head, "retry-after"), socket)
}

/// Starts a proxy that reads the client's address from the header field `client`.
async fn serve_by_client(layer: WsPassthroughLayer, upstream: SocketAddr) -> SocketAddr {
    let upstream: Upstream<Incoming> =
        Upstream::builder().backend(&format!("http://{upstream}")).unwrap().build().unwrap();
    let set_client_ip = |mut request: Request<Incoming>| {
        let client: Option<IpAddr> = request.headers().get("client").map(|ip| ip.to_str().unwrap().parse().unwrap());
        if let Some(client) = client {
            request.extensions_mut().insert(ClientIp(client));
        }
        request
    };
    let service = ServiceBuilder::new().map_request(set_client_ip).service(layer.layer(upstream));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection_with_upgrades(TokioIo::new(socket), service).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn rejects_handshakes_of_origins_that_are_not_allowed_with_403() {
    let layer = WsPassthroughLayer::new().origins("https://app.example,self".parse().unwrap());
    let proxy = serve(layer, echo().await).await;
    for (fields, expected) in [
        (&[][..], 101),
        (&[("origin", "https://app.example")], 101),
        (&[("origin", "http://a.example")], 101),
        (&[("origin", "https://evil.example")], 403),
        (&[("origin", "null")], 403),
    ] {
        assert_eq!(status(proxy, fields).await.0, expected, "{fields:?}");
    }
}

#[tokio::test]
async fn rejects_tunnels_over_the_maximum_with_503() {
    let layer = WsPassthroughLayer::new().max_tunnels(2);
    let tunnels = layer.tunnels();
    let proxy = serve(layer, echo().await).await;
    let (first, _second) = (status(proxy, &[]).await, status(proxy, &[]).await);
    let (third, retry_after, _) = status(proxy, &[]).await;
    assert_eq!((third, retry_after.as_deref()), (503, Some("1")));
    // A rejected handshake does not count.
    assert_eq!(tunnels.open_count(), 2);
    drop(first);
    while tunnels.open_count() == 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(proxy, &[]).await.0, 101);
}

#[tokio::test]
async fn rejects_tunnels_over_the_maximum_per_client_with_429() {
    let layer = WsPassthroughLayer::new().max_tunnels_per_client(1);
    let proxy = serve_by_client(layer, echo().await).await;
    let mut open = Vec::new();
    for (client, expected) in [
        ("192.0.2.1", 101),
        ("192.0.2.1", 429),
        ("192.0.2.2", 101),
        ("2001:db8::1", 101),
        ("2001:db8::2", 429),
        ("2001:db8:0:1::1", 101),
        ("", 101),
        ("", 429),
    ] {
        let (status, retry_after, socket) = status(proxy, &[("client", client)]).await;
        assert_eq!((status, retry_after.is_some()), (expected, expected == 429), "{client:?}");
        open.push(socket);
    }
}

#[tokio::test]
async fn closes_tunnel_after_its_maximum_lifetime() {
    for layer in [WsPassthroughLayer::new(), WsPassthroughLayer::new().max_message_size(100)] {
        let (sender, summary) = tokio::sync::oneshot::channel();
        let sender = std::sync::Mutex::new(Some(sender));
        let layer = layer
            .max_lifetime(Duration::from_millis(50))
            .on_close(move |closed| sender.lock().unwrap().take().unwrap().send(closed.clone()).unwrap());
        let tunnels = layer.tunnels();
        let mut client = connect(serve(layer, echo().await).await).await;
        let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("no Close") };
        assert_eq!(close.code, CloseCode::Away);
        while let Some(Ok(_)) = client.next().await {}
        let summary = summary.await.unwrap();
        assert_eq!((summary.closed_by, summary.close_code()), (ClosedBy::Lifetime, Some(1001)));
        tunnels.closed().await;
        let stats = tunnels.stats();
        assert_eq!((stats.opened, stats.closed(ClosedBy::Lifetime), stats.closed(ClosedBy::Client)), (1, 1, 0));
    }
}
