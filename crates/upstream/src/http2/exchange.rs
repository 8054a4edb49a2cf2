//! The exchange of one request on one HTTP/2 stream, up to the response head.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use rproxy_http1::{InvalidResponseHead, MAX_RESPONSE_FIELDS, content_length, is_bodiless};
use tokio::time::Instant;

use super::download::{Download, Length};
use super::error::to_proxy_error;
use super::pool::StreamPermit;
use super::upload::{Upload, UploadError};
use crate::error::{BoxError, Malformed, ProxyError, ProxyErrorKind};
use crate::extensions::InterimRelay;
use crate::http1::MAX_INTERIM_RESPONSES;
use crate::request_body::RequestBody;
use crate::timeouts::{Deadline, Timeouts};

/// The failure of an HTTP/2 request that received no response.
pub(crate) enum SendError {
    /// The backend did not process the request (RFC 9113 §6.8, §8.7).
    Unprocessed { reason: UnprocessedReason, error: ProxyError },
    /// The connection or the stream was closed before the response head was received.
    Closed { is_stream_error: bool, error: ProxyError },
    /// The request failed for a reason that another connection would not resolve.
    Failed(ProxyError),
}

/// The reason that a request is known to be unprocessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnprocessedReason {
    /// No byte of the request was sent.
    Unsent,
    /// The backend sent GOAWAY with a lower stream identifier than that of the request.
    GoAway,
    /// The backend sent RST_STREAM with `REFUSED_STREAM`.
    Refused,
    /// The backend sent RST_STREAM or GOAWAY with `HTTP_1_1_REQUIRED`.
    NeedsHttp1,
}

/// Sends a request on an HTTP/2 stream, and waits for the response head.
///
/// A request that was not processed is complete again, unless too much of its body was read. After an interim response,
/// a request counts as processed.
pub(crate) async fn send<B>(
    permit: StreamPermit,
    request: &mut Request<RequestBody<B>>,
    timeouts: Timeouts,
) -> Result<Response<Box<Download>>, SendError>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let is_empty = request.body().is_end_stream();
    let head = head(request);
    let mut sender = permit.connection.sender.clone();
    let (sent, received) = (permit.connection.traffic.sent(), permit.connection.traffic.received());
    let opened = permit.connection.traffic.observe(|| {
        let (response, stream) = sender.send_request(head, is_empty)?;
        Ok((stream.stream_id().as_u32(), (response, stream)))
    });
    let (watch, (response, stream)) = match opened {
        Ok(opened) => opened,
        Err(error) => return Err(open_error(&permit, error)),
    };
    // The handle would keep the connection open.
    drop(sender);
    let body = std::mem::replace(request.body_mut(), RequestBody::empty());
    let upload = (!is_empty).then(|| Upload::new(stream, body, permit.reservation.clone()));
    let relay = request.extensions().get::<InterimRelay>();
    let mut exchange = Exchange { upload, response, relay, interim: 0, timeouts, deadline: Deadline::new() };
    exchange.deadline.set(Instant::now() + timeouts.response_head);
    let failure = match poll_fn(|cx| exchange.poll(cx)).await {
        Ok(response) => match check_head(response, request.method()) {
            Ok((response, length)) => {
                let mut upload = exchange.upload;
                if let Some(upload) = &mut upload {
                    upload.discard_replay();
                }
                return Ok(response.map(|recv| Box::new(Download::new(recv, length, upload, watch, permit, timeouts))));
            }
            Err(malformed) => Failure::Malformed(malformed),
        },
        Err(failure) => failure,
    };
    let error = match failure {
        // The client has received a part of the response.
        Failure::Stream(error) if exchange.interim > 0 => return Err(SendError::Failed(to_proxy_error(error))),
        Failure::Stream(error) => error,
        Failure::Malformed(malformed) => {
            return Err(SendError::Failed(ProxyError::caused(ProxyErrorKind::HttpProtocolError, malformed)));
        }
        Failure::Body(error) => {
            return Err(SendError::Failed(ProxyError::caused(ProxyErrorKind::HttpRequestError, error)));
        }
        Failure::Timeout => {
            if permit.connection.traffic.received() == received {
                // The connection may be dead. As over HTTP/1.1, it serves no further requests.
                permit.drain();
            }
            return Err(SendError::Failed(ProxyError::new(ProxyErrorKind::HttpResponseTimeout)));
        }
    };
    let reason = match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => Some(UnprocessedReason::Refused),
        Some(Reason::HTTP_1_1_REQUIRED) if error.is_remote() => Some(UnprocessedReason::NeedsHttp1),
        // h2 returns this error only for streams above the last stream id of GOAWAY.
        _ if error.is_go_away() && error.is_remote() => Some(UnprocessedReason::GoAway),
        _ if !error.is_remote() && permit.connection.traffic.sent() == sent => Some(UnprocessedReason::Unsent),
        _ => None,
    };
    let is_stream_error = error.is_reset();
    let is_library_error = error.is_library();
    let error = to_proxy_error(error);
    if let Some(reason) = reason {
        let body = match exchange.upload {
            Some(upload) => upload.into_body(),
            None => Some(RequestBody::empty()),
        };
        return Err(match body {
            Some(body) => {
                *request.body_mut() = body;
                SendError::Unprocessed { reason, error }
            }
            None => SendError::Failed(error),
        });
    }
    // A library error means that the backend's bytes are not valid HTTP/2.
    if is_library_error { Err(SendError::Failed(error)) } else { Err(SendError::Closed { is_stream_error, error }) }
}

/// Converts the error of a stream that could not be opened into a [`SendError`].
fn open_error(permit: &StreamPermit, error: h2::Error) -> SendError {
    // GOAWAY, a closed connection, or one without stream ids (RFC 9113 §5.1.1).
    let ready = permit.connection.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
    if error.is_go_away() || error.is_io() || matches!(ready, Poll::Ready(Err(_))) {
        permit.drain();
        return SendError::Unprocessed { reason: UnprocessedReason::Unsent, error: to_proxy_error(error) };
    }
    SendError::Failed(ProxyError::caused(ProxyErrorKind::HttpRequestError, error))
}

/// Creates the HTTP/2 head of a request, without connection-specific fields (RFC 9113 §8.2.2).
///
/// It is also without `Expect`: the content is sent at once, because the window of the stream limits it.
fn head<B: Body + Unpin>(request: &Request<RequestBody<B>>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = Version::HTTP_2;
    // The original fields are kept for a retry on another connection.
    let mut headers = request.headers().clone();
    for name in [&CONNECTION, &EXPECT, &KEEP_ALIVE, &PROXY_CONNECTION, &TRANSFER_ENCODING, &UPGRADE] {
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

/// Returns whether a `TE` field value contains `trailers`.
fn has_trailers(line: &[u8]) -> bool {
    line.split(|&byte| byte == b',').any(|coding| {
        let name = coding.split(|&byte| byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"trailers")
    })
}

/// Sets `Content-Length` to the actual length of the request body.
fn set_length<B: Body + Unpin>(headers: &mut HeaderMap, request: &Request<RequestBody<B>>) {
    let body = request.body();
    if !body.is_end_stream() {
        match body.size_hint().exact() {
            Some(length) => headers.insert(CONTENT_LENGTH, HeaderValue::from(length)),
            None => headers.remove(CONTENT_LENGTH),
        };
        return;
    }
    // RFC 9110 §8.6: `Content-Length: 0` for methods that expect content.
    let is_expected = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if headers.remove(CONTENT_LENGTH).is_some() || is_expected {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// A stream whose response head has not been received yet.
struct Exchange<'a, B: Body> {
    upload: Option<Upload<B>>,
    response: ResponseFuture,
    relay: Option<&'a InterimRelay>,
    /// The number of interim responses.
    interim: u32,
    timeouts: Timeouts,
    deadline: Deadline,
}

/// The reason for a missing response head.
enum Failure {
    Stream(h2::Error),
    Malformed(Malformed),
    Body(BoxError),
    Timeout,
}

impl<B> Exchange<'_, B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Failure>> {
        let mut awaits_body = false;
        if let Some(upload) = &mut self.upload {
            match upload.poll(cx) {
                // The response contains the reason.
                Poll::Ready(Err(UploadError::Backend)) => {}
                Poll::Ready(Err(UploadError::Body(error))) => {
                    upload.abort();
                    return Poll::Ready(Err(Failure::Body(error)));
                }
                Poll::Ready(Ok(())) => {}
                Poll::Pending => awaits_body = upload.awaits_body(),
            }
            if upload.take_progress() {
                self.deadline.set(Instant::now() + self.timeouts.response_head);
            }
        }
        // The work before the timer: a response that has arrived is in time.
        if let Poll::Ready(response) = self.poll_response(cx) {
            return Poll::Ready(response);
        }
        // The timeout does not apply while the client is sending the request body.
        if !awaits_body && self.deadline.poll(cx).is_ready() {
            return Poll::Ready(Err(Failure::Timeout));
        }
        Poll::Pending
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Failure>> {
        while let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
            let interim = interim.map_err(Failure::Stream)?;
            self.interim += 1;
            // RFC 9110 §15.2: any number of interim responses is allowed, so it is limited. HTTP/2 has no 101 (RFC
            // 9113 §8.6).
            if interim.status() == StatusCode::SWITCHING_PROTOCOLS || self.interim > MAX_INTERIM_RESPONSES {
                return Poll::Ready(Err(Failure::Malformed(Malformed::UnexpectedInterimResponse)));
            }
            if let Some(relay) = self.relay {
                relay(interim);
            }
        }
        Pin::new(&mut self.response).poll(cx).map_err(Failure::Stream)
    }
}

/// Checks a response head against the limits of HTTP/1.1, and returns the head with its body length.
fn check_head(
    mut response: Response<RecvStream>,
    method: &Method,
) -> Result<(Response<RecvStream>, Length), Malformed> {
    if response.headers().len() > MAX_RESPONSE_FIELDS {
        return Err(InvalidResponseHead::TooManyFields.into());
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Malformed::UnexpectedInterimResponse);
    }
    // The version of the backend connection is not visible to the client.
    *response.version_mut() = Version::HTTP_11;
    let length = content_length(response.headers_mut())?;
    if response.status() == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6: a 204 response has no `Content-Length`.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    let length = match length {
        _ if is_bodiless(response.status(), method) => Length::Bodiless,
        Some(length) => Length::Known(length),
        None => Length::Unknown,
    };
    Ok((response, length))
}

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
    fn removes_connection_specific_fields_and_reduces_te_to_trailers() {
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
    fn sets_content_length_to_the_actual_length_of_the_body() {
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
