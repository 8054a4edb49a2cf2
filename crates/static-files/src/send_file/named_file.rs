//! The file that a response names.

use std::ffi::OsStr;
use std::fs;
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
    /// The absolute path of the root, as configured.
    pub(super) absolute_root: PathBuf,
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
        if let Ok(rest) = path.strip_prefix(&self.absolute_root) {
            return plain(rest.as_os_str().as_bytes());
        }
        // Applications often know their path without symbolic links. The link can be another one since the start: the path of an
        // earlier target must not select a file of the current one.
        let rest = path.strip_prefix(fs::canonicalize(&self.root).ok()?).ok()?;
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
        let settings =
            Settings { root: "/srv/private".into(), absolute_root: "/srv/private".into(), prefix: prefix.into() };
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
    fn sendfile_is_beneath_the_current_target_of_a_symbolic_link() {
        let folder = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(folder.path()).unwrap();
        let (first, second, current) = (base.join("1"), base.join("2"), base.join("current"));
        for release in [&first, &second] {
            fs::create_dir(release).unwrap();
        }
        let settings = Settings { root: current.clone(), absolute_root: current.clone(), prefix: "".into() };
        let named = |path: &Path| {
            let value = HeaderValue::from_bytes(path.join("a").as_os_str().as_bytes()).unwrap();
            settings.named_file(&HeaderMap::from_iter([(X_SENDFILE, value)])).unwrap().ok()
        };
        std::os::unix::fs::symlink(&first, &current).unwrap();
        assert_eq!((named(&current), named(&first)), (Some(b"a".to_vec()), Some(b"a".to_vec())));
        fs::remove_file(&current).unwrap();
        std::os::unix::fs::symlink(&second, &current).unwrap();
        assert_eq!((named(&second), named(&first)), (Some(b"a".to_vec()), None));
    }

    #[test]
    fn several_files_are_ambiguous() {
        let settings = Settings { root: "/a".into(), absolute_root: "/a".into(), prefix: "".into() };
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
