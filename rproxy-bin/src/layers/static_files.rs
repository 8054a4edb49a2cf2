//! The settings of files that the proxy serves itself.

use std::path::PathBuf;

use rproxy_static_files::{SendFileLayer, StaticFilesBuilder, StaticFilesError, StaticFilesLayer};

use crate::ErrorChain;
use crate::known_rejection::KnownRejection;
use crate::setting::settings;
use crate::values::value::{ParseError, optional, path};

/// The rejections of the layers that serve files.
pub(crate) const REJECTIONS: &[KnownRejection] = &[
    // The usual response to a wrong URL.
    KnownRejection::new("no_file", "no_file"),
    KnownRejection::new("no_file", "unreadable_file")
        .explained("the user of this process has no permission to read the file below RPROXY_ROOT")
        .logged(),
    KnownRejection::new("method_not_allowed", "method_not_allowed"),
    KnownRejection::new("file_error", "file_error").explained("the file below RPROXY_ROOT cannot be read").logged(),
    KnownRejection::new("send_file", "missing_file")
        .explained("the backend named a file that does not exist below RPROXY_SENDFILE_ROOT")
        .logged(),
    KnownRejection::new("send_file", "unreadable_file")
        .explained("the user of this process has no permission to read the file below RPROXY_SENDFILE_ROOT")
        .logged(),
    KnownRejection::new("send_file", "outside_of_root")
        .explained(
            "the backend named a file by a path that is not below RPROXY_SENDFILE_ROOT, or does not begin with \
             RPROXY_SENDFILE_PREFIX",
        )
        .logged(),
    KnownRejection::new("send_file", "several_files")
        .explained("the backend named several files below RPROXY_SENDFILE_ROOT")
        .logged(),
    KnownRejection::new("send_file", "file_error")
        .explained("the file below RPROXY_SENDFILE_ROOT cannot be read")
        .logged(),
];

settings! {
    /// The settings of files that the proxy serves itself.
    StaticFilesSettings, "Static files"

    "root" => root: Option<PathBuf> {
        value: "FOLDER",
        default: "none" => None,
        help: "Serves the files below this folder; requests without a file go to the upstream, or get 404 if no upstream is set",
        accepted: FOLDER,
        scope: Route,
        reload: Live,
        parse: |t| optional(t, path),
        show: |s| shown(&s.root),
    }

    "root_fallback" => fallback: Option<String> {
        value: "FILE",
        default: "none" => None,
        help: "File below root for browsers that open a path without a file, such as index.html for a single-page application; missing assets stay 404",
        accepted: "the path of a file below root, such as index.html, or none",
        scope: Route,
        reload: Live,
        parse: |t| optional(t, text),
        show: |s| s.fallback.clone(),
    }

    "sendfile_root" => sendfile_root: Option<PathBuf> {
        value: "FOLDER",
        default: "none" => None,
        help: "Sends the files below this folder that the backend names in X-Accel-Redirect or X-Sendfile of its responses",
        accepted: FOLDER,
        scope: Route,
        reload: Live,
        parse: |t| optional(t, path),
        show: |s| shown(&s.sendfile_root),
    }

    "sendfile_prefix" => sendfile_prefix: Option<String> {
        value: "PATH",
        default: "none" => None,
        help: "Prefix that is removed from the path in X-Accel-Redirect, like an internal location of nginx; other paths get 502",
        accepted: "a path prefix such as /protected, or none",
        scope: Route,
        reload: Live,
        parse: |t| optional(t, prefix),
        show: |s| s.sendfile_prefix.clone(),
    }

    rules {
        ["root"] => |s, _| problem(s.root_builder()?.build()),
        ["root_fallback"] => |s, _| {
            // An unusable root is reported above.
            let is_usable = s.root_builder()?.build().is_ok();
            if is_usable { problem(s.with_fallback()?.build()) } else { None }
        },
        ["sendfile_root"] => |s, _| s.send_file().err().map(|error| ErrorChain(&error).to_string()),
    }

    idle {
        ["root_fallback"] => |s, _| s.root.is_none().then(|| "root is not set".to_owned()),
        ["sendfile_prefix"] => |s, _| s.sendfile_root.is_none().then(|| "sendfile_root is not set".to_owned()),
    }
}

const FOLDER: &str = "the path of a readable folder, or none";

fn shown(folder: &Option<PathBuf>) -> Option<String> {
    folder.as_ref().map(|folder| folder.display().to_string())
}

fn text(text: &str) -> Result<String, ParseError> {
    Ok(text.to_owned())
}

fn prefix(text: &str) -> Result<String, ParseError> {
    let trimmed = text.trim_end_matches('/');
    match trimmed.starts_with('/') {
        true => Ok(trimmed.to_owned()),
        false => Err(ParseError::new("path", text, "the prefix must begin with / and have a name")),
    }
}

fn problem(built: Result<StaticFilesLayer, StaticFilesError>) -> Option<String> {
    built.err().map(|error| ErrorChain(&error).to_string())
}

impl StaticFilesSettings {
    /// Returns whether a folder is set.
    pub(crate) fn has_folder(&self) -> bool {
        self.root.is_some() || self.sendfile_root.is_some()
    }

    /// Returns the layer that serves the files of the root. With `files_only`, it rejects requests without a file.
    pub(crate) fn static_files(&self, files_only: bool) -> Result<StaticFilesLayer, StaticFilesError> {
        match self.with_fallback() {
            Some(builder) => builder.files_only(files_only).build(),
            None => Ok(StaticFilesLayer::none()),
        }
    }

    /// Returns the layer that sends the files of the backend.
    pub(crate) fn send_file(&self) -> Result<SendFileLayer, StaticFilesError> {
        let Some(root) = &self.sendfile_root else { return Ok(SendFileLayer::none()) };
        let builder = SendFileLayer::builder(root);
        let builder = self.sendfile_prefix.iter().fold(builder, |builder, prefix| builder.accel_prefix(prefix));
        builder.build()
    }

    fn root_builder(&self) -> Option<StaticFilesBuilder> {
        self.root.as_ref().map(StaticFilesLayer::builder)
    }

    fn with_fallback(&self) -> Option<StaticFilesBuilder> {
        let builder = self.root_builder()?;
        Some(self.fallback.iter().fold(builder, |builder, fallback| builder.fallback(fallback)))
    }

    pub(crate) fn describe_static_files(&self) -> Option<String> {
        let fallback = self.fallback.as_ref().map_or_else(String::new, |file| format!(", fallback {file}"));
        shown(&self.root).map(|root| format!("StaticFiles      {root}{fallback}"))
    }

    pub(crate) fn describe_send_file(&self) -> Option<String> {
        shown(&self.sendfile_root).map(|root| format!("SendFile         {root}"))
    }
}
