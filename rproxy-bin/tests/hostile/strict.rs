//! An HTTP/1.1 parser that accepts only requests that strictly follow RFC 9112.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::backends::SeenRequest;

/// Reads the next request on a connection; returns `None` if the connection ends first or within the request.
pub(crate) fn read(stream: &mut TcpStream) -> Result<Option<SeenRequest>, String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match byte(stream) {
            Some(byte) => head.push(byte),
            None if head.is_empty() => return Ok(None),
            None => return Err(format!("an incomplete head: {}", head.escape_ascii())),
        }
    }
    let bad = |what: &str| format!("{what}: {}", head.escape_ascii());
    if head.iter().zip(head.iter().skip(1)).any(|(&this, &next)| (next == b'\n') != (this == b'\r')) {
        return Err(bad("an invalid line end"));
    }
    let text = String::from_utf8_lossy(&head);
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let request_line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = request_line[..] else { return Err(bad("an invalid request line")) };
    if !is_token(method) || target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("an invalid request line"));
    }
    let (mut hosts, mut lengths, mut codings) = (Vec::new(), Vec::new(), Vec::new());
    let (mut has_te, mut names_te, mut expects_continue) = (false, false, false);
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or_else(|| bad("an invalid field"))?;
        if !is_token(name) || value.chars().any(|c| c.is_ascii_control() && c != '\t') {
            return Err(bad("an invalid field"));
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts.push(value),
            "content-length" => lengths.push(value.parse().map_err(|_| bad("no length"))?),
            "transfer-encoding" => codings.push(value),
            // RFC 9110 §10.1.4: `TE` is named in `Connection`, and nothing else is.
            "connection" if matches!(value, "close" | "te" | "close, te") => names_te = value.ends_with("te"),
            "te" if value == "trailers" => has_te = true,
            // RFC 9110 §10.1.1: the only expectation.
            "expect" if value.eq_ignore_ascii_case("100-continue") => expects_continue = true,
            "connection" | "upgrade" | "keep-alive" | "te" | "http2-settings" | "expect" => {
                return Err(bad("a hop-by-hop field"));
            }
            _ => {}
        }
    }
    if has_te != names_te {
        return Err(bad("TE without its connection option"));
    }
    let [host] = hosts[..] else { return Err(bad("not one host")) };
    if expects_continue {
        // Fails only if the proxy has closed the connection.
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let length = match (&lengths[..], &codings[..]) {
        ([], []) => Some(0),
        (&[length], []) => exactly(stream, length).map(|body| body.len()),
        ([], ["chunked"]) => chunks(stream)?,
        _ => return Err(bad("not one length")),
    };
    let (method, target, host) = (method.to_owned(), target.to_owned(), host.to_owned());
    Ok(length.map(|length| SeenRequest { method, target, host, length: Some(length) }))
}

fn chunks(stream: &mut TcpStream) -> Result<Option<usize>, String> {
    let mut length = 0;
    loop {
        let Some(line) = line(stream)? else { return Ok(None) };
        let size = usize::from_str_radix(&line, 16).map_err(|_| format!("a size of {line:?}"))?;
        if size == 0 {
            break;
        }
        match exactly(stream, size + 2) {
            Some(chunk) if chunk.ends_with(b"\r\n") => length += size,
            Some(chunk) => return Err(format!("a chunk without its end: {}", chunk.escape_ascii())),
            None => return Ok(None),
        }
    }
    loop {
        match line(stream)? {
            None => return Ok(None),
            Some(end) if end.is_empty() => return Ok(Some(length)),
            Some(field) => {
                let name = field.split_once(": ").map_or("", |(name, _)| name);
                const FRAMING: [&str; 5] = ["content-length", "transfer-encoding", "host", "trailer", "connection"];
                if !is_token(name) || FRAMING.contains(&name) || name.starts_with("x-forwarded") {
                    return Err(format!("a trailer of {field:?}"));
                }
            }
        }
    }
}

fn line(stream: &mut TcpStream) -> Result<Option<String>, String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        match byte(stream) {
            Some(byte) => line.push(byte),
            None => return Ok(None),
        }
    }
    let line = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
    if line.contains(['\r', '\n']) { Err(format!("a line end within {line:?}")) } else { Ok(Some(line)) }
}

/// Returns whether the name is a token (RFC 9110 §5.6.2).
fn is_token(name: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_tchar)
}

fn byte(stream: &mut TcpStream) -> Option<u8> {
    exactly(stream, 1).map(|byte| byte[0])
}

/// Reads exactly `length` bytes without allocating memory for bytes that have not arrived.
fn exactly(stream: &mut TcpStream, length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = stream.take(length as u64).read_to_end(&mut bytes);
    (read.is_ok() && bytes.len() == length).then_some(bytes)
}
