//! Responses with constant content.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::error::TargetRuleError;
use crate::pattern::Pattern;
use crate::redirect::split;

/// A rule that responds with constant content, such as `/robots.txt -> 200 text/plain User-agent: *`.
///
/// In the content, `\n` is a line end and `\\` is a backslash.
///
/// # Examples
///
/// ```
/// use rproxy_target_rules::FixedResponse;
///
/// let rule: FixedResponse = r"/robots.txt -> 200 text/plain User-agent: *\nDisallow: /private/\n".parse()?;
/// let gone: FixedResponse = "/old/** -> 410".parse()?;
/// # let _ = (rule, gone);
/// # Ok::<(), rproxy_target_rules::TargetRuleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FixedResponse {
    text: Arc<str>,
    pattern: Pattern,
    status: StatusCode,
    content_type: HeaderValue,
    content: Bytes,
}

impl FixedResponse {
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.pattern.captures(path).is_some()
    }

    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Returns the response to a request with this method.
    ///
    /// Errors apply to all methods; other methods than GET and HEAD cannot succeed.
    pub(crate) fn respond(&self, method: &Method) -> Response<Bytes> {
        let is_safe = matches!(*method, Method::GET | Method::HEAD);
        if self.status.is_success() && !is_safe {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".into(), method);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let mut response = text(self.status, self.content.clone(), method);
        if self.status == StatusCode::NO_CONTENT {
            response.headers_mut().remove(CONTENT_TYPE);
        } else {
            response.headers_mut().insert(CONTENT_TYPE, self.content_type.clone());
        }
        response
    }
}

/// Returns a plain-text response, without content for HEAD.
pub(crate) fn text(status: StatusCode, content: Bytes, method: &Method) -> Response<Bytes> {
    let length = content.len();
    let is_head = *method == Method::HEAD;
    let mut response = Response::new(if is_head { Bytes::new() } else { content });
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    // RFC 9110 §9.3.2: the length of the content that GET would get.
    if is_head && status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

const TEXT: &str = "text/plain; charset=utf-8";

impl FromStr for FixedResponse {
    type Err = TargetRuleError;

    fn from_str(text: &str) -> Result<Self, TargetRuleError> {
        let text = text.trim();
        let error = |reason: &str| TargetRuleError::new(text, reason);
        let (from, response) = split(text)?;
        let pattern = Pattern::parse(from).map_err(|reason| error(&reason))?;
        let mut words = response.splitn(3, ' ');
        let status: Option<StatusCode> = words.next().and_then(|status| status.parse().ok());
        let is_supported = |status: &StatusCode| {
            status.is_success() && *status != StatusCode::PARTIAL_CONTENT && *status != StatusCode::RESET_CONTENT
                || status.is_client_error()
                || status.is_server_error()
        };
        let status = status
            .filter(is_supported)
            .ok_or_else(|| error("expected PATTERN -> STATUS [TYPE CONTENT] with a status of 200, 204, 4xx or 5xx"))?;
        let content_type = words.next();
        let content = words.next().map_or_else(|| Ok(String::new()), unescaped).map_err(error)?;
        let content = match content_type {
            // A status without content has its name as content, for people.
            None if status != StatusCode::NO_CONTENT => {
                format!("{}\n", status.canonical_reason().unwrap_or("No content"))
            }
            _ => content,
        };
        if status == StatusCode::NO_CONTENT && !content.is_empty() {
            return Err(error("a response with the status 204 has no content"));
        }
        let content_type = match content_type {
            None | Some("text/plain") => HeaderValue::from_static(TEXT),
            Some(content_type) => HeaderValue::from_str(content_type)
                .ok()
                .filter(|_| content_type.contains('/') && content_type.is_ascii())
                .ok_or_else(|| error("the content type must be one word such as text/plain or application/json"))?,
        };
        Ok(Self { text: text.into(), pattern, status, content_type, content: content.into() })
    }
}

/// Replaces `\n` with a line end and `\\` with a backslash.
fn unescaped(text: &str) -> Result<String, &'static str> {
    let mut content = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, if character == '\\' { characters.next() } else { None }) {
            ('\\', Some('n')) => content.push('\n'),
            ('\\', Some('\\')) => content.push('\\'),
            ('\\', _) => return Err(r"a backslash in the content must be \n (a line end) or \\ (a backslash)"),
            (character, _) => content.push(character),
        }
    }
    Ok(content)
}

impl fmt::Display for FixedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responds_with_status_type_and_content() {
        for (rule, status, content_type, content) in [
            ("/a -> 200 text/plain User-agent: *\\nDisallow: /\\n", 200, TEXT, "User-agent: *\nDisallow: /\n"),
            ("/a -> 200 application/json {\"a\": \"\\\\\"}", 200, "application/json", "{\"a\": \"\\\"}"),
            ("/a -> 200", 200, TEXT, "OK\n"),
            ("/a -> 200 text/html;charset=utf-8", 200, "text/html;charset=utf-8", ""),
            ("/a -> 410", 410, TEXT, "Gone\n"),
            ("/a -> 503 text/html <p>later</p>", 503, "text/html", "<p>later</p>"),
        ] {
            let rule: FixedResponse = rule.parse().unwrap();
            let response = rule.respond(&Method::GET);
            assert_eq!(response.status(), status, "{rule}");
            assert_eq!(response.headers()[CONTENT_TYPE], content_type, "{rule}");
            assert_eq!(response.body(), content, "{rule}");
            let head = rule.respond(&Method::HEAD);
            assert!(head.status() == status && head.body().is_empty(), "{rule}");
            assert_eq!(head.headers()[CONTENT_LENGTH], content.len().to_string(), "{rule}");
            let post = rule.respond(&Method::POST);
            let expected = if status == 200 { 405 } else { status };
            assert_eq!(
                (post.status().as_u16(), post.headers().contains_key(ALLOW)),
                (expected, status == 200),
                "{rule}"
            );
        }
        let rule: FixedResponse = "/a -> 204".parse().unwrap();
        let response = rule.respond(&Method::GET);
        assert!(response.body().is_empty() && response.headers().is_empty());
    }

    #[test]
    fn rejects_invalid_fixed_responses_with_reason() {
        for (rule, reason) in [
            ("/a", "expected PATTERN -> TARGET"),
            ("/a -> ok", "4xx or 5xx"),
            ("/a -> 301", "4xx or 5xx"),
            ("/a -> 100", "4xx or 5xx"),
            ("/a -> 206", "4xx or 5xx"),
            ("/a -> 204 text/plain x", "a response with the status 204 has no content"),
            ("/a -> 200 hello", "the content type must be one word such as text/plain or application/json"),
            ("/a -> 200 text/plain \\t", "(a backslash)"),
        ] {
            let error = rule.parse::<FixedResponse>().unwrap_err().to_string();
            assert!(error.ends_with(reason), "{error}");
        }
    }
}
