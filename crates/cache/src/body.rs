//! The response body of the cache service.

pub(crate) mod copied;
pub(crate) mod error;
pub(crate) mod reader;
pub(crate) mod store_writer;

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use self::copied::CopiedBody;
use self::error::BodyError;
use self::reader::BodySource;
use self::store_writer::StoreWriter;
use crate::coalesce::shared_body::SharedBody;
use crate::coalesce::shared_fetch::Follower;
use crate::coalesce::transfer::SharedTransfer;

pin_project! {
    /// The response body of [`CacheService`](crate::CacheService).
    ///
    /// It is one of these:
    ///
    /// - the body of the inner service, copied into the store while it is read if the response can be stored;
    /// - the body of a coalesced fetch, which arrives for several clients at once;
    /// - a stored body, which is shared with the store and not copied.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Copied { body: CopiedBody<B> },
        Shared { body: SharedBody },
        Stored { rest: Bytes },
        StoredWithTrailers { rest: Bytes, trailers: Option<Box<HeaderMap>> },
        Segments { segments: std::vec::IntoIter<Bytes> },
    }
}

impl<B> ResponseBody<B> {
    /// Creates a body that forwards the body of the inner service unchanged.
    pub(crate) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    /// Creates a body from stored bytes.
    pub(crate) fn stored(bytes: Bytes) -> Self {
        Self { kind: Kind::Stored { rest: bytes } }
    }

    /// Creates a body from stored bytes and their stored trailer section.
    pub(crate) fn stored_with_trailers(bytes: Bytes, trailers: Option<&HeaderMap>) -> Self {
        let Some(trailers) = trailers else {
            return Self::stored(bytes);
        };
        Self { kind: Kind::StoredWithTrailers { rest: bytes, trailers: Some(Box::new(trailers.clone())) } }
    }

    /// Creates a body that consists of several byte segments.
    pub(crate) fn segments(segments: Vec<Bytes>) -> Self {
        Self { kind: Kind::Segments { segments: segments.into_iter() } }
    }

    /// Creates the response body of a follower of a shared fetch. `length` is the length of the whole body, if it is
    /// known.
    pub(crate) fn followed(follower: Follower, length: Option<u64>) -> Self {
        Self { kind: Kind::Shared { body: SharedBody::new(follower, false, length) } }
    }

    /// Whether the body is being copied into the store or shared with coalesced requests.
    pub(crate) fn is_copied(&self) -> bool {
        match &self.kind {
            Kind::Copied { body } => body.is_copied(),
            Kind::Shared { body } => body.is_shared(),
            Kind::Inner { .. } | Kind::Stored { .. } | Kind::StoredWithTrailers { .. } | Kind::Segments { .. } => false,
        }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B> ResponseBody<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send + 'static,
{
    /// Creates a body that `writer` copies into the store and shares with the followers of the fetch.
    pub(crate) fn copied(source: BodySource<B>, writer: Option<StoreWriter>) -> Self {
        match writer {
            // A server does not poll a body that has ended.
            Some(writer) if source.is_end_stream() => {
                writer.finish();
                Self::stored(Bytes::new())
            }
            Some(writer) => match writer.shared_fetch().cloned() {
                Some(fetch) => {
                    let length = writer.expected_length();
                    fetch.start_transfer(Box::new(SharedTransfer::new(source.into(), writer)));
                    Self { kind: Kind::Shared { body: SharedBody::new(Follower::new(&fetch), true, length) } }
                }
                None => Self { kind: Kind::Copied { body: CopiedBody::new(source.into(), Some(writer), true) } },
            },
            None => match source.into_unmixed() {
                Ok(body) => Self::inner(body),
                Err(source) => Self { kind: Kind::Copied { body: CopiedBody::new(source.into(), None, true) } },
            },
        }
    }

    /// Creates a body from which `writer` copies only the bytes that are not in the store yet.
    pub(crate) fn copied_without_stored(source: BodySource<B>, writer: Option<StoreWriter>) -> Self {
        Self { kind: Kind::Copied { body: CopiedBody::new(source.into(), writer, false) } }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Send + 'static,
{
    type Data = Bytes;
    type Error = BodyError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.project().kind.project() {
            KindProjection::Stored { rest } => {
                let rest = std::mem::take(rest);
                Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))))
            }
            KindProjection::StoredWithTrailers { rest, trailers } => {
                let rest = std::mem::take(rest);
                Poll::Ready(match rest.is_empty() {
                    false => Some(Ok(Frame::data(rest))),
                    true => trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))),
                })
            }
            KindProjection::Segments { segments } => Poll::Ready(segments.next().map(|data| Ok(Frame::data(data)))),
            KindProjection::Shared { body } => body.poll_frame(cx),
            KindProjection::Copied { body } => body.poll_frame(cx),
            KindProjection::Inner { body } => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(BodyError::Inner)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Stored { rest } => rest.is_empty(),
            Kind::StoredWithTrailers { rest, trailers } => rest.is_empty() && trailers.is_none(),
            Kind::Segments { segments } => segments.as_slice().is_empty(),
            Kind::Shared { body } => body.is_end_stream(),
            Kind::Copied { body } => body.is_end_stream(),
            Kind::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Stored { rest } => SizeHint::with_exact(rest.len() as u64),
            // Without an upper bound: HTTP/1.1 servers send a body of known length without trailers.
            Kind::StoredWithTrailers { rest, .. } => {
                let mut hint = SizeHint::default();
                hint.set_lower(rest.len() as u64);
                hint
            }
            Kind::Segments { segments } => {
                SizeHint::with_exact(segments.as_slice().iter().map(|segment| segment.len() as u64).sum())
            }
            Kind::Shared { body } => body.size_hint(),
            Kind::Copied { body } => body.size_hint(),
            Kind::Inner { body } => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Inner { .. } => "ResponseBody(inner)",
            Kind::Copied { .. } => "ResponseBody(inner, copied)",
            Kind::Shared { .. } => "ResponseBody(shared)",
            Kind::Stored { .. } | Kind::StoredWithTrailers { .. } | Kind::Segments { .. } => "ResponseBody(stored)",
        })
    }
}

/// Reads a body until it ends or is no longer copied into the store.
pub(crate) async fn read_to_end<B>(body: ResponseBody<B>)
where
    B: Body<Data = Bytes>,
    B::Error: Send + 'static,
{
    let mut body = pin!(body);
    while body.is_copied() {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
}
