//! The path below the root that a request names.

/// The longest path that is looked up, in bytes (`PATH_MAX`).
const MAX_LENGTH: usize = 4095;

/// The only segment with a leading dot that requests can name, as the first one (RFC 8615).
pub(crate) const WELL_KNOWN: &[u8] = b".well-known";

/// A path below the root: decoded segments, joined by slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePath {
    /// The path without a leading or trailing slash. Empty for the root itself.
    pub(crate) bytes: Vec<u8>,
    /// Whether the path of the request ended with a slash.
    pub(crate) is_folder: bool,
}

impl FilePath {
    /// Decodes the path of a request target once. Returns `None` if no file can be served at this path.
    ///
    /// Servers and clients resolve paths with `.`, `..`, `//`, backslashes or encoded slashes differently, so that such paths name no file.
    /// Names with a leading dot are hidden.
    pub(crate) fn of_request(path: &str) -> Option<Self> {
        let rest = path.strip_prefix('/')?;
        let mut bytes = Vec::with_capacity(rest.len());
        let mut segments = rest.split('/').peekable();
        let mut is_folder = rest.is_empty();
        while let Some(segment) = segments.next() {
            if segment.is_empty() {
                // Only the end of the path can be an empty segment.
                if segments.peek().is_some() {
                    return None;
                }
                is_folder = true;
                break;
            }
            let is_first = bytes.is_empty();
            if !is_first {
                bytes.push(b'/');
            }
            let start = bytes.len();
            decode_segment(segment.as_bytes(), &mut bytes)?;
            let name = &bytes[start..];
            let is_hidden = name.starts_with(b".") && !(is_first && name == WELL_KNOWN);
            if is_hidden || !name.iter().all(|byte| is_plain(*byte)) {
                return None;
            }
        }
        (bytes.len() <= MAX_LENGTH).then_some(Self { bytes, is_folder })
    }

    /// Returns the path of a file in this folder.
    pub(crate) fn join(&self, name: &str) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.bytes.len() + name.len() + 6);
        path.extend_from_slice(&self.bytes);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        path
    }
}

/// Returns the last segment of a path.
pub(crate) fn last_segment(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn is_plain(byte: u8) -> bool {
    !byte.is_ascii_control() && byte != b'/' && byte != b'\\'
}

/// Appends the decoded bytes of a segment. Returns `None` if a percent sign does not begin an encoded byte.
fn decode_segment(segment: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    let mut rest = segment.iter();
    while let Some(&byte) = rest.next() {
        let decoded = match byte {
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte => byte,
        };
        bytes.push(decoded);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(path: &str) -> Option<(String, bool)> {
        let path = FilePath::of_request(path)?;
        Some((String::from_utf8_lossy(&path.bytes).into_owned(), path.is_folder))
    }

    #[test]
    fn paths_are_decoded_once() {
        for (path, expected, is_folder) in [
            ("/", "", true),
            ("/a", "a", false),
            ("/a/", "a", true),
            ("/a%20b/c.txt", "a b/c.txt", false),
            ("/100%25.txt", "100%.txt", false),
            ("/%252e%252e/a", "%2e%2e/a", false),
            ("/%61", "a", false),
            ("/caf%C3%A9", "café", false),
            ("/a..b/c.", "a..b/c.", false),
            ("/~a/@b;c=d", "~a/@b;c=d", false),
            ("/.well-known/acme", ".well-known/acme", false),
            ("/%2ewell-known/acme", ".well-known/acme", false),
        ] {
            assert_eq!(decoded(path), Some((expected.to_owned(), is_folder)), "{path}");
        }
    }

    #[test]
    fn ambiguous_and_hidden_paths_name_no_file() {
        for path in [
            "",
            "*",
            "a",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/./a",
            "/../a",
            "/a/..",
            "/a/../b",
            "/%2e%2e/a",
            "/.%2e/a",
            "/%2E./a",
            "/..%2fa",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/..\\a",
            "/%00",
            "/a%00.txt",
            "/a%0a",
            "/a%7f",
            "/%",
            "/a%2",
            "/a%zz",
            "/.env",
            "/a/.git/config",
            "/%2egit/config",
            "/a/.well-known/b",
            "/.well-known/.env",
            "/.well-known2/a",
            "/...",
            "/.../a",
        ] {
            assert_eq!(decoded(path), None, "{path}");
        }
        assert_eq!(decoded(&format!("/{}", "a".repeat(4096))), None);
        assert!(decoded(&format!("/{}", "a".repeat(4095))).is_some());
    }

    proptest! {
        #[test]
        fn decoded_paths_stay_below_the_root(path in "/([/\\\\.a:;]|%2[ef]|%5c|%00|%25|%[0-9a-f]{2}|\\PC){0,12}") {
            if let Some(found) = FilePath::of_request(&path) {
                prop_assert!(!found.bytes.contains(&0) && !found.bytes.contains(&b'\\'));
                prop_assert!(!found.bytes.starts_with(b"/") && !found.bytes.ends_with(b"/"));
                let segments = found.bytes.split(|byte| *byte == b'/').filter(|_| !found.bytes.is_empty());
                for segment in segments {
                    prop_assert!(!segment.is_empty() && (segment[0] != b'.' || segment == WELL_KNOWN));
                }
            }
        }
    }
}
