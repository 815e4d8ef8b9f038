//! The generation that is live, and the change to the next.

use super::build::build;
use super::history::History;
use super::snapshot::Snapshot;
use super::state::State;
use crate::audit::{Act, Record};
use crate::clock::Timestamp;
use crate::config::{self, Config, Finding, LogLevel};
use crate::generation::Generation;
use crate::name::{PoolName, ServerName};
use crate::upstream::ServerState;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::{
    fmt::Write,
    path::Path,
    sync::{Arc, atomic::Ordering},
};
use tokio::sync::watch;

/// The live generation and all that it shares with the next.
#[derive(Debug)]
pub struct Live {
    snapshot: ArcSwap<Snapshot>,
    state: State,
    generations: watch::Sender<Generation>,
    /// Held while a generation is made, so that two changes never cross.
    making: Mutex<Making>,
}

#[derive(Debug)]
struct Making {
    config: Arc<Config>,
    history: History,
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
    pub(super) fn new(config: Config, state: State, mut history: History) -> Result<Self, Vec<Finding>> {
        let snapshot = build(&config, history.next(), &state.beside(None))?;
        remember(&mut history, snapshot.generation, config.history_dir.as_deref())?;
        told(&state, &config, &snapshot);
        let making = Mutex::new(Making { config: Arc::new(config), history });
        let generations = watch::Sender::new(snapshot.generation);
        let live = Self { snapshot: ArcSwap::from_pointee(snapshot), state, generations, making };
        live.record("start", None);
        Ok(live)
    }

    /// The live generation. Whoever asks keeps it to the end of what he does.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
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

    /// The config of the live generation.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.making.lock().config)
    }

    /// Makes a checked config live.
    ///
    /// # Errors
    /// What is wrong; the old generation stays.
    pub fn apply(&self, config: Config) -> Result<Change, Vec<Finding>> {
        let mut making = self.making.lock();
        let fixed = unchangeable(&making.config, &config);
        let change = if fixed.is_empty() { self.make(&mut making, Arc::new(config)) } else { Err(fixed) };
        self.report(&change);
        change
    }

    /// Reads the files of the live config again and makes a generation if one of them is different.
    ///
    /// # Errors
    /// What is wrong; the old generation stays.
    pub fn refresh(&self) -> Result<Change, Vec<Finding>> {
        let mut making = self.making.lock();
        let config = Arc::clone(&making.config);
        let change = self.make(&mut making, config);
        self.report(&change);
        change
    }

    /// Takes the servers that were found since; whether there are others.
    pub fn rediscover(&self) -> bool {
        let _no_other_change = self.making.lock();
        self.snapshot.load().pools.rediscover(&self.state.servers, &self.state.metrics)
    }

    /// Notes an attempt at a change that ended before there was a config.
    pub fn refused(&self, findings: &[Finding]) {
        self.report(&Err(findings.to_vec()));
    }

    /// What is to be done every second, by the one who counts them: summaries of what strangers did, and servers that come
    /// back.
    pub fn tick(&self) {
        let (snapshot, now) = (self.snapshot.load(), self.state.clock.now());
        self.state.journal.summarise(now, snapshot.judged());
        snapshot.pools.tick();
        self.state.servers.forget_the_gone(&self.state.metrics);
        let hour = now.unix_seconds() / 3600;
        if self.state.warned.swap(hour, Ordering::Relaxed) != hour {
            warn_of(&snapshot, now);
        }
    }

    /// Records an administrative act.
    pub fn record(&self, action: &'static str, failure: Option<Box<str>>) {
        self.note_act(action, None, failure);
    }

    /// Records what was done with a server.
    pub fn record_of(&self, action: &'static str, server: &ServerState) {
        self.note_act(action, Some((server.pool.clone(), server.name.clone())), None);
    }

    fn note_act(&self, action: &'static str, server: Option<(PoolName, ServerName)>, failure: Option<Box<str>>) {
        let judged = self.snapshot.load().judged();
        let act = Act { time: self.state.clock.now(), action, server, failure, judged };
        self.state.journal.note(Record::Act(Arc::new(act)));
    }

    fn make(&self, making: &mut Making, config: Arc<Config>) -> Result<Change, Vec<Finding>> {
        let live = self.snapshot.load_full();
        let snapshot = build(&config, making.history.next(), &self.state.beside(Some(&live)))?;
        if snapshot.digest == live.digest {
            // The same content in files that look different: the live generation takes note of their looks.
            self.snapshot.store(Arc::new(Snapshot { generation: live.generation, ..snapshot }));
            return Ok(Change::Nothing);
        }
        let generation = snapshot.generation;
        remember(&mut making.history, generation, config.history_dir.as_deref())?;
        told(&self.state, &config, &snapshot);
        self.snapshot.store(Arc::new(snapshot));
        self.generations.send_replace(generation);
        making.config = config;
        Ok(Change::Applied(generation))
    }

    fn report(&self, change: &Result<Change, Vec<Finding>>) {
        match change {
            Ok(Change::Nothing) => log::info!("nothing that decides has changed"),
            Ok(Change::Applied(generation)) => {
                log::info!("generation {generation} is live");
                self.state.metrics.reloaded(true);
                self.record("reload", None);
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
                self.record("reload", Some(messages.join("; ").into()));
            }
        }
    }
}

fn warn_of(snapshot: &Snapshot, now: Timestamp) {
    snapshot.aging.iter().filter_map(|aging| aging.warning(now)).for_each(|warning| log::warn!("{warning}"));
}

/// Says in the metrics what is live from now on.
fn told(state: &State, config: &Config, snapshot: &Snapshot) {
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

fn remember(history: &mut History, generation: Generation, folder: Option<&Path>) -> Result<(), Vec<Finding>> {
    let fault = |error| {
        vec![Finding::of_file(
            folder.unwrap_or_else(|| Path::new("")),
            format!("the history cannot be written: {error}"),
            None,
        )]
    };
    history.remember(generation).map_err(fault)
}

/// What a running process cannot change yet.
fn unchangeable(old: &Config, new: &Config) -> Vec<Finding> {
    let sockets = |config: &Config| {
        let socket =
            |listener: &config::Listener| (listener.name.clone(), listener.bind.clone(), listener.tls.is_some());
        config.listeners.iter().map(socket).collect::<Vec<_>>()
    };
    let differences = [
        (sockets(old) != sockets(new), "the listeners' names, addresses and whether they speak TLS"),
        (old.node != new.node, "node"),
        (old.audit_file != new.audit_file, "audit.file"),
        (old.admin_http != new.admin_http, "admin.http"),
        (old.admin_socket != new.admin_socket, "admin.socket"),
        (old.log.format != new.log.format, "log.format"),
        (old.history_dir != new.history_dir, "history.dir"),
    ];
    let finding =
        |what| Finding::of_file("", format!("a running process cannot change {what} yet"), Some("restart it".into()));
    differences.into_iter().filter(|(differs, _)| *differs).map(|(_, what)| finding(what)).collect()
}
