//! List members that the nearest hop appended to a header field.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Returns the last list member of a field, which the nearest hop appended.
pub(crate) fn last_member(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let line = headers.get_all(name).iter().next_back()?;
    match line.as_bytes().rsplit(|&byte| byte == b',').next() {
        Some(member) if member.len() < line.len() => HeaderValue::from_bytes(member.trim_ascii()).ok(),
        _ => Some(line.clone()),
    }
}
