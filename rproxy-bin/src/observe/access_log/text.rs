//! The text format of the access log: the combined log format with additional fields.

use std::fmt::{self, Write};
use std::time::SystemTime;

use super::entry::{LoggedRequest, LoggedResponse};

/// Writes an access log entry as one line of text.
///
/// The line starts like `192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] "GET / HTTP/1.1" 200 5 "-" "curl" a.example
/// 1.2ms`. Further fields follow as `name=value`.
pub(super) fn write(
    out: &mut Vec<u8>,
    start: SystemTime,
    request: &LoggedRequest,
    response: &LoggedResponse,
    colors: Colors,
) {
    // Writing to memory does not fail.
    let _ = line(&mut Line { out, colors }, start, request, response);
    out.push(b'\n');
}

/// Whether a line has colours. They make the request, the status and the decisions stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colors {
    On,
    Off,
}

fn line(out: &mut Line<'_>, start: SystemTime, request: &LoggedRequest, response: &LoggedResponse) -> fmt::Result {
    out.style(DIM);
    match request.client {
        Some(client) => write!(out, "{client}")?,
        None => out.write_char('-')?,
    }
    let user = response.authenticated.as_ref().and_then(|authenticated| authenticated.user());
    out.write_str(" - ")?;
    out.word(user.unwrap_or("-").as_bytes());
    write!(out, " [{}] ", CombinedDate(start))?;
    out.style(BOLD);
    match &request.head {
        Some(head) => {
            write!(out, "\"{} ", head.method)?;
            out.escaped(head.target().as_bytes());
            write!(out, " {}\"", head.protocol())?;
        }
        None => out.write_str("\"-\"")?,
    }
    out.style(status_style(response.status()));
    write!(out, " {}", response.status())?;
    out.style(PLAIN);
    write!(out, " {} ", response.bytes)?;
    out.style(DIM);
    let head = request.head.as_ref();
    out.quoted(head.and_then(|head| head.referer.as_ref()).map(|referer| referer.as_bytes()));
    out.write_char(' ')?;
    out.quoted(head.and_then(|head| head.user_agent.as_ref()).map(|agent| agent.as_bytes()));
    out.write_char(' ')?;
    out.word(head.and_then(|head| head.host()).unwrap_or(b"-"));
    out.style(PLAIN);
    write!(out, " {}ms", response.milliseconds())?;

    if let Some(label) = &response.site {
        out.write_str(" site=")?;
        out.word(label.site().as_bytes());
        if !label.route().is_empty() {
            out.write_str(" route=")?;
            out.quoted(Some(label.route().as_bytes()));
        }
    }
    out.style(CYAN);
    if let Some(cache) = response.cache {
        write!(out, " cache={}", cache.as_str())?;
    }
    out.style(YELLOW);
    if let Some(refused) = response.refused {
        write!(out, " refused={refused}")?;
    }
    for (name, rule) in [("rule", &response.blocked), ("would_block", &response.would_block)] {
        if let Some(rule) = rule {
            write!(out, " {name}=")?;
            out.quoted(Some(rule.as_bytes()));
        }
    }
    if response.would_limit {
        out.write_str(" would_limit")?;
    }
    if let Some(error) = &response.upstream_error {
        out.write_str(" upstream_error=")?;
        out.quoted(Some(error.as_bytes()));
    }
    out.style(PLAIN);
    if let Some(tunnel) = &response.tunnel {
        let is_websocket = tunnel.protocol == "websocket";
        if !is_websocket {
            out.write_str(" protocol=")?;
            out.word(tunnel.protocol.as_bytes());
        }
        write!(out, " closed_by={}", tunnel.closed_by.as_str())?;
        if let Some(code) = tunnel.close_code() {
            write!(out, " close_code={code}")?;
        }
        write!(out, " received={}", tunnel.bytes_from_client)?;
        if is_websocket {
            write!(out, " messages={}/{}", tunnel.messages_from_client, tunnel.messages_from_upstream)?;
        }
    }
    if response.aborted {
        out.write_str(" aborted")?;
    }
    if let Some(id) = &response.request_id {
        out.style(DIM);
        out.write_str(" id=")?;
        out.word(id.as_str().as_bytes());
    }
    out.style(PLAIN);
    Ok(())
}

/// Control sequences of ECMA-48 (SGR), each of which starts from the plain style.
const PLAIN: &str = "\x1b[0m";
const BOLD: &str = "\x1b[0;1m";
const DIM: &str = "\x1b[0;2m";
const RED: &str = "\x1b[0;31m";
const GREEN: &str = "\x1b[0;32m";
const YELLOW: &str = "\x1b[0;33m";
const CYAN: &str = "\x1b[0;36m";

fn status_style(status: u16) -> &'static str {
    match status {
        ..300 => GREEN,
        300..400 => CYAN,
        400..500 => YELLOW,
        500.. => RED,
    }
}

/// A line in a buffer. User input must be written by `escaped`, `word` or `quoted`.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    colors: Colors,
}

impl Line<'_> {
    /// Starts a style, if the line has colours.
    fn style(&mut self, sequence: &'static str) {
        if self.colors == Colors::On {
            self.out.extend_from_slice(sequence.as_bytes());
        }
    }

    /// Writes bytes with `\xHH` escapes as nginx does, for quotes, backslashes, control characters and non-ASCII bytes.
    fn escaped(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'"' | b'\\' | ..=0x1f | 0x7f.. => {
                    self.out.extend([b'\\', b'x', hex_digit(byte >> 4), hex_digit(byte & 0xf)])
                }
                _ => self.out.push(byte),
            }
        }
    }

    /// Writes a value without quotes, with escaped spaces.
    fn word(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b' ') {
            match part.strip_suffix(b" ") {
                Some(part) => {
                    self.escaped(part);
                    self.out.extend(br"\x20");
                }
                None => self.escaped(part),
            }
        }
    }

    fn quoted(&mut self, bytes: Option<&[u8]>) {
        self.out.push(b'"');
        self.escaped(bytes.unwrap_or(b"-"));
        self.out.push(b'"');
    }
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn hex_digit(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(nibble & 0xf)]
}

/// Displays a time in the date format of the combined log, `06/Nov/1994:08:49:37 +0000`.
struct CombinedDate(SystemTime);

impl fmt::Display for CombinedDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Slices `Sun, 06 Nov 1994 08:49:37 GMT`, whose positions are fixed by RFC 9110 §5.6.7.
        let date = httpdate::fmt_http_date(self.0.max(SystemTime::UNIX_EPOCH));
        let part = |places: std::ops::Range<usize>| date.get(places).unwrap_or_default();
        write!(f, "{}/{}/{}:{} +0000", part(5..7), part(8..11), part(12..16), part(17..25))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{blocked, request, response, start};
    use super::*;
    use proptest::prelude::*;

    fn text(request: &LoggedRequest, response: &LoggedResponse) -> String {
        let mut out = Vec::new();
        write(&mut out, start(), request, response, Colors::Off);
        String::from_utf8(out).unwrap()
    }

    fn colored(request: &LoggedRequest, response: &LoggedResponse) -> String {
        let mut out = Vec::new();
        write(&mut out, start(), request, response, Colors::On);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn colored_line_is_the_same_text() {
        for response in [response(), blocked()] {
            let (request, mut colored) = (request(&[("user-agent", b"\xc2\x9b31m")]), String::new());
            for part in self::colored(&request, &response).split('\x1b') {
                colored.push_str(
                    part.split_once('m').filter(|(style, _)| style.starts_with("[0")).map_or(part, |it| it.1),
                );
            }
            assert_eq!(colored, text(&request, &response));
        }
    }

    #[test]
    fn colors_tell_statuses_apart_and_end_with_the_line() {
        let (request, refused) = (request(&[]), blocked());
        let line = self::colored(&request, &refused);
        assert!(line.contains("\x1b[0;33m 404\x1b[0m") && line.contains("\x1b[0;33m refused="), "{line:?}");
        assert!(line.ends_with("\x1b[0m\n"), "{line:?}");
        assert!(self::colored(&request, &response()).contains("\x1b[0;32m 200\x1b[0m"));
    }

    #[test]
    fn line_starts_with_the_combined_log_format() {
        assert_eq!(
            text(&request(&[("user-agent", b"curl/8"), ("referer", b"https://b.example/")]), &response()),
            "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=c HTTP/1.1\" 200 5 \"https://b.example/\" \"curl/8\" \
             a.example 1.5ms cache=hit\n"
        );
    }

    #[test]
    fn logs_reason_of_rejected_request() {
        let line = text(&request(&[]), &blocked());
        assert!(line.ends_with("\"-\" \"-\" a.example 1.5ms refused=blocked_path rule=\"/**/.env\"\n"), "{line}");
    }

    #[test]
    fn aborted_request_is_marked_in_the_log() {
        let response = LoggedResponse { status: None, aborted: true, ..LoggedResponse::default() };
        assert!(text(&request(&[]), &response).ends_with("\" 499 0 \"-\" \"-\" a.example 0ms aborted\n"));
    }

    #[test]
    fn user_input_cannot_forge_log_lines_or_fields() {
        for (sent, written) in [
            (&b"a\tb"[..], r"a\x09b"),
            (b"a\" 200 0 \"b", r"a\x22 200 0 \x22b"),
            (b"a\\x41", r"a\x5Cx41"),
            (b"\xffx", r"\xFFx"),
            ("\u{9b}31m".as_bytes(), r"\xC2\x9B31m"),
            ("é".as_bytes(), r"\xC3\xA9"),
        ] {
            let line = text(&request(&[("user-agent", sent)]), &response());
            assert!(line.contains(&format!("\"-\" \"{written}\" a.example")), "{line}");
        }
        let line = text(&request(&[("host", b"a b\"")]), &response());
        assert!(line.contains(r#" "-" a\x20b\x22 1.5ms"#), "{line}");
    }

    proptest! {
        #[test]
        fn user_input_is_written_as_printable_ascii(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut out = Vec::new();
            let mut line = Line { out: &mut out, colors: Colors::Off };
            line.quoted(Some(&bytes));
            line.word(&bytes);
            prop_assert!(out.iter().all(|byte| (0x20..0x7f).contains(byte)));
            prop_assert_eq!(out.iter().filter(|byte| **byte == b'"').count(), 2);
        }
    }
}
