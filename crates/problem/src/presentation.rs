//! The response to a rejected request, in the format that the client prefers.

use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY,
    CONTENT_TYPE, ETAG, HeaderName, RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, response};
use http_body::Body;
use rproxy_core::Rejection;

use crate::accept::{Accept, ErrorFormat};
use crate::body::ResponseBody;
use crate::grpc;
use crate::hooks::ProblemHooks;
use crate::page;

/// The properties of a request that decide the format of an error response.
pub(crate) struct Client<H: ProblemHooks> {
    pub(crate) accept: Accept,
    pub(crate) request: H::Request,
    /// The content type of the gRPC call, if the request is one.
    pub(crate) grpc: Option<&'static str>,
    pub(crate) is_head: bool,
    pub(crate) hooks: H,
}

impl<H: ProblemHooks> Client<H> {
    /// Formats a response to a rejected request. Other responses stay as they are.
    pub(crate) fn present<B>(&self, response: Response<ResponseBody<B, H>>) -> Response<ResponseBody<B, H>>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        if !response.status().is_client_error() && !response.status().is_server_error() {
            return response;
        }
        let Some(rejection) = response.extensions().get::<Rejection>().cloned() else {
            return response;
        };
        let (mut head, body) = response.into_parts();
        if self.hooks.discards_response(&self.request, &rejection, &mut head.extensions) {
            return Response::from_parts(head, ResponseBody::own(Bytes::new()));
        }
        if let Some(value) = self.hooks.proxy_status(rejection.error_type()) {
            head.headers.insert(PROXY_STATUS, value);
        }
        if let Some(seconds) = rejection.retry_after_field() {
            head.headers.entry(RETRY_AFTER).or_insert(seconds);
        }
        if let Some(content_type) = self.grpc {
            grpc::present(&mut head, &rejection, self.hooks.proxy_name(), content_type);
            return Response::from_parts(head, ResponseBody::own(Bytes::new()));
        }
        head.headers.append(VARY, HeaderValue::from_static("accept"));
        // RFC 9110 §15.1: caches may store some errors, such as a 404, without a lifetime.
        head.headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        let body = match self.accept.error_format() {
            ErrorFormat::PlainText => body,
            ErrorFormat::ProblemJson => {
                replace_content_type(&mut head.headers, "application/problem+json");
                ResponseBody::own(problem(head.status, rejection.message()))
            }
            ErrorFormat::Html => {
                replace_content_type(&mut head.headers, "text/html; charset=utf-8");
                // The policy of the site would block the style of the page.
                head.headers.insert(CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY);
                head.headers.remove(CONTENT_SECURITY_POLICY_REPORT_ONLY);
                ResponseBody::own(self.page(&mut head, &rejection))
            }
        };
        if !self.is_head {
            return Response::from_parts(head, body);
        }
        if let Some(length) = body.size_hint().exact() {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Response::from_parts(head, ResponseBody::own(Bytes::new()))
    }

    fn page(&self, head: &mut response::Parts, rejection: &Rejection) -> Bytes {
        let texts = self.hooks.page_texts(&self.request, rejection, &mut head.extensions);
        page::page(head.status, rejection.message(), &texts)
    }

    pub(crate) fn panicked<B>(&self) -> Response<ResponseBody<B, H>>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let rejection = Rejection::new("problem", "panic", StatusCode::INTERNAL_SERVER_ERROR);
        self.present(rejection.into_response(ResponseBody::own(Bytes::from_static(b"Internal Server Error\n"))))
    }
}

fn replace_content_type(headers: &mut HeaderMap, content_type: &'static str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, ETAG] {
        headers.remove(name);
    }
}

/// Returns a problem of type `about:blank`, whose title is that of the status (RFC 9457 §4.2.1).
fn problem(status: StatusCode, detail: Option<&str>) -> Bytes {
    // The titles of the `http` crate need no escaping.
    let title = status.canonical_reason().unwrap_or("Error");
    let detail = detail.map(|detail| format!(",\"detail\":{}", json_string(detail))).unwrap_or_default();
    Bytes::from(format!("{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{}{detail}}}\n", status.as_u16()))
}

/// Returns a JSON string (RFC 8259 §7).
fn json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\0'..='\x1f' => {
                // Writing to a string does not fail.
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            _ => json.push(c),
        }
    }
    json.push('"');
    json
}

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_detail_is_valid_json(detail in "\\PC{0,20}|[\u{0}-\u{2fff}]{0,20}") {
            let problem = problem(StatusCode::FORBIDDEN, Some(&detail));
            let value: serde_json::Value = serde_json::from_slice(&problem).unwrap();
            prop_assert_eq!(&value["detail"], &detail);
        }
    }
}
