//! The serialisation of header fields.

use http::header::CONTENT_LENGTH;

/// Writes a field line.
#[inline]
pub fn put_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a `Content-Length` field.
pub(crate) fn put_length(out: &mut Vec<u8>, length: u64) {
    put_field(out, CONTENT_LENGTH.as_str(), itoa::Buffer::new().format(length).as_bytes());
}
