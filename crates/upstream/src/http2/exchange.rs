//! One request on one stream, up to the head of its response.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use tokio::time::Instant;

use super::download::{Download, Length};
use super::pool::Slot;
use super::upload::{Stop, Upload};
use crate::InterimRelay;
use crate::body::RequestBody;
use crate::deadline::{Deadline, Patience};
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::http1::{MOST_FIELDS, MOST_INTERIM, Malformed, content_length, is_bodiless};

/// A request that got no response.
pub(crate) enum SendError {
    /// The backend has not processed the request (RFC 9113 §6.8, §8.7).
    Unprocessed { why: Unprocessed, error: ProxyError },
    /// The connection or the stream ended before the response head did.
    Ended { is_stream: bool, error: ProxyError },
    /// Another failure, which another connection would not mend.
    Failed(ProxyError),
}

/// How it is known that a request was not processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unprocessed {
    /// Nothing of it was sent.
    Unsent,
    /// GOAWAY with a lower stream id.
    GoAway,
    /// REFUSED_STREAM.
    Refused,
    /// HTTP_1_1_REQUIRED.
    NeedsHttp1,
}

/// Sends `request` and waits for the head of its response. A request that was not processed is whole again, unless too
/// much of its body was taken. After an interim response it counts as processed.
pub(crate) async fn send<B>(
    slot: Slot,
    request: &mut Request<RequestBody<B>>,
    patience: Patience,
) -> Result<Response<Box<Download>>, SendError>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let is_empty = request.body().is_end_stream();
    let head = head(request);
    let mut sender = slot.connection.sender.clone();
    let (sent, received) = (slot.connection.traffic.sent(), slot.connection.traffic.received());
    let opened = slot.connection.traffic.observe(|| {
        let (response, stream) = sender.send_request(head, is_empty)?;
        Ok((stream.stream_id().as_u32(), (response, stream)))
    });
    let (watch, (response, stream)) = match opened {
        Ok(opened) => opened,
        Err(error) => return Err(unopened(&slot, error)),
    };
    // It counts among the references that keep the connection open.
    drop(sender);
    let body = std::mem::replace(request.body_mut(), RequestBody::empty());
    let upload = (!is_empty).then(|| Upload::new(stream, body, slot.reservation.clone()));
    let relay = request.extensions().get::<InterimRelay>();
    let mut exchange = Exchange { upload, response, relay, interim: 0, patience, deadline: Deadline::new() };
    exchange.deadline.set(Instant::now() + patience.head);
    let failure = match poll_fn(|cx| exchange.poll(cx)).await {
        Ok(response) => match check_head(response, request.method()) {
            Ok((response, length)) => {
                let mut upload = exchange.upload;
                if let Some(upload) = &mut upload {
                    upload.forget();
                }
                return Ok(response.map(|recv| Box::new(Download::new(recv, length, upload, watch, slot, patience))));
            }
            Err(malformed) => Failure::Malformed(malformed),
        },
        Err(failure) => failure,
    };
    let error = match failure {
        // The client has a part of the response already.
        Failure::Stream(error) if exchange.interim > 0 => return Err(SendError::Failed(super::failed(error))),
        Failure::Stream(error) => error,
        Failure::Malformed(malformed) => {
            return Err(SendError::Failed(ProxyError::caused(ProxyErrorKind::HttpProtocolError, malformed)));
        }
        Failure::Body(error) => {
            return Err(SendError::Failed(ProxyError::caused(ProxyErrorKind::HttpRequestError, error)));
        }
        Failure::Late => {
            if slot.connection.traffic.received() == received {
                // The connection may be dead: over HTTP/1.1, too, it would serve nobody else.
                slot.drain();
            }
            return Err(SendError::Failed(ProxyError::new(ProxyErrorKind::HttpResponseTimeout)));
        }
    };
    let why = match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => Some(Unprocessed::Refused),
        Some(Reason::HTTP_1_1_REQUIRED) if error.is_remote() => Some(Unprocessed::NeedsHttp1),
        // h2 gives this error to streams above the last that the backend processes, and to no others.
        _ if error.is_go_away() && error.is_remote() => Some(Unprocessed::GoAway),
        _ if !error.is_remote() && slot.connection.traffic.sent() == sent => Some(Unprocessed::Unsent),
        _ => None,
    };
    let is_stream = error.is_reset();
    let is_ours = error.is_library();
    let error = super::failed(error);
    if let Some(why) = why {
        let body = match exchange.upload {
            Some(upload) => upload.into_body(),
            None => Some(RequestBody::empty()),
        };
        return Err(match body {
            Some(body) => {
                *request.body_mut() = body;
                SendError::Unprocessed { why, error }
            }
            None => SendError::Failed(error),
        });
    }
    // What the backend sent is not HTTP/2.
    if is_ours { Err(SendError::Failed(error)) } else { Err(SendError::Ended { is_stream, error }) }
}

/// The stream could not be opened.
fn unopened(slot: &Slot, error: h2::Error) -> SendError {
    // GOAWAY, a connection that has ended, or one that has no stream ids left (RFC 9113 §5.1.1).
    let ready = slot.connection.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
    if error.is_go_away() || error.is_io() || matches!(ready, Poll::Ready(Err(_))) {
        slot.drain();
        return SendError::Unprocessed { why: Unprocessed::Unsent, error: super::failed(error) };
    }
    SendError::Failed(ProxyError::caused(ProxyErrorKind::HttpRequestError, error))
}

/// The head of `request` as HTTP/2 has it (RFC 9113 §8.2.2).
fn head<B: Body + Unpin>(request: &Request<RequestBody<B>>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = Version::HTTP_2;
    // Kept for another connection.
    let mut headers = request.headers().clone();
    for name in [&CONNECTION, &KEEP_ALIVE, &PROXY_CONNECTION, &TRANSFER_ENCODING, &UPGRADE] {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        let has_trailers = headers.get_all(TE).iter().any(|value| has_trailers(value.as_bytes()));
        headers.remove(TE);
        if has_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    set_length(&mut headers, request);
    *head.headers_mut() = headers;
    head
}

fn has_trailers(line: &[u8]) -> bool {
    line.split(|&byte| byte == b',').any(|coding| {
        let name = coding.split(|&byte| byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"trailers")
    })
}

/// Says how long the body is, as it is, whatever the request claims.
fn set_length<B: Body + Unpin>(headers: &mut HeaderMap, request: &Request<RequestBody<B>>) {
    let body = request.body();
    if !body.is_end_stream() {
        match body.size_hint().exact() {
            Some(length) => headers.insert(CONTENT_LENGTH, HeaderValue::from(length)),
            None => headers.remove(CONTENT_LENGTH),
        };
        return;
    }
    // RFC 9110 §8.6: where content might be expected, it is said that there is none.
    let is_expected = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if headers.remove(CONTENT_LENGTH).is_some() || is_expected {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// A stream whose response head has not arrived.
struct Exchange<'a, B: Body> {
    upload: Option<Upload<B>>,
    response: ResponseFuture,
    relay: Option<&'a InterimRelay>,
    /// How many interim responses came.
    interim: u32,
    patience: Patience,
    deadline: Deadline,
}

enum Failure {
    Stream(h2::Error),
    Malformed(Malformed),
    Body(BoxError),
    Late,
}

impl<B> Exchange<'_, B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Failure>> {
        let mut awaits_body = false;
        if let Some(upload) = &mut self.upload {
            match upload.poll(cx) {
                // The response says why.
                Poll::Ready(Err(Stop::Backend)) => {}
                Poll::Ready(Err(Stop::Body(error))) => {
                    upload.abort();
                    return Poll::Ready(Err(Failure::Body(error)));
                }
                Poll::Ready(Ok(())) => {}
                Poll::Pending => awaits_body = upload.awaits_body(),
            }
            if upload.has_progressed() {
                self.deadline.set(Instant::now() + self.patience.head);
            }
        }
        // The work before the timer: a response that is there has come in time.
        if let Poll::Ready(response) = self.poll_response(cx) {
            return Poll::Ready(response);
        }
        // While the client has not sent all, the backend is not late.
        if !awaits_body && self.deadline.poll(cx).is_ready() {
            return Poll::Ready(Err(Failure::Late));
        }
        Poll::Pending
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Failure>> {
        while let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
            let interim = interim.map_err(Failure::Stream)?;
            self.interim += 1;
            // RFC 9110 §15.2: there may be any number of them, but not without end. HTTP/2 has no 101 (RFC 9113 §8.6).
            if interim.status() == StatusCode::SWITCHING_PROTOCOLS || self.interim > MOST_INTERIM {
                return Poll::Ready(Err(Failure::Malformed(UNASKED)));
            }
            if let Some(relay) = self.relay {
                relay(interim);
            }
        }
        Pin::new(&mut self.response).poll(cx).map_err(Failure::Stream)
    }
}

/// The response with a head that HTTP/1.1 could have had, too, and the length of its body where that is known.
fn check_head(
    mut response: Response<RecvStream>,
    method: &Method,
) -> Result<(Response<RecvStream>, Length), Malformed> {
    if response.headers().len() > MOST_FIELDS {
        return Err(Malformed("the response has too many fields"));
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UNASKED);
    }
    // How the backend was reached is no concern of the client's.
    *response.version_mut() = Version::HTTP_11;
    let length = content_length(response.headers_mut())?;
    if response.status() == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6: it has no length.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    let length = match length {
        _ if is_bodiless(response.status(), method) => Length::Bodiless,
        Some(length) => Length::Known(length),
        None => Length::Unknown,
    };
    Ok((response, length))
}

const UNASKED: Malformed = Malformed("the backend answers what nobody asked");
static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::Full;

    fn converted(method: Method, fields: &[(&'static str, &'static str)], content: &'static str) -> HeaderMap {
        let mut request = Request::new(RequestBody::new(Full::<Bytes>::from(content)));
        *request.method_mut() = method;
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        head(&request).headers().clone()
    }

    #[test]
    fn fields_of_the_connection_stay_behind_and_te_keeps_trailers_alone() {
        let fields = [
            ("connection", "te"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip, Trailers;q=0.5"),
            ("x-kept", "1"),
        ];
        let headers = converted(Method::GET, &fields, "");
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["te", "x-kept"]);
        assert_eq!(headers["te"], "trailers");
        assert!(!converted(Method::GET, &[("te", "gzip")], "").contains_key("te"));
    }

    #[test]
    fn content_length_is_that_of_the_body() {
        let length = |method, fields: &[_], content| {
            let headers = converted(method, fields, content);
            headers.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(length(Method::POST, &[("content-length", "9")], "abc").as_deref(), Some("3"));
        assert_eq!(length(Method::POST, &[], "").as_deref(), Some("0"));
        assert_eq!(length(Method::GET, &[("content-length", "9")], "").as_deref(), Some("0"));
        assert_eq!(length(Method::GET, &[], ""), None);
    }
}
