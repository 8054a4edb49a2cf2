//! Responses to requests that no file can serve.

use http::header::{ALLOW, CONTENT_LENGTH};
use http::{HeaderValue, Response, StatusCode};
use rproxy_core::Rejection;

use crate::body::FileBody;

/// The name of the static files layer in rejections.
const STATIC_FILES: &str = "static_files";

/// 404: there is no file, and no inner service is called.
pub(crate) fn no_file() -> Response<FileBody> {
    let rejection = Rejection::new(STATIC_FILES, "no_file", StatusCode::NOT_FOUND);
    respond(rejection, "Not Found\n")
}

/// 404 for clients, and the cause for operators: the process lacks the permission to read the file.
pub(crate) fn unreadable_file() -> Response<FileBody> {
    let rejection = Rejection::new(STATIC_FILES, "no_file", StatusCode::NOT_FOUND).with_cause("unreadable_file");
    respond(rejection, "Not Found\n")
}

/// 405: files can only be read.
pub(crate) fn method_not_allowed() -> Response<FileBody> {
    let rejection = Rejection::new(STATIC_FILES, "method_not_allowed", StatusCode::METHOD_NOT_ALLOWED);
    let mut response = respond(rejection, "Method Not Allowed\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// 500: the operation failed.
pub(crate) fn file_error() -> Response<FileBody> {
    let rejection = Rejection::new(STATIC_FILES, "file_error", StatusCode::INTERNAL_SERVER_ERROR);
    respond(rejection, "Internal Server Error\n")
}

/// The reason why the file that the inner service named is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// There is no such file.
    Missing,
    /// The process lacks the permission to read the file.
    Unreadable,
    /// The path is not below the root.
    OutsideOfRoot,
    /// The inner service named several files.
    Ambiguous,
    /// The operation failed.
    Error,
}

/// The response to a request for which the inner service named a file that is not sent.
pub(crate) fn not_sent(reason: NotSent) -> Response<FileBody> {
    let (cause, status, text) = match reason {
        NotSent::Missing => ("missing_file", StatusCode::NOT_FOUND, "Not Found\n"),
        NotSent::Unreadable => ("unreadable_file", StatusCode::NOT_FOUND, "Not Found\n"),
        NotSent::OutsideOfRoot => ("outside_of_root", StatusCode::BAD_GATEWAY, "Bad Gateway\n"),
        NotSent::Ambiguous => ("several_files", StatusCode::BAD_GATEWAY, "Bad Gateway\n"),
        NotSent::Error => ("file_error", StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n"),
    };
    respond(Rejection::new("send_file", "send_file", status).with_cause(cause), text)
}

fn respond(rejection: Rejection, text: &'static str) -> Response<FileBody> {
    let mut response = rejection.into_response(FileBody::text(text));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    response
}
