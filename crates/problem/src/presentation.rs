//! The response to a rejected request, in the format that the client prefers.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, CONTENT_TYPE, ETAG,
    EXPIRES, HeaderName, LAST_MODIFIED, PRAGMA, RETRY_AFTER, TRAILER, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, response};
use http_body::Body;
use rproxy_core::Rejection;

use crate::accept::{Accept, ErrorFormat};
use crate::body::ResponseBody;
use crate::config::Config;
use crate::error_pages::{ErrorPages, Template};
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
    /// Whether the request opens a tunnel. `false` without settings.
    pub(crate) is_upgrade: bool,
    pub(crate) config: Option<Arc<Config>>,
    pub(crate) hooks: H,
}

impl<H: ProblemHooks> Client<H> {
    /// Formats an error response. Other responses stay as they are.
    pub(crate) fn present<B>(
        &self,
        response: Response<ResponseBody<B, H>>,
        cx: &mut Context<'_>,
    ) -> Response<ResponseBody<B, H>>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        if !response.status().is_client_error() && !response.status().is_server_error() {
            return response;
        }
        match response.extensions().get::<Rejection>().cloned() {
            Some(rejection) => self.present_rejection(response, &rejection),
            None => self.replace_error(response, cx),
        }
    }

    fn present_rejection<B>(
        &self,
        response: Response<ResponseBody<B, H>>,
        rejection: &Rejection,
    ) -> Response<ResponseBody<B, H>>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let (mut head, body) = response.into_parts();
        let discards = self.config.as_ref().is_some_and(|config| config.discards);
        if discards && self.hooks.discards_response(&self.request, rejection, &mut head.extensions) {
            return Response::from_parts(head, ResponseBody::empty());
        }
        if let Some(value) = self.hooks.proxy_status(rejection.error_type()) {
            head.headers.insert(PROXY_STATUS, value);
        }
        if let Some(seconds) = rejection.retry_after_field() {
            head.headers.entry(RETRY_AFTER).or_insert(seconds);
        }
        if let Some(content_type) = self.grpc {
            grpc::present(&mut head, rejection, self.hooks.proxy_name(), content_type);
            return Response::from_parts(head, ResponseBody::empty());
        }
        vary_by_accept(&mut head.headers);
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
                self.page(&mut head, rejection)
            }
        };
        self.without_body_for_head(head, body)
    }

    fn page<B>(&self, head: &mut response::Parts, rejection: &Rejection) -> ResponseBody<B, H> {
        let pages = self.config.as_ref().map(|config| &config.pages);
        if let Some((pages, page)) = pages.and_then(|pages| Some((pages, pages.find(head.status, Some(rejection))?))) {
            return self.rendered(head, Some(rejection), pages, page);
        }
        let texts = self.hooks.page_texts(&self.request, Some(rejection), &mut head.extensions);
        set_policy(&mut head.headers, page::CONTENT_SECURITY_POLICY);
        ResponseBody::own(page::page(head.status, rejection.message(), &texts))
    }

    /// Replaces the content of an error response of the inner service, if the client prefers a page and there is one.
    fn replace_error<B>(
        &self,
        response: Response<ResponseBody<B, H>>,
        cx: &mut Context<'_>,
    ) -> Response<ResponseBody<B, H>>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let Some(Config { pages, replaced, .. }) = self.config.as_deref() else { return response };
        if self.grpc.is_some()
            || self.is_upgrade
            || !replaced.contains(response.status())
            || !self.hooks.replaces_error(&self.request, response.extensions())
        {
            return response;
        }
        let Some(page) = pages.find(response.status(), None) else { return response };
        let (mut head, body) = response.into_parts();
        // The content that other clients get depends on `Accept` as well.
        vary_by_accept(&mut head.headers);
        if self.accept.error_format() != ErrorFormat::Html {
            return Response::from_parts(head, body);
        }
        body.discard(cx);
        for name in REPLACED_FIELDS {
            head.headers.remove(name);
        }
        replace_content_type(&mut head.headers, "text/html; charset=utf-8");
        head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let page = self.rendered(&mut head, None, pages, page);
        self.without_body_for_head(head, page)
    }

    /// Returns a page of the operator, and sets its policy.
    fn rendered<B>(
        &self,
        head: &mut response::Parts,
        rejection: Option<&Rejection>,
        pages: &ErrorPages,
        page: &Template,
    ) -> ResponseBody<B, H> {
        let texts = self.hooks.page_texts(&self.request, rejection, &mut head.extensions);
        set_policy(&mut head.headers, pages.policy());
        ResponseBody::parts(page.render(head.status, texts.request_id.as_deref()))
    }

    /// Returns the response, which has the length of its content instead of the content if the request is HEAD.
    fn without_body_for_head<B>(
        &self,
        mut head: response::Parts,
        body: ResponseBody<B, H>,
    ) -> Response<ResponseBody<B, H>>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        if !self.is_head {
            return Response::from_parts(head, body);
        }
        if let Some(length) = body.size_hint().exact() {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Response::from_parts(head, ResponseBody::empty())
    }

    pub(crate) fn panicked<B>(&self) -> Response<ResponseBody<B, H>>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let rejection = Rejection::new("problem", "panic", StatusCode::INTERNAL_SERVER_ERROR);
        self.present_rejection(
            rejection.clone().into_response(ResponseBody::own(Bytes::from_static(b"Internal Server Error\n"))),
            &rejection,
        )
    }
}

fn replace_content_type(headers: &mut HeaderMap, content_type: &'static str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, ETAG] {
        headers.remove(name);
    }
}

/// Sets the policy of a page. That of the site would block its style.
fn set_policy(headers: &mut HeaderMap, policy: HeaderValue) {
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.remove(CONTENT_SECURITY_POLICY_REPORT_ONLY);
}

/// Adds `accept` to `Vary`, unless the field contains it or `*`.
fn vary_by_accept(headers: &mut HeaderMap) {
    let is_accept = |member: &[u8]| matches!(member.trim_ascii(), member if member == b"*" || member.eq_ignore_ascii_case(b"accept"));
    let varies = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').any(is_accept);
    if !headers.get_all(VARY).iter().any(varies) {
        headers.append(VARY, HeaderValue::from_static("accept"));
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

/// The fields about the content or its storage, which a page replaces, besides those of [`replace_content_type`].
const REPLACED_FIELDS: [HeaderName; 17] = [
    CONTENT_LANGUAGE,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_DISPOSITION,
    LAST_MODIFIED,
    ACCEPT_RANGES,
    TRAILER,
    EXPIRES,
    AGE,
    PRAGMA,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("no-vary-search"),
];

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
