//! The transfer of the origin's response body to the store and to all clients of a shared fetch.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;

use crate::body::reader::BodyReader;
use crate::body::store_writer::StoreWriter;
use crate::coalesce::shared_fetch::{BodyTransfer, End, SharedFetch};

/// A transfer that reads the origin's response body for the clients of a shared fetch. The writer shares the chunks;
/// without one, they are shared with the leader only.
pub(crate) struct SharedTransfer<B> {
    reader: BodyReader<B>,
    writer: Option<StoreWriter>,
    has_ended: bool,
}

impl<B> SharedTransfer<B> {
    pub(crate) fn new(reader: BodyReader<B>, writer: StoreWriter) -> Self {
        Self { reader, writer: Some(writer), has_ended: false }
    }
}

impl<B> SharedTransfer<B>
where
    B: Body<Data = Bytes>,
    B::Error: Send + 'static,
{
    fn push(&mut self, data: Bytes, fetch: &SharedFetch) {
        let Some(mut writer) = self.writer.take() else {
            return fetch.update(|state| state.chunks.push(data));
        };
        if writer.push(&data) {
            return self.continue_with(writer);
        }
        // The body is too large. Dropping the writer releases the followers, and the leader reads on.
        drop(writer);
        fetch.update(|state| state.chunks.push(data));
    }

    fn push_trailers(&mut self, trailers: HeaderMap, fetch: &SharedFetch) {
        let writer = self.writer.take().and_then(|mut writer| writer.push_trailers(&trailers).then_some(writer));
        fetch.update(|state| state.trailers = Some(trailers));
        if let Some(writer) = writer {
            self.continue_with(writer);
        }
    }

    fn continue_with(&mut self, mut writer: StoreWriter) {
        writer.set_awaits_end(self.reader.awaits_end());
        if self.reader.is_end_stream() {
            writer.finish();
        } else {
            self.writer = Some(writer);
        }
    }
}

impl<B> BodyTransfer for SharedTransfer<B>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Send + 'static,
{
    fn poll_transfer(&mut self, fetch: &SharedFetch, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_ended {
            return Poll::Pending;
        }
        match ready!(self.reader.poll_piece(cx)) {
            Some(Ok(piece)) => match piece.into_frame().into_data() {
                Ok(data) => self.push(data, fetch),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.push_trailers(trailers, fetch);
                    }
                }
            },
            Some(Err(error)) => {
                self.has_ended = true;
                fetch.update(|state| state.end = Some(End::Failed(Some(Box::new(error)))));
                self.writer = None;
            }
            None => {
                self.has_ended = true;
                if let Some(writer) = self.writer.take() {
                    writer.finish();
                }
                fetch.update(|state| state.end = Some(End::Clean));
            }
        }
        Poll::Ready(())
    }

    fn awaits_end(&self) -> bool {
        !self.has_ended && self.writer.as_ref().is_some_and(StoreWriter::is_complete)
    }
}
