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

use crate::{files::Files, validity::until};

/// Long enough for a tool to write the second file of a pair, too short for a person to notice.
const SETTLE: Duration = Duration::from_millis(200);

/// How often to look although nothing happens: a network mount gives no events.
const SEASON: Duration = Duration::from_secs(3600);

/// Reloads files when something happens in their folders. Ends only when there is nothing that it can watch.
pub(crate) async fn watch(all: Vec<Arc<Files>>) {
    if all.is_empty() {
        return;
    }
    let stirred = Arc::new(Notify::new());
    let _watcher = match watcher(&all, stirred.clone()) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "can't watch the certificate files; they are read again on a reload only");
            return;
        }
    };
    // What changed between the first reading and the start of the watch gave no event.
    stirred.notify_one();
    loop {
        let staples_end = all.iter().filter_map(|files| files.staple_ends()).min();
        let wait = staples_end.map_or(SEASON, |end| until(end, SystemTime::now()));
        tokio::select! {
            () = stirred.notified() => sleep(SETTLE).await,
            // A clock that was set, or a machine that slept, is noticed within the hour.
            () = sleep(wait.min(SEASON)) => {}
        }
        for files in &all {
            let files = files.clone();
            // Disks, and network mounts more so, can keep a thread waiting; this one may be serving requests.
            let _ = spawn_blocking(move || files.reload()).await;
        }
    }
}

fn watcher(all: &[Arc<Files>], stirred: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| is_change(&event.kind)) {
            stirred.notify_one();
        }
    })?;
    for folder in folders(all) {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Folders are watched rather than files: tools replace files by renaming over them, and a watch would stay with the
/// old one. Both ends of a symbolic link count, for certbot swaps the link and others write the target.
fn folders(all: &[Arc<Files>]) -> BTreeSet<PathBuf> {
    let paths = all.iter().flat_map(|files| files.paths());
    paths
        .flat_map(|path| [Some(path.to_owned()), path.canonicalize().ok()])
        .flatten()
        .filter_map(|path| match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
            parent => parent.map(PathBuf::from),
        })
        .collect()
}

/// Reading is an event as well, and our own reading would be the next one without end.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
