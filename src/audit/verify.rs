//! Proves that lines are what was written: none altered, removed, added or moved.

use super::chain::{Chain, parts};
use super::checkpoint::Checkpoint;
use super::record::Predecessor;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

/// The action of the record that a process ends with.
pub const STOP: &str = "stop";
/// The action of the record that a file begins with, where the file is not the process's first.
pub(super) const FILE: &str = "audit.file";

/// What a line says of its place.
#[derive(Deserialize)]
struct Placed<'a> {
    #[serde(rename = "@timestamp", borrow)]
    timestamp: &'a str,
    #[serde(borrow)]
    event: Numbered<'a>,
    #[serde(borrow)]
    belay: Booted<'a>,
}

#[derive(Deserialize)]
struct Numbered<'a> {
    sequence: u64,
    #[serde(default)]
    action: &'a str,
}

#[derive(Deserialize)]
struct Booted<'a> {
    boot: &'a str,
    #[serde(default, borrow)]
    continues: Option<Position<'a>>,
    #[serde(default, borrow)]
    predecessor: Option<Other<'a>>,
    #[serde(default, borrow)]
    recovered: Option<Left<'a>>,
}

/// What the first record of a file says of the file before.
#[derive(Deserialize)]
struct Position<'a> {
    sequence: u64,
    chain: &'a str,
}

#[derive(Deserialize)]
struct Other<'a> {
    boot: &'a str,
    sequence: u64,
    #[serde(default)]
    chain: Option<&'a str>,
}

#[derive(Deserialize)]
struct Left<'a> {
    boot: &'a str,
    #[serde(default)]
    torn_bytes: usize,
}

/// Where a record stands, as it says itself.
#[derive(Debug)]
pub struct Place {
    /// The process, the number and the chain.
    pub at: Predecessor,
    /// What it is of.
    pub action: Box<str>,
    /// The process that it says has ended without a word.
    pub recovered: Option<Box<str>>,
}

/// Where a record stands; none, if the line is no record. Nothing is proven by that.
#[must_use]
pub fn place_of(line: &[u8]) -> Option<Place> {
    let Placed { event, belay, .. } = serde_json::from_slice(line).ok()?;
    let chain = parts(line).and_then(|(_, digits)| std::str::from_utf8(digits).ok());
    let at = Predecessor { boot: belay.boot.into(), sequence: event.sequence, chain: chain.map(Into::into) };
    Some(Place { at, action: event.action.into(), recovered: belay.recovered.map(|left| left.boot.into()) })
}

/// Who says how a chain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witness {
    /// A checkpoint of that number.
    Checkpoint(u64),
    /// The process that came after it, when it started.
    Successor,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(number) => write!(f, "its checkpoint {number}"),
            Self::Successor => f.write_str("the process that came after it"),
        }
    }
}

/// Why lines are no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is no record.
    #[error("this is no record of an audit log")]
    NoRecord,
    /// It has no chain.
    #[error("record {sequence} of boot {boot} has no chain: another has written it, or a version before there was one")]
    Unchained {
        /// Whose it says that it is.
        boot: Box<str>,
        /// Which.
        sequence: u64,
    },
    /// It is not what was written, or follows on another than it did.
    #[error("record {sequence} of boot {boot} was altered, or the one before it")]
    Altered {
        /// Whose it says that it is.
        boot: Box<str>,
        /// Which.
        sequence: u64,
    },
    /// Up to here all fits together, and is not what was there once.
    #[error("up to record {sequence} boot {boot} was written anew: {witness} has seen others")]
    Forged {
        /// Whose.
        boot: Box<str>,
        /// Up to which.
        sequence: u64,
        /// Who knows it.
        witness: Witness,
    },
    /// Others are missing before it, or it stands elsewhere than it did.
    #[error("record {wanted} of boot {boot} is expected here, and this is {found}")]
    Missing {
        /// Whose.
        boot: Box<str>,
        /// The next one.
        wanted: u64,
        /// The one that is there.
        found: u64,
    },
    /// The end is missing.
    #[error("boot {boot} ends with record {last}, and {witness} has seen record {wanted}")]
    CutOff {
        /// Whose.
        boot: Box<str>,
        /// The last one that is there; 0 if there is none.
        last: u64,
        /// One that was there.
        wanted: u64,
        /// Who knows it.
        witness: Witness,
    },
    /// A mark is missing.
    #[error("checkpoint {wanted} of boot {boot} is expected here, and this is {found}")]
    MissingCheckpoint {
        /// Whose.
        boot: Box<str>,
        /// The next one.
        wanted: u64,
        /// The one that is there.
        found: u64,
    },
}

impl Broken {
    /// Whether records are missing, and none is wrong.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::CutOff { .. } | Self::MissingCheckpoint { .. })
    }
}

/// How far a process's records are proven.
#[derive(Debug, Clone)]
struct Proven {
    chain: Chain,
    first: u64,
    sequence: u64,
    /// When its first record was made that is here.
    began: Box<str>,
    time: Box<str>,
    has_stopped: bool,
    is_told_lost: bool,
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
}

impl Verifier {
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
        self.checkpoints.insert(boot.clone(), checkpoint);
        Ok(())
    }

    /// Looks for what a line says of other processes than its own; all lines come this way before the first is taken.
    pub fn look(&mut self, line: &[u8]) {
        if memchr::memmem::find(line, b"\"predecessor\":{").is_none() {
            return;
        }
        let Ok(Placed { belay, .. }) = serde_json::from_slice::<Placed<'_>>(line) else { return };
        let Some(Other { boot, sequence, chain: Some(chain) }) = belay.predecessor else { return };
        let known = Known { chain: chain.into(), witness: Witness::Successor, time: "".into() };
        self.known.entry(boot.into()).or_default().entry(sequence).or_insert(known);
    }

    /// Takes the next line, without its end.
    ///
    /// # Errors
    /// What is wrong with it. Nothing is proven from there on.
    pub fn take(&mut self, line: &[u8]) -> Result<Taken, Broken> {
        let Ok(placed) = serde_json::from_slice::<Placed<'_>>(line) else {
            let is_second = self.torn.replace(line.len()).is_some();
            return if is_second { Err(Broken::NoRecord) } else { Ok(Taken::Torn) };
        };
        let Placed { timestamp, ref event, ref belay } = placed;
        let (boot, sequence) = (belay.boot, event.sequence);
        let parts = parts(line).ok_or_else(|| Broken::Unchained { boot: boot.into(), sequence })?;
        let is_first = self.records == 0;
        if is_first {
            self.since = timestamp.into();
        }
        let known = self.boots.entry(boot.into()).or_insert_with(|| begun(&placed));
        let wanted = known.sequence.saturating_add(1);
        if sequence != wanted {
            return Err(Broken::Missing { boot: boot.into(), wanted, found: sequence });
        }
        if !known.chain.goes_on_with(parts) {
            return Err(Broken::Altered { boot: boot.into(), sequence });
        }
        (known.sequence, known.time, known.has_stopped) = (sequence, timestamp.into(), event.action == STOP);
        if let Some(seen) = self.known.get(boot).and_then(|known| known.get(&sequence))
            && known.chain.to_string() != *seen.chain
        {
            return Err(Broken::Forged { boot: boot.into(), sequence, witness: seen.witness });
        }
        if let Some(Left { boot, torn_bytes }) = &belay.recovered {
            self.recovered(boot, *torn_bytes);
        }
        if let (true, Some(other)) = (is_first, &belay.predecessor) {
            // These files begin with it, so its predecessor is in others.
            self.known.remove(other.boot);
        }
        self.records = self.records.saturating_add(1);
        Ok(Taken::Record)
    }

    fn recovered(&mut self, boot: &str, torn_bytes: usize) {
        self.torn = self.torn.filter(|length| *length != torn_bytes);
        if let Some(lost) = self.boots.get_mut(boot) {
            lost.is_told_lost = true;
        }
    }

    /// Says what is missing at the end, once all lines are taken.
    ///
    /// # Errors
    /// What somebody has seen that is not there.
    pub fn finish(&self) -> Result<(), Broken> {
        if self.torn.is_some() {
            return Err(Broken::NoRecord);
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

    /// How many records are proven.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// What is proven of each process, the latest last.
    #[must_use]
    pub fn proven(&self) -> Vec<Last<'_>> {
        let mut all: Vec<_> = self.boots.iter().map(|(boot, proven)| self.last(boot, proven)).collect();
        all.sort_by_key(|last| last.time);
        all
    }

    fn last<'a>(&'a self, boot: &'a str, proven: &'a Proven) -> Last<'a> {
        let Proven { first, sequence, ref time, ref began, has_stopped, is_told_lost, .. } = *proven;
        let end = match (has_stopped, is_told_lost) {
            (true, _) => End::Stopped,
            (false, true) => End::Crashed,
            (false, false) => End::Open,
        };
        let known = self.known.get(boot).and_then(|known| known.last_key_value());
        let by_successor = known.is_some_and(|(at, known)| known.witness == Witness::Successor && *at == sequence);
        let checkpoint = self.checkpoints.get(boot);
        let signed = checkpoint.map_or(0, |checkpoint| checkpoint.sequence);
        let signed = if by_successor { sequence } else { signed.min(sequence) };
        let unsigned = sequence.saturating_sub(signed.max(first.saturating_sub(1)));
        let signed_at = checkpoint.map_or(&**began, |checkpoint| &checkpoint.time);
        let unsigned_for = if unsigned == 0 { Duration::ZERO } else { between(signed_at, time) };
        Last { boot, first, sequence, time, end, unsigned, unsigned_for }
    }
}

/// The time from one RFC 3339 text to another; none where one is none, or is later.
fn between(from: &str, to: &str) -> Duration {
    let read = |text| humantime::parse_rfc3339(text).ok();
    read(from).zip(read(to)).and_then(|(from, to)| to.duration_since(from).ok()).unwrap_or_default()
}

fn begun(Placed { timestamp, event, belay }: &Placed<'_>) -> Proven {
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
        has_stopped: false,
        is_told_lost: false,
    }
}

/// How the records of a process end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It has stopped.
    Stopped,
    /// It ended without a word, as a later process has found.
    Crashed,
    /// It runs, or nobody says what became of it.
    Open,
}

/// What is proven of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Last<'a> {
    /// Its boot.
    pub boot: &'a str,
    /// The first record that is there; what is before it stands in older files.
    pub first: u64,
    /// The last one.
    pub sequence: u64,
    /// The last one's time.
    pub time: &'a str,
    /// How it ends.
    pub end: End,
    /// How many of the last ones no checkpoint covers.
    pub unsigned: u64,
    /// How long after the last checkpoint the last one of them was.
    #[serde(skip)]
    pub unsigned_for: Duration,
}

impl fmt::Display for Last<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { boot, first, sequence, time, end, .. } = self;
        write!(f, "boot {boot}, records {first} to {sequence}, the last of {time}")?;
        match end {
            End::Stopped => f.write_str(", where it stopped"),
            End::Crashed => f.write_str(", where it crashed"),
            End::Open => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Judged, Record, Sealer, Summary};
    use super::*;
    use crate::clock::Timestamp;
    use crate::generation::{Digest, Generation};
    use crate::name::{ListenerName, NodeName};
    use crate::request::Id;
    use proptest::prelude::*;
    use proptest::sample::Index;

    const COUNT: usize = 24;

    /// The lines of two processes, in turn.
    fn written() -> Vec<Vec<u8>> {
        let sealer = || Sealer::new(NodeName::parse("lb").unwrap(), Id::random());
        let mut sealers = [sealer(), sealer()];
        let line = |number: usize| {
            let summary = Summary {
                time: Timestamp::from_unix_seconds(1_795_352_400 + i64::try_from(number).unwrap()),
                listener: ListenerName::parse("edge").unwrap(),
                reason: "tls.no_certificate",
                count: number as u64,
                judged: Judged { generation: Generation::new(1), digest: Digest::of(&[]), policy: Digest::of(&[]) },
            };
            let mut line = Vec::new();
            sealers[number % 2].seal(&Record::Summary(Box::new(summary)), &mut line).unwrap();
            line
        };
        (0..COUNT).map(line).collect()
    }

    /// The number of the line that is broken, from 1.
    fn broken(lines: &[Vec<u8>]) -> Option<usize> {
        let all = lines.concat();
        let mut verifier = Verifier::default();
        let mut lines = all.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let found = lines.position(|line| !matches!(verifier.take(line), Ok(Taken::Record)));
        found.map(|index| index + 1)
    }

    #[test]
    fn what_was_written_is_proven() {
        let lines = written();
        assert_eq!(broken(&lines), None);
        let mut verifier = Verifier::default();
        lines.iter().for_each(|line| assert_eq!(verifier.take(line.trim_ascii_end()).unwrap(), Taken::Record));
        let proven = verifier.proven();
        assert_eq!((verifier.records(), proven.len(), proven[1].sequence), (24, 2, 12));
        assert_eq!(proven[1].time, "2026-11-22T13:00:23.000000000Z");
        // The end may be cut off, and nobody sees it here.
        assert_eq!(broken(&lines[..COUNT - 3]), None);
        let text = String::from_utf8(lines[0].clone()).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["belay"]["chain"].is_string(), "{text}");
    }

    #[test]
    fn a_line_without_a_chain_is_told() {
        let line = br#"{"@timestamp":"x","event":{"sequence":1},"belay":{"boot":"b"}}"#;
        assert_eq!(Verifier::default().take(line), Err(Broken::Unchained { boot: "b".into(), sequence: 1 }));
        // One may be what a crash has torn; it must be told later, and there is no second one.
        for torn in [&b"{}"[..], b"", b"{\"@timestamp\":\"20"] {
            let mut verifier = Verifier::default();
            assert_eq!(verifier.take(torn), Ok(Taken::Torn));
            assert_eq!(verifier.finish(), Err(Broken::NoRecord));
            assert_eq!(verifier.take(torn), Err(Broken::NoRecord));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

        /// 1,000 changes: an edit, a deletion, a swap and an insertion in each of 250 logs. Each is found where it is, or at
        /// the next line of the same process.
        #[test]
        fn whatever_is_changed_is_found(at: Index, byte: Index, to: u8, other: Index, forged: Index) {
            let lines = written();
            let (at, other) = (at.index(COUNT), other.index(COUNT));
            let near = |found: Option<usize>, at: usize| found.is_some_and(|line| (at..=at + 3).contains(&line));

            let mut edited = lines.clone();
            let byte = byte.index(edited[at].len() - 1);
            edited[at][byte] = if edited[at][byte] == to { to ^ 1 } else { to };
            prop_assert!(near(broken(&edited), at + 1), "{:?} of {at}", String::from_utf8_lossy(&edited[at]));

            // Of each process the last line is not missed, nor are all.
            let mut cut = lines.clone();
            cut.remove(at);
            prop_assert_eq!(broken(&cut), (at < COUNT - 2).then_some(at + 2));

            let mut swapped = lines.clone();
            swapped.swap(at, other);
            let same_process = at % 2 == other % 2;
            prop_assert_eq!(broken(&swapped).is_some(), at != other && (same_process || at.abs_diff(other) > 1), "{} {}", at, other);

            let mut longer = lines.clone();
            longer.insert(at, lines[forged.index(COUNT)].clone());
            prop_assert!(broken(&longer).is_some(), "a record twice");
        }
    }
}
