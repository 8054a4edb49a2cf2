//! The file that serves a request.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use rproxy_core::PublicContent;

use crate::beneath::{HiddenFiles, Waiting, open_root};
use crate::body::FileBody;
use crate::coding::{AcceptedCodings, weighted};
use crate::conditions::Conditions;
use crate::decision::{FileDecision, IndexWithoutRedirect};
use crate::file::{NoFile, OpenFile};
use crate::media_type::MediaType;
use crate::rejection;
use crate::request_path::{FilePath, last_segment};

/// The name of the file that serves the path of a folder.
const INDEX: &str = "index.html";

/// The settings of the lookup.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) root: PathBuf,
    /// The path below the root of the file that serves navigations without a file.
    pub(crate) fallback: Option<Vec<u8>>,
    pub(crate) precompressed: bool,
    pub(crate) files_only: bool,
}

impl Settings {
    /// Returns the response to a request without a file, or `None` if the inner service responds. `varies` is whether
    /// `Accept` decided against the fallback.
    pub(crate) fn rejection(&self, answer: &Answer, varies: bool) -> Option<Response<FileBody>> {
        let response = match answer {
            Answer::Denied => rejection::unreadable_file,
            _ => rejection::no_file,
        };
        let mut response = self.files_only.then(response)?;
        if varies {
            response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
        }
        Some(response)
    }
}

/// The parts of a request that select a file, without its body.
#[derive(Debug)]
pub(crate) struct Lookup {
    path: FilePath,
    /// The target of a redirect to the folder at the path, relative to the path.
    folder: Option<HeaderValue>,
    conditions: Conditions,
    codings: AcceptedCodings,
    is_head: bool,
    /// Whether the index of a folder is served at its path without a slash.
    serves_index: bool,
    /// Whether `Accept` decides about a response without a file: that of the fallback or another one.
    depends_on_accept: bool,
    is_navigation: bool,
}

/// The result of a lookup.
#[derive(Debug)]
pub(crate) enum Answer {
    Respond(Response<FileBody>),
    /// There is no file.
    Missing,
    /// The process lacks the permission to read the file.
    Denied,
}

impl Lookup {
    /// Creates the lookup for a request with the method GET or HEAD. Returns `None` if the path names no file.
    pub(crate) fn new<B>(request: &Request<B>, settings: &Settings) -> Option<Self> {
        let (uri, headers) = (request.uri(), request.headers());
        let path = FilePath::of_request(uri.path())?;
        let is_head = *request.method() == Method::HEAD;
        let depends_on_accept = settings.fallback.is_some() && !last_segment(&path.bytes).contains(&b'.');
        Some(Self {
            folder: if path.is_folder { None } else { folder_location(uri) },
            conditions: Conditions::of_request(headers, is_head),
            codings: match settings.precompressed {
                true => AcceptedCodings::of_request(headers),
                false => AcceptedCodings::default(),
            },
            is_head,
            serves_index: request.extensions().get::<IndexWithoutRedirect>().is_some(),
            depends_on_accept,
            is_navigation: depends_on_accept && prefers_html(headers),
            path,
        })
    }

    /// Whether a response without a file depends on `Accept`.
    pub(crate) fn depends_on_accept(&self) -> bool {
        self.depends_on_accept
    }

    /// Looks up the file and makes the response.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::WouldBlock`] if the operation would have to wait and must not.
    pub(crate) fn run(&self, settings: &Settings, waiting: Waiting) -> io::Result<Answer> {
        let is_denied = match self.find(settings, waiting) {
            Ok(response) => return Ok(Answer::Respond(response)),
            Err(NoFile::Error(error)) => return Err(error),
            Err(NoFile::Denied) => true,
            Err(NoFile::Missing | NoFile::Folder) => false,
        };
        if let Some(fallback) = settings.fallback.as_deref().filter(|_| self.is_navigation) {
            match self.respond(settings, fallback, FileDecision::Fallback, waiting) {
                Ok(response) => return Ok(Answer::Respond(response)),
                Err(NoFile::Error(error)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(if is_denied { Answer::Denied } else { Answer::Missing })
    }

    fn find(&self, settings: &Settings, waiting: Waiting) -> Result<Response<FileBody>, NoFile> {
        if self.path.is_folder {
            return self.respond(settings, &self.path.join(INDEX), FileDecision::File, waiting);
        }
        match self.respond(settings, &self.path.bytes, FileDecision::File, waiting) {
            Err(NoFile::Folder) => {}
            result => return result,
        }
        if self.serves_index {
            return self.respond(settings, &self.path.join(INDEX), FileDecision::File, waiting);
        }
        // A folder without an index is not found, so that no redirect shows that it exists.
        let location = self.folder.clone().ok_or(NoFile::Missing)?;
        let root = open_root(&settings.root, waiting)?;
        OpenFile::open(root.as_fd(), &self.path.join(INDEX), waiting, HiddenFiles::Missing)?;
        let mut response = Response::new(FileBody::empty());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        response.headers_mut().insert(LOCATION, location);
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
        response.extensions_mut().insert(FileDecision::FolderRedirect);
        Ok(response)
    }

    /// Makes the response with the file at `path`.
    fn respond(
        &self,
        settings: &Settings,
        path: &[u8],
        decision: FileDecision,
        waiting: Waiting,
    ) -> Result<Response<FileBody>, NoFile> {
        let media_type = MediaType::of(path);
        let root = open_root(&settings.root, waiting)?;
        let mut headers = HeaderMap::with_capacity(8);
        let has_variants = settings.precompressed && media_type.is_compressible;
        // RFC 9110 §12.5.5: also if there is no variant yet.
        let vary = match (decision, has_variants) {
            (FileDecision::Fallback, true) => Some("accept, accept-encoding"),
            (FileDecision::Fallback, false) => Some("accept"),
            (_, true) => Some("accept-encoding"),
            (_, false) => None,
        };
        if let Some(vary) = vary {
            headers.insert(VARY, HeaderValue::from_static(vary));
        }
        let file = match has_variants {
            true => OpenFile::open_variant(root.as_fd(), path, self.codings, waiting)?,
            false => OpenFile::open(root.as_fd(), path, waiting, HiddenFiles::Missing)?,
        };
        headers.insert(CONTENT_TYPE, media_type.field());
        let sent = file.send(&mut headers, Some(&self.conditions), StatusCode::OK, self.is_head, waiting);
        // The file exists, so that an error of reading it is no reason for another response.
        let (status, body) = sent.map_err(NoFile::Error)?;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response.extensions_mut().insert(decision);
        response.extensions_mut().insert(PublicContent);
        Ok(response)
    }
}

/// Returns the path of the folder, relative to the path without a slash at its end.
///
/// A relative path works also if an outer service removed a prefix from the path, and never leads to another host: it begins with a
/// dot, and `path` has been decoded as the path of a file.
fn folder_location(uri: &Uri) -> Option<HeaderValue> {
    let name = uri.path().rsplit('/').next()?;
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    HeaderValue::try_from(format!("./{name}/{query}")).ok()
}

/// Returns whether a client prefers HTML to all other media types that it lists, as browsers do for navigations.
fn prefers_html(headers: &HeaderMap) -> bool {
    let (mut html, mut others) = (0, 0);
    for (media_type, weight) in weighted(headers.get_all(ACCEPT)) {
        if media_type.eq_ignore_ascii_case(b"text/html") {
            html = html.max(weight);
        } else if !media_type.ends_with(b"/*") {
            others = others.max(weight);
        }
    }
    html > 0 && html >= others
}
