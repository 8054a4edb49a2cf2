//! The body of a response with the content of a file.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::beneath::Waiting;

/// The maximum number of bytes in a frame.
const CHUNK: usize = 64 << 10;

/// The number of bytes after which other tasks of the worker run.
const YIELD_AFTER: u64 = 512 << 10;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A file, from which a body reads.
#[derive(Debug)]
struct Reading {
    source: Source,
    offset: u64,
    remaining: u64,
    since_yield: u64,
}

#[derive(Debug)]
enum Source {
    Idle(OwnedFd),
    /// A thread reads from the file.
    Busy(JoinHandle<(OwnedFd, io::Result<Bytes>)>),
    Closed,
}

/// The content of a file, a part of it, or a short text.
///
/// It is one pointer, which fits into the unused space of other bodies: responses are moved from layer to layer.
#[derive(Debug, Default)]
pub(crate) struct FileBody(Option<Box<Content>>);

#[derive(Debug)]
enum Content {
    Text(&'static str),
    Read(Bytes),
    Reading(Reading),
}

impl FileBody {
    /// Creates a body without content.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    pub(crate) fn text(text: &'static str) -> Self {
        Self(Some(Box::new(Content::Text(text))))
    }

    /// Creates a body of bytes that have been read.
    pub(crate) fn read(bytes: Bytes) -> Self {
        Self(Some(Box::new(Content::Read(bytes))))
    }

    /// Creates a body of the bytes from `start` up to, but not including, `end`, which are read while they are sent.
    pub(crate) fn reading(file: OwnedFd, start: u64, end: u64) -> Self {
        let remaining = end.saturating_sub(start);
        let reading = Reading { source: Source::Idle(file), offset: start, remaining, since_yield: 0 };
        Self((remaining > 0).then(|| Box::new(Content::Reading(reading))))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Some(content) = &mut self.0 else { return Poll::Ready(None) };
        let (result, is_end) = match &mut **content {
            Content::Text(text) => (Ok(Bytes::from_static(text.as_bytes())), true),
            Content::Read(bytes) => (Ok(std::mem::take(bytes)), true),
            Content::Reading(reading) => {
                let result = ready!(reading.poll_chunk(cx));
                let is_end = result.is_err() || reading.remaining == 0;
                (result, is_end)
            }
        };
        if is_end {
            self.0 = None;
        }
        Poll::Ready(Some(result))
    }

    fn remaining(&self) -> u64 {
        match self.0.as_deref() {
            None => 0,
            Some(Content::Text(text)) => text.len() as u64,
            Some(Content::Read(bytes)) => bytes.len() as u64,
            Some(Content::Reading(reading)) => reading.remaining,
        }
    }
}

impl Reading {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.since_yield >= YIELD_AFTER {
            self.since_yield = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = usize::try_from(self.remaining).map_or(CHUNK, |remaining| remaining.min(CHUNK));
        loop {
            match &mut self.source {
                Source::Closed => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Source::Idle(file) => match read_at(file, self.offset, length, Waiting::Never) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => match Handle::try_current() {
                        Ok(runtime) => self.start(&runtime, length),
                        Err(_) => {
                            let result = read_at(file, self.offset, length, Waiting::Allowed);
                            return Poll::Ready(self.advance(result));
                        }
                    },
                    result => return Poll::Ready(self.advance(result)),
                },
                Source::Busy(thread) => {
                    let (file, result) = match ready!(Pin::new(thread).poll(cx)) {
                        Ok(done) => done,
                        Err(error) => {
                            self.source = Source::Closed;
                            return Poll::Ready(Err(io::Error::other(error)));
                        }
                    };
                    self.source = Source::Idle(file);
                    return Poll::Ready(self.advance(result));
                }
            }
        }
    }

    /// Reads in a thread of the runtime's pool for blocking operations.
    fn start(&mut self, runtime: &Handle, length: usize) {
        let Source::Idle(file) = std::mem::replace(&mut self.source, Source::Closed) else { return };
        let offset = self.offset;
        self.source = Source::Busy(runtime.spawn_blocking(move || {
            let result = read_at(&file, offset, length, Waiting::Allowed);
            (file, result)
        }));
    }

    fn advance(&mut self, result: io::Result<Bytes>) -> io::Result<Bytes> {
        let bytes = result?;
        // The file has become shorter. The client must not take its content for complete.
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = bytes.len() as u64;
        self.offset += length;
        self.remaining = self.remaining.saturating_sub(length);
        self.since_yield += length;
        Ok(bytes)
    }
}

/// Reads at most `length` bytes at `offset`; none at the end of the file.
pub(crate) fn read_at(file: &OwnedFd, offset: u64, length: usize, waiting: Waiting) -> io::Result<Bytes> {
    let mut buffer = vec![0; length];
    let result = match waiting {
        Waiting::Never => {
            match preadv2(file, &mut [IoSliceMut::new(&mut buffer)], offset, ReadWriteFlags::NOWAIT) {
                // The file system or kernel cannot read without waiting.
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                result => result,
            }
        }
        Waiting::Allowed => loop {
            match pread(file, &mut buffer[..], offset) {
                Err(Errno::INTR) => {}
                result => break result,
            }
        },
    };
    buffer.truncate(result?);
    Ok(buffer.into())
}

pin_project! {
    /// The body of the inner service, or the content of a file.
    #[project = ResponseBodyProjection]
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<B> {
        Inner { #[pin] body: B },
        File { body: FileBody },
    }
}

impl<B> ResponseBody<B> {
    /// Creates a body of the inner service.
    pub fn new(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    pub(crate) fn file(body: FileBody) -> Self {
        Self { kind: Kind::File { body } }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            KindProjection::Inner { body } => body.poll_frame(cx).map_err(Into::into),
            KindProjection::File { body } => {
                body.poll_frame(cx).map(|frame| frame.map(|result| result.map(Frame::data).map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::File { body } => body.remaining() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::File { body } => SizeHint::with_exact(body.remaining()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use http_body_util::{BodyExt, Empty};

    use super::*;

    fn body(file: File, start: u64, end: u64) -> ResponseBody<Empty<Bytes>> {
        ResponseBody::file(FileBody::reading(file.into(), start, end))
    }

    #[tokio::test]
    async fn body_has_the_selected_bytes_and_an_exact_size() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..3 * CHUNK + 5).map(|index| (index % 251) as u8).collect();
        file.write_all(&content).unwrap();
        for (start, end) in [(0, content.len()), (7, CHUNK + 9), (content.len() - 1, content.len()), (3, 3)] {
            let body = body(file.try_clone().unwrap(), start as u64, end as u64);
            assert_eq!(body.size_hint().exact(), Some((end - start) as u64));
            assert_eq!(body.is_end_stream(), start == end);
            let bytes = body.collect().await.unwrap().to_bytes();
            assert!(bytes == content[start..end], "{start} to {end}");
        }
    }

    #[tokio::test]
    async fn long_body_yields_to_other_tasks() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 << 20).unwrap();
        let mut body = body(file, 0, 4 << 20);
        let mut yields = 0;
        let mut length = 0;
        std::future::poll_fn(|cx| {
            loop {
                match Pin::new(&mut body).poll_frame(cx) {
                    Poll::Ready(Some(frame)) => length += frame.unwrap().into_data().unwrap().len(),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => {
                        yields += 1;
                        return Poll::Pending;
                    }
                }
            }
        })
        .await;
        assert_eq!(length, 4 << 20);
        assert!(yields >= 7, "{yields}");
    }

    #[tokio::test]
    async fn truncated_file_fails_instead_of_ending() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![1; 3 * CHUNK]).unwrap();
        let mut body = body(File::open(&path).unwrap(), 0, 3 * CHUNK as u64);
        assert!(body.frame().await.unwrap().is_ok());
        File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.downcast::<io::Error>().unwrap().kind(), io::ErrorKind::UnexpectedEof);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn thread_of_the_pool_reads_if_reading_would_wait() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        let mut reading = Reading { source: Source::Idle(file.into()), offset: 0, remaining: 7, since_yield: 0 };
        reading.start(&Handle::current(), 7);
        assert!(matches!(reading.source, Source::Busy(_)));
        let bytes = std::future::poll_fn(|cx| reading.poll_chunk(cx)).await.unwrap();
        assert_eq!((bytes.as_ref(), reading.remaining), (&b"content"[..], 0));
        assert!(matches!(reading.source, Source::Idle(_)));
    }
}
