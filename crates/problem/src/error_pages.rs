//! The error pages of the operator, which replace the built-in page.

mod error;
mod name;
mod template;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use rproxy_core::Rejection;

pub use self::error::ErrorPagesError;
use self::name::PageName;
pub(crate) use self::template::Template;

/// Error pages that replace the built-in HTML page, see [`ProblemLayer::pages`](crate::ProblemLayer::pages).
///
/// A clone costs one reference count.
///
/// # Names
///
/// | Page | Responses |
/// |---|---|
/// | `maintenance.html` | rejections with the reason `maintenance` |
/// | `404.html`, and any other status from 400 to 599 | responses with this status |
/// | `4xx.html`, `5xx.html` | responses with a status of this class |
///
/// The first page in this order that exists is used.
///
/// # Placeholders
///
/// | Placeholder | Text |
/// |---|---|
/// | `::STATUS::` | the status, such as `502` |
/// | `::REASON::` | its reason phrase, such as `Bad Gateway` |
/// | `::REQUEST_ID::` | the request ID of [`PageTexts`](crate::PageTexts), or nothing |
///
/// The texts are escaped for HTML: place them in the content of elements, or in quoted attribute values. Any other word in capitals between
/// double colons is an error. A page has at most 32 placeholders.
///
/// # Examples
///
/// ```
/// use rproxy_problem::{ErrorPages, ProblemLayer};
///
/// let pages = ErrorPages::new()
///     .page("404.html", "<!doctype html><title>Not found</title><h1>No such page</h1>")?
///     .page("5xx.html", "<!doctype html><title>::STATUS::</title><h1>::REASON::</h1>")?;
/// let layer = ProblemLayer::new().pages(pages);
/// # let _ = layer;
/// # Ok::<(), rproxy_problem::ErrorPagesError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct ErrorPages {
    inner: Arc<Inner>,
}

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    pages: BTreeMap<PageName, Template>,
    policy: HeaderValue,
}

impl ErrorPages {
    /// Creates a set without pages.
    pub fn new() -> Self {
        let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
        Self { inner: Arc::new(Inner { pages: BTreeMap::new(), policy }) }
    }

    /// Reads all pages in a folder.
    ///
    /// Files with other extensions than `html`, hidden files and folders are ignored. The files are not read again.
    ///
    /// # Errors
    ///
    /// If the folder or a page cannot be read, if the folder has no page, or if a page is invalid, see [`page`](Self::page).
    pub fn read(folder: &Path) -> Result<Self, ErrorPagesError> {
        let unreadable = |error| ErrorPagesError::Folder { folder: folder.to_owned(), error };
        let mut pages = Self::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_page = name.len() > EXTENSION.len() && name.to_ascii_lowercase().ends_with(EXTENSION);
            if is_page && !name.starts_with('.') {
                pages = pages.page_in(&entry.path().display().to_string(), &name, || read_file(&entry.path()))?;
            }
        }
        match pages.inner.pages.is_empty() {
            true => Err(ErrorPagesError::NoPages { folder: folder.to_owned() }),
            false => Ok(pages),
        }
    }

    /// Adds a page, or replaces the page with this name.
    ///
    /// # Errors
    ///
    /// If the name is not that of a page, the content is larger than 1 MiB, or it has unknown or too many placeholders.
    pub fn page(self, name: &str, content: impl Into<String>) -> Result<Self, ErrorPagesError> {
        self.page_in(name, name, || Ok(content.into()))
    }

    /// Adds a page of the file with this `path`, which errors name.
    fn page_in(
        mut self,
        path: &str,
        name: &str,
        content: impl FnOnce() -> Result<String, ErrorPagesError>,
    ) -> Result<Self, ErrorPagesError> {
        let key = PageName::parse(name).ok_or_else(|| ErrorPagesError::Name { file: path.to_owned() })?;
        let content = content()?;
        if content.len() > MAX_SIZE {
            return Err(ErrorPagesError::TooLarge { file: path.to_owned() });
        }
        let template = Template::parse(path, content)?;
        Arc::make_mut(&mut self.inner).pages.insert(key, template);
        Ok(self)
    }

    /// Sets the `Content-Security-Policy` of responses with these pages, which replaces that of the response.
    ///
    /// The default allows inline styles, images and fonts as `data:` URLs, and resources of the same origin, but no scripts:
    /// `default-src 'self'; script-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:;
    /// object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'`.
    pub fn content_security_policy(mut self, policy: HeaderValue) -> Self {
        Arc::make_mut(&mut self.inner).policy = policy;
        self
    }

    /// Returns the names of the pages without their extension, such as `404`, `5xx` and `maintenance`.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.inner.pages.keys().map(ToString::to_string)
    }

    pub(crate) fn policy(&self) -> HeaderValue {
        self.inner.policy.clone()
    }

    /// Returns the page for a response, which was rejected if there is a `rejection`.
    pub(crate) fn find(&self, status: StatusCode, rejection: Option<&Rejection>) -> Option<&Template> {
        let is_maintenance = rejection.is_some_and(|rejection| rejection.reason() == "maintenance");
        let names = [
            is_maintenance.then_some(PageName::Maintenance),
            Some(PageName::Status(status.as_u16())),
            Some(PageName::Class(status.as_u16() / 100)),
        ];
        names.into_iter().flatten().find_map(|name| self.inner.pages.get(&name))
    }
}

impl Default for ErrorPages {
    fn default() -> Self {
        Self::new()
    }
}

/// Formats the names of the pages, because their content can be long.
impl fmt::Debug for ErrorPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Reads a regular file of at most [`MAX_SIZE`] bytes. Opening another kind of file, such as a FIFO, can block.
fn read_file(path: &Path) -> Result<String, ErrorPagesError> {
    let file = || path.display().to_string();
    let unreadable = |error| ErrorPagesError::File { file: file(), error };
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(ErrorPagesError::NotAFile { file: file() });
    }
    let mut content = Vec::new();
    let limited = File::open(path).map_err(unreadable)?.take(MAX_SIZE as u64 + 1).read_to_end(&mut content);
    limited.map_err(unreadable)?;
    if content.len() > MAX_SIZE {
        return Err(ErrorPagesError::TooLarge { file: file() });
    }
    String::from_utf8(content).map_err(|_| ErrorPagesError::NotUtf8 { file: file() })
}

const EXTENSION: &str = ".html";

/// The maximum size of a page in bytes.
const MAX_SIZE: usize = 1 << 20;

const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'";

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn text(pages: &ErrorPages, status: u16, rejection: Option<&Rejection>) -> Option<String> {
        let status = StatusCode::from_u16(status).unwrap();
        let parts = pages.find(status, rejection)?.render(status, Some("id"));
        Some(String::from_utf8(parts.concat()).unwrap())
    }

    #[test]
    fn most_specific_page_is_found() {
        let folder = folder(&[
            ("404.html", b"not found"),
            ("4xx.html", b"client ::STATUS::"),
            ("503.html", b"unavailable"),
            ("maintenance.html", b"back soon"),
            ("README.md", b"ignored"),
            (".draft.html", b"ignored"),
            (".html", b"ignored"),
        ]);
        fs::create_dir(folder.path().join("img")).unwrap();
        let pages = ErrorPages::read(folder.path()).unwrap();
        assert_eq!(pages.names().collect::<Vec<_>>(), ["maintenance", "404", "503", "4xx"]);
        let maintenance = Rejection::new("maintenance", "maintenance", StatusCode::SERVICE_UNAVAILABLE);
        let other = Rejection::new("upstream", "upstream", StatusCode::SERVICE_UNAVAILABLE);
        for (status, rejection, expected) in [
            (404, None, Some("not found")),
            (403, None, Some("client 403")),
            (503, Some(&maintenance), Some("back soon")),
            (503, Some(&other), Some("unavailable")),
            (503, None, Some("unavailable")),
            (502, None, None),
        ] {
            assert_eq!(text(&pages, status, rejection).as_deref(), expected, "{status} {rejection:?}");
        }
        let pages = ErrorPages::new().page("503.html", "unavailable").unwrap();
        assert_eq!(text(&pages, 503, Some(&maintenance)).as_deref(), Some("unavailable"));
    }

    #[test]
    fn errors_name_the_file() {
        let large = vec![b' '; MAX_SIZE + 1];
        let many = "::STATUS::".repeat(33);
        let files: [(&str, &[u8], &str); 8] = [
            ("50x.html", b"", "50x.html is not the name of an error page: accepted are 404.html"),
            ("index.HTML", b"", "index.HTML is not the name of an error page"),
            ("302.html", b"", "302.html is not the name of an error page"),
            ("502.html", b"\xff", "502.html is not valid UTF-8"),
            ("502.html", &large, "502.html is larger than 1 MiB"),
            ("502.html", b"a\nb ::RAY_ID::", "502.html:2: unknown placeholder ::RAY_ID::"),
            ("502.html", many.as_bytes(), "502.html has more than 32 placeholders"),
            ("notes.txt", b"", "has no error pages"),
        ];
        for (name, content, expected) in files {
            let folder = folder(&[(name, content)]);
            let error = ErrorPages::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(folder.path().to_str().unwrap()), "{error}");
        }
        let folder = folder(&[]);
        fs::create_dir(folder.path().join("502.html")).unwrap();
        let error = ErrorPages::read(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("502.html is not a regular file"), "{error}");
        let error = ErrorPages::read(&folder.path().join("missing")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the folder of error pages ") && error.contains("missing: "), "{error}");
        assert!(ErrorPages::new().page("502", "").is_err());
        assert!(ErrorPages::new().page("502.html", " ".repeat(MAX_SIZE + 1)).is_err());
    }

    #[test]
    fn equal_pages_have_equal_content_and_policy() {
        let pages = || ErrorPages::new().page("502.html", "a").unwrap();
        assert_eq!(pages(), pages());
        assert_ne!(pages(), pages().page("502.html", "b").unwrap());
        assert_ne!(pages(), pages().content_security_policy(HeaderValue::from_static("default-src 'self'")));
    }
}
