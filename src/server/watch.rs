//! Follows the files that the live config names: a changed key, certificate or CA makes a generation, without a signal.
//! The config's own text is not followed: a change of policy waits for SIGHUP.

use crate::drain::Watch;
use crate::runtime::Live;
use crate::upstream::Probes;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::task::spawn_blocking;
use tokio::time;

/// How often to look. Looking works on every file system, through symbolic links that are swapped, too.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When a file was changed, as far as its folder knows: device, inode, size, seconds and nanoseconds.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Follows the files of each generation, and leads the checks of servers after it, until the drain starts.
pub(super) async fn follow(live: Arc<Live>, probes: Probes, mut drain: Watch) {
    let mut generations = live.generations();
    let mut seen = stamps(&live).await;
    loop {
        tokio::select! {
            () = drain.wait() => return,
            new = generations.changed() => {
                if new.is_err() {
                    return;
                }
                probes.follow(&live.snapshot().pools);
                seen = stamps(&live).await;
            }
            () = time::sleep(LOOK_EVERY) => {
                let now = stamps(&live).await;
                if now != seen {
                    seen = now;
                    refresh(&live).await;
                }
            }
        }
    }
}

async fn stamps(live: &Arc<Live>) -> Vec<(PathBuf, Stamp)> {
    let snapshot = live.snapshot();
    let look = move || snapshot.files.iter().map(|path| (path.clone(), stamp(path))).collect();
    // Looking that ended by a fault has seen nothing, which is looked at again.
    spawn_blocking(look).await.unwrap_or_default()
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

async fn refresh(live: &Arc<Live>) {
    let live = Arc::clone(live);
    // What came of it is logged and recorded where it is known.
    if spawn_blocking(move || drop(live.refresh())).await.is_err() {
        log::error!("reading the files again ended by a fault; the old generation stays");
    }
}
