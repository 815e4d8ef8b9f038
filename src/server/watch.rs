//! Follows the files that the live config names: a changed key, certificate or CA makes a generation, without a signal.
//! The config's own text is not followed: a change of policy waits for SIGHUP.

use crate::drain::Watch;
use crate::generation::Generation;
use crate::keys::Seen;
use crate::runtime::Live;
use crate::upstream::{Lookups, Probes};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch::Receiver;
use tokio::task::spawn_blocking;
use tokio::time;

/// How often to look. Looking works on every file system, through symbolic links that are swapped, too.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows the files of each generation, and leads the checks of servers after it, until the drain starts.
/// `generations` tells of every generation after the one that the checks follow already.
pub(super) async fn follow(
    live: Arc<Live>,
    (probes, lookups): (Probes, Lookups),
    mut generations: Receiver<Generation>,
    mut drain: Watch,
) {
    let mut answers = lookups.answers();
    // A change that was refused is not tried again before the files change again.
    let mut refused = Vec::new();
    loop {
        tokio::select! {
            () = drain.wait() => break,
            new = generations.changed() => match new {
                Ok(()) => {
                    lead(&live, &lookups);
                    probes.follow(&live.snapshot().pools);
                }
                Err(_gone) => return,
            },
            Ok(()) = answers.changed() => {
                if live.rediscover() {
                    probes.follow(&live.snapshot().pools);
                }
            }
            () = time::sleep(LOOK_EVERY) => refused = look(Arc::clone(&live), refused).await,
        }
    }
    // The drain is over when nobody holds it any more; until then somebody may wait, or be ejected.
    drop(drain);
    loop {
        time::sleep(LOOK_EVERY).await;
        live.tick();
    }
}

/// Has the lookups ask what the live generation wants to know.
pub(super) fn lead(live: &Live, lookups: &Lookups) {
    let (snapshot, state, config) = (live.snapshot(), live.state(), live.config());
    lookups.follow(&snapshot.pools, &config.dns, &state.servers, &state.metrics);
}

/// What is done every second: looks at the files, off the event loop, and reads them again if they are neither what the live generation was built
/// from nor what was refused last. Returns what was refused.
async fn look(live: Arc<Live>, refused: Vec<Seen>) -> Vec<Seen> {
    let looking = spawn_blocking(move || {
        live.tick();
        let files = &live.snapshot().files;
        let changed = files.iter().any(Seen::has_changed);
        let is_new = refused.is_empty() || refused.iter().any(Seen::has_changed);
        if !changed {
            return Vec::new();
        }
        if !is_new {
            return refused;
        }
        let now = files.iter().map(Seen::again).collect();
        // What came of it is logged and recorded where it is known.
        if live.refresh().is_ok() { Vec::new() } else { now }
    });
    looking.await.unwrap_or_else(|_fault| {
        log::error!("reading the files again ended by a fault; the old generation stays");
        Vec::new()
    })
}
