//! The media types that the layer compresses.

/// Returns whether content of this `Content-Type` is usually text or an uncompressed binary format.
pub(crate) fn is_compressible(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let mut buffer = [0; LONGEST];
    let Some(name) = buffer.get_mut(..media_type.len()) else { return has_suffix_for_text(media_type) };
    name.copy_from_slice(media_type);
    name.make_ascii_lowercase();
    if name.starts_with(b"text/") {
        // Events are small, and must arrive one by one, also through middleboxes that decompress.
        return name != b"text/event-stream";
    }
    // Most responses that are not text are images, so that these are not looked up in the long list.
    if let Some(format) = name.strip_prefix(b"image/") {
        return has_suffix_for_text(format) || IMAGES.contains(&format);
    }
    has_suffix_for_text(name) || COMPRESSIBLE.binary_search(&&*name).is_ok()
}

/// Returns whether the media type has a text suffix such as `+json` (RFC 6839 §4, RFC 9512).
fn has_suffix_for_text(media_type: &[u8]) -> bool {
    let Some(plus) = media_type.iter().rposition(|&byte| byte == b'+') else { return false };
    let is = |suffix: &&[u8]| media_type[plus + 1..].eq_ignore_ascii_case(suffix);
    [&b"json"[..], b"xml", b"text", b"yaml"].iter().any(is)
}

/// Image formats that are usually uncompressed, such as BMP.
const IMAGES: [&[u8]; 4] = [b"bmp", b"vnd.microsoft.icon", b"x-icon", b"x-ms-bmp"];

/// A length greater than that of every media type in the list of compressible media types.
const LONGEST: usize = 64;

/// Compressible media types other than `text/*`, images, and types with a text suffix.
///
/// The sorted union of the lists of Caddy, Cloudflare and the nginx configuration of HTML5 Boilerplate, with newer names. It
/// has no compressed formats, such as WOFF and most images, and not gRPC, which compresses each message.
const COMPRESSIBLE: [&[u8]; 52] = [
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
    b"multipart/bag",
    b"multipart/mixed",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_type_list_is_sorted_and_lower_case() {
        assert!(COMPRESSIBLE.is_sorted());
        let is_plain = |name: &&[u8]| name.len() <= LONGEST && **name == *name.to_ascii_lowercase();
        assert!(COMPRESSIBLE.iter().all(is_plain));
        assert!(COMPRESSIBLE.iter().all(|name| is_compressible(name)));
    }

    #[test]
    fn recognises_compressible_media_types() {
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
            ("application/vnd.an-example-of-a-name-that-is-longer-than-each-type-in-the-list+JSON", true),
            ("application/vnd.an-example-of-a-name-that-is-longer-than-each-type-in-the-list", false),
        ] {
            assert_eq!(is_compressible(media_type.as_bytes()), expected, "{media_type}");
        }
    }
}
