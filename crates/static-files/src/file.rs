//! Opened files, and the responses that send them.

use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use crate::beneath::{self, HiddenFiles, Waiting};
use crate::body::{FileBody, read_at};
use crate::coding::{AcceptedCodings, Coding};
use crate::conditions::{Conditions, Selection, Validators, format_date};

/// The maximum size of content that is read when a file is opened, so that no descriptor is kept for it.
const SMALL: u64 = 16 << 10;

/// An opened regular file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: OwnedFd,
    length: u64,
    /// The seconds since the Unix epoch, and the nanoseconds.
    modified: (i64, u64),
    coding: Option<Coding>,
}

/// The reason why there is no regular file at a path.
#[derive(Debug)]
pub(crate) enum NoFile {
    /// There is a folder.
    Folder,
    /// There is no file that can be served.
    Missing,
    /// The process lacks the permission to read the file.
    Denied,
    /// The operation failed, or would wait.
    Error(io::Error),
}

impl OpenFile {
    /// Opens a regular file beneath `root`.
    pub(crate) fn open(
        root: BorrowedFd<'_>,
        path: &[u8],
        waiting: Waiting,
        hidden: HiddenFiles,
    ) -> Result<Self, NoFile> {
        let file = beneath::open(root, path, waiting, hidden)?;
        let stat = fstat(&file).map_err(io::Error::from)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(NoFile::Folder),
            // FIFOs, devices and sockets.
            _ => return Err(NoFile::Missing),
        }
        #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
        let modified = (stat.st_mtime as i64, stat.st_mtime_nsec as u64);
        Ok(Self { file, length: u64::try_from(stat.st_size).unwrap_or(0), modified, coding: None })
    }

    /// Opens the variant of a file that the client prefers, or the file itself.
    pub(crate) fn open_variant(
        root: BorrowedFd<'_>,
        path: &[u8],
        codings: AcceptedCodings,
        waiting: Waiting,
    ) -> Result<Self, NoFile> {
        for coding in codings.iter() {
            let variant = [path, b".", coding.extension().as_bytes()].concat();
            match Self::open(root, &variant, waiting, HiddenFiles::Missing) {
                Ok(file) => return Ok(Self { coding: Some(coding), ..file }),
                Err(NoFile::Error(error)) => return Err(NoFile::Error(error)),
                Err(_) => {}
            }
        }
        Self::open(root, path, waiting, HiddenFiles::Missing)
    }

    /// Returns the strong entity tag. That of a variant differs from that of the file.
    fn tag(&self) -> String {
        let (seconds, nanoseconds) = self.modified;
        match self.coding {
            // The suffixes of a layer that compresses begin with a hyphen.
            Some(coding) => {
                format!("\"{seconds:x}.{nanoseconds:x}-{:x}.{}\"", self.length, coding.extension())
            }
            None => format!("\"{seconds:x}.{nanoseconds:x}-{:x}\"", self.length),
        }
    }

    /// Returns the seconds of `Last-Modified`, which is never later than now (RFC 9110 §8.8.2.1).
    fn last_modified(&self) -> Option<u64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        u64::try_from(self.modified.0).ok().filter(|seconds| *seconds <= now)
    }

    /// Adds the fields of the file to those of a response, and returns the status and the body.
    ///
    /// Without conditions, the file is sent completely. The status of a complete file is `complete`.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::WouldBlock`] if the operation would have to wait and must not.
    pub(crate) fn send(
        self,
        headers: &mut HeaderMap,
        conditions: Option<&Conditions>,
        complete: StatusCode,
        is_head: bool,
        waiting: Waiting,
    ) -> io::Result<(StatusCode, FileBody)> {
        // Reproducible images and package stores give all files this time, so that it does not change with the content.
        let is_dated = self.modified.0 > 1;
        let (tag, modified) = (is_dated.then(|| self.tag()), self.last_modified().filter(|_| is_dated));
        let validators = Validators { tag: tag.as_deref(), modified };
        let selection = conditions.map_or(Selection::All, |conditions| conditions.select(validators, self.length));
        if let Some(date) = modified.and_then(format_date) {
            headers.insert(LAST_MODIFIED, date);
        }
        if let Some(tag) = tag {
            set(headers, ETAG, tag);
        }
        let (status, range) = match selection {
            Selection::All => (complete, 0..self.length),
            Selection::Part { start, end } => {
                set(headers, CONTENT_RANGE, format!("bytes {start}-{}/{}", end.saturating_sub(1), self.length));
                (StatusCode::PARTIAL_CONTENT, start..end)
            }
            Selection::RangeNotSatisfiable => {
                set(headers, CONTENT_RANGE, format!("bytes */{}", self.length));
                return Ok((without_content(headers, StatusCode::RANGE_NOT_SATISFIABLE), FileBody::empty()));
            }
            Selection::PreconditionFailed => {
                return Ok((without_content(headers, StatusCode::PRECONDITION_FAILED), FileBody::empty()));
            }
            Selection::NotModified => {
                return Ok((without_content(headers, StatusCode::NOT_MODIFIED), FileBody::empty()));
            }
        };
        if conditions.is_some() {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        if let Some(coding) = self.coding {
            headers.insert(CONTENT_ENCODING, coding.field());
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        let body = if is_head { FileBody::empty() } else { self.content(range, waiting)? };
        Ok((status, body))
    }

    /// Returns the bytes of a range, which are read now if they are few.
    fn content(self, range: Range<u64>, waiting: Waiting) -> io::Result<FileBody> {
        let length = range.end - range.start;
        if (1..=SMALL).contains(&length) {
            let expected = usize::try_from(length).unwrap_or(0);
            let bytes = read_at(&self.file, range.start, expected, waiting)?;
            if bytes.len() == expected {
                return Ok(FileBody::read(bytes));
            }
        }
        Ok(FileBody::reading(self.file, range.start, range.end))
    }
}

/// Removes the fields about content from the head of a response without content, and returns its status.
fn without_content(headers: &mut HeaderMap, status: StatusCode) -> StatusCode {
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_ENCODING);
    // RFC 9110 §8.6: a 304 has the length of the 200, or none.
    if status == StatusCode::NOT_MODIFIED {
        headers.remove(CONTENT_LENGTH);
    } else {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    status
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

impl From<io::Error> for NoFile {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // The last one is for sockets and for devices without a driver.
            Some(
                Errno::NOENT
                | Errno::NOTDIR
                | Errno::LOOP
                | Errno::XDEV
                | Errno::NAMETOOLONG
                | Errno::ISDIR
                | Errno::NXIO,
            ) => Self::Missing,
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied,
            _ => Self::Error(error),
        }
    }
}
