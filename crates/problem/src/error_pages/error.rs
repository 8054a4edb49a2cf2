//! The error of error pages that cannot be used.

use std::io;
use std::path::PathBuf;

/// The error for a folder or file that cannot be used as [`ErrorPages`](crate::ErrorPages).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorPagesError {
    /// The folder cannot be read.
    #[error("cannot read the folder of error pages {}: {error}", folder.display())]
    Folder {
        /// The path of the folder.
        folder: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The folder has no page.
    #[error("the folder {} has no error pages such as 404.html, 5xx.html or maintenance.html", folder.display())]
    NoPages {
        /// The path of the folder.
        folder: PathBuf,
    },
    /// The name of a file is not that of a page.
    #[error(
        "{file} is not the name of an error page: accepted are 404.html, with any status from 400 to 599, 4xx.html, 5xx.html and maintenance.html"
    )]
    Name {
        /// The path of the file.
        file: String,
    },
    /// A file cannot be read.
    #[error("cannot read {file}: {error}")]
    File {
        /// The path of the file.
        file: String,
        /// The reason.
        error: io::Error,
    },
    /// The name of a page is that of a folder, socket or device.
    #[error("{file} is not a regular file")]
    NotAFile {
        /// The path of the file.
        file: String,
    },
    /// A page is larger than 1 MiB.
    #[error("{file} is larger than 1 MiB")]
    TooLarge {
        /// The path of the file.
        file: String,
    },
    /// A page is not valid UTF-8.
    #[error("{file} is not valid UTF-8")]
    NotUtf8 {
        /// The path of the file.
        file: String,
    },
    /// A page has a placeholder that does not exist.
    #[error("{file}:{line}: unknown placeholder {placeholder}: accepted are ::STATUS::, ::REASON:: and ::REQUEST_ID::")]
    UnknownPlaceholder {
        /// The path of the file.
        file: String,
        /// The number of the line, starting at 1.
        line: usize,
        /// The placeholder, with its colons.
        placeholder: String,
    },
    /// A page has more than 32 placeholders.
    #[error("{file} has more than 32 placeholders")]
    TooManyPlaceholders {
        /// The path of the file.
        file: String,
    },
}
