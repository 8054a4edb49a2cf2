//! The streams of a connection: limits of their heads, and whether their client takes their responses.

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
use tokio::time::{Instant, Sleep, sleep};

use super::activity::Activity;
use crate::RefusedHead;
use crate::RequestRefusal;
use crate::http1::{HeadLimits, is_disguised};

/// The service of a connection, as HTTP/2 sees it.
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

    /// Why the head is rejected: it is held to the same limits as an HTTP/1.1 head.
    fn refusal<B>(&self, request: &Request<B>) -> Option<RefusedHead> {
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.limits.target {
            return Some(RefusedHead::TargetTooLong);
        }
        let head = HeadSize::of(request.headers());
        if head.fields > self.limits.fields || head.bytes + target > self.limits.size {
            return Some(RefusedHead::TooLarge);
        }
        let mut names = request.headers().keys();
        names.any(|name| is_disguised(name.as_str().as_bytes())).then_some(RefusedHead::Framing)
    }
}

/// How large the fields of a head are in HTTP/1.1.
#[derive(Debug, Default, PartialEq, Eq)]
struct HeadSize {
    bytes: usize,
    fields: usize,
}

impl HeadSize {
    fn of(headers: &HeaderMap) -> Self {
        let mut size = Self::default();
        let mut has_cookie = false;
        for (name, value) in headers {
            // RFC 9113 §8.2.3: one field, which the client may have split into any number.
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
        if let Some(refused) = self.refusal(&request) {
            request.extensions_mut().insert(refused);
        }
        StreamFuture { inner: self.inner.call(request), activity: Some(Arc::clone(&self.activity)) }
    }
}

pin_project! {
    /// Waits for the response.
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
        if let (Some(activity), Some(refusal)) = (&activity, response.extensions().get::<RequestRefusal>())
            && refusal.is_malformed()
        {
            activity.charge_rejection();
        }
        Poll::Ready(Ok(response.map(|inner| StreamBody { inner, activity })))
    }
}

pin_project! {
    /// A response body that tells the task that sends it when there is something to send.
    pub(super) struct StreamBody<B> {
        #[pin]
        inner: B,
        activity: Option<Arc<Activity>>,
    }
}

impl<B: Body> Body for StreamBody<B> {
    type Data = B::Data;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BrokenOff>>> {
        let this = self.project();
        let polled = this.inner.poll_frame(cx);
        let data = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map(Buf::remaining),
            _ => None,
        };
        OWED.set(Some(data.is_some()));
        if let (Some(bytes), Some(activity)) = (data, this.activity) {
            activity.earn(bytes);
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(|_| BrokenOff)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response body has failed.
///
/// Without its cause: hyper would reset the stream with the error code of a backend's, as if the client had made the
/// error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("response body broken off")]
pub(super) struct BrokenOff;

thread_local! {
    /// What the body said that was polled last within the task that is being polled: whether it gave data to send.
    static OWED: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Runs the streams of one connection, each as a task.
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
        let open = Open(Arc::clone(&self.activity));
        tokio::spawn(StreamTask { inner, is_owed: false, timer: None, send_timeout: self.send_timeout, _open: open });
    }
}

/// Counts a task until it is dropped.
#[derive(Debug)]
struct Open(Arc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.stream_closed();
    }
}

pin_project! {
    /// One stream. It ends, and is reset by that, when there is data for a client that opens no window for it.
    ///
    /// Only the body can say that there is data, and it is not polled while there is no window: so it leaves word.
    struct StreamTask<F> {
        #[pin]
        inner: F,
        is_owed: bool,
        // Made when a stream waits for its client first, which most do not.
        timer: Option<Pin<Box<Sleep>>>,
        send_timeout: Duration,
        _open: Open,
    }
}

impl<F> Future for StreamTask<F>
where
    F: Future<Output = ()>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        OWED.set(None);
        if this.inner.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let said = OWED.take();
        *this.is_owed = said.unwrap_or(*this.is_owed);
        if !*this.is_owed {
            return Poll::Pending;
        }
        let timeout = *this.send_timeout;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if said.is_some() {
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
    fn cookie_crumbs_count_as_one_field() {
        let head = |fields: &[(&str, &str)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()));
            HeadSize::of(&fields.collect())
        };
        let joined = head(&[("a", "b"), ("cookie", "c=d; e=f; g")]);
        assert_eq!(joined, HeadSize { bytes: "a: b\r\ncookie: c=d; e=f; g\r\n".len(), fields: 2 });
        assert_eq!(head(&[("cookie", "c=d"), ("cookie", "e=f"), ("a", "b"), ("cookie", "g")]), joined);
        assert_eq!(head(&[("a", "b"), ("a", "c")]).fields, 2);
    }
}
