//! Middleware that serves files beneath a root, and files that the inner service names.
//!
//! [`StaticFilesLayer`] serves the file at the path of a request, and forwards other requests to the inner service.
//! [`SendFileLayer`] sends the file that a response of the inner service names in `X-Sendfile` or `X-Accel-Redirect`.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//! use std::fs;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use rproxy_static_files::StaticFilesLayer;
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let root = tempfile::tempdir()?;
//!     fs::write(root.path().join("hello.txt"), "from a file")?;
//!     let service = StaticFilesLayer::new(root.path())?.layer(service_fn(async |_: Request<()>| {
//!         Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("from the application")))
//!     }));
//!
//!     let response = service.clone().oneshot(Request::get("/hello.txt").body(())?).await?;
//!     assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
//!     assert_eq!(response.into_body().collect().await?.to_bytes(), "from a file");
//!
//!     let response = service.oneshot(Request::get("/other").body(())?).await?;
//!     assert_eq!(response.into_body().collect().await?.to_bytes(), "from the application");
//!     Ok(())
//! }
//! ```
//!
//! # Files of a request
//!
//! | Path | Response |
//! |---|---|
//! | of a file | 200 with the file, or 206, 304, 412 or 416 |
//! | of a folder, `/dir/` | `index.html` in the folder |
//! | of a folder without a slash, `/dir` | 301 to `/dir/`, if the folder has an `index.html` |
//! | without a file, for a navigation | the [fallback](StaticFilesBuilder::fallback), if there is one |
//! | without a file | that of the inner service, or 404 with [`files_only`](StaticFilesBuilder::files_only) |
//!
//! Methods other than GET and HEAD go to the inner service; with `files_only`, they get 405. There are no listings of folders.
//!
//! # Paths
//!
//! The path of a request is percent-decoded once. It names no file if it has a segment that is empty (`//`), begins with a dot
//! (`.env`, `..`), or contains a backslash, a control character or an encoded slash. `/.well-known/` (RFC 8615) is the exception
//! from the rule for dots.
//!
//! Files are opened beneath the root with `openat2` and `RESOLVE_BENEATH`, so that check and use are one system call. Symbolic links
//! are resolved folder by folder, on descriptors:
//!
//! - A relative link to a file or folder beneath the root is followed.
//! - A link out of the root, or with an absolute target, is not found, even if another process swaps it with a folder.
//! - A link to a hidden name, such as `.git`, is not found. Names such as `..data` are: Kubernetes mounts volumes with them.
//!
//! The path of the root itself may contain links. It is resolved for each request, so that a deployment can replace the folder or
//! a link to it.
//!
//! Only regular files are served. Opening a FIFO or a device does not wait.
//!
//! # Validators, conditions and ranges
//!
//! - `ETag` is strong, and made of the size and the time of the last modification in nanoseconds. A precompressed variant has another tag
//!   than the file. `Last-Modified` is omitted for times in the future (RFC 9110 §8.8.2.1).
//! - `If-Match`, `If-Unmodified-Since`, `If-None-Match` and `If-Modified-Since` apply in the order of RFC 9110 §13.2.2.
//! - A single `Range` of GET gets 206, or 416. Several ranges and invalid ones are ignored (RFC 9110 §14.2). `If-Range` with another tag
//!   or date ignores the range, so that a client never joins parts of two files.
//!
//! # Precompressed variants
//!
//! For `app.js`, a client that accepts the coding gets `app.js.br`, `app.js.zst` or `app.js.gz`, in the order of the client's weights
//! (RFC 9110 §12.5.3). Variants are looked up for types that shrink. The responses of these types have
//! `Vary: Accept-Encoding`. The files in the folder must be up to date: their times are not compared.
//!
//! # Files of the inner service
//!
//! With [`SendFileLayer`], an application checks the access to a file and leaves the sending to the proxy:
//!
//! | Field of the response | Value |
//! |---|---|
//! | `X-Accel-Redirect` | a percent-encoded path below the root, after an optional [prefix](SendFileBuilder::accel_prefix) |
//! | `X-Sendfile` | the absolute path of a file beneath the root |
//!
//! - The field never reaches the client. Its content is replaced, with `Content-Length`, `ETag`, `Last-Modified` and `Accept-Ranges`.
//!   All other fields are kept, such as `Content-Type`, `Content-Disposition`, `Content-Encoding`, `Set-Cookie` and `Cache-Control`.
//! - Conditions and ranges apply if the status is 200. Other statuses are kept, with the complete file.
//! - A missing file is a 404. Several fields, or a path that is not below the root, are a 502.
//! - The fields of a client are removed from its request, and so are `X-Sendfile-Type` and `X-Accel-Mapping`, by which a client of
//!   Rack could read files (CVE-2025-61780).
//!
//! # Order
//!
//! Place [`StaticFilesLayer`] outside of [`SendFileLayer`], both inside of layers that authenticate, and inside of a layer that compresses. A
//! cache needs no second copy of files: let it ignore responses with a [`FileDecision`], or place it inside.
//!
//! # System calls and memory
//!
//! Files and their content are first looked up without waiting (`RESOLVE_CACHED`, `RWF_NOWAIT`). Only if the disk is needed, a thread
//! of the runtime's pool for blocking operations does it, and its size limits the number of concurrent operations. A body
//! holds one descriptor and at most 64 KiB; a file of up to 16 KiB is read at once, and no descriptor is kept.
//!
//! # Errors
//!
//! The layers forward errors of the inner service. Roots that cannot be opened are errors of the construction:
//! [`StaticFilesError`]. Error responses have a [`Rejection`](rproxy_core::Rejection) as extension, other responses from files a
//! [`FileDecision`]. A file that becomes shorter while it is sent fails the body.
//!
//! # Why not `ServeDir`
//!
//! `tower_http::services::ServeDir` 0.7 ignores `If-Range`, needs several blocking operations for each request, resolves symbolic
//! links without a limit, and cannot send a file that the inner service names.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod beneath;
mod body;
mod builder;
mod coding;
mod conditions;
mod decision;
mod error;
mod file;
mod future;
mod layer;
mod lookup;
mod media_type;
mod rejection;
mod request_path;
mod send_file;
mod service;

pub use self::body::ResponseBody;
pub use self::builder::StaticFilesBuilder;
pub use self::decision::{FileDecision, IndexWithoutRedirect};
pub use self::error::StaticFilesError;
pub use self::future::ResponseFuture;
pub use self::layer::StaticFilesLayer;
pub use self::send_file::{SendFileBuilder, SendFileFuture, SendFileLayer, SendFileService};
pub use self::service::StaticFilesService;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
