//! The media types of files, by the extension of their name.

use http::HeaderValue;

use crate::request_path::last_segment;

/// The media type of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MediaType {
    text: &'static str,
    /// Whether content of this type shrinks, so that precompressed variants are looked up.
    pub(crate) is_compressible: bool,
}

/// The type of files without a known extension.
const UNKNOWN: MediaType = MediaType { text: "application/octet-stream", is_compressible: false };

impl MediaType {
    /// Returns the media type of the file at a path.
    pub(crate) fn of(path: &[u8]) -> Self {
        let name = last_segment(path);
        let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else { return UNKNOWN };
        let extension = &name[dot + 1..];
        let is_same = |known: &&str| extension.eq_ignore_ascii_case(known.as_bytes());
        let found = |list: &'static [(&[&str], &'static str)]| {
            list.iter().find(|(extensions, _)| extensions.iter().any(is_same)).map(|(_, text)| *text)
        };
        match (found(COMPRESSIBLE), found(OTHERS)) {
            (Some(text), _) => Self { text, is_compressible: true },
            (None, Some(text)) => Self { text, is_compressible: false },
            (None, None) => UNKNOWN,
        }
    }

    /// Returns the value of `Content-Type`.
    pub(crate) fn field(self) -> HeaderValue {
        HeaderValue::from_static(self.text)
    }
}

type Extensions = &'static [(&'static [&'static str], &'static str)];

/// Text, and uncompressed formats. Text is UTF-8, as the Web's standards expect of new content.
const COMPRESSIBLE: Extensions = &[
    (&["html", "htm", "shtml"], "text/html; charset=utf-8"),
    (&["css"], "text/css; charset=utf-8"),
    (&["js", "mjs", "cjs"], "text/javascript; charset=utf-8"),
    (&["json", "map"], "application/json"),
    (&["svg"], "image/svg+xml"),
    (&["txt", "text", "log"], "text/plain; charset=utf-8"),
    (&["xml"], "text/xml; charset=utf-8"),
    (&["wasm"], "application/wasm"),
    (&["md", "markdown"], "text/markdown; charset=utf-8"),
    (&["csv"], "text/csv; charset=utf-8"),
    (&["webmanifest"], "application/manifest+json"),
    (&["jsonld"], "application/ld+json"),
    (&["geojson"], "application/geo+json"),
    (&["xhtml"], "application/xhtml+xml"),
    (&["rss"], "application/rss+xml"),
    (&["atom"], "application/atom+xml"),
    (&["ico"], "image/x-icon"),
    (&["bmp"], "image/bmp"),
    (&["ttf"], "font/ttf"),
    (&["otf"], "font/otf"),
    (&["eot"], "application/vnd.ms-fontobject"),
    (&["ics"], "text/calendar; charset=utf-8"),
    (&["vcf"], "text/vcard; charset=utf-8"),
    (&["vtt"], "text/vtt; charset=utf-8"),
    (&["yaml", "yml"], "application/yaml"),
    (&["toml"], "application/toml"),
    (&["rtf"], "application/rtf"),
    (&["m3u8"], "application/vnd.apple.mpegurl"),
    (&["mpd"], "application/dash+xml"),
    (&["gltf"], "model/gltf+json"),
    (&["ps", "eps"], "application/postscript"),
];

/// Formats with compression of their own.
const OTHERS: Extensions = &[
    (&["png"], "image/png"),
    (&["jpg", "jpeg"], "image/jpeg"),
    (&["webp"], "image/webp"),
    (&["avif"], "image/avif"),
    (&["gif"], "image/gif"),
    (&["apng"], "image/apng"),
    (&["jxl"], "image/jxl"),
    (&["heic"], "image/heic"),
    (&["tif", "tiff"], "image/tiff"),
    (&["woff2"], "font/woff2"),
    (&["woff"], "font/woff"),
    (&["pdf"], "application/pdf"),
    (&["zip"], "application/zip"),
    (&["gz"], "application/gzip"),
    (&["zst"], "application/zstd"),
    (&["bz2"], "application/x-bzip2"),
    (&["xz"], "application/x-xz"),
    (&["7z"], "application/x-7z-compressed"),
    (&["tar"], "application/x-tar"),
    (&["rar"], "application/vnd.rar"),
    (&["jar", "war", "ear"], "application/java-archive"),
    (&["apk"], "application/vnd.android.package-archive"),
    (&["deb"], "application/vnd.debian.binary-package"),
    (&["mp4", "m4v"], "video/mp4"),
    (&["webm"], "video/webm"),
    (&["mov"], "video/quicktime"),
    (&["mpg", "mpeg"], "video/mpeg"),
    (&["ogv"], "video/ogg"),
    (&["avi"], "video/x-msvideo"),
    (&["mkv"], "video/matroska"),
    (&["ts"], "video/mp2t"),
    (&["m4s"], "video/iso.segment"),
    (&["mp3"], "audio/mpeg"),
    (&["ogg", "oga", "opus"], "audio/ogg"),
    (&["m4a"], "audio/mp4"),
    (&["aac"], "audio/aac"),
    (&["flac"], "audio/flac"),
    (&["wav"], "audio/wav"),
    (&["weba"], "audio/webm"),
    (&["mid", "midi"], "audio/midi"),
    (&["epub"], "application/epub+zip"),
    (&["glb"], "model/gltf-binary"),
    (&["doc"], "application/msword"),
    (&["xls"], "application/vnd.ms-excel"),
    (&["ppt"], "application/vnd.ms-powerpoint"),
    (&["docx"], "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (&["xlsx"], "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (&["pptx"], "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    (&["odt"], "application/vnd.oasis.opendocument.text"),
    (&["ods"], "application/vnd.oasis.opendocument.spreadsheet"),
    (&["odp"], "application/vnd.oasis.opendocument.presentation"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_type_follows_from_the_last_extension() {
        for (path, expected, is_compressible) in [
            ("a/index.html", "text/html; charset=utf-8", true),
            ("app.min.JS", "text/javascript; charset=utf-8", true),
            ("a.tar.gz", "application/gzip", false),
            ("photo.jpeg", "image/jpeg", false),
            ("a.b/file", "application/octet-stream", false),
            ("file.unknown", "application/octet-stream", false),
            ("file.", "application/octet-stream", false),
            ("", "application/octet-stream", false),
        ] {
            let found = MediaType::of(path.as_bytes());
            assert_eq!((found.text, found.is_compressible), (expected, is_compressible), "{path}");
        }
    }

    #[test]
    fn each_extension_is_listed_once() {
        let mut extensions: Vec<_> = COMPRESSIBLE.iter().chain(OTHERS).flat_map(|(names, _)| *names).collect();
        let count = extensions.len();
        extensions.sort_unstable();
        extensions.dedup();
        assert_eq!(extensions.len(), count);
    }
}
