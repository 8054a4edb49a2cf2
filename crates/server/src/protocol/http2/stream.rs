//! The streams of an HTTP/2 connection: limits of request heads, and the send timeout of responses.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use http::header::COOKIE;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use rproxy_core::Rejection;
use tokio::time::{Instant, Sleep, sleep};

use super::activity::Activity;
use rproxy_core::RejectedHead;
use rproxy_http1::{HeadLimits, is_disguised_framing_field};

/// The service of an HTTP/2 connection, which checks the limits of request heads.
#[derive(Clone, Debug)]
pub(super) struct StreamService<S> {
    inner: S,
    activity: Arc<Activity>,
    limits: HeadLimits,
}

impl<S> StreamService<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>, limits: HeadLimits) -> Self {
        Self { inner, activity, limits }
    }

    /// Checks a request head against the limits that apply to HTTP/1.1, and returns the reason to reject it.
    fn rejection<B>(&self, request: &Request<B>) -> Option<RejectedHead> {
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.limits.target {
            return Some(RejectedHead::TargetTooLong);
        }
        let head = HeadSize::from_headers(request.headers());
        if head.fields > self.limits.fields || head.bytes + target > self.limits.size {
            return Some(RejectedHead::TooLarge);
        }
        let mut names = request.headers().keys();
        names.any(|name| is_disguised_framing_field(name.as_str().as_bytes())).then_some(RejectedHead::Framing)
    }
}

/// The size that the fields of a request head would have in HTTP/1.1.
#[derive(Debug, Default, PartialEq, Eq)]
struct HeadSize {
    bytes: usize,
    fields: usize,
}

impl HeadSize {
    fn from_headers(headers: &HeaderMap) -> Self {
        let mut size = Self::default();
        let mut has_cookie = false;
        for (name, value) in headers {
            // RFC 9113 §8.2.3: a client may split the cookie field into several, which count as one.
            if name == COOKIE && std::mem::replace(&mut has_cookie, true) {
                size.bytes += value.len() + "; ".len();
            } else {
                size.bytes += name.as_str().len() + value.len() + ": \r\n".len();
                size.fields += 1;
            }
        }
        size
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for StreamService<S>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<StreamBody<B>>;
    type Error = S::Error;
    type Future = StreamFuture<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.activity.count_request();
        if let Some(rejected) = self.rejection(&request) {
            request.extensions_mut().insert(rejected);
        }
        StreamFuture { inner: self.inner.call(request), activity: Some(Arc::clone(&self.activity)) }
    }
}

pin_project! {
    /// The response future of a stream, which counts requests that are rejected as invalid.
    pub(super) struct StreamFuture<F> {
        #[pin]
        inner: F,
        activity: Option<Arc<Activity>>,
    }
}

impl<F, B, E> Future for StreamFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<StreamBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let activity = this.activity.take();
        if let (Some(activity), Some(rejection)) = (&activity, response.extensions().get::<Rejection>())
            && rejection.is_malformed_head()
        {
            activity.charge_rejection();
        }
        Poll::Ready(Ok(response.map(|inner| StreamBody { inner, activity })))
    }
}

pin_project! {
    /// A response body that reports to the stream's task whether it returned data.
    pub(super) struct StreamBody<B> {
        #[pin]
        inner: B,
        activity: Option<Arc<Activity>>,
    }
}

impl<B: Body> Body for StreamBody<B> {
    type Data = B::Data;
    type Error = ResponseBodyFailed;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, ResponseBodyFailed>>> {
        let this = self.project();
        let polled = this.inner.poll_frame(cx);
        let data = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map(Buf::remaining),
            _ => None,
        };
        HAS_DATA.set(Some(data.is_some()));
        if let (Some(bytes), Some(activity)) = (data, this.activity) {
            activity.count_response_data(bytes);
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(|_| ResponseBodyFailed)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The error that hyper receives if reading the response body fails.
///
/// It has no source: from an HTTP/2 error of a backend, hyper would take the error code to reset the client's stream.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("response body failed")]
pub(super) struct ResponseBodyFailed;

thread_local! {
    /// Whether the response body polled last in the current task returned data. `None` if no body was polled.
    static HAS_DATA: Cell<Option<bool>> = const { Cell::new(None) };
}

/// An executor that runs each stream of a connection as a separate task.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor {
    activity: Arc<Activity>,
    send_timeout: Duration,
}

impl StreamExecutor {
    pub(super) fn new(activity: Arc<Activity>, send_timeout: Duration) -> Self {
        Self { activity, send_timeout }
    }
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, inner: F) {
        self.activity.stream_opened();
        let open = OpenStream(Arc::clone(&self.activity));
        tokio::spawn(StreamTask { inner, has_data: false, timer: None, send_timeout: self.send_timeout, _open: open });
    }
}

/// A guard that counts a stream as open until it is dropped.
#[derive(Debug)]
struct OpenStream(Arc<Activity>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.stream_closed();
    }
}

pin_project! {
    /// The task of a stream, with the send timeout.
    ///
    /// The task ends, which resets the stream, if the client opens no window for pending data in time.
    ///
    /// Only the body knows whether there is data, but it is not polled while the window is closed. So it stores that in
    /// `HAS_DATA` when it is polled.
    struct StreamTask<F> {
        #[pin]
        inner: F,
        has_data: bool,
        // Created when the stream first waits for its client, which is rare.
        timer: Option<Pin<Box<Sleep>>>,
        send_timeout: Duration,
        _open: OpenStream,
    }
}

impl<F> Future for StreamTask<F>
where
    F: Future<Output = ()>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        HAS_DATA.set(None);
        if this.inner.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let polled_body = HAS_DATA.take();
        *this.has_data = polled_body.unwrap_or(*this.has_data);
        if !*this.has_data {
            return Poll::Pending;
        }
        let timeout = *this.send_timeout;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if polled_body.is_some() {
            timer.as_mut().reset(Instant::now() + timeout);
        }
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn split_cookie_fields_count_as_one_field() {
        let head = |fields: &[(&str, &str)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()));
            HeadSize::from_headers(&fields.collect())
        };
        let joined = head(&[("a", "b"), ("cookie", "c=d; e=f; g")]);
        assert_eq!(joined, HeadSize { bytes: "a: b\r\ncookie: c=d; e=f; g\r\n".len(), fields: 2 });
        assert_eq!(head(&[("cookie", "c=d"), ("cookie", "e=f"), ("a", "b"), ("cookie", "g")]), joined);
        assert_eq!(head(&[("a", "b"), ("a", "c")]).fields, 2);
    }
}
