//! Proves that lines are what was written: none altered, removed, added or moved.

mod broken;
mod last;
mod placed;
mod signed;

pub use broken::{Broken, Witness};
pub use last::{End, Last};
pub use placed::{Place, place_of};

use super::chain::{Chain, parts};
use super::checkpoint::Checkpoint;
use placed::{Left, Other, Placed};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

/// The action of the record that a process ends with.
pub const STOP: &str = "stop";
/// The action of the record that a file begins with, where the file is not the process's first.
pub(super) const FILE: &str = "audit.file";
/// The action of the record that an old file was removed.
pub(super) const REMOVED: &str = "audit.removed";
/// The action of the record that others found no room.
pub(super) const GAP: &str = "audit.gap";
/// A process signs how far its records go every ten seconds, and a little for the writing.
const SIGNED_WITHIN: Duration = Duration::from_secs(12);
/// And after so many records.
const UNSIGNED_MAX: u64 = 1_000;

/// How far a process's records are proven.
#[derive(Debug, Clone)]
struct Proven {
    chain: Chain,
    first: u64,
    sequence: u64,
    /// When its first record was made that is here.
    began: Box<str>,
    time: Box<str>,
    /// Where its last record stands among all.
    place: u64,
    has_stopped: bool,
    is_told_lost: bool,
}

/// What one process says of another: a place in its chain.
#[derive(Debug)]
struct Claim {
    /// Who says it, and in which record.
    by: (Box<str>, u64),
    /// Of whom, and up to which record.
    of: (Box<str>, u64),
}

/// A place in a chain that somebody knows of.
#[derive(Debug)]
struct Known {
    chain: Box<str>,
    witness: Witness,
    /// When it was known (RFC 3339); empty, if at the time of a record.
    time: Box<str>,
}

/// What a line was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A record.
    Record,
    /// What a crash has torn, if a later record says so.
    Torn,
}

/// Checks lines, of one process or of several after and beside each other.
#[derive(Debug, Default)]
pub struct Verifier {
    boots: HashMap<Box<str>, Proven>,
    known: HashMap<Box<str>, BTreeMap<u64, Known>>,
    /// The last checkpoint of each process.
    checkpoints: HashMap<Box<str>, Checkpoint>,
    records: u64,
    /// When the first record was made.
    since: Box<str>,
    /// How long the line is that may be torn.
    torn: Option<usize>,
    /// How many files have begun.
    files: usize,
    claims: Vec<Claim>,
    /// Records that a checkpoint covers: where they stand among all, and when it was made.
    signed: Vec<(u64, Box<str>)>,
    /// When the last of all checkpoints was made.
    newest: Box<str>,
    /// What came before the first file, if something did: the boot, its first record here, and the file.
    before: Option<(Box<str>, u64, Option<Box<str>>)>,
    /// Files that were removed for their age or size.
    removed: HashSet<Box<str>>,
    lost: Lost,
}

/// What the log itself says that is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Records that found no room (`audit.gap`).
    pub no_room: u64,
    /// Records that a process had signed before it died, and that are not there (`audit.recovered`).
    pub unwritten: u64,
}

impl Verifier {
    /// Another file begins.
    pub const fn begin_file(&mut self) {
        self.files = self.files.saturating_add(1);
    }

    /// Takes a checkpoint that is to fit, in their order. All come before the first line.
    ///
    /// # Errors
    /// If one before it is missing.
    pub fn expect(&mut self, checkpoint: Checkpoint) -> Result<(), Broken> {
        let boot = &checkpoint.boot;
        let wanted = self.checkpoints.get(boot).map(|last| last.number.saturating_add(1));
        if let Some(wanted) = wanted.filter(|wanted| *wanted != checkpoint.number) {
            return Err(Broken::MissingCheckpoint { boot: boot.clone(), wanted, found: checkpoint.number });
        }
        let (chain, time) = (checkpoint.chain.clone(), checkpoint.time.clone());
        let known = Known { chain, time, witness: Witness::Checkpoint(checkpoint.number) };
        // That of a process without records says nothing.
        if checkpoint.sequence > 0 {
            self.known.entry(boot.clone()).or_default().insert(checkpoint.sequence, known);
        }
        if *checkpoint.time > *self.newest {
            self.newest.clone_from(&checkpoint.time);
        }
        self.checkpoints.insert(boot.clone(), checkpoint);
        Ok(())
    }

    /// Looks for what a line says of other processes than its own; all lines come this way before the first is taken.
    pub fn look(&mut self, line: &[u8]) {
        let has = |what: &[u8]| memchr::memmem::find(line, what).is_some();
        if !has(b"\"predecessor\":{") && !has(b"\"recovered\":{") {
            return;
        }
        let Ok(Placed { event, belay, .. }) = serde_json::from_slice::<Placed<'_>>(line) else { return };
        let left = belay.recovered.map(|left| Other { boot: left.boot, sequence: left.sequence, chain: left.chain });
        for Other { boot, sequence, chain } in belay.predecessor.into_iter().chain(left) {
            let Some(chain) = chain else { continue };
            let known = Known { chain: chain.into(), witness: Witness::Successor, time: "".into() };
            self.known.entry(boot.into()).or_default().entry(sequence).or_insert(known);
            self.claims.push(Claim { by: (belay.boot.into(), event.sequence), of: (boot.into(), sequence) });
        }
    }

    /// Takes the next line, without its end.
    ///
    /// # Errors
    /// What is wrong with it. Nothing is proven from there on.
    pub fn take(&mut self, line: &[u8]) -> Result<Taken, Broken> {
        // Two processes that end a torn line at once leave an empty one.
        if line.is_empty() {
            return Ok(Taken::Record);
        }
        let Ok(placed) = serde_json::from_slice::<Placed<'_>>(line) else {
            let is_second = self.torn.replace(line.len()).is_some();
            return if is_second { Err(Broken::NoRecord) } else { Ok(Taken::Torn) };
        };
        let Placed { timestamp, ref event, ref belay, .. } = placed;
        let (boot, sequence) = (belay.boot, event.sequence);
        let parts = parts(line).ok_or_else(|| Broken::Unchained { boot: boot.into(), sequence })?;
        let is_first = self.records == 0;
        if is_first {
            self.since = timestamp.into();
        }
        if !self.boots.contains_key(boot) {
            self.begins(&placed)?;
        }
        let place = self.records;
        let known = self.boots.entry(boot.into()).or_insert_with(|| begun(&placed));
        let wanted = known.sequence.saturating_add(1);
        if sequence != wanted {
            return Err(Broken::Missing { boot: boot.into(), wanted, found: sequence });
        }
        if !known.chain.goes_on_with(parts) {
            return Err(Broken::Altered { boot: boot.into(), sequence });
        }
        (known.sequence, known.time, known.place) = (sequence, timestamp.into(), place);
        known.has_stopped |= event.action == STOP;
        if let Some(seen) = self.known.get(boot).and_then(|known| known.get(&sequence)) {
            if known.chain.to_string() != *seen.chain {
                return Err(Broken::Forged { boot: boot.into(), sequence, witness: seen.witness });
            }
            if matches!(seen.witness, Witness::Checkpoint(_)) {
                self.signed.push((place, seen.time.clone()));
            }
        }
        if let Some(left) = &belay.recovered {
            self.recovered(left);
        }
        match (event.action, &placed.file) {
            (REMOVED, Some(file)) => drop(self.removed.insert(file.name.as_ref().into())),
            (GAP, _) => self.lost.no_room = self.lost.no_room.saturating_add(belay.count),
            _ => {}
        }
        if let (true, Some(other)) = (is_first, &belay.predecessor) {
            // These files begin with it, so its predecessor is in others.
            self.known.remove(other.boot);
            self.before = Some((boot.into(), sequence, None));
        }
        self.records = self.records.saturating_add(1);
        Ok(Taken::Record)
    }

    /// A process that is not known yet: its records begin here, or go on from a file before the first.
    fn begins(&mut self, placed: &Placed<'_>) -> Result<(), Broken> {
        let continues = placed.belay.continues.as_ref().filter(|_| placed.event.action == FILE);
        let Some(continues) = continues else { return Ok(()) };
        let (boot, found) = (placed.belay.boot, placed.event.sequence);
        if self.files > 1 {
            return Err(Broken::Missing { boot: boot.into(), wanted: 1, found });
        }
        if continues.sequence > 0 {
            let file = placed.file.as_ref().map(|file| file.name.as_ref().into());
            self.before.get_or_insert_with(|| (boot.into(), found, file));
        }
        Ok(())
    }

    fn recovered(&mut self, left: &Left<'_>) {
        self.torn = self.torn.filter(|length| *length != left.torn_bytes);
        self.lost.unwritten = self.lost.unwritten.saturating_add(left.missing);
        if let Some(lost) = self.boots.get_mut(left.boot) {
            lost.is_told_lost = true;
        }
    }

    /// Says what is missing, once all lines are taken. A part of a log may begin anywhere.
    ///
    /// # Errors
    /// What somebody has seen that is not there.
    pub fn finish(&self, is_part: bool) -> Result<(), Broken> {
        if self.torn.is_some() {
            return Err(Broken::NoRecord);
        }
        if self.records == 0 && self.known.is_empty() {
            return Err(Broken::Empty);
        }
        // Which file a process that has stopped before had ended with, nobody knows.
        let is_gone = |file: &Option<Box<str>>| match file {
            Some(file) => self.removed.contains(file),
            None => !self.removed.is_empty(),
        };
        if let Some((boot, first, before)) = self.before.as_ref().filter(|(.., file)| !is_part && !is_gone(file)) {
            let before = before.clone().unwrap_or_else(|| "another file".into());
            return Err(Broken::Beheaded { boot: boot.clone(), first: *first, before });
        }
        let mut cut_off = Vec::new();
        for (boot, known) in &self.known {
            let proven = self.boots.get(boot);
            let last = proven.map(|proven| proven.sequence);
            let first = proven.map_or(0, |proven| proven.first);
            // What was there while these files were written, and is not in them.
            let mut before = known.range(..first).rev();
            if let Some((wanted, _)) = before.find(|(_, seen)| *seen.time > *self.since) {
                return Err(Broken::Missing { boot: boot.clone(), wanted: *wanted, found: first });
            }
            let Some((wanted, seen)) = known.last_key_value() else { continue };
            // A process that is not here at all may have ended before the first file.
            let is_missed = match last {
                Some(last) => *wanted > last,
                None => *seen.time >= *self.since || seen.witness == Witness::Successor,
            };
            if is_missed {
                let (boot, last) = (boot.clone(), last.unwrap_or(0));
                cut_off.push(Broken::CutOff { boot, last, wanted: *wanted, witness: seen.witness });
            }
        }
        cut_off.sort_by_key(ToString::to_string);
        cut_off.into_iter().next().map_or(Ok(()), Err)
    }

    /// What the log itself says that is missing.
    #[must_use]
    pub const fn lost(&self) -> Lost {
        self.lost
    }

    /// How many records are proven.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// What is proven of each process, the latest last.
    #[must_use]
    pub fn proven(&self) -> Vec<Last<'_>> {
        let signed = self.signed();
        let of = |boot: &str| signed.get(boot).copied().unwrap_or(0);
        let mut all: Vec<_> = self.boots.iter().map(|(boot, proven)| self.last(boot, proven, of(boot))).collect();
        all.sort_by_key(|last| last.time);
        all
    }

    fn last<'a>(&'a self, boot: &'a str, proven: &'a Proven, signed: u64) -> Last<'a> {
        let Proven { first, sequence, ref time, ref began, has_stopped, is_told_lost, .. } = *proven;
        let end = match (has_stopped, is_told_lost) {
            (true, _) => End::Stopped,
            (false, true) => End::Crashed,
            (false, false) => End::Open,
        };
        let signed = signed.min(sequence);
        let unsigned = sequence.saturating_sub(signed.max(first.saturating_sub(1)));
        let signed_at = self.checkpoints.get(boot).map_or(&**began, |checkpoint| &checkpoint.time);
        let unsigned_for = if unsigned == 0 { Duration::ZERO } else { between(signed_at, time) };
        let silent_for = self.silent_for(boot, proven);
        let is_silent = end == End::Open && silent_for > SIGNED_WITHIN;
        let may_be_unsigned = unsigned == 0 || Self::may_be_unsigned(proven, unsigned, silent_for.max(unsigned_for));
        Last { boot, first, sequence, time, end, unsigned, is_silent, may_be_unsigned }
    }
}

/// The time from one RFC 3339 text to another; none where one is none, or is later.
fn between(from: &str, to: &str) -> Duration {
    let read = |text| humantime::parse_rfc3339(text).ok();
    read(from).zip(read(to)).and_then(|(from, to)| to.duration_since(from).ok()).unwrap_or_default()
}

fn begun(Placed { timestamp, event, belay, .. }: &Placed<'_>) -> Proven {
    let told = belay.continues.as_ref().filter(|_| event.action == FILE);
    let told = told.and_then(|told| Some((told.sequence, Chain::told(told.chain)?)));
    let (sequence, chain) = told.unwrap_or_else(|| (0, Chain::of(belay.boot)));
    let first = sequence.saturating_add(1);
    Proven {
        chain,
        first,
        sequence,
        began: (*timestamp).into(),
        time: "".into(),
        place: 0,
        has_stopped: false,
        is_told_lost: false,
    }
}

#[cfg(test)]
mod tests;
