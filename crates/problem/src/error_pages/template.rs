//! A page with placeholders, which is parsed once.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::StatusCode;

use super::error::ErrorPagesError;
use crate::escape::escaped;

/// A page with placeholders.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Box<[Part]>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(Bytes),
    Value(Placeholder),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Status,
    Reason,
    RequestId,
}

impl Template {
    /// Parses the content of a page. `file` is its name in errors.
    pub(super) fn parse(file: &str, content: String) -> Result<Self, ErrorPagesError> {
        let mut parts = Vec::new();
        let content = Bytes::from(content);
        // It is UTF-8: it was a string.
        let text = str::from_utf8(&content).unwrap_or_default();
        let mut end = 0;
        while let Some(Range { start, end: after }) = placeholder(text, end) {
            let line = || text[..start].matches('\n').count() + 1;
            let value = match &text[start..after] {
                "::STATUS::" => Placeholder::Status,
                "::REASON::" => Placeholder::Reason,
                "::REQUEST_ID::" => Placeholder::RequestId,
                unknown => {
                    let (line, placeholder) = (line(), unknown.to_owned());
                    return Err(ErrorPagesError::UnknownPlaceholder { file: file.to_owned(), line, placeholder });
                }
            };
            if parts.iter().filter(|part| matches!(part, Part::Value(_))).count() == MAX_PLACEHOLDERS {
                return Err(ErrorPagesError::TooManyPlaceholders { file: file.to_owned() });
            }
            parts.extend([Part::Text(content.slice(end..start)), Part::Value(value)]);
            end = after;
        }
        parts.push(Part::Text(content.slice(end..)));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { parts: parts.into() })
    }

    /// Returns the page in parts. The text between the values is not copied.
    pub(crate) fn render(&self, status: StatusCode, request_id: Option<&str>) -> Vec<Bytes> {
        let render = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Value(Placeholder::Status) => Bytes::copy_from_slice(status.as_str().as_bytes()),
            Part::Value(Placeholder::Reason) => {
                Bytes::from_static(status.canonical_reason().unwrap_or("Error").as_bytes())
            }
            Part::Value(Placeholder::RequestId) => match escaped(request_id.unwrap_or_default()) {
                Cow::Borrowed(id) => Bytes::copy_from_slice(id.as_bytes()),
                Cow::Owned(id) => Bytes::from(id),
            },
        };
        self.parts.iter().map(render).collect()
    }
}

/// Returns the place of the next placeholder: capitals and underscores between double colons.
///
/// The pseudo-elements of style sheets, such as `::before`, are in lower case.
fn placeholder(text: &str, from: usize) -> Option<Range<usize>> {
    let mut from = from;
    loop {
        let start = from + text.get(from..)?.find("::")?;
        let name = text.get(start + 2..)?;
        let length = name.bytes().take_while(|byte| byte.is_ascii_uppercase() || *byte == b'_').count();
        if length > 0 && name[length..].starts_with("::") {
            return Some(start..start + length + 4);
        }
        from = start + 1;
    }
}

/// Each placeholder makes two parts of a response, which are sent one by one.
const MAX_PLACEHOLDERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render(content: &str, request_id: Option<&str>) -> Result<String, ErrorPagesError> {
        let parts = Template::parse("502.html", content.to_owned())?.render(StatusCode::BAD_GATEWAY, request_id);
        assert!(parts.iter().all(|part| !part.is_empty() || request_id.is_none()));
        Ok(String::from_utf8(parts.concat()).unwrap())
    }

    #[test]
    fn replaces_placeholders_and_escapes_their_texts() {
        for (content, expected) in [
            ("", ""),
            ("<p>plain</p>", "<p>plain</p>"),
            ("::STATUS::", "502"),
            ("<h1>::STATUS:: ::REASON::</h1>", "<h1>502 Bad Gateway</h1>"),
            ("::STATUS::::REASON::", "502Bad Gateway"),
            (":::STATUS:::", ":502:"),
            ("<i title=\"::REQUEST_ID::\">", "<i title=\"&lt;&quot;&amp;\">"),
            ("a::before{content:'::'} a::after{}", "a::before{content:'::'} a::after{}"),
            ("::Status:: ::STATUS: :STATUS::", "::Status:: ::STATUS: :STATUS::"),
            ("{status} %STATUS% é::STATUS::é", "{status} %STATUS% é502é"),
        ] {
            assert_eq!(render(content, Some("<\"&")).unwrap(), expected, "{content}");
        }
        assert_eq!(render("[::REQUEST_ID::]", None).unwrap(), "[]");
        assert!(render(&"::STATUS::".repeat(32), None).is_ok());
    }

    #[test]
    fn text_of_a_page_is_not_copied() {
        let template = Template::parse("404.html", "a".repeat(1000)).unwrap();
        let [one, other] = [(); 2].map(|()| template.render(StatusCode::NOT_FOUND, None)[0].as_ptr());
        assert_eq!(one, other);
    }

    proptest! {
        #[test]
        fn text_without_placeholders_is_unchanged(content in "[:A-Zaé_\n]{0,40}") {
            match render(&content, Some("id")) {
                Ok(text) if !content.contains("::STATUS::") => prop_assert_eq!(text, content),
                Ok(_) => {}
                Err(error) => prop_assert!(content.matches("::").count() >= 2, "{}", error),
            }
        }
    }
}
