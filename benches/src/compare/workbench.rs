//! The resources shared by all scenarios: a directory, static files and a certificate.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tempfile::TempDir;

use super::certificate::Certificate;

#[derive(Debug)]
pub(crate) struct Workbench {
    folder: TempDir,
    pub(crate) files: PathBuf,
    pub(crate) certificate: Arc<Certificate>,
    places: AtomicUsize,
}

/// The names and lengths of the static files.
const FILES: [(&str, usize); 6] =
    [("small", 17), ("1k", 1000), ("1k.js", 1000), ("20k", 20_000), ("100k", 100_000), ("10m", 10_000_000)];

impl Workbench {
    pub(crate) fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("rproxy-compare-")?;
        let files = folder.path().join("files");
        fs::create_dir(&files)?;
        for (name, length) in FILES {
            let text = b"All work and no play makes Jack a dull boy.\n".iter().cycle().take(length);
            fs::write(files.join(name), text.copied().collect::<Vec<u8>>())?;
        }
        let certificate = Arc::new(Certificate::write_into(folder.path())?);
        Ok(Self { folder, files, certificate, places: AtomicUsize::new(0) })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Creates a directory for one program.
    pub(crate) fn place(&self) -> Result<PathBuf> {
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        let place = self.folder.path().join(number.to_string());
        fs::create_dir(&place)?;
        Ok(place)
    }
}
