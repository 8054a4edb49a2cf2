//! The response that sends a file instead of the content of the inner service.

use std::io;
use std::os::fd::AsFd;

use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, response};

use super::named_file::{Settings, X_ACCEL_REDIRECT, X_SENDFILE};
use crate::beneath::{HiddenFiles, Waiting, open_root};
use crate::body::FileBody;
use crate::conditions::Conditions;
use crate::decision::FileDecision;
use crate::file::{NoFile, OpenFile};
use crate::media_type::MediaType;
use crate::rejection::{NotSent, not_sent};

/// The fields that describe the replaced content.
const REPLACED: [HeaderName; 13] = [
    X_ACCEL_REDIRECT,
    X_SENDFILE,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    TRAILER,
    CONTENT_RANGE,
    ACCEPT_RANGES,
    ETAG,
    LAST_MODIFIED,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// The parts of a request that decide about the content of the response.
#[derive(Debug)]
pub(super) struct RequestContext {
    conditions: Conditions,
    is_head: bool,
    /// Whether conditions and ranges have a meaning: for GET and HEAD.
    is_read: bool,
}

impl RequestContext {
    pub(super) fn new<B>(request: &Request<B>) -> Self {
        let is_head = *request.method() == Method::HEAD;
        let is_read = is_head || *request.method() == Method::GET;
        Self { conditions: Conditions::of_request(request.headers(), is_head), is_head, is_read }
    }
}

/// A response whose file is to send.
#[derive(Debug)]
pub(super) struct Sending {
    head: response::Parts,
    path: Vec<u8>,
    request: RequestContext,
}

impl Sending {
    /// Returns the response with the file that `response` names, or `response` if it names none.
    pub(super) fn new<B>(
        mut response: Response<B>,
        request: RequestContext,
        settings: &Settings,
    ) -> Result<Result<Self, NotSent>, Response<B>> {
        let Some(named) = settings.named_file(response.headers()) else { return Err(response) };
        // The path is internal: the client never gets it.
        if !has_content(response.status()) {
            response.headers_mut().remove(X_ACCEL_REDIRECT);
            response.headers_mut().remove(X_SENDFILE);
            return Err(response);
        }
        let mut head = response.into_parts().0;
        for name in &REPLACED {
            head.headers.remove(name);
        }
        Ok(named.map(|path| Self { head, path, request }))
    }

    /// Opens the file and makes the response.
    ///
    /// # Errors
    ///
    /// Returns `self` if the operation would have to wait and must not.
    pub(super) fn run(mut self, settings: &Settings, waiting: Waiting) -> Result<Response<FileBody>, Box<Self>> {
        match self.send(settings, waiting) {
            Ok((status, body)) => {
                let mut response = Response::from_parts(self.head, body);
                *response.status_mut() = status;
                response.extensions_mut().insert(FileDecision::SendFile);
                Ok(response)
            }
            Err(NoFile::Error(error)) if error.kind() == io::ErrorKind::WouldBlock && waiting == Waiting::Never => {
                Err(Box::new(self))
            }
            Err(NoFile::Error(_)) => Ok(not_sent(NotSent::Error)),
            Err(NoFile::Denied) => Ok(not_sent(NotSent::Unreadable)),
            Err(NoFile::Missing | NoFile::Folder) => Ok(not_sent(NotSent::Missing)),
        }
    }

    fn send(&mut self, settings: &Settings, waiting: Waiting) -> Result<(StatusCode, FileBody), NoFile> {
        let root = open_root(&settings.root, waiting)?;
        let file = OpenFile::open(root.as_fd(), &self.path, waiting, HiddenFiles::Found)?;
        let headers: &mut HeaderMap = &mut self.head.headers;
        if !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, MediaType::of(&self.path).field());
        }
        // RFC 9110 §13.2.1: conditions apply to a response that would be successful.
        let applies = self.request.is_read && self.head.status == StatusCode::OK;
        let conditions = applies.then_some(&self.request.conditions);
        file.send(headers, conditions, self.head.status, self.request.is_head, waiting).map_err(NoFile::Error)
    }
}

/// Returns whether a response with this status has content of its own: not an interim response, a redirect or a 304.
fn has_content(status: StatusCode) -> bool {
    match status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT => false,
        status => !status.is_informational() && !status.is_redirection(),
    }
}
