//! The media types that are worth compressing.

/// Returns whether content of the type in `Content-Type` is usually text, or binary without compression of its own.
pub(crate) fn is_compressible(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let begins = |prefix: &[u8]| media_type.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let ends = |suffix: &[u8]| {
        let start = media_type.len().checked_sub(suffix.len());
        start.is_some_and(|start| media_type[start..].eq_ignore_ascii_case(suffix))
    };
    let is = |name: &&[u8]| media_type.eq_ignore_ascii_case(name);
    if begins(b"text/") {
        // Events are small, and must arrive one by one, also through middleboxes that decompress.
        return !is(&&b"text/event-stream"[..]);
    }
    // RFC 6839 §4, RFC 9512
    ends(b"+json") || ends(b"+xml") || ends(b"+text") || ends(b"+yaml") || COMPRESSIBLE.iter().any(is)
}

/// The types beside `text/*` and those with a suffix for text.
///
/// They are those of Caddy, Cloudflare and the nginx configuration of HTML5 Boilerplate, with newer names. Types with
/// compression of their own are not here, such as WOFF and most images, nor gRPC, which compresses each message.
const COMPRESSIBLE: [&[u8]; 56] = [
    b"application/ecmascript",
    b"application/eot",
    b"application/font",
    b"application/font-sfnt",
    b"application/graphql",
    b"application/javascript",
    b"application/javascript-binast",
    b"application/json",
    b"application/json5",
    b"application/jsonl",
    b"application/jsonlines",
    b"application/manifest",
    b"application/n-quads",
    b"application/n-triples",
    b"application/opentype",
    b"application/otf",
    b"application/postscript",
    b"application/protobuf",
    b"application/rtf",
    b"application/sql",
    b"application/toml",
    b"application/trig",
    b"application/truetype",
    b"application/ttf",
    b"application/vnd.apple.mpegurl",
    b"application/vnd.ms-fontobject",
    b"application/wasm",
    b"application/x-font-opentype",
    b"application/x-font-otf",
    b"application/x-font-truetype",
    b"application/x-font-ttf",
    b"application/x-httpd-cgi",
    b"application/x-javascript",
    b"application/x-mpegurl",
    b"application/x-ndjson",
    b"application/x-opentype",
    b"application/x-otf",
    b"application/x-perl",
    b"application/x-protobuf",
    b"application/x-sh",
    b"application/x-ttf",
    b"application/x-yaml",
    b"application/xml",
    b"application/xml-dtd",
    b"application/yaml",
    b"font/collection",
    b"font/eot",
    b"font/otf",
    b"font/sfnt",
    b"font/ttf",
    b"image/bmp",
    b"image/vnd.microsoft.icon",
    b"image/x-icon",
    b"image/x-ms-bmp",
    b"multipart/bag",
    b"multipart/mixed",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_compressible_types() {
        for (media_type, expected) in [
            ("text/plain", true),
            ("TEXT/CSS; charset=utf-8", true),
            ("text/x-component", true),
            ("application/ld+json", true),
            ("application/vnd.oai.openapi+yaml", true),
            ("image/svg+xml", true),
            ("application/json;x=y", true),
            ("application/wasm", true),
            ("font/ttf", true),
            ("Font/OTF ; x=y", true),
            ("image/bmp", true),
            ("image/x-icon", true),
            ("image/vnd.microsoft.icon", true),
            ("multipart/mixed; boundary=\"-\"", true),
            ("text/event-stream", false),
            ("Text/Event-Stream; charset=utf-8", false),
            ("application/grpc", false),
            ("application/grpc+proto", false),
            ("application/grpc-web-text", false),
            ("application/zip", false),
            ("application/octet-stream", false),
            ("multipart/x-mixed-replace", false),
            ("font/woff2", false),
            ("image/png", false),
            ("video/mp4", false),
            ("", false),
            ("json", false),
        ] {
            assert_eq!(is_compressible(media_type.as_bytes()), expected, "{media_type}");
        }
    }
}
