//! A check of `Content-Type` against the path's file extension, to prevent web cache deception.
//!
//! An application may answer `/account/x.css` with the account page. If the path alone decided, that page would be
//! public.

use http::{HeaderMap, header};

/// Whether `Content-Type` matches the file extension of the request path. `None` if that is not the extension of a
/// static file.
pub(crate) fn matches_extension(path: &str, headers: &HeaderMap) -> Option<bool> {
    let media_types = media_types(path)?;
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let matches = media_types.iter().any(|kind| {
        let comparable = if kind.ends_with('/') { essence.get(..kind.len()).unwrap_or_default() } else { essence };
        comparable.eq_ignore_ascii_case(kind.as_bytes())
    });
    Some(matches)
}

/// Returns the media types that match the file extension of a path. A type such as `image/` matches all its subtypes.
fn media_types(path: &str) -> Option<&'static [&'static str]> {
    const SCRIPT: &[&str] =
        &["text/javascript", "application/javascript", "application/x-javascript", "application/ecmascript"];
    const FONT: &[&str] = &[
        "font/",
        "application/font-woff",
        "application/font-woff2",
        "application/x-font-ttf",
        "application/x-font-otf",
        "application/x-font-woff",
        "application/vnd.ms-fontobject",
        "application/octet-stream",
    ];
    let file = path.rsplit('/').next()?;
    let (_, extension) = file.rsplit_once('.')?;
    let mut lower = [0_u8; 5];
    let lower = lower.get_mut(..extension.len())?;
    lower.copy_from_slice(extension.as_bytes());
    lower.make_ascii_lowercase();
    match &*lower {
        b"css" => Some(&["text/css"]),
        b"js" | b"mjs" => Some(SCRIPT),
        b"woff" | b"woff2" | b"ttf" | b"otf" | b"eot" => Some(FONT),
        b"png" | b"jpg" | b"jpeg" | b"gif" | b"svg" | b"webp" | b"avif" | b"ico" | b"bmp" => Some(&["image/"]),
        b"mp4" | b"webm" => Some(&["video/", "audio/"]),
        b"mp3" | b"ogg" | b"wav" => Some(&["audio/", "video/", "application/ogg"]),
        b"pdf" => Some(&["application/pdf"]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn content_type_must_match_the_file_extension() {
        for (path, content_type, expected) in [
            ("/a.css", "text/css; charset=utf-8", Some(true)),
            ("/a.CSS", "Text/CSS", Some(true)),
            ("/account/x.css", "text/html", Some(false)),
            ("/account/x.css", "", Some(false)),
            ("/a.b/x.mjs", "application/javascript", Some(true)),
            ("/x.js", "application/json", Some(false)),
            ("/x.png", "image/webp", Some(true)),
            ("/x.png", "images/webp", Some(false)),
            ("/x.woff2", "application/octet-stream", Some(true)),
            ("/x.ico", "text/html;charset=utf-8", Some(false)),
            ("/x.html", "text/html", None),
            ("/x", "text/html", None),
            ("/x.css/y", "text/html", None),
            ("/x.verylongextension", "text/html", None),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            assert_eq!(matches_extension(path, &headers), expected, "{path} {content_type}");
        }
        assert_eq!(matches_extension("/x.css", &HeaderMap::new()), Some(false), "no type at all");
    }
}
