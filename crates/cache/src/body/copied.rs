//! A body that is copied into the store while one client reads it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, SizeHint};
use tokio::runtime::Handle;

use crate::body::error::NextFrame;
use crate::body::reader::{BodyPiece, BodyReader};
use crate::body::store_writer::StoreWriter;
use crate::coalesce::shared_fetch::END_TIMEOUT;

/// The origin's response body, which is copied into the store while a client reads it.
///
/// If the client leaves after the last byte, a background task waits for the end of the body.
pub(crate) struct CopiedBody<B> {
    copy: Option<Box<BodyCopy<B>>>,
    finish_in_background: fn(Box<BodyCopy<B>>),
}

struct BodyCopy<B> {
    reader: BodyReader<B>,
    writer: Option<StoreWriter>,
    /// Whether the copy includes the bytes that are already in the store.
    includes_stored: bool,
}

impl<B> CopiedBody<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send + 'static,
{
    pub(crate) fn new(reader: BodyReader<B>, writer: Option<StoreWriter>, includes_stored: bool) -> Self {
        let copy = Box::new(BodyCopy { reader, writer, includes_stored });
        Self { copy: Some(copy), finish_in_background: finish_in_background::<B> }
    }
}

impl<B> CopiedBody<B> {
    /// Whether the body is still being copied into the store.
    pub(crate) fn is_copied(&self) -> bool {
        self.copy.as_ref().is_some_and(|copy| copy.writer.is_some())
    }
}

impl<B> CopiedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Send + 'static,
{
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame<B>> {
        match &mut self.copy {
            Some(copy) => copy.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.copy.as_ref().is_none_or(|copy| copy.reader.is_end_stream())
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.copy.as_ref().map_or_else(|| SizeHint::with_exact(0), |copy| copy.reader.size_hint())
    }
}

impl<B> Drop for CopiedBody<B> {
    fn drop(&mut self) {
        let has_all_bytes = |copy: &BodyCopy<B>| copy.writer.as_ref().is_some_and(StoreWriter::is_complete);
        if let Some(copy) = self.copy.take().filter(|copy| has_all_bytes(copy)) {
            (self.finish_in_background)(copy);
        }
    }
}

fn finish_in_background<B>(mut copy: Box<BodyCopy<B>>)
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send + 'static,
{
    if let Ok(runtime) = Handle::try_current()
        && !std::thread::panicking()
    {
        runtime.spawn(async move {
            let end = std::future::poll_fn(|cx| {
                while copy.writer.is_some() {
                    if ready!(copy.poll_frame(cx)).is_none() {
                        break;
                    }
                }
                Poll::Ready(())
            });
            let _ = tokio::time::timeout(END_TIMEOUT, end).await;
        });
    }
}

impl<B> BodyCopy<B>
where
    B: Body<Data = Bytes>,
    B::Error: Send + 'static,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame<B>> {
        let piece = ready!(self.reader.poll_piece(cx));
        // The writer is put back only if the copy continues. The client gets the piece in any case.
        if let Some(mut writer) = self.writer.take() {
            let continues = match &piece {
                Some(Ok(BodyPiece::Stored(data))) => !self.includes_stored || writer.push(data),
                Some(Ok(BodyPiece::Origin(frame))) => match (frame.data_ref(), frame.trailers_ref()) {
                    (Some(data), _) => writer.push(data),
                    (None, Some(trailers)) => writer.push_trailers(trailers),
                    (None, None) => true,
                },
                Some(Err(_)) => false,
                None => true,
            };
            if continues {
                writer.set_awaits_end(self.reader.awaits_end());
            }
            if continues && (piece.is_none() || self.reader.is_end_stream()) {
                writer.finish();
            } else if continues {
                self.writer = Some(writer);
            }
        }
        Poll::Ready(piece.map(|piece| piece.map(BodyPiece::into_frame)))
    }
}
