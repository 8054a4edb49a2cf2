//! The file that a response names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode;

use crate::rejection::NotSent;

/// The response field of nginx, with a path below the root.
pub(super) const X_ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");

/// The response field of Apache, lighttpd and others, with an absolute path.
pub(super) const X_SENDFILE: HeaderName = HeaderName::from_static("x-sendfile");

/// The settings of the layer.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) root: PathBuf,
    /// Absolute paths of the root, as configured and without symbolic links.
    pub(super) absolute_roots: Vec<PathBuf>,
    /// The prefix that is removed from `X-Accel-Redirect`.
    pub(super) prefix: Box<str>,
}

impl Settings {
    /// Returns the path below the root of the file that a response names, or `None` if it names none.
    pub(super) fn named_file(&self, headers: &HeaderMap) -> Option<Result<Vec<u8>, NotSent>> {
        let accel = headers.get_all(X_ACCEL_REDIRECT).iter();
        let sendfile = headers.get_all(X_SENDFILE).iter();
        let mut named = accel.map(|value| (value, true)).chain(sendfile.map(|value| (value, false)));
        let (value, is_accel) = named.next()?;
        // Which of several files is meant is unknown.
        if named.next().is_some() {
            return Some(Err(NotSent::Ambiguous));
        }
        let path = match is_accel {
            true => self.of_accel_redirect(value.as_bytes()),
            false => self.of_sendfile(value.as_bytes()),
        };
        Some(path.ok_or(NotSent::OutsideOfRoot))
    }

    /// Reads the value of `X-Accel-Redirect`: a path in percent-encoding, and a query without meaning for files.
    fn of_accel_redirect(&self, value: &[u8]) -> Option<Vec<u8>> {
        let path = value.split(|byte| *byte == b'?').next()?;
        let path: Vec<u8> = percent_decode(path).collect();
        let rest = path.strip_prefix(self.prefix.as_bytes())?;
        if !rest.starts_with(b"/") {
            return None;
        }
        plain(rest)
    }

    /// Reads the value of `X-Sendfile`: the absolute path of a file below the root, without encoding.
    fn of_sendfile(&self, value: &[u8]) -> Option<Vec<u8>> {
        let path = Path::new(OsStr::from_bytes(value));
        let rest = self.absolute_roots.iter().find_map(|root| path.strip_prefix(root).ok())?;
        plain(rest.as_os_str().as_bytes())
    }
}

/// Returns a path without empty segments and `.`, or `None` if it is empty or contains `..`.
fn plain(path: &[u8]) -> Option<Vec<u8>> {
    let segments = path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty() && *segment != b".");
    let segments: Vec<&[u8]> = segments.collect();
    let is_valid = !segments.is_empty() && !segments.contains(&&b".."[..]) && !path.contains(&0);
    is_valid.then(|| segments.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn named(prefix: &str, name: HeaderName, value: &'static [u8]) -> Option<String> {
        let settings = Settings {
            root: "/srv/private".into(),
            absolute_roots: vec!["/srv/private".into(), "/data/7".into()],
            prefix: prefix.into(),
        };
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_bytes(value).unwrap())]);
        let path = settings.named_file(&headers).unwrap().ok()?;
        Some(String::from_utf8(path).unwrap())
    }

    #[test]
    fn accel_redirect_is_a_path_below_the_root() {
        for (value, expected) in [
            ("/a/b.pdf", Some("a/b.pdf")),
            ("/a%20b.pdf?x=1", Some("a b.pdf")),
            ("//a/./b", Some("a/b")),
            ("/.hidden", Some(".hidden")),
            ("/a/../b", None),
            ("/%2e%2e/b", None),
            ("/..%2fb", None),
            ("/a%00", None),
            ("a", None),
            ("@location", None),
            ("https://evil.example/a", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(named("", X_ACCEL_REDIRECT, value.as_bytes()).as_deref(), expected, "{value}");
        }
        for (value, expected) in [
            ("/protected/a", Some("a")),
            ("/protected//a", Some("a")),
            ("/protecteda", None),
            ("/a", None),
            ("/protected/../a", None),
        ] {
            assert_eq!(named("/protected", X_ACCEL_REDIRECT, value.as_bytes()).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn sendfile_is_an_absolute_path_beneath_the_root() {
        for (value, expected) in [
            ("/srv/private/a/b.pdf", Some("a/b.pdf")),
            ("/srv/private//a%20b", Some("a%20b")),
            ("/data/7/a", Some("a")),
            ("/srv/private", None),
            ("/srv/private/../a", None),
            ("/srv/private2/a", None),
            ("/etc/passwd", None),
            ("a", None),
        ] {
            assert_eq!(named("", X_SENDFILE, value.as_bytes()).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn several_files_are_ambiguous() {
        let settings = Settings { root: "/a".into(), absolute_roots: vec!["/a".into()], prefix: "".into() };
        let value = HeaderValue::from_static("/a/b");
        let mut headers = HeaderMap::new();
        assert_eq!(settings.named_file(&headers), None);
        headers.append(X_ACCEL_REDIRECT, value.clone());
        headers.append(X_SENDFILE, value.clone());
        assert_eq!(settings.named_file(&headers), Some(Err(NotSent::Ambiguous)));
        headers.remove(X_ACCEL_REDIRECT);
        headers.append(X_SENDFILE, value);
        assert_eq!(settings.named_file(&headers), Some(Err(NotSent::Ambiguous)));
    }
}
