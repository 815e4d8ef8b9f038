//! Follows the files that the live config names: a changed key, certificate or CA makes a generation, without a signal.
//! The config's own text is followed only if it says so; otherwise a change of policy waits for `belay reload` or HUP.

use crate::admin::{Orders, Task};
use crate::audit::{Actor, Cause};
use crate::config::{self, Config, Finding};
use crate::drain::Watch;
use crate::generation::Generation;
use crate::keys::{Seen, content_up_to};
use crate::provider::Fetcher;
use crate::runtime::Live;
use crate::upstream::{Lookups, Probes};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch::Receiver;
use tokio::task::spawn_blocking;
use tokio::time::{self, MissedTickBehavior};

/// How often to look. Looking works on every file system, through symbolic links that are swapped, too.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows the files of each generation, and leads the checks of servers after it, until the drain starts.
/// `generations` tells of every generation after the one that the checks follow already.
pub(super) async fn follow(
    live: Arc<Live>,
    followers: Arc<Followers>,
    mut generations: Receiver<Generation>,
    (orders, mut drain): (Orders, Watch),
) {
    let mut answers = followers.lookups.answers();
    // What was said before somebody listened.
    take_answers(&live, &followers).await;
    // A change that was refused is not tried again before the files change again.
    let mut refused = Vec::new();
    let mut text = None;
    let mut looks = time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = drain.wait() => break,
            new = generations.changed() => match new {
                Ok(()) => off_the_loop(&live, &followers, |live, followers| followers.follow(live)).await,
                Err(_gone) => return,
            },
            Ok(()) = answers.changed() => take_answers(&live, &followers).await,
            _ = looks.tick() => {
                text = look_at_text(&live, &orders, text).await;
                refused = look(Arc::clone(&live), refused).await;
            }
        }
    }
    // The drain is over when nobody holds it any more; until then somebody may wait, or be ejected.
    drop(drain);
    let mut faults = Vec::new();
    loop {
        looks.tick().await;
        live.tick();
        faults = take_revocations(Arc::clone(&live), faults).await;
    }
}

/// Takes what is revoked while this process makes no generations. A fault is said once. Returns what is wrong.
async fn take_revocations(live: Arc<Live>, known: Vec<Finding>) -> Vec<Finding> {
    let taken = spawn_blocking(move || live.take_revocations().err().unwrap_or_default()).await.unwrap_or_default();
    for finding in taken.iter().filter(|finding| !known.contains(finding)) {
        log::error!("what is revoked cannot be read, and what was revoked before stays it: {finding}");
    }
    taken
}

/// Has the config be read again if its text is another one now, and if it wants that. `last` is how the file looked the
/// last time, so that a text that was refused is not tried again before it changes again.
async fn look_at_text(live: &Live, orders: &Orders, last: Option<Seen>) -> Option<Seen> {
    let config = Arc::clone(&live.snapshot().config);
    if !config.is_watched || live.is_frozen() {
        return None;
    }
    let looking = spawn_blocking(move || {
        let now = Seen::look(&config.file);
        let text = || content_up_to(&config.file, config::TEXT_MAX).ok().flatten();
        let is_other = || text().is_some_and(|text| Config::digest_of(&text) != config.text_digest);
        let is_new = last.as_ref() != Some(&now) && is_other();
        (now, is_new)
    });
    let (now, is_new) = looking.await.ok()?;
    let cause = Cause::of(Actor::Files);
    if is_new && let Err(fault) = orders.leave(Task::Reload { again: false }, cause) {
        log::warn!("the config has changed and is not read yet: {fault}");
        return None;
    }
    Some(now)
}

/// What follows the live generation's servers and identity providers.
pub(super) struct Followers {
    pub(super) probes: Probes,
    pub(super) lookups: Lookups,
    pub(super) fetcher: Fetcher,
}

impl Followers {
    /// Checks, looks up and fetches what the live generation wants to know.
    pub(super) fn follow(&self, live: &Live) {
        let (snapshot, state) = (live.snapshot(), live.state());
        self.lookups.follow(&snapshot.pools, &snapshot.config.dns, &state.servers, &state.metrics);
        self.probes.follow(&snapshot.pools);
        let providers: Vec<_> = snapshot.providers.values().cloned().collect();
        self.fetcher.follow(&providers, &state.providers, &state.metrics);
    }
}

/// Takes what DNS has said since.
async fn take_answers(live: &Arc<Live>, followers: &Arc<Followers>) {
    let take = |live: &Live, followers: &Followers| {
        live.rediscover();
        // Whoever else has taken the answers has told nobody.
        followers.probes.follow(&live.snapshot().pools);
    };
    off_the_loop(live, followers, take).await;
}

/// A generation may be in the making, which reads files and is waited for.
async fn off_the_loop(live: &Arc<Live>, followers: &Arc<Followers>, work: fn(&Live, &Followers)) {
    let (live, followers) = (Arc::clone(live), Arc::clone(followers));
    if spawn_blocking(move || work(&live, &followers)).await.is_err() {
        log::error!("following the servers ended by a fault; their checks stay as they are");
    }
}

/// What is done every second: looks at the files, off the event loop, and reads them again if they are neither what the
/// live generation was built from nor what was refused last. Returns what was refused.
async fn look(live: Arc<Live>, refused: Vec<Seen>) -> Vec<Seen> {
    let looking = spawn_blocking(move || {
        live.tick();
        if live.is_frozen() {
            // What is wrong says the process that makes generations.
            live.take_revocations().ok();
            return refused;
        }
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
