//! The generation that is live, and the change to the next.

use super::build::build;
use super::history::{Entry, History, News, Stored, digest_on_disk, pins_of};
use super::snapshot::Snapshot;
use super::state::State;
use crate::audit::{Act, Actor, Cause, Predecessor, Record};
use crate::clock::Timestamp;
use crate::config::{Config, Finding, KeyState, LogLevel};
use crate::generation::Generation;
use crate::identity::Kid;
use crate::insight::{self, Danger};
use crate::name::ListenerName;
use crate::pins::Pins;
use crate::upstream::ServerState;
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use std::{
    fmt::Write,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How long a generation still judges what comes to listeners that the next has not.
const FORMER_FOR: Duration = Duration::from_secs(2);

/// The live generation and all that it shares with the next.
#[derive(Debug)]
pub struct Live {
    snapshot: ArcSwap<Snapshot>,
    /// The generation before, for a moment, and when it ended.
    former: ArcSwapOption<(Arc<Snapshot>, Instant)>,
    state: State,
    generations: watch::Sender<Generation>,
    is_frozen: AtomicBool,
    /// Held while a generation is made, so that two changes never cross.
    making: Mutex<History>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A new generation is live.
    Applied(Generation),
    /// Nothing that decides is different.
    Nothing,
}

impl Live {
    pub(super) fn new(
        config: Config,
        state: State,
        mut history: History,
        predecessor: Option<Predecessor>,
    ) -> Result<Self, Vec<Finding>> {
        let pins = history.pins();
        let snapshot = build(&Arc::new(config), history.next(), &state.beside(None, &pins))?;
        let news = News { time: state.clock.now(), action: "start", cause: &Cause::default() };
        remember(&mut history, &snapshot, &news, pins)?;
        told(&state, &snapshot);
        let generations = watch::Sender::new(snapshot.generation);
        let making = Mutex::new(history);
        let live = Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            former: ArcSwapOption::empty(),
            is_frozen: AtomicBool::new(false),
            state,
            generations,
            making,
        };
        live.note_act(Act { predecessor, ..live.act("start", &Cause::default()) });
        Ok(live)
    }

    /// The live generation. Whoever asks keeps it to the end of what he does.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The generation that judges what comes to a listener: the live one. Connections to a listener that is no more are
    /// drained, and what they were sent before they know of it is judged by the last generation that had it, for 2 s.
    #[must_use]
    pub fn snapshot_at(&self, listener: &ListenerName) -> Arc<Snapshot> {
        let live = self.snapshot.load_full();
        if live.entrances.contains_key(listener) {
            return live;
        }
        let former = self.former.load();
        let former = former.as_ref().filter(|former| former.1.elapsed() < FORMER_FOR);
        let former = former.map(|former| Arc::clone(&former.0)).filter(|it| it.entrances.contains_key(listener));
        former.unwrap_or(live)
    }

    /// What outlives generations.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Tells of every new generation.
    #[must_use]
    pub fn generations(&self) -> watch::Receiver<Generation> {
        self.generations.subscribe()
    }

    /// Makes a checked config live. Files that were rolled back and are changed since count again.
    ///
    /// # Errors
    /// What is wrong; the old generation stays.
    pub fn apply(&self, config: Config, cause: &Cause) -> Result<Change, Vec<Finding>> {
        let mut history = self.making.lock();
        let mut pins = Pins::clone(&history.pins());
        pins.forget_changed(digest_on_disk);
        let change = self.change(&mut history, config, ("reload", cause), pins);
        self.report(&change, "reload", cause);
        change
    }

    /// Makes an earlier config live, with the files that decided then.
    ///
    /// # Errors
    /// What is wrong; the old generation stays.
    pub fn roll_back(&self, stored: &Stored, config: Config, cause: &Cause) -> Result<Change, Vec<Finding>> {
        let mut history = self.making.lock();
        let revived = revived(&self.snapshot.load().config, &config);
        let change = if revived.is_empty() {
            self.change(&mut history, config, ("rollback", cause), pins_of(stored))
        } else {
            Err(revived)
        };
        self.report(&change, "rollback", cause);
        change
    }

    fn change(
        &self,
        history: &mut History,
        config: Config,
        (action, cause): (&'static str, &Cause),
        pins: Pins,
    ) -> Result<Change, Vec<Finding>> {
        let live = Arc::clone(&self.snapshot.load().config);
        let refused: Vec<_> =
            unchangeable(&live, &config).into_iter().chain(unaccepted(&live, &config, cause)).collect();
        if !refused.is_empty() {
            return Err(refused);
        }
        let news = News { time: self.state.clock.now(), action, cause };
        self.make(history, &Arc::new(config), &news, Arc::new(pins))
    }

    /// Reads the files of the live config again and makes a generation if one of them is different.
    ///
    /// # Errors
    /// What is wrong; the old generation stays.
    pub fn refresh(&self) -> Result<Change, Vec<Finding>> {
        let mut history = self.making.lock();
        let config = Arc::clone(&self.snapshot.load().config);
        let cause = Cause::of(Actor::Files);
        let news = News { time: self.state.clock.now(), action: "reload", cause: &cause };
        let pins = history.pins();
        let change = self.make(&mut history, &config, &news, pins);
        self.report(&change, "reload", &cause);
        change
    }

    /// What counts of a config's text that was read: another, if it was rolled back.
    #[must_use]
    pub fn counts(&self, file: &Path, text: String) -> String {
        let pins = self.making.lock().pins();
        match pins.correct(file, Some(text.as_bytes().into())) {
            Some(counts) if *counts != *text.as_bytes() => String::from_utf8_lossy(&counts).into_owned(),
            Some(_) | None => text,
        }
    }

    /// Lets every file count as it is on disk, from the next generation on.
    pub fn forget_rollback(&self) {
        self.making.lock().forget_pins();
    }

    /// Whether a file was rolled back, and has not been changed since.
    #[must_use]
    pub fn is_rolled_back(&self, file: &Path) -> bool {
        self.making.lock().pins().has(file)
    }

    /// The generations that are remembered, the oldest first.
    #[must_use]
    pub fn remembered(&self) -> Vec<Entry> {
        self.making.lock().entries().cloned().collect()
    }

    /// A generation that is remembered, with its contents.
    ///
    /// # Errors
    /// If it is not, or is damaged.
    pub fn stored(&self, generation: u64) -> Result<Stored, Finding> {
        self.making.lock().stored(generation)
    }

    /// Takes the servers that were found since; whether there are others.
    pub fn rediscover(&self) -> bool {
        let _no_other_change = self.making.lock();
        self.snapshot.load().pools.rediscover(&self.state.servers, &self.state.metrics)
    }

    /// Notes an attempt at a change that ended before there was a config.
    pub fn refused(&self, findings: &[Finding], cause: &Cause) {
        self.report(&Err(findings.to_vec()), "reload", cause);
    }

    /// What is to be done every second, by the one who counts them: summaries of what strangers did, and servers that come
    /// back.
    pub fn tick(&self) {
        let (snapshot, now) = (self.snapshot.load(), self.state.clock.now());
        self.state.journal.summarise(now, snapshot.judged());
        snapshot.pools.tick();
        if self.former.load().as_ref().is_some_and(|former| former.1.elapsed() >= FORMER_FOR) {
            self.former.store(None);
        }
        self.state.servers.forget_the_gone(&self.state.metrics);
        let hour = now.unix_seconds() / 3600;
        if self.state.warned.swap(hour, Ordering::Relaxed) != hour {
            warn_of(&snapshot, now);
        }
    }

    /// Records an administrative act.
    pub fn record(&self, action: &'static str, cause: &Cause) {
        self.note_act(self.act(action, cause));
    }

    /// Records an administrative act that was not done, and why.
    pub fn record_failure(&self, action: &'static str, cause: &Cause, failure: &str) {
        self.note_act(Act { failure: Some(failure.into()), ..self.act(action, cause) });
    }

    /// Records what was done with a server.
    pub fn record_of(&self, action: &'static str, server: &ServerState, cause: &Cause) {
        let server = Some((server.pool.clone(), server.name.clone()));
        self.note_act(Act { server, ..self.act(action, cause) });
    }

    fn act(&self, action: &'static str, cause: &Cause) -> Act {
        let (time, judged) = (self.state.clock.now(), self.snapshot.load().judged());
        Act { time, action, server: None, cause: cause.clone(), predecessor: None, failure: None, judged }
    }

    fn note_act(&self, act: Act) {
        self.state.journal.note(Record::Act(Arc::new(act)));
    }

    /// Makes no more generations, because another process does, or makes them again. The numbers that the other has used
    /// are used.
    ///
    /// # Errors
    /// If these cannot be read.
    pub fn freeze(&self, is_frozen: bool) -> io::Result<()> {
        self.is_frozen.store(is_frozen, Ordering::Relaxed);
        // Who waits for it has been let through when this returns.
        let mut history = self.making.lock();
        if is_frozen { Ok(()) } else { history.read_again() }
    }

    /// Whether another process makes generations.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.is_frozen.load(Ordering::Relaxed)
    }

    fn make(
        &self,
        history: &mut History,
        config: &Arc<Config>,
        news: &News<'_>,
        pins: Arc<Pins>,
    ) -> Result<Change, Vec<Finding>> {
        let live = self.snapshot.load_full();
        let snapshot = build(config, history.next(), &self.state.beside(Some(&live), &pins))?;
        if snapshot.digest == live.digest {
            // The same content in files that look different: the live generation takes note of their looks.
            self.snapshot.store(Arc::new(Snapshot { generation: live.generation, ..snapshot }));
            return Ok(Change::Nothing);
        }
        let generation = snapshot.generation;
        remember(history, &snapshot, news, pins)?;
        told(&self.state, &snapshot);
        self.former.store(Some(Arc::new((live, Instant::now()))));
        self.snapshot.store(Arc::new(snapshot));
        self.generations.send_replace(generation);
        Ok(Change::Applied(generation))
    }

    fn report(&self, change: &Result<Change, Vec<Finding>>, action: &'static str, cause: &Cause) {
        match change {
            Ok(Change::Nothing) => log::info!("nothing that decides has changed"),
            Ok(Change::Applied(generation)) => {
                log::info!("generation {generation} is live");
                self.state.metrics.reloaded(true);
                self.record(action, cause);
            }
            Err(findings) => {
                let mut text = String::new();
                for finding in findings {
                    // Writing to a String cannot fail.
                    write!(text, "\n{finding}").ok();
                }
                log::error!("the change is refused and the old config stays:{text}");
                self.state.metrics.reloaded(false);
                let messages: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
                self.record_failure(action, cause, &messages.join("; "));
            }
        }
    }
}

fn warn_of(snapshot: &Snapshot, now: Timestamp) {
    snapshot.aging.iter().filter_map(|aging| aging.warning(now)).for_each(|warning| log::warn!("{warning}"));
}

/// Says in the metrics what is live from now on.
fn told(state: &State, snapshot: &Snapshot) {
    let config = &snapshot.config;
    log::set_max_level(match config.log.level {
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warning => log::LevelFilter::Warn,
        LogLevel::Info => log::LevelFilter::Info,
        LogLevel::Debug => log::LevelFilter::Debug,
    });
    warn_of(snapshot, state.clock.now());
    state.metrics.applied(&config.node, snapshot.generation, snapshot.digest);
    for (name, entrance) in &snapshot.entrances {
        if let Some(tls) = &entrance.tls {
            let authorities = entrance.authorities.as_ref();
            let ca = authorities.and_then(|known| known.valid()).map(|valid| valid.end);
            let crl = authorities.and_then(|known| known.lists_valid()).map(|valid| valid.end);
            state.metrics.expiries(name, tls.valid().end, ca, crl);
        }
    }
}

fn remember(history: &mut History, snapshot: &Snapshot, news: &News<'_>, pins: Arc<Pins>) -> Result<(), Vec<Finding>> {
    let folder = snapshot.config.history_dir.clone().unwrap_or_default();
    let fault = |error| vec![Finding::of_file(folder, format!("the history cannot be written: {error}"), None)];
    history.remember((snapshot.generation, snapshot.digest), &snapshot.read, news, pins).map_err(fault)
}

/// What is dangerous in a change, and was not accepted.
fn unaccepted(live: &Config, next: &Config, cause: &Cause) -> Vec<Finding> {
    let is_meant = |danger: &Danger| cause.accepted.iter().any(|name| *name == danger.name || name == "all");
    let finding = |danger: Danger| {
        let hint = format!("if it is meant: belay reload --accept {}", danger.name);
        Finding::of_file(&next.file, danger.what, Some(hint))
    };
    insight::dangers(live, next).into_iter().filter(|danger| !is_meant(danger)).map(finding).collect()
}

/// Keys that are revoked now and would count again.
fn revived(live: &Config, earlier: &Config) -> Vec<Finding> {
    let keys = |config: &'_ Config| {
        config
            .workloads
            .iter()
            .flat_map(|it| it.keys.iter().map(|key| (key.kid.clone(), key.state)))
            .collect::<Vec<_>>()
    };
    let is_revoked = |(kid, _): &&(Kid, KeyState)| {
        keys(live).iter().any(|(known, state)| known == kid && *state == KeyState::Revoked)
    };
    let again: Vec<_> = keys(earlier);
    let again = again.iter().filter(|(_, state)| *state != KeyState::Revoked).filter(is_revoked);
    let finding = |(kid, _): &(Kid, KeyState)| {
        let hint = "change the config by hand, and reload".to_owned();
        Finding::of_file("", format!("the token key `{kid}` is revoked now, and would count again"), Some(hint))
    };
    again.map(finding).collect()
}

/// What a running process cannot change yet.
fn unchangeable(old: &Config, new: &Config) -> Vec<Finding> {
    let differences = [
        (old.node != new.node, "node"),
        (old.audit_file != new.audit_file, "audit.file"),
        (old.log.format != new.log.format, "log.format"),
        (old.history_dir != new.history_dir, "history.dir"),
    ];
    let finding =
        |what| Finding::of_file("", format!("a running process cannot change {what}"), Some("restart it".into()));
    differences.into_iter().filter(|(differs, _)| *differs).map(|(_, what)| finding(what)).collect()
}
