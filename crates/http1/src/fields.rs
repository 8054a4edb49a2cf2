//! The serialisation of header fields.

use http::header::CONTENT_LENGTH;

/// Writes a field line.
#[inline]
pub fn put_field(out: &mut Vec<u8>, name: impl AsRef<[u8]>, value: &[u8]) {
    out.extend_from_slice(name.as_ref());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a `Content-Length` field. `name` is the received name, if it was received.
pub(crate) fn put_length(out: &mut Vec<u8>, name: Option<&[u8]>, length: u64) {
    let name = name.unwrap_or(CONTENT_LENGTH.as_str().as_bytes());
    put_field(out, name, itoa::Buffer::new().format(length).as_bytes());
}
