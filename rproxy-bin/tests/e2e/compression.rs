//! Tests of compression with and without the cache, over HTTP/1.1 and HTTP/2.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::upstream::responding;
use crate::support::{Proxy, curl, has};

/// A backend with one text document, which evaluates `If-Match`, `If-None-Match` and `Range` with `If-Range`.
#[derive(Clone, Default)]
struct Document {
    version: Arc<AtomicUsize>,
    /// The `If-None-Match` value of each received GET request, or an empty string.
    conditions: Arc<Mutex<Vec<String>>>,
}

impl Document {
    fn start(&self, settings: &[(&str, &str)]) -> Proxy {
        let document = self.clone();
        Proxy::start(responding(move |head| document.respond(head)), settings)
    }

    fn respond(&self, head: &str) -> String {
        let text = "compress me ".repeat(200);
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let (method, target) = head.split_once(' ').unwrap();
        let tag = format!("\"v{}\"", self.version.load(Ordering::SeqCst));
        let names = |name: &str| field(name).map(|list| list.split(", ").any(|member| member == tag || member == "*"));
        if method == "GET" {
            self.conditions.lock().unwrap().push(field("if-none-match").unwrap_or_default().to_owned());
        }
        let lifetime = if target.starts_with("/static/stale") { 0 } else { 60 };
        let fields = format!("etag: {tag}\r\ncache-control: public, max-age={lifetime}\r\n");
        let content = format!("content-type: text/css\r\naccept-ranges: bytes\r\n{fields}");
        match method {
            _ if names("if-match") == Some(false) => {
                format!("HTTP/1.1 412 Precondition Failed\r\n{fields}content-length: 0\r\n\r\n")
            }
            "PUT" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            _ if names("if-none-match") == Some(true) => format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"),
            "HEAD" => format!("HTTP/1.1 200 OK\r\n{content}content-length: {}\r\n\r\n", text.len()),
            _ if field("range").is_some() && names("if-range") != Some(false) => {
                let range = format!("content-range: bytes 0-99/{}\r\ncontent-length: 100\r\n", text.len());
                format!("HTTP/1.1 206 Partial Content\r\n{content}{range}\r\n{}", &text[..100])
            }
            _ => format!("HTTP/1.1 200 OK\r\n{content}content-length: {}\r\n\r\n{text}", text.len()),
        }
    }
}

/// The head of a response as printed by curl.
struct Head(String);

impl Head {
    fn status(&self) -> &str {
        self.0.split_whitespace().nth(1).unwrap()
    }

    fn field(&self, name: &str) -> &str {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }
}

/// Sends a request with curl and these header fields.
fn send(proxy: &Proxy, version: &str, method: &str, path: &str, fields: &[&str]) -> Head {
    let url = format!("http://{}{path}", proxy.address);
    let mut args = vec![version, "-o", "/dev/null", "-D", "-"];
    match method {
        "HEAD" => args.push("-I"),
        method => args.extend(["-X", method]),
    }
    fields.iter().for_each(|field| args.extend(["-H", *field]));
    args.push(&url);
    Head(curl(&args))
}

#[test]
fn evaluates_conditions_with_entity_tags_of_compressed_variants() {
    if !has("curl") {
        return;
    }
    let document = Document::default();
    let uncached = document.start(&[("RPROXY_CACHE_ENABLED", "false")]);
    let cached = document.start(&[]);
    for (proxy, path) in
        [(&uncached, "/doc"), (&uncached, "/static/doc"), (&cached, "/static/doc.css"), (&cached, "/doc")]
    {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            for (coding, tag) in
                [("br", "\"v0-br\""), ("gzip", "\"v0-gzip\""), ("zstd", "\"v0-zstd\""), ("identity", "\"v0\"")]
            {
                let accept = format!("accept-encoding: {coding}");
                let send =
                    |method, fields: &[&str]| send(proxy, version, method, path, &[&[&*accept], fields].concat());
                let check = |head: &Head, status: &str, tag: &str| {
                    assert_eq!(
                        (head.status(), head.field("etag")),
                        (status, tag),
                        "{path} {version} {coding} {}",
                        head.0
                    );
                };
                let (full, head) = (send("GET", &[]), send("HEAD", &[]));
                check(&full, "200", tag);
                check(&head, "200", tag);
                let is_coded = coding != "identity";
                for name in ["content-encoding", "vary", "accept-ranges", "content-type"] {
                    assert_eq!(full.field(name), head.field(name), "{name} {coding}");
                }
                assert_eq!(full.field("vary"), "accept-encoding");
                assert_eq!(full.field("content-encoding"), if is_coded { coding } else { "" });
                assert_eq!(full.field("accept-ranges"), if is_coded { "" } else { "bytes" });

                let lists = [tag.to_owned(), format!("\"x\", {tag}"), format!("{tag}, \"v1-br\"")];
                for list in &lists {
                    check(&send("PUT", &[&format!("if-match: {list}")]), "204", "");
                    let not_modified = send("GET", &[&format!("if-none-match: {list}")]);
                    check(&not_modified, "304", tag);
                    if is_coded {
                        assert_eq!(not_modified.field("vary"), "accept-encoding");
                    }
                }
                check(&send("PUT", &["if-match: *"]), "204", "");
                let failed = send("PUT", &["if-match: \"v1-gzip\""]);
                check(&failed, "412", tag);
                assert_eq!(failed.field("vary"), "accept-encoding");
                check(&send("GET", &["if-none-match: \"v1-br\", \"v0-deflate\""]), "200", tag);

                // A range of the compressed variant does not exist: each compression has other bytes.
                let ranged = send("GET", &["range: bytes=0-99", &format!("if-range: {tag}")]);
                check(&ranged, if is_coded { "200" } else { "206" }, tag);
            }
        }
    }
}

#[test]
fn cache_revalidates_compressed_variants_with_the_entity_tag_of_the_backend() {
    if !has("curl") {
        return;
    }
    let document = Document::default();
    let proxy = document.start(&[]);
    let send = |coding: &str, fields: &[&str]| {
        let accept = format!("accept-encoding: {coding}");
        send(&proxy, "--http1.1", "GET", "/static/stale.css", &[&[&*accept], fields].concat())
    };
    let condition = || document.conditions.lock().unwrap().last().cloned().unwrap();
    for (coding, tag, later_tag) in
        [("br", "\"v0-br\"", "\"v1-br\""), ("gzip", "\"v0-gzip\"", "\"v1-gzip\""), ("identity", "\"v0\"", "\"v1\"")]
    {
        document.version.store(0, Ordering::SeqCst);
        assert_eq!(send(coding, &[]).field("etag"), tag);

        let served = send(coding, &[]);
        assert_eq!((served.status(), served.field("etag"), &*condition()), ("200", tag, "\"v0\""), "{coding}");
        assert!(served.field("cache-status").contains("fwd-status=304"), "{}", served.0);
        assert_eq!(served.field("content-encoding"), if coding == "identity" { "" } else { coding });
        let not_modified = send(coding, &[&format!("if-none-match: {tag}")]);
        assert_eq!((not_modified.status(), not_modified.field("etag"), &*condition()), ("304", tag, "\"v0\""));
        assert_eq!(not_modified.field("vary"), "accept-encoding");

        document.version.store(1, Ordering::SeqCst);
        let changed = send(coding, &[&format!("if-none-match: {tag}")]);
        assert_eq!((changed.status(), changed.field("etag"), &*condition()), ("200", later_tag, "\"v0\""), "{coding}");
    }
}
