//! The JSON format of the access log.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use super::entry::{LoggedRequest, LoggedResponse};

/// Writes an access log entry as one line with a JSON object. Fields that do not apply are left out.
pub(super) fn write(out: &mut Vec<u8>, start: SystemTime, request: &LoggedRequest, response: &LoggedResponse) {
    let head = request.head.as_ref();
    let text = |bytes: &'_ [u8]| String::from_utf8_lossy(bytes).into_owned();
    let tunnel =
        |websocket: bool| response.tunnel.as_ref().filter(|tunnel| (tunnel.protocol == "websocket") == websocket);
    let line = Line {
        time: humantime::format_rfc3339_millis(start).to_string(),
        client: request.client,
        peer: request.peer,
        method: head.map(|head| head.method.as_str()),
        scheme: request.scheme.as_ref().map(|scheme| scheme.as_str()),
        host: head.and_then(|head| head.host()).map(String::from_utf8_lossy),
        target: head.map(|head| head.target()),
        protocol: head.map(|head| head.protocol()),
        site: response.site.as_ref().map(|label| label.site()),
        route: response.site.as_ref().map(|label| label.route()).filter(|route| !route.is_empty()),
        user: response.authenticated.as_ref().and_then(|authenticated| authenticated.user()),
        status: response.status(),
        bytes: response.bytes,
        duration_ms: response.milliseconds(),
        cache: response.cache.map(|cache| cache.as_str()),
        refused: response.refused,
        blocked: response.blocked.as_deref(),
        would_block: response.would_block.as_deref(),
        would_limit: response.would_limit,
        upstream_error: response.upstream_error.clone(),
        request_id: response.request_id.as_ref().map(|id| id.as_str()),
        user_agent: head.and_then(|head| head.user_agent.as_ref()).map(|agent| text(agent.as_bytes())),
        referer: head.and_then(|head| head.referer.as_ref()).map(|referer| text(referer.as_bytes())),
        websocket: tunnel(true).map(|tunnel| WebSocket {
            closed_by: tunnel.closed_by.as_str(),
            close_code: tunnel.close_code(),
            bytes_received: tunnel.bytes_from_client,
            messages_received: tunnel.messages_from_client,
            messages_sent: tunnel.messages_from_upstream,
        }),
        upgrade: tunnel(false).map(|tunnel| Upgrade {
            protocol: &tunnel.protocol,
            closed_by: tunnel.closed_by.as_str(),
            bytes_received: tunnel.bytes_from_client,
        }),
        aborted: response.aborted,
    };
    let length = out.len();
    // Serialisation to memory does not fail; if it did, no line is better than half of one.
    if line.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, AsciiFormatter)).is_err() {
        out.truncate(length);
        return;
    }
    out.push(b'\n');
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    status: u16,
    bytes: u64,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_block: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    would_limit: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    websocket: Option<WebSocket>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrade: Option<Upgrade<'a>>,
    aborted: bool,
}

/// The fields that the access log contains for a WebSocket. The bytes sent to the client are in `bytes`.
#[derive(Serialize)]
struct WebSocket {
    closed_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_code: Option<u16>,
    bytes_received: u64,
    messages_received: u64,
    messages_sent: u64,
}

/// The fields that the access log contains for an upgraded connection of another protocol.
#[derive(Serialize)]
struct Upgrade<'a> {
    protocol: &'a str,
    closed_by: &'static str,
    bytes_received: u64,
}

/// A JSON formatter that escapes every character except printable ASCII. C1 controls, line separators and bidirectional
/// controls are valid JSON, but may harm the terminal that shows the line.
struct AsciiFormatter;

impl Formatter for AsciiFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() && !fragment.contains('\u{7f}') {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        for c in fragment.chars() {
            match c {
                ' '..='~' => write!(writer, "{c}")?,
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{blocked, request, response, start};
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn line(request: &LoggedRequest, response: &LoggedResponse) -> (String, Value) {
        let mut out = Vec::new();
        write(&mut out, start(), request, response);
        let text = String::from_utf8(out).unwrap();
        let value = serde_json::from_str(&text).unwrap();
        (text, value)
    }

    #[test]
    fn writes_one_json_object_per_line() {
        let (text, value) = line(&request(&[("user-agent", b"curl/8")]), &response());
        assert!(text.ends_with("}\n") && text.matches('\n').count() == 1);
        assert_eq!(
            value,
            json!({
                "time": "1994-11-06T08:49:37.123Z", "client": "192.0.2.1", "peer": "10.0.0.1:4711",
                "method": "GET", "scheme": "https", "host": "a.example", "target": "/a?b=c",
                "protocol": "HTTP/1.1", "status": 200, "bytes": 5, "duration_ms": 1.5, "cache": "hit",
                "user_agent": "curl/8", "aborted": false,
            })
        );
    }

    #[test]
    fn logs_reason_of_rejected_request() {
        let (_, value) = line(&request(&[]), &blocked());
        assert_eq!((&value["refused"], &value["blocked"]), (&json!("blocked_path"), &json!("/**/.env")));
    }

    #[test]
    fn json_log_escapes_user_input_without_loss() {
        for (sent, read) in [
            (&b"a\tb"[..], "a\tb"),
            (b"a\",\"status\":500,\"b", "a\",\"status\":500,\"b"),
            (b"\\", "\\"),
            ("\u{9b}31m\u{2028}\u{202e}x".as_bytes(), "\u{9b}31m\u{2028}\u{202e}x"),
            ("😀 é".as_bytes(), "😀 é"),
            (b"\xffx", "\u{fffd}x"),
        ] {
            let (text, value) = line(&request(&[("user-agent", sent)]), &response());
            assert_eq!(value["user_agent"], read);
            assert!(text.trim_end().bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_json_encoding(text in ".{0,40}|[\u{0}-\u{2fff}]{0,20}") {
            let mut out = Vec::new();
            text.serialize(&mut serde_json::Serializer::with_formatter(&mut out, AsciiFormatter)).unwrap();
            prop_assert!(out.iter().all(|byte| (0x20..0x7f).contains(byte)));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
