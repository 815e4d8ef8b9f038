//! The generation that is live, and the change to the next.

use super::build::build;
use super::history::History;
use super::snapshot::Snapshot;
use super::state::State;
use crate::audit::{Act, Actor, Cause, Predecessor, Record};
use crate::clock::Timestamp;
use crate::config::{Config, Finding, LogLevel};
use crate::generation::Generation;
use crate::name::ListenerName;
use crate::upstream::ServerState;
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use std::{
    fmt::Write,
    io,
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
        let snapshot = build(&Arc::new(config), history.next(), &state.beside(None))?;
        remember(&mut history, &snapshot)?;
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

    /// Makes a checked config live.
    ///
    /// # Errors
    /// What is wrong; the old generation stays.
    pub fn apply(&self, config: Config, cause: &Cause) -> Result<Change, Vec<Finding>> {
        let mut history = self.making.lock();
        let fixed = unchangeable(&self.snapshot.load().config, &config);
        let change = if fixed.is_empty() { self.make(&mut history, &Arc::new(config)) } else { Err(fixed) };
        self.report(&change, cause);
        change
    }

    /// Reads the files of the live config again and makes a generation if one of them is different.
    ///
    /// # Errors
    /// What is wrong; the old generation stays.
    pub fn refresh(&self) -> Result<Change, Vec<Finding>> {
        let mut history = self.making.lock();
        let config = Arc::clone(&self.snapshot.load().config);
        let change = self.make(&mut history, &config);
        self.report(&change, &Cause { actor: Actor::Files, reason: None });
        change
    }

    /// Takes the servers that were found since; whether there are others.
    pub fn rediscover(&self) -> bool {
        let _no_other_change = self.making.lock();
        self.snapshot.load().pools.rediscover(&self.state.servers, &self.state.metrics)
    }

    /// Notes an attempt at a change that ended before there was a config.
    pub fn refused(&self, findings: &[Finding], cause: &Cause) {
        self.report(&Err(findings.to_vec()), cause);
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

    fn make(&self, history: &mut History, config: &Arc<Config>) -> Result<Change, Vec<Finding>> {
        let live = self.snapshot.load_full();
        let snapshot = build(config, history.next(), &self.state.beside(Some(&live)))?;
        if snapshot.digest == live.digest {
            // The same content in files that look different: the live generation takes note of their looks.
            self.snapshot.store(Arc::new(Snapshot { generation: live.generation, ..snapshot }));
            return Ok(Change::Nothing);
        }
        let generation = snapshot.generation;
        remember(history, &snapshot)?;
        told(&self.state, &snapshot);
        self.former.store(Some(Arc::new((live, Instant::now()))));
        self.snapshot.store(Arc::new(snapshot));
        self.generations.send_replace(generation);
        Ok(Change::Applied(generation))
    }

    fn report(&self, change: &Result<Change, Vec<Finding>>, cause: &Cause) {
        match change {
            Ok(Change::Nothing) => log::info!("nothing that decides has changed"),
            Ok(Change::Applied(generation)) => {
                log::info!("generation {generation} is live");
                self.state.metrics.reloaded(true);
                self.record("reload", cause);
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
                self.record_failure("reload", cause, &messages.join("; "));
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

fn remember(history: &mut History, snapshot: &Snapshot) -> Result<(), Vec<Finding>> {
    let folder = snapshot.config.history_dir.clone().unwrap_or_default();
    let fault = |error| vec![Finding::of_file(folder, format!("the history cannot be written: {error}"), None)];
    history.remember(snapshot.generation).map_err(fault)
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
