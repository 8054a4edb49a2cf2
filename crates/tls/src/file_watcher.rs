use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::Notify, task::spawn_blocking, time::sleep};

use crate::{
    pem_files::{FileCertificate, reload_all},
    validity::until,
};

/// The delay between a file change and the reload, so that a tool can replace both files of a pair.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// The interval of periodic reloads, because network file systems report no file events.
const POLL_INTERVAL: Duration = Duration::from_secs(3600);

/// Reloads certificates when a file in one of their folders changes. Returns early if nothing can be watched.
pub(crate) async fn watch(certificates: Vec<Arc<FileCertificate>>) {
    if certificates.is_empty() {
        return;
    }
    let changed = Arc::new(Notify::new());
    let _watcher = match watcher(&certificates, changed.clone()) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "cannot watch the certificate files for changes, reading them again only on a reload");
            return;
        }
    };
    // Changes between the first read and the start of the watcher caused no event.
    changed.notify_one();
    loop {
        let staple_expiry = certificates.iter().filter_map(|certificate| certificate.staple_expiry()).min();
        let wait = staple_expiry.map_or(POLL_INTERVAL, |expiry| until(expiry, SystemTime::now()));
        tokio::select! {
            () = changed.notified() => sleep(DEBOUNCE).await,
            // At most the poll interval, to notice a changed clock or a suspended machine.
            () = sleep(wait.min(POLL_INTERVAL)) => {}
        }
        let certificates = certificates.clone();
        // Off the async threads, because reading can block for long, above all on a network file system.
        let _ = spawn_blocking(move || reload_all(&certificates)).await;
    }
}

fn watcher(certificates: &[Arc<FileCertificate>], changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| is_change(&event.kind)) {
            changed.notify_one();
        }
    })?;
    for folder in folders(certificates) {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Returns the folders to watch for changes of certificate files.
///
/// Folders are watched rather than files, because tools replace a file by renaming another over it, and a watch would
/// stay with the old one. For a symbolic link, both the folder of the link and that of its target are watched: certbot
/// replaces the link, other tools write the target.
fn folders(certificates: &[Arc<FileCertificate>]) -> BTreeSet<PathBuf> {
    let paths = certificates.iter().flat_map(|certificate| certificate.paths());
    paths
        .flat_map(|path| [Some(path.to_owned()), path.canonicalize().ok()])
        .flatten()
        .filter_map(|path| match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
            parent => parent.map(PathBuf::from),
        })
        .collect()
}

/// Returns whether a file system event reports a change. Reads are events too, and would trigger reloads in an endless
/// loop.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
