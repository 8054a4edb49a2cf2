//! An exchange: the request of an HTTP/1.1 client, and the response of the service.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use http::{Request, Response, StatusCode};
use http_body::Body;
use rproxy_http1::{ResponseBodyFraming, ResponseContext, write_response_head, write_switching_protocols};
use tokio::sync::watch;
use tower_service::Service;

use super::interim::InterimResponses;
use super::request_content::ContentEvent;
use super::response::{Client, send_chunked, send_sized, send_until_close};
use crate::box_error::BoxError;
use crate::protocol::close_connection::CloseConnection;
use crate::protocol::request_body::RequestBody;
use crate::transport::client_socket::ClientSocket;

/// The state of the connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterResponse {
    /// The connection stays open for the next request.
    KeepAlive,
    /// The connection closes after the response.
    Close,
    /// The connection closes without a response to the request.
    Cancelled,
    /// The response 101 has been sent.
    Upgraded,
}

/// Calls the service with a request, and writes its response to the client.
// The future is boxed for each request, so it should be small: the inner scopes limit the lifetime of borrowed values, for
// which the future reserves space.
#[expect(clippy::manual_async_fn, reason = "an `async fn` would store its arguments twice in its future")]
pub(super) fn exchange<T, S, B>(
    mut client: Client<'_, T>,
    service: &mut S,
    request: Request<RequestBody>,
    mut context: ResponseContext,
    interim: &InterimResponses,
    draining: &watch::Receiver<bool>,
) -> impl Future<Output = Result<AfterResponse, BoxError>>
where
    T: ClientSocket,
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Error: Into<BoxError>>,
{
    async move {
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
        let response = {
            let mut response = pin!(service.call(request));
            loop {
                let next = poll_fn(|cx| {
                    client.begin_poll();
                    loop {
                        if let Poll::Ready(response) = response.as_mut().poll(cx) {
                            return Poll::Ready(Event::Response(response.map_err(Into::into)));
                        }
                        match client.poll_content(cx) {
                            Poll::Ready(ContentEvent::Read) => {}
                            Poll::Ready(ContentEvent::Continue) => {
                                return Poll::Ready(Event::Interim(interim.take_with_continue()));
                            }
                            Poll::Pending => break,
                        }
                    }
                    if client.is_closed(cx) {
                        return Poll::Ready(Event::Closed);
                    }
                    interim.poll(cx).map(Event::Interim)
                });
                match next.await {
                    Event::Response(response) => break response?,
                    Event::Interim(heads) => {
                        client.write(&heads, &[][..], b"").await?;
                        client.flush().await?;
                    }
                    Event::Closed => return Ok(AfterResponse::Cancelled),
                }
            }
        };
        if CloseConnection::applies_to(&response) {
            return Ok(AfterResponse::Cancelled);
        }
        let (head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS && client.awaits_upgrade {
            let mut out = interim.end();
            write_switching_protocols(&mut out, &head);
            client.write(&out, &[][..], b"").await?;
            client.flush().await?;
            return Ok(AfterResponse::Upgraded);
        }
        let body = pin!(body);
        let (out, framing, mut keep_alive) = {
            let head = head;
            if head.status.is_informational() {
                return Err("the service returned an interim response (1xx) as the final response".into());
            }
            // RFC 9112 §9.3: the next request is found only after all content of this one has been received.
            context.keep_alive &=
                !*draining.borrow() && client.can_send_next() && (!client.io.is_half_closed() || client.io.has_input());
            let mut out = interim.end();
            let (framing, keep_alive) = write_response_head(&mut out, &head, context, &body.size_hint());
            (out, framing, keep_alive)
        };
        match framing {
            ResponseBodyFraming::Empty => client.write(&out, &[][..], b"").await?,
            ResponseBodyFraming::Length(length) => send_sized(&mut client, out, body, length).await?,
            ResponseBodyFraming::Chunked => send_chunked(&mut client, out, body, context.takes_trailers).await?,
            ResponseBodyFraming::Close => send_until_close(&mut client, out, body).await?,
        }
        client.flush().await?;
        if client.content.is_some() {
            // Boxed, because it is rare.
            let finished = Box::pin(async {
                client.finish_content().await;
                keep_alive && client.discard_content().await
            });
            keep_alive = finished.await;
        }
        Ok(if keep_alive { AfterResponse::KeepAlive } else { AfterResponse::Close })
    }
}

/// An event that can occur while a request is in flight.
enum Event<B> {
    Response(Result<Response<B>, BoxError>),
    /// The serialised heads of interim responses.
    Interim(Vec<u8>),
    /// The client closed the connection.
    Closed,
}
