//! The generation that is live, and the change to the next.

use super::approval::{Approval, Approved, signatures_of};
use super::build::build;
use super::consent::{gone_by_itself, revived, trusted_again, unaccepted, unchangeable, unguarded, unrevoked};
use super::history::{Entry, History, News, Stored, digest_on_disk, pins_of};
use super::secrets::changed;
use super::snapshot::Snapshot;
use super::state::State;
use crate::audit::{Act, Actor, Cause, Left, Record, Upkeep};
use crate::clock::Timestamp;
use crate::config::{Config, Finding, LogLevel};
use crate::generation::Generation;
use crate::journal::Found;
use crate::keys::{Files, Seen};
use crate::name::ListenerName;
use crate::pins::Pins;
use crate::upstream::ServerState;
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use std::{
    fmt::Write,
    io,
    path::{Path, PathBuf},
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

/// A config that may take the place of that one: nothing in it is dangerous and unsaid.
#[derive(Debug)]
pub struct Consented {
    config: Arc<Config>,
    instead_of: Arc<Config>,
}

/// What is to be made live.
struct Wanted<'a> {
    config: Arc<Config>,
    /// What counts instead of files on disk.
    pins: Arc<Pins>,
    /// `reload` or `rollback`.
    action: &'static str,
    cause: &'a Cause,
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
    pub(super) fn new(config: Config, state: State, mut history: History, found: Found) -> Result<Self, Vec<Finding>> {
        let pins = history.pins();
        let mut snapshot = build(&Arc::new(config), history.next(), &state.beside(None, &pins))?;
        follow_signatures(&state, &mut snapshot);
        for id in state.revocations.lost_guardrails(snapshot.rules.as_ref()) {
            log::warn!("the guardrail `{id}` is gone since the last generation, or is another");
        }
        for (_, what) in state.revocations.counting_again(&snapshot.trust) {
            log::warn!("the {what} was revoked, and counts again");
        }
        let approved = approved(&state, &snapshot)?;
        let news = News { time: state.clock.now(), action: "start", cause: &Cause::default() };
        remember(&state, &mut history, (&snapshot, approved), &news, pins)?;
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
        live.note_act(Act { predecessor: found.last, ..live.act("start", &Cause::default()) });
        found.left.into_iter().for_each(|left| live.recovered(left));
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

    /// Looks at what a change of the config would mean, which takes longer than to make it live.
    ///
    /// # Errors
    /// What cannot be changed, and what is dangerous and was not accepted.
    pub fn consent(&self, config: Config, action: &'static str, cause: &Cause) -> Result<Consented, Vec<Finding>> {
        let live = Arc::clone(&self.snapshot.load().config);
        let unsaid = unaccepted(&live, &config, cause);
        let refused = refuse(unchangeable(&live, &config).into_iter().chain(unsaid).collect());
        if refused.is_err() {
            self.report(&refused.clone().map(|()| Change::Nothing), action, cause);
        }
        refused.map(|()| Consented { config: Arc::new(config), instead_of: live })
    }

    /// Makes a config live. Files that were rolled back and are changed since count again; with `again` all do.
    ///
    /// # Errors
    /// What is wrong; the old generation stays, and what was rolled back stays it.
    pub fn apply(&self, consented: Consented, again: bool, cause: &Cause) -> Result<Change, Vec<Finding>> {
        let mut history = self.making.lock();
        let mut pins = if again { Pins::default() } else { Pins::clone(&history.pins()) };
        pins.forget_changed(digest_on_disk);
        let change = self.change(&mut history, consented, Arc::new(pins), ("reload", cause));
        self.report(&change, "reload", cause);
        change
    }

    /// Says what stands against another process's start with a checked config, as [`Live::apply`] would; nothing
    /// happens.
    ///
    /// # Errors
    /// What is wrong.
    pub fn would_apply(&self, config: Config, cause: &Cause) -> Result<(), Vec<Finding>> {
        let history = self.making.lock();
        let live = self.snapshot.load_full();
        let mut pins = Pins::clone(&history.pins());
        pins.forget_changed(digest_on_disk);
        refuse(unaccepted(&live.config, &config, cause))?;
        let pins = Arc::new(pins);
        let next = build(&Arc::new(config), history.next(), &self.state.beside(Some(&live), &pins))?;
        refuse(unguarded(&live, &next, cause))?;
        refuse(unrevoked(&self.state.revocations, &next, cause))?;
        approved(&self.state, &next).map(drop)
    }

    /// Makes an earlier config live, with the files that decided then.
    ///
    /// # Errors
    /// What is wrong; the old generation stays.
    pub fn roll_back(&self, stored: &Stored, consented: Consented, cause: &Cause) -> Result<Change, Vec<Finding>> {
        let mut history = self.making.lock();
        let pins = Arc::new(pins_of(stored));
        let change = refuse(files_since(stored, &consented.config, &pins))
            .and_then(|()| self.change(&mut history, consented, pins, ("rollback", cause)));
        self.report(&change, "rollback", cause);
        change
    }

    fn change(
        &self,
        history: &mut History,
        Consented { config, instead_of }: Consented,
        pins: Arc<Pins>,
        (action, cause): (&'static str, &Cause),
    ) -> Result<Change, Vec<Finding>> {
        if !Arc::ptr_eq(&instead_of, &self.snapshot.load().config) {
            let hint = Some("try again".to_owned());
            return Err(vec![Finding::of_file(&config.file, "something else has become live meanwhile", hint)]);
        }
        self.make(history, Wanted { config, pins, action, cause })
    }

    /// Reads the files of the live config again and makes a generation if one of them is different.
    ///
    /// # Errors
    /// What is wrong; the old generation stays.
    pub fn refresh(&self) -> Result<Change, Vec<Finding>> {
        let refreshed = self.read_again();
        if refreshed.is_err() {
            // What else is wrong lets nobody in who is revoked. What is wrong with that file is among the findings.
            self.take_revocations().ok();
        }
        refreshed
    }

    fn read_again(&self) -> Result<Change, Vec<Finding>> {
        let mut history = self.making.lock();
        if self.is_frozen() {
            return Ok(Change::Nothing);
        }
        let (config, pins) = (Arc::clone(&self.snapshot.load().config), history.pins());
        let cause = Cause::of(Actor::Files);
        let change = self.make(&mut history, Wanted { config, pins, action: "reload", cause: &cause });
        self.report(&change, "reload", &cause);
        change
    }

    /// Takes what was revoked since, without a generation: a process that only finishes what it has begun makes none, and
    /// nothing of it is taken back there.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn take_revocations(&self) -> Result<Change, Vec<Finding>> {
        let _no_other_change = self.making.lock();
        let live = self.snapshot.load_full();
        let Some(path) = &live.config.revoked_file else { return Ok(Change::Nothing) };
        let known = live.trust.revoked.load_full();
        let all = known.with(&Files::new(live.config.file.parent().unwrap_or_else(|| Path::new(""))).revoked(path)?);
        if all == *known {
            return Ok(Change::Nothing);
        }
        live.trust.revoked.store(Arc::new(all));
        // All that is in flight looks again.
        self.generations.send_replace(live.generation);
        log::info!("more is revoked");
        Ok(Change::Applied(live.generation))
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

    /// Notes an attempt at a change that ended before there was something to make live.
    pub fn refused(&self, findings: &[Finding], action: &'static str, cause: &Cause) {
        self.report(&Err(findings.to_vec()), action, cause);
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
        self.state.limiters.forget_the_gone();
        self.state.secrets.look(&self.state.metrics, now);
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
        let approved = self.state.approval.as_ref().and_then(Approval::last);
        let approved_by = approved.map_or_else(Vec::new, |last| last.by.into_iter().collect());
        let (server, key, predecessor, failure, cause) = (None, None, None, None, cause.clone());
        Act { time, action, server, key, cause, predecessor, failure, approved_by, judged }
    }

    /// Records that an earlier process has ended without a word.
    fn recovered(&self, left: Left) {
        let Left { boot, sequence, torn_bytes, missing, .. } = &left;
        log::warn!("audit: the process {boot} ended without a word after record {sequence}");
        if *torn_bytes > 0 {
            log::warn!("audit: it has left {torn_bytes} bytes of a line");
        }
        if *missing > 0 {
            log::error!("audit: {missing} records that it had signed are not there");
        }
        let (time, judged) = (self.state.clock.now(), Some(self.snapshot.load().judged()));
        self.state.journal.note(Record::Upkeep { time, upkeep: Upkeep::Recovered(left), judged });
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
        // Whoever makes one has made it when this is locked, and nobody begins another who locks it later.
        let mut history = self.making.lock();
        if !is_frozen {
            history.read_again()?;
            self.state.revocations.read_again()?;
            self.state.approval.as_ref().map_or(Ok(()), Approval::read_again)?;
        }
        self.is_frozen.store(is_frozen, Ordering::Relaxed);
        Ok(())
    }

    /// Whether generations are remembered.
    #[must_use]
    pub fn has_history(&self) -> bool {
        self.making.lock().entries().next().is_some()
    }

    /// The generation that another process has made live meanwhile, if it is another than the one here.
    #[must_use]
    pub fn overtaken_by(&self) -> Option<u64> {
        let history = self.making.lock();
        let live = self.snapshot.load();
        let newest = history.entries().next_back()?;
        (newest.generation > live.generation.number() && newest.digest != live.digest.to_string())
            .then_some(newest.generation)
    }

    /// Whether another process makes generations.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.is_frozen.load(Ordering::Relaxed)
    }

    fn make(&self, history: &mut History, wanted: Wanted<'_>) -> Result<Change, Vec<Finding>> {
        let Wanted { config, pins, action, cause } = wanted;
        let live = self.snapshot.load_full();
        let mut snapshot = build(&config, history.next(), &self.state.beside(Some(&live), &pins))?;
        follow_signatures(&self.state, &mut snapshot);
        refuse(gone_by_itself(&live, &snapshot, cause))?;
        refuse(unguarded(&live, &snapshot, cause))?;
        let revocations = &self.state.revocations;
        refuse(match action {
            "rollback" => {
                let lost = trusted_again(&live, &snapshot, cause);
                revived(revocations, &snapshot).into_iter().chain(lost).collect()
            }
            _ => unrevoked(revocations, &snapshot, cause),
        })?;
        if snapshot.digest == live.digest {
            // Perhaps other files count, although the content is the same.
            history.pin(pins, &snapshot.read).map_err(|fault| unwritten(&config, &fault))?;
            // The same content in files that look different: the live generation takes note of their looks.
            self.snapshot.store(Arc::new(Snapshot { generation: live.generation, ..snapshot }));
            return Ok(Change::Nothing);
        }
        let approved = approved(&self.state, &snapshot)?;
        let generation = snapshot.generation;
        let news = News { time: self.state.clock.now(), action, cause };
        remember(&self.state, history, (&snapshot, approved), &news, pins)?;
        told(&self.state, &snapshot);
        let keys = changed(&live.secrets, &snapshot.secrets);
        self.former.store(Some(Arc::new((live, Instant::now()))));
        self.snapshot.store(Arc::new(snapshot));
        self.generations.send_replace(generation);
        for key in keys {
            self.note_act(Act { key: Some(key), ..self.act("key", cause) });
        }
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

/// Files of rules that were not there then, and would count.
fn files_since(stored: &Stored, config: &Config, pins: &Arc<Pins>) -> Vec<Finding> {
    let folder = config.file.parent().unwrap_or_else(|| Path::new(""));
    let mut files = Files::with_pins(folder, Arc::clone(pins));
    let patterns = config.policies.iter().flat_map(|policies| &policies.policies);
    // What cannot be found is said when it is read.
    let found: Vec<_> = patterns.filter_map(|pattern| files.matching(pattern).ok()).flatten().collect();
    let was_there = |path: &PathBuf| stored.files.iter().any(|(file, _)| file.path == *path);
    let finding = |path: PathBuf| {
        let hint = Some("move it away, and try again".to_owned());
        Finding::of_file(path, "was not there in that generation, and its rules would count", hint)
    };
    found.into_iter().filter(|path| !was_there(path)).map(finding).collect()
}

fn warn_of(snapshot: &Snapshot, now: Timestamp) {
    snapshot.warnings_of_age(now).for_each(|(_, warning)| log::warn!("{warning}"));
}

/// Says in the metrics what is live from now on.
fn told(state: &State, snapshot: &Snapshot) {
    let config = &snapshot.config;
    state.plugins.use_pools(&snapshot.pools);
    log::set_max_level(match config.log.level {
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warning => log::LevelFilter::Warn,
        LogLevel::Info => log::LevelFilter::Info,
        LogLevel::Debug => log::LevelFilter::Debug,
    });
    warn_of(snapshot, state.clock.now());
    snapshot.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    state.journal.adopt(snapshot.journal.clone());
    state.secrets.adopt(&snapshot.secrets, &state.metrics, state.clock.now());
    state.metrics.applied(&config.node, snapshot.generation, (snapshot.digest, snapshot.policy));
    for (name, entrance) in &snapshot.entrances {
        if let Some(tls) = &entrance.tls {
            let authorities = entrance.authorities.as_ref();
            let ca = authorities.and_then(|known| known.valid()).map(|valid| valid.end);
            let crl = authorities.and_then(|known| known.lists_valid()).map(|valid| valid.end);
            state.metrics.expiries(name, tls.valid().end, ca, crl);
        }
    }
}

fn remember(
    state: &State,
    history: &mut History,
    (snapshot, approved): (&Snapshot, Option<Approved>),
    news: &News<'_>,
    pins: Arc<Pins>,
) -> Result<(), Vec<Finding>> {
    let remembered = history
        .remember((snapshot.generation, snapshot.digest), &snapshot.read, news, pins)
        .and_then(|()| state.revocations.learn(snapshot))
        .and_then(|()| state.approval.as_ref().zip(approved).map_or(Ok(()), |(approval, it)| approval.keep(it)));
    remembered.map_err(|error| unwritten(&snapshot.config, &error))
}

/// Counts the signatures among the files that are followed, where some are needed: they may come after what they sign.
fn follow_signatures(state: &State, next: &mut Snapshot) {
    if state.approval.is_some() {
        let signatures = Seen::look(&signatures_of(&next.config.file));
        next.files = next.files.iter().cloned().chain([signatures]).collect();
    }
}

/// The approval of what is to be live, where one is needed.
fn approved(state: &State, next: &Snapshot) -> Result<Option<Approved>, Vec<Finding>> {
    let files = next.read.iter().map(|read| (read.path.as_path(), read.kind, read.digest()));
    let check = |approval: &Approval| approval.check(&next.config.file, files.clone());
    state.approval.as_ref().map(check).transpose().map_err(|finding| vec![finding])
}

fn unwritten(config: &Config, fault: &io::Error) -> Vec<Finding> {
    let folder = config.history_dir.clone().unwrap_or_default();
    vec![Finding::of_file(folder, format!("the history cannot be written: {fault}"), None)]
}

fn refuse(findings: Vec<Finding>) -> Result<(), Vec<Finding>> {
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}
