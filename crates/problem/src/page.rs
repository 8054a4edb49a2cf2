//! The HTML page of an error, for browsers.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::escape::escaped;
use crate::hooks::PageTexts;

/// The `Content-Security-Policy` of the page, which allows only its own style sheet, by its hash.
pub(crate) const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'sha256-G3xkn7dXHMYtpFvGLBkuDAGclkAK0Lnh2rj4FwiahUg='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const STYLE: &str = include_str!("page.css");

/// Returns the error page with `message`, or with the default text for the status.
pub(crate) fn page(status: StatusCode, message: Option<&str>, texts: &PageTexts) -> Bytes {
    let code = status.as_u16();
    let reason = status.canonical_reason().unwrap_or("Error");
    let sentence = message.map_or(Cow::Borrowed(sentence(status)), escaped);
    let note = texts.note.as_ref().map(|(title, text)| note(title, text)).unwrap_or_default();
    let footer = texts.request_id.as_deref().map(footer).unwrap_or_default();
    Bytes::from(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>{code} {reason}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1><span>{code}</span> {reason}</h1>\n<p>{sentence}</p>\n{note}{footer}</main>\n</body>\n</html>\n"
    ))
}

fn footer(request_id: &str) -> String {
    format!("<footer>Request ID <code>{}</code></footer>\n", escaped(request_id))
}

fn note(title: &str, text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase()).into_iter();
    let text: String = first.chain(letters).collect();
    format!("<aside><strong>{}</strong> {}.</aside>\n", escaped(title), escaped(&text))
}

/// Returns the explanation of an error status that the error page shows.
fn sentence(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "You do not have access to this page.",
        404 => "There is no page at this address.",
        405 => "This kind of request is not supported here.",
        408 => "The request took too long to arrive; please try again.",
        413 => "The upload is larger than this site accepts.",
        414 => "The address of this page is too long.",
        421 => "This server does not serve the site at this address.",
        429 => "There were too many requests from your network; please wait a moment, then try again.",
        431 => "The browser sent too many cookies or other fields; deleting the cookies of this site may help.",
        400..=499 => "The server cannot process this request.",
        502 => "The site is not available at the moment; please try again soon.",
        503 => "The site cannot respond at the moment; please try again soon.",
        504 => "The site took too long to respond; please try again soon.",
        508 => "The request was forwarded in a loop between servers.",
        _ => "The server had a problem with this request; please try again later.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use sha2::{Digest, Sha256};

    fn texts(request_id: &str, note: Option<&str>) -> PageTexts {
        PageTexts { request_id: Some(request_id.to_owned()), note: note.map(|note| ("Note", note.to_owned())) }
    }

    #[test]
    fn policy_has_the_hash_of_the_style_sheet() {
        let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        let policy = CONTENT_SECURITY_POLICY;
        assert!(policy.to_str().unwrap().contains(&format!("style-src 'sha256-{hash}'")), "{hash}");
        assert!(!STYLE.contains('<') && !STYLE.contains("url(") && !STYLE.contains("@import"));
    }

    #[test]
    fn page_has_status_sentence_and_request_id() {
        let page = String::from_utf8(page(StatusCode::BAD_GATEWAY, None, &texts("id-1", None)).to_vec()).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.contains("<title>502 Bad Gateway</title>"), "{page}");
        assert!(page.contains(sentence(StatusCode::BAD_GATEWAY)) && page.contains("<code>id-1</code>"), "{page}");
        assert!(!page.contains("<aside>") && !page.contains("<script") && !page.contains("http"), "{page}");
    }

    #[test]
    fn page_escapes_all_inserted_text() {
        let hostile = "</code><script>alert(\"1\")</script>&'";
        let page = page(StatusCode::NOT_FOUND, Some(hostile), &texts(hostile, Some(hostile)));
        let page = std::str::from_utf8(&page).unwrap();
        let escaped = "&lt;/code&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;";
        assert_eq!(page.matches(escaped).count(), 3, "{page}");
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn every_error_status_has_a_sentence() {
        for status in 400..600 {
            let sentence = sentence(StatusCode::from_u16(status).unwrap());
            assert!(sentence.ends_with('.') && !sentence.contains(['<', '&']), "{sentence}");
        }
    }
}
