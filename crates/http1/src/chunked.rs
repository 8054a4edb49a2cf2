//! The decoder of the chunked transfer coding (RFC 9112 §7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::body::InvalidBody;

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
    Server,
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
            // At most 15 digits, which can't overflow.
            (State::Size { size, digits: digits @ 0..15 }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).ok_or(InvalidBody::ChunkSize)?;
                State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { size, digits: 1.. } | State::Padding { size }, b'\r') => State::SizeEnd { size },
            (State::Size { size, digits: 1.. } | State::Padding { size }, b';') => State::Extension { size },
            (State::Size { size, digits: 1.. } | State::Padding { size }, b' ' | b'\t') if is_server => {
                self.count_overhead()?;
                State::Padding { size }
            }
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_overhead()?;
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
            // RFC 9112 §5.2: no line folding.
            (State::TrailerStart, b' ' | b'\t') => return Err(InvalidBody::Trailers),
            (State::Trailer, b'\r') => {
                self.trailers.push(byte);
                State::TrailerLf
            }
            (State::TrailerStart | State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_overhead()?;
                self.trailers.push(byte);
                State::Trailer
            }
            (State::TrailerLf, b'\n') => {
                self.trailers.push(byte);
                State::TrailerStart
            }
            _ => return Err(InvalidBody::Trailers),
        })
    }

    fn count_overhead(&mut self) -> Result<(), InvalidBody> {
        self.overhead += 1;
        if self.overhead > MAX_OVERHEAD { Err(InvalidBody::Overhead) } else { Ok(()) }
    }

    /// Parses the trailer section, without the empty line that ends it (RFC 9112 §7.1.2).
    fn take_trailers(&mut self) -> Result<Option<HeaderMap>, InvalidBody> {
        if self.trailers.is_empty() {
            return Ok(None);
        }
        let mut section = std::mem::take(&mut self.trailers);
        section.extend_from_slice(b"\r\n");
        let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
        let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&section, &mut fields) else {
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

/// The maximum size of chunk extensions and trailers in bytes.
const MAX_OVERHEAD: usize = 16 * 1024;

/// The maximum number of fields in a trailer section.
const MAX_TRAILER_FIELDS: usize = 64;

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
        let endless = format!("5;{}", "a".repeat(MAX_OVERHEAD + 1));
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
        assert!(decode(Role::Client, &body(MAX_TRAILER_FIELDS), 4096).is_ok());
        assert_eq!(decode(Role::Client, &body(MAX_TRAILER_FIELDS + 1), 4096).err(), Some(InvalidBody::Trailers));
    }
}
