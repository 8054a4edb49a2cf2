//! The HTTP/1.1 requests of the scenarios, as bytes.

use crate::compare::certificate::HOST;
use crate::compare::template::Conditions;

/// The requests of a scenario. Each connection sends the next one of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requests {
    Get,
    /// A body of this many bytes, with `Content-Length` or in chunks.
    Post {
        bytes: usize,
        is_chunked: bool,
    },
    /// This many GET requests at once on a connection.
    Pipelined(usize),
    /// GET requests for this many sites, round robin.
    Sites(usize),
    /// Small and large responses, cache hits and uploads.
    Mix,
}

/// The largest chunk of a body, which is a usual buffer size of clients.
const CHUNK: usize = 16 * 1024;

impl Requests {
    /// Returns the messages for a request target. All contain the same number of requests.
    pub(super) fn messages(self, path: &str) -> Vec<Vec<u8>> {
        match self {
            Self::Get => vec![get(HOST, path)],
            Self::Post { bytes, is_chunked } => vec![post(path, bytes, is_chunked)],
            Self::Pipelined(count) => vec![get(HOST, path).repeat(count)],
            Self::Sites(sites) => {
                let hosts = Conditions { sites, ..Conditions::default() }.hosts();
                hosts.iter().map(|host| get(host, path)).collect()
            }
            Self::Mix => mix(),
        }
    }

    pub(super) fn describe(self) -> String {
        match self {
            Self::Get => "GET".to_owned(),
            Self::Post { bytes, is_chunked: false } => format!("POST of {bytes} bytes with `Content-Length`"),
            Self::Post { bytes, is_chunked: true } => {
                format!("POST of {bytes} bytes with `Transfer-Encoding: chunked`, in chunks of at most 16 KiB")
            }
            Self::Pipelined(count) => format!("{count} pipelined GET requests"),
            Self::Sites(sites) => format!("GET for {sites} hosts, round robin, each with a route of its own"),
            Self::Mix => {
                "of 20 requests: 8 GET of 17 B, 3 of 1 kB, 3 of 20 kB and 1 of 100 kB, 2 cache hits of 1 kB, 3 \
                          POST of 1 kB (1 chunked)"
                    .to_owned()
            }
        }
    }
}

fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

fn post(path: &str, bytes: usize, is_chunked: bool) -> Vec<u8> {
    let body = vec![b'x'; bytes];
    let head = format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/octet-stream\r\n");
    if !is_chunked {
        return [format!("{head}Content-Length: {bytes}\r\n\r\n").as_bytes(), &body].concat();
    }
    let mut message = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(CHUNK) {
        message.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    message.extend(b"0\r\n\r\n");
    message
}

/// Returns the mix in an order in which no kind of request is in one block.
fn mix() -> Vec<Vec<u8>> {
    let small = || get(HOST, "/small");
    let upload = |is_chunked| post("/upload", 1000, is_chunked);
    vec![
        small(),
        get(HOST, "/1k"),
        small(),
        upload(false),
        get(HOST, "/20k"),
        small(),
        get(HOST, "/1k.js"),
        small(),
        get(HOST, "/1k"),
        get(HOST, "/20k"),
        small(),
        upload(true),
        small(),
        get(HOST, "/100k"),
        get(HOST, "/1k"),
        small(),
        get(HOST, "/1k.js"),
        get(HOST, "/20k"),
        small(),
        upload(false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_post_ends_with_the_last_chunk() {
        let text = String::from_utf8(post("/upload", 3, true)).unwrap();
        assert!(text.ends_with("Transfer-Encoding: chunked\r\n\r\n3\r\nxxx\r\n0\r\n\r\n"), "{text}");
        // 100,000 bytes are six chunks of 16 KiB, and one of 1696 bytes.
        let text = String::from_utf8(post("/upload", 100_000, true)).unwrap();
        assert_eq!((text.matches("4000\r\n").count(), text.matches("6a0\r\n").count()), (6, 1));
    }

    #[test]
    fn each_site_has_one_request() {
        let messages = Requests::Sites(200).messages("/small");
        assert_eq!(messages.len(), 200);
        assert!(messages[7].starts_with(b"GET /small HTTP/1.1\r\nHost: site7.example\r\n"));
    }

    #[test]
    fn mix_has_the_described_number_of_requests() {
        assert_eq!(Requests::Mix.messages("/").len(), 20);
        let count = |start: &str| mix().iter().filter(|message| message.starts_with(start.as_bytes())).count();
        let paths = ["GET /small ", "GET /1k ", "GET /20k ", "GET /100k ", "GET /1k.js ", "POST /upload "];
        assert_eq!(paths.map(count), [8, 3, 3, 1, 2, 3]);
    }
}
