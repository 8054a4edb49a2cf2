//! `/ws`: a WebSocket that echoes messages.

use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Either;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::{SiteBody, text};

pub(super) fn answer<B>(mut request: Request<B>) -> Response<SiteBody> {
    let Some(accept) = accept(&request) else {
        // RFC 6455 §4.2.2, §4.4
        let mut response = text(StatusCode::UPGRADE_REQUIRED, "this path only accepts WebSocket handshakes\n");
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    };
    tokio::spawn(serve(hyper::upgrade::on(&mut request)));
    let mut response = Response::new(Either::Left(Default::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Returns `Sec-WebSocket-Accept` for a valid handshake (RFC 6455 §4.2.1).
fn accept<B>(request: &Request<B>) -> Option<HeaderValue> {
    let headers = request.headers();
    let asked = *request.method() == Method::GET
        && lists(headers, CONNECTION, "upgrade")
        && lists(headers, UPGRADE, "websocket")
        && headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| asked)?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()
}

fn lists(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    let fields = headers.get_all(name).into_iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|token| token.trim().eq_ignore_ascii_case(wanted))
}

async fn serve(upgrade: OnUpgrade) {
    let outcome = match upgrade.await {
        Ok(upgraded) => echo(upgraded).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = outcome {
        tracing::debug!(error, "WebSocket of the demo site failed");
    }
}

async fn echo(upgraded: Upgraded) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    // The stream itself responds to pings and close frames while it is read.
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

const MESSAGE_LIMIT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_complete_websocket_handshakes() {
        // The example of RFC 6455 §1.3.
        let whole = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let request = |method: &str, fields: &[(&str, &str)]| {
            let request = Request::builder().method(method);
            fields.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
        };
        assert_eq!(accept(&request("GET", &whole)).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accept(&request("POST", &whole)).is_none());
        for missing in 0..whole.len() {
            let mut fields = whole.to_vec();
            let (name, _) = fields.remove(missing);
            assert!(accept(&request("GET", &fields)).is_none(), "without {name}");
        }
    }
}
