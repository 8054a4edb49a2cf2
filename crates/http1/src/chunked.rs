//! The decoder of the chunked transfer coding (RFC 9112 §7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The reason that a body is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBody {
    /// A chunk has no valid size.
    #[error("a chunk has no valid size")]
    ChunkSize,
    /// A chunk does not end after its declared size.
    #[error("a chunk does not end after its declared size")]
    ChunkEnd,
    /// The trailer section is malformed, or has too many fields.
    #[error("the trailer section is malformed or has too many fields")]
    Trailers,
    /// Chunk extensions or trailers are too large.
    #[error("chunk extensions or trailers are too large")]
    Overhead,
}

/// A decoder of the chunked transfer coding.
#[derive(Debug)]
pub(crate) struct ChunkedDecoder {
    state: State,
    role: Role,
    /// The size of chunk extensions and trailers, which is limited because they contain no content.
    overhead: usize,
    /// The received part of the trailer section.
    trailers: Vec<u8>,
}

/// The sender of the messages that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The limit of chunk extensions applies to the whole body, since a client could send nothing else.
    Client,
    /// Chunk sizes may be padded with spaces, which some old servers send, and each chunk may have an extension.
    ///
    /// A line of the trailer section may end with LF alone (RFC 9112 §2.2), as in a response head.
    Server,
}

impl Role {
    /// Returns the maximum number of digits of a chunk size, which cannot overflow.
    fn max_digits(self) -> u8 {
        match self {
            Self::Client => 15,
            Self::Server => 16,
        }
    }

    /// Returns the maximum size of chunk extensions and padding in bytes, per request body or per chunk of a response.
    fn max_extensions(self) -> usize {
        match self {
            Self::Client => MAX_TRAILER_SIZE,
            Self::Server => MAX_RESPONSE_EXTENSION_SIZE,
        }
    }

    /// Returns the maximum number of fields in a trailer section.
    fn max_trailer_fields(self) -> usize {
        match self {
            Self::Client => MAX_REQUEST_TRAILER_FIELDS,
            Self::Server => MAX_RESPONSE_TRAILER_FIELDS,
        }
    }
}

/// A part of a body.
#[derive(Debug)]
pub(crate) enum Chunk {
    Data(Bytes),
    /// The end of the body, with its trailer section unless that is empty.
    End(Option<HeaderMap>),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size {
        size: u64,
        digits: u8,
    },
    /// Spaces after the size.
    Padding {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// The next byte starts a trailer field or the final empty line.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
}

impl ChunkedDecoder {
    pub(crate) fn new(role: Role) -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, role, overhead: 0, trailers: Vec::new() }
    }

    /// Decodes the next part of the body from the front of `input`. Returns `None` if more input is needed.
    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Chunk>, InvalidBody> {
        if let State::Data { left } = self.state {
            if input.is_empty() {
                return Ok(None);
            }
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
            let left = left - length as u64;
            self.state = if left == 0 { State::DataCr } else { State::Data { left } };
            return Ok(Some(Chunk::Data(input.split_to(length).freeze())));
        }
        let mut at = 0;
        // The usual end of a chunk, in one step.
        if matches!(self.state, State::DataCr) && input.starts_with(b"\r\n") {
            (self.state, at) = (State::Size { size: 0, digits: 0 }, 2);
        }
        while let Some(&byte) = input.get(at) {
            at += 1;
            match self.next(byte)? {
                State::Data { left } => {
                    self.state = State::Data { left };
                    input.advance(at);
                    return self.decode(input);
                }
                State::EndLf if byte == b'\n' => {
                    input.advance(at);
                    return Ok(Some(Chunk::End(self.take_trailers()?)));
                }
                state => self.state = state,
            }
        }
        input.advance(at);
        Ok(None)
    }

    /// Returns the state after `byte`, which is not content.
    fn next(&mut self, byte: u8) -> Result<State, InvalidBody> {
        let is_server = self.role == Role::Server;
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                if digits < self.role.max_digits() =>
            {
                let digit = (byte as char).to_digit(16).ok_or(InvalidBody::ChunkSize)?;
                State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { size, digits: 1.. } | State::Padding { size }, b'\r') => State::SizeEnd { size },
            (State::Size { size, digits: 1.. } | State::Padding { size }, b';') => {
                self.count_overhead(self.role.max_extensions())?;
                State::Extension { size }
            }
            (State::Size { size, digits: 1.. } | State::Padding { size }, b' ' | b'\t') if is_server => {
                self.count_overhead(self.role.max_extensions())?;
                State::Padding { size }
            }
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_overhead(self.role.max_extensions())?;
                State::Extension { size }
            }
            (State::SizeEnd { size }, b'\n') => {
                if is_server {
                    self.overhead = 0;
                }
                if size == 0 { State::TrailerStart } else { State::Data { left: size } }
            }
            (State::Size { .. } | State::Padding { .. } | State::Extension { .. } | State::SizeEnd { .. }, _) => {
                return Err(InvalidBody::ChunkSize);
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::DataCr | State::DataLf | State::Data { .. }, _) => return Err(InvalidBody::ChunkEnd),
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::EndLf,
            (State::TrailerStart, b'\n') if is_server => State::EndLf,
            // RFC 9112 §5.2: no line folding.
            (State::TrailerStart, b' ' | b'\t') => return Err(InvalidBody::Trailers),
            (State::Trailer, b'\r') => {
                self.push_trailer_byte(byte)?;
                State::TrailerLf
            }
            (State::TrailerStart | State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.push_trailer_byte(byte)?;
                State::Trailer
            }
            (State::TrailerLf, b'\n') => {
                self.push_trailer_byte(byte)?;
                State::TrailerStart
            }
            (State::Trailer, b'\n') if is_server => {
                self.push_trailer_byte(byte)?;
                State::TrailerStart
            }
            _ => return Err(InvalidBody::Trailers),
        })
    }

    fn push_trailer_byte(&mut self, byte: u8) -> Result<(), InvalidBody> {
        self.count_overhead(MAX_TRAILER_SIZE)?;
        self.trailers.push(byte);
        Ok(())
    }

    /// Counts a byte that is not content. Returns an error if there are more than `max`.
    fn count_overhead(&mut self, max: usize) -> Result<(), InvalidBody> {
        self.overhead += 1;
        if self.overhead > max { Err(InvalidBody::Overhead) } else { Ok(()) }
    }

    /// Parses the trailer section, without the empty line that ends it (RFC 9112 §7.1.2).
    fn take_trailers(&mut self) -> Result<Option<HeaderMap>, InvalidBody> {
        if self.trailers.is_empty() {
            return Ok(None);
        }
        let mut section = std::mem::take(&mut self.trailers);
        section.extend_from_slice(b"\r\n");
        let mut fields = [httparse::EMPTY_HEADER; MAX_REQUEST_TRAILER_FIELDS];
        let fields = &mut fields[..self.role.max_trailer_fields()];
        let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&section, fields) else {
            return Err(InvalidBody::Trailers);
        };
        let mut trailers = HeaderMap::with_capacity(fields.len());
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| InvalidBody::Trailers)?;
            let value = HeaderValue::from_bytes(field.value).map_err(|_| InvalidBody::Trailers)?;
            trailers.append(name, value);
        }
        Ok(Some(trailers))
    }
}

/// The maximum size of a trailer section in bytes, in a request together with the chunk extensions.
pub const MAX_TRAILER_SIZE: usize = 16 * 1024;

/// The maximum number of fields in the trailer section of a request.
const MAX_REQUEST_TRAILER_FIELDS: usize = 64;

/// The maximum number of fields in the trailer section of a response.
pub const MAX_RESPONSE_TRAILER_FIELDS: usize = 32;

/// The maximum size of the padding and the extensions of a chunk in a response.
///
/// Together with 16 digits and the line end, a line has at most 1,024 bytes.
const MAX_RESPONSE_EXTENSION_SIZE: usize = 1024 - 16 - 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a body that arrives in pieces of `piece` bytes. Returns its content, trailers and the rest of the input.
    fn decode(role: Role, body: &str, piece: usize) -> Result<(String, Option<HeaderMap>, String), InvalidBody> {
        let mut decoder = ChunkedDecoder::new(role);
        let (mut input, mut content) = (BytesMut::new(), Vec::new());
        let mut pieces = body.as_bytes().chunks(piece);
        loop {
            match decoder.decode(&mut input)? {
                Some(Chunk::Data(data)) => content.extend_from_slice(&data),
                Some(Chunk::End(trailers)) => {
                    pieces.for_each(|piece| input.extend_from_slice(piece));
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    return Ok((text(&content), trailers, text(&input)));
                }
                None => input.extend_from_slice(pieces.next().expect("the body ends")),
            }
        }
    }

    #[test]
    fn decodes_content_and_trailers_for_any_read_boundaries() {
        for (body, content, trailers, rest) in [
            ("0\r\n\r\n", "", &[][..], ""),
            ("000\r\n\r\nGET", "", &[], "GET"),
            ("5\r\nhello\r\n0\r\n\r\n", "hello", &[], ""),
            (
                "A;n=\"v\"\r\n0123456789\r\n1\r\na\r\n0;x\r\nT: v\r\nu:w \r\n\r\nGET",
                "0123456789a",
                &[("t", "v"), ("u", "w")],
                "GET",
            ),
        ] {
            for piece in [1, 2, 3, 7, 100] {
                let (decoded, fields, left) = decode(Role::Client, body, piece).unwrap();
                assert_eq!((&*decoded, &*left), (content, rest), "{body:?}");
                let fields = fields.unwrap_or_default();
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
                assert_eq!(fields, trailers, "{body:?}");
            }
        }
    }

    #[test]
    fn rejects_chunked_bodies_that_parsers_could_interpret_differently() {
        use InvalidBody::{ChunkEnd, ChunkSize, Trailers};
        for (body, error) in [
            ("\r\n", ChunkSize),
            (";\r\n", ChunkSize),
            ("0x5\r\nhello\r\n", ChunkSize),
            (" 5\r\nhello\r\n", ChunkSize),
            ("5 \r\nhello\r\n", ChunkSize),
            ("-5\r\n", ChunkSize),
            ("5\nhello\r\n", ChunkSize),
            ("5\rhello\r\n", ChunkSize),
            ("5\r\nhello0\r\n", ChunkEnd),
            ("5\r\nhello\n0\r\n\r\n", ChunkEnd),
            ("5;a\nb\r\nhello\r\n", ChunkSize),
            ("5;a\0b\r\nhello\r\n", ChunkSize),
            ("0000000000000005\r\n", ChunkSize),
            ("10000000000000005\r\n", ChunkSize),
            ("0\r\n folded\r\n\r\n", Trailers),
            ("0\r\na: b\n\r\n", Trailers),
            ("0\r\na: \0\r\n\r\n", Trailers),
            ("0\r\na : b\r\n\r\n", Trailers),
            ("0\r\nno colon\r\n\r\n", Trailers),
        ] {
            assert_eq!(decode(Role::Client, body, 100).err(), Some(error), "{body:?}");
        }
    }

    #[test]
    fn limits_extensions_of_a_request_and_of_each_chunk_of_a_response() {
        let endless = format!("5;{}", "a".repeat(MAX_TRAILER_SIZE + 1));
        let chunks = format!("1;{}\r\na\r\n", "a".repeat(1000)).repeat(20) + "0\r\n\r\n";
        for role in [Role::Client, Role::Server] {
            assert_eq!(decode(role, &endless, 4096).err(), Some(InvalidBody::Overhead));
        }
        assert_eq!(decode(Role::Client, &chunks, 4096).err(), Some(InvalidBody::Overhead));
        assert_eq!(decode(Role::Server, &chunks, 4096).unwrap().0, "a".repeat(20));
    }

    #[test]
    fn accepts_padded_chunk_sizes_of_servers_only() {
        let body = "5  \r\nhello\r\n0 \r\n\r\n";
        assert_eq!(decode(Role::Server, body, 100).unwrap().0, "hello");
        assert_eq!(decode(Role::Client, body, 100).err(), Some(InvalidBody::ChunkSize));
    }

    #[test]
    fn limits_the_number_of_trailer_fields() {
        let body = |fields| format!("0\r\n{}\r\n", "a: b\r\n".repeat(fields));
        assert!(decode(Role::Client, &body(MAX_REQUEST_TRAILER_FIELDS), 4096).is_ok());
        assert_eq!(
            decode(Role::Client, &body(MAX_REQUEST_TRAILER_FIELDS + 1), 4096).err(),
            Some(InvalidBody::Trailers)
        );
    }

    #[test]
    fn rejects_malformed_chunks_of_a_response() {
        let long = format!("1;{}\r\na", "x".repeat(1024));
        let trailers = format!("0\r\nx: {}", "x".repeat(MAX_TRAILER_SIZE));
        let many = format!("0\r\n{}\r\n", "x: 1\r\n".repeat(MAX_RESPONSE_TRAILER_FIELDS + 1));
        for (body, error) in [
            ("x\r\n", InvalidBody::ChunkSize),
            ("-1\r\n", InvalidBody::ChunkSize),
            ("0x1\r\na", InvalidBody::ChunkSize),
            ("1\na", InvalidBody::ChunkSize),
            ("1;\na\r\na", InvalidBody::ChunkSize),
            ("1;\0\r\na", InvalidBody::ChunkSize),
            ("fffffffffffffffff\r\n", InvalidBody::ChunkSize),
            ("3\r\nabcd\r\n", InvalidBody::ChunkEnd),
            ("1\r\na0\r\n", InvalidBody::ChunkEnd),
            ("\r\n", InvalidBody::ChunkSize),
            ("0\r\na\rb: c\r\n\r\n", InvalidBody::Trailers),
            ("0\r\n a: b\r\n\r\n", InvalidBody::Trailers),
            (&long, InvalidBody::Overhead),
            (&trailers, InvalidBody::Overhead),
            (&many, InvalidBody::Trailers),
        ] {
            assert_eq!(decode(Role::Server, body, body.len()).err(), Some(error), "{body:?}");
        }
    }

    // RFC 9112 §2.2
    #[test]
    fn accepts_a_bare_lf_in_the_trailers_of_a_response_only() {
        let body = "1\r\na\r\n0\r\nx: 1\ny: 2\r\n\n";
        for piece in [1, 2, 100] {
            assert_eq!(decode(Role::Server, body, piece).unwrap().1.unwrap().len(), 2);
        }
        assert_eq!(decode(Role::Client, body, 100).err(), Some(InvalidBody::Trailers));
        assert_eq!(decode(Role::Server, "0\r\n\nHTTP", 100).unwrap().2, "HTTP");
    }

    #[test]
    fn accepts_sixteen_digits_in_chunk_sizes_of_servers_only() {
        let body = "0000000000000001\r\na\r\n0\r\n\r\n";
        assert_eq!(decode(Role::Server, body, 100).unwrap().0, "a");
        assert_eq!(decode(Role::Client, body, 100).err(), Some(InvalidBody::ChunkSize));
    }
}
