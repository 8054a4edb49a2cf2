//! A read-only scanner for the chunked transfer coding (RFC 9112 §7.1).

/// The state of the scan of a chunked body.
#[derive(Debug)]
pub(crate) struct Chunked {
    state: State,
    /// The total size of chunk extensions and trailers, which is limited because they contain no content.
    overhead: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size {
        size: u64,
        digits: u8,
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

impl Chunked {
    pub(crate) fn new() -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, overhead: 0 }
    }

    /// Scans bytes, and returns the number of bytes that belong to the body and whether the body is complete.
    ///
    /// Returns an error if the coding is invalid.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<(usize, bool), ()> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            self.state = match (self.state, byte) {
                (State::Data { left }, _) => {
                    let taken = left.min((bytes.len() - at) as u64);
                    at += taken as usize;
                    self.state = if taken == left { State::DataCr } else { State::Data { left: left - taken } };
                    continue;
                }
                // At most 15 digits, which can't overflow.
                (State::Size { size, digits: digits @ 0..15 }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    let digit = (byte as char).to_digit(16).ok_or(())?;
                    State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
                }
                (State::Size { size, digits: 1.. }, b'\r') => State::SizeEnd { size },
                (State::Size { size, digits: 1.. }, b';') => State::Extension { size },
                (State::Extension { size }, b'\r') => State::SizeEnd { size },
                (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                    self.overhead(State::Extension { size })?
                }
                (State::SizeEnd { size: 0 }, b'\n') => State::TrailerStart,
                (State::SizeEnd { size: left }, b'\n') => State::Data { left },
                (State::DataCr, b'\r') => State::DataLf,
                (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
                (State::TrailerStart, b'\r') => State::EndLf,
                (State::EndLf, b'\n') => return Ok((at + 1, true)),
                // RFC 9112 §5.2: no line folding.
                (State::TrailerStart, b' ' | b'\t') => return Err(()),
                (State::Trailer, b'\r') => State::TrailerLf,
                (State::TrailerStart | State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                    self.overhead(State::Trailer)?
                }
                (State::TrailerLf, b'\n') => State::TrailerStart,
                _ => return Err(()),
            };
            at += 1;
        }
        Ok((at, false))
    }

    fn overhead(&mut self, state: State) -> Result<State, ()> {
        self.overhead += 1;
        if self.overhead > MAX_OVERHEAD { Err(()) } else { Ok(state) }
    }
}

/// The maximum size of chunk extensions and trailers, equal to hyper's limit for chunk extensions.
const MAX_OVERHEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_valid_chunked_bodies() {
        for (body, end) in [
            ("0\r\n\r\n", 5),
            ("000\r\n\r\nGET", 7),
            ("5\r\nhello\r\n0\r\n\r\n", 15),
            ("A;n=\"v\"\r\n0123456789\r\n0;x\r\nT: v\r\n\r\nGET", 34),
        ] {
            assert_eq!(Chunked::new().advance(body.as_bytes()), Ok((end, true)), "{body:?}");
        }
    }

    #[test]
    fn rejects_chunked_bodies_that_parsers_could_interpret_differently() {
        for body in [
            "\r\n",
            ";\r\n",
            "0x5\r\nhello\r\n",
            " 5\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "-5\r\n",
            "5\nhello\r\n",
            "5\rhello\r\n",
            "5\r\nhello0\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n",
            "0000000000000005\r\n",
            "10000000000000005\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\na: b\n\r\n",
            "0\r\na: \0\r\n\r\n",
        ] {
            assert_eq!(Chunked::new().advance(body.as_bytes()), Err(()), "{body:?}");
        }
        let endless = format!("5;{}", "a".repeat(MAX_OVERHEAD + 1));
        assert_eq!(Chunked::new().advance(endless.as_bytes()), Err(()));
    }
}
