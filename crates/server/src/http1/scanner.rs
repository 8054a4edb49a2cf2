//! A scanner that finds the boundaries of HTTP/1.1 messages before hyper parses them.
//!
//! If a head has both `Content-Length` and `Transfer-Encoding`, hyper uses the latter and drops the former, so the
//! service can't detect the conflict. Another parser in the chain may use the former, which enables request smuggling.
//! The scanner checks the framing of the raw bytes, and rejects ambiguous messages (RFC 9112 §6.3, §11.2).
//!
//! It also rejects all heads that hyper's parser would reject, because hyper's own responses bypass the service, and so
//! lack a log entry and security headers.

use super::chunked::Chunked;
use super::framing::{BodyFraming, HeadLimits, Version, frame_head, head_end};
use crate::RejectedHead;

/// The scanner for the messages that a client sends on one connection.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    limits: HeadLimits,
    /// The number of bytes of the current incomplete head that were scanned already.
    scanned: usize,
    /// The number of complete heads so far.
    heads: u64,
    /// The HTTP version of the last complete head.
    version: Version,
}

#[derive(Debug)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunked),
    /// The state after an upgrade request, when the meaning of the bytes depends on the pending response.
    AwaitsUpgrade,
    /// The state after a 101 response, when the bytes of the connection are not HTTP.
    Tunnel,
}

/// The result of scanning bytes from a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// This number of bytes may be forwarded, and no scanned message is invalid.
    ///
    /// The rest is an incomplete head, the next message, or must wait for the response to an upgrade request.
    Pass(usize),
    /// This number of bytes may be forwarded, and the target of the following head must be percent-encoded first.
    Encode(usize),
    /// This number of bytes may be forwarded, and the following head is rejected.
    Reject(usize, RejectedHead),
    /// This number of bytes may be forwarded, before an invalid body framing ends the connection.
    Broken(usize),
}

impl Scanner {
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self { state: State::Head, limits, scanned: 0, heads: 0, version: Version::Http11 }
    }

    /// Scans bytes up to the end of a message, starting where the `Pass` of the last call ended.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut at = 0;
        // The position of the current message's head, if it is in these bytes.
        let mut head_at = None;
        while at < bytes.len() && !(at > 0 && self.is_at_head()) {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Head => match head_end(rest, self.scanned) {
                    Some(end) => {
                        self.scanned = 0;
                        match frame_head(&rest[..end], &self.limits) {
                            Ok(head) if head.needs_encoding => return Scan::Encode(at),
                            Ok(head) => (self.state, self.version) = (head.body.into(), head.version),
                            Err(rejected) => return Scan::Reject(at, rejected),
                        }
                        head_at = Some(at);
                        self.heads += 1;
                        at += end;
                    }
                    None => {
                        let scanned = std::mem::replace(&mut self.scanned, rest.len().saturating_sub(3));
                        return match self.limits.check_incomplete(rest, scanned) {
                            Some(rejected) => Scan::Reject(at, rejected),
                            None => Scan::Pass(at),
                        };
                    }
                },
                State::Length(left) => {
                    let taken = (*left).min(rest.len() as u64);
                    *left -= taken;
                    at += taken as usize;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                }
                State::Chunked(chunked) => match chunked.advance(rest) {
                    Ok((taken, done)) => {
                        at += taken;
                        if done {
                            self.state = State::Head;
                        }
                    }
                    Err(()) => match head_at {
                        // No part of this message has been forwarded, so all of it can be rejected.
                        Some(head_at) => {
                            self.heads -= 1;
                            return Scan::Reject(head_at, RejectedHead::Framing);
                        }
                        None => return Scan::Broken(at),
                    },
                },
                State::AwaitsUpgrade => break,
                State::Tunnel => return Scan::Pass(bytes.len()),
            }
        }
        Scan::Pass(at)
    }

    /// Scans all messages in `bytes`, for tests and fuzzing.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn scan_all(&mut self, bytes: &[u8]) -> Scan {
        let mut at = 0;
        loop {
            let scan = self.scan(&bytes[at..]);
            let taken = match scan {
                Scan::Pass(passed) if passed > 0 && at + passed < bytes.len() => passed,
                Scan::Pass(passed) => return Scan::Pass(at + passed),
                Scan::Encode(passed) => return Scan::Encode(at + passed),
                Scan::Reject(passed, rejected) => return Scan::Reject(at + passed, rejected),
                Scan::Broken(passed) => return Scan::Broken(at + passed),
            };
            at += taken;
        }
    }

    /// Returns the number of accepted request heads.
    pub(crate) fn heads(&self) -> u64 {
        self.heads
    }

    /// Returns whether the last accepted request head has version HTTP/1.0.
    pub(crate) fn is_http10(&self) -> bool {
        self.version == Version::Http10
    }

    /// Returns whether the next byte belongs to a request head.
    pub(crate) fn is_at_head(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// Returns whether the response to an upgrade request is pending.
    pub(crate) fn awaits_upgrade(&self) -> bool {
        matches!(self.state, State::AwaitsUpgrade)
    }

    /// Returns whether the connection switched to another protocol.
    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self.state, State::Tunnel)
    }

    /// Restarts the scan of an incomplete head at its first byte.
    pub(crate) fn restart_head(&mut self) {
        self.scanned = 0;
    }

    /// Continues the scan after the response to an upgrade request.
    pub(crate) fn complete_upgrade(&mut self, is_switched: bool) {
        self.state = if is_switched { State::Tunnel } else { State::Head };
    }
}

impl From<BodyFraming> for State {
    fn from(framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::None => Self::Head,
            BodyFraming::Length(length) => Self::Length(length),
            BodyFraming::Chunked => Self::Chunked(Chunked::new()),
            BodyFraming::Upgrade => Self::AwaitsUpgrade,
        }
    }
}

#[cfg(test)]
mod tests;
