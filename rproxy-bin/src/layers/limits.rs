//! The settings that limit connections and request heads.

use std::num::NonZeroU64;
use std::time::Duration;

use rproxy_server::{HalfClose, Limits};

use crate::setting::{DURATION, settings};
use crate::values::choice::HalfCloseRule;
use crate::values::value::{count, format_duration, format_size, limit, size_between, timeout};

settings! {
    /// The settings that limit connections and request heads.
    LimitSettings, "Limits"

    "head_timeout" => head_timeout: Duration {
        value: "DURATION",
        default: "15s",
        help: "Maximum time from the first to the last byte of a request head; slower clients get 408",
        accepted: DURATION,
        scope: Process,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.head_timeout)),
    }

    "idle_timeout" => idle_timeout: Duration {
        value: "DURATION",
        default: "1m 15s",
        help: "Closes a connection after this time without a request",
        accepted: DURATION,
        scope: Process,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.idle_timeout)),
    }

    "half_close" => half_close: HalfCloseRule {
        value: "RULE",
        default: "with-request",
        help: "Whether an HTTP/1 client that closes its sending side still gets a response",
        accepted: "with-request (if it closes within 200 ms of its request), always or never",
        scope: Process,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.half_close.to_string()),
    }

    "send_timeout" => send_timeout: Duration {
        value: "DURATION",
        default: "1m",
        help: "Closes a connection if the client accepts no data for this time",
        accepted: DURATION,
        scope: Process,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.send_timeout)),
    }

    "handshake_timeout" => handshake_timeout: Duration {
        value: "DURATION",
        default: "10s",
        help: "Maximum time for a TLS handshake, and for a PROXY protocol header",
        accepted: DURATION,
        scope: Process,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.handshake_timeout)),
    }

    "max_head" => max_head: usize {
        value: "SIZE",
        default: "32KiB",
        help: "Maximum size of a request head; larger ones get 431",
        accepted: "a size from 1KiB to 1MiB; a bare number is bytes",
        scope: Process,
        reload: Live,
        parse: |t| size_between(t, 1 << 10, 1 << 20),
        show: |s| Some(format_size(s.max_head as u64)),
    }

    "max_target" => max_target: usize {
        value: "SIZE",
        default: "8KiB",
        help: "Maximum length of a request target; longer ones get 414",
        accepted: "a size from 64B to 65534B; a bare number is bytes",
        scope: Process,
        reload: Live,
        parse: |t| size_between(t, 64, MAX_TARGET),
        show: |s| Some(format_size(s.max_target as u64)),
    }

    "max_fields" => max_fields: usize {
        value: "NUMBER",
        default: "100",
        help: "Maximum number of header fields in a request; requests with more get 431",
        accepted: "a whole number from 1 to 10000",
        scope: Process,
        reload: Live,
        parse: |t| limit(t, 10000),
        show: |s| Some(s.max_fields.to_string()),
    }

    "max_streams" => max_streams: u32 {
        value: "NUMBER",
        default: "128",
        help: "Maximum number of concurrent HTTP/2 streams per connection",
        accepted: "a whole number from 1 to 10000",
        scope: Process,
        reload: Live,
        parse: |t| limit(t, 10000),
        show: |s| Some(s.max_streams.to_string()),
    }

    "max_requests" => max_requests: Option<NonZeroU64> {
        value: "NUMBER",
        default: "`0` (no limit)" => None,
        help: "Maximum number of requests per connection, which is then closed gracefully",
        accepted: "a whole number up to 1000000000; 0 for no limit",
        scope: Process,
        reload: Live,
        parse: |t| count(t, 1_000_000_000).map(|most| NonZeroU64::new(most.into())),
        show: |s| Some(s.max_requests.map_or_else(|| "0".to_owned(), |most| most.to_string())),
    }

    "max_connections" => max_connections: usize {
        value: "NUMBER",
        default: "16384",
        help: "Maximum number of open client connections; additional ones wait in the accept queue",
        accepted: "a whole number from 1 to 1000000",
        scope: Process,
        reload: Live,
        parse: |t| limit(t, 1000000),
        show: |s| Some(s.max_connections.to_string()),
    }

    "max_connections_per_client" => max_connections_per_client: usize {
        value: "NUMBER",
        default: "12288",
        help: "Maximum number of connections per client address (IPv6: per /64), except for trusted proxies; additional ones are closed",
        accepted: "a whole number from 1 to 1000000",
        scope: Process,
        reload: Live,
        parse: |t| limit(t, 1000000),
        show: |s| Some(s.max_connections_per_client.to_string()),
    }

    "max_handshakes" => max_handshakes: usize {
        value: "NUMBER",
        default: "4096",
        help: "Maximum number of concurrent TLS handshakes; if it is exceeded, the oldest handshake is aborted",
        accepted: "a whole number from 1 to 1000000",
        scope: Process,
        reload: Live,
        parse: |t| limit(t, 1000000),
        show: |s| Some(s.max_handshakes.to_string()),
    }


    idle {
        ["max_handshakes"] => |_, c| (!c.has_tls).then(|| "TLS is off".to_owned()),
    }
}

/// The longest request target that hyper and h2 parse. They reject longer ones without a log line.
const MAX_TARGET: u64 = 65_534;

impl LimitSettings {
    /// Returns the limits in the form that the server accepts.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.head_timeout = self.head_timeout;
        limits.idle_timeout = self.idle_timeout;
        limits.send_timeout = self.send_timeout;
        limits.handshake_timeout = self.handshake_timeout;
        limits.head_size = self.max_head;
        limits.target_size = self.max_target;
        limits.fields = self.max_fields;
        limits.concurrent_streams = self.max_streams;
        limits.requests = self.max_requests;
        limits.connections = self.max_connections;
        limits.connections_per_client = self.max_connections_per_client;
        limits.handshakes = self.max_handshakes;
        limits
    }

    pub(crate) fn half_close(&self) -> HalfClose {
        match self.half_close {
            HalfCloseRule::WithRequest => HalfClose::WithRequest,
            HalfCloseRule::Always => HalfClose::Always,
            HalfCloseRule::Never => HalfClose::Never,
        }
    }
}
