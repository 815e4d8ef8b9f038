//! The chain: each line holds a hash of itself and of all lines of its process before it.
//!
//! `chain[n] = SHA-256(chain[n-1] ‖ line[n])`, where `line[n]` is the line without its own `belay.chain`, which is its last
//! member; `chain[0]` is SHA-256 of the boot's id. Whoever alters, removes, adds or moves a line breaks it there. Whoever
//! can write the whole file can make a new chain, and whoever cuts off the end leaves a shorter one.

use aws_lc_rs::digest::{Context, SHA256};
use serde::Deserialize;
use std::{collections::HashMap, fmt};

const BEFORE: &[u8] = b",\"chain\":\"";
const BEHIND: &[u8] = b"\"}}";
/// Bytes of a hash as hexadecimal digits.
const DIGITS: usize = 64;
/// How the object ends of which the chain is the last member.
const END: &[u8] = b"}}";

/// A chain up to its last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain([u8; 32]);

impl Chain {
    /// That of a process, before its first line.
    pub(super) fn of(boot: &str) -> Self {
        Self(hash(&[boot.as_bytes()]))
    }

    /// Adds a line to it, and it to the line, which stands from there on and ends with two braces.
    pub(super) fn seal(&mut self, lines: &mut Vec<u8>, from: usize) {
        let line = lines.get(from..).unwrap_or_default();
        self.0 = hash(&[&self.0, line]);
        lines.truncate(lines.len().saturating_sub(END.len()));
        lines.extend_from_slice(BEFORE);
        lines.extend_from_slice(&digits(self.0));
        lines.extend_from_slice(BEHIND);
    }

    /// Whether that is the next line.
    fn goes_on_with(&mut self, (start, digits_told): (&[u8], &[u8])) -> bool {
        self.0 = hash(&[&self.0, start, END]);
        digits(self.0) == *digits_told
    }
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 32];
    // That of SHA-256 has 32 bytes, always.
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn digits(hash: [u8; 32]) -> [u8; DIGITS] {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
    let mut digits = [0; DIGITS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(hash) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    digits
}

/// What stands before the chain, and its digits.
fn parts(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_suffix(BEHIND)?;
    let (start, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    Some((start.strip_suffix(BEFORE)?, digits))
}

/// What a line says of its place.
#[derive(Deserialize)]
struct Placed<'a> {
    #[serde(rename = "@timestamp", borrow)]
    timestamp: &'a str,
    event: Numbered,
    #[serde(borrow)]
    belay: Booted<'a>,
}

#[derive(Deserialize)]
struct Numbered {
    sequence: u64,
}

#[derive(Deserialize)]
struct Booted<'a> {
    boot: &'a str,
}

/// Why a line is no proof.
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
}

/// How far a process's records are proven.
#[derive(Debug, Clone)]
struct Proven {
    chain: Chain,
    sequence: u64,
    time: Box<str>,
}

/// Checks lines, of one process or of several after and beside each other.
#[derive(Debug, Default)]
pub struct Verifier {
    boots: HashMap<Box<str>, Proven>,
    records: u64,
}

impl Verifier {
    /// Takes the next line, without its end.
    ///
    /// # Errors
    /// What is wrong with it. Nothing is proven from there on.
    pub fn take(&mut self, line: &[u8]) -> Result<(), Broken> {
        let Placed { timestamp, event: Numbered { sequence }, belay: Booted { boot } } =
            serde_json::from_slice(line).map_err(|_no_record| Broken::NoRecord)?;
        let begin = || Proven { chain: Chain::of(boot), sequence: 0, time: "".into() };
        let known = self.boots.entry(boot.into()).or_insert_with(begin);
        let wanted = known.sequence.saturating_add(1);
        let parts = parts(line).ok_or_else(|| Broken::Unchained { boot: boot.into(), sequence })?;
        if sequence != wanted {
            return Err(Broken::Missing { boot: boot.into(), wanted, found: sequence });
        }
        if !known.chain.goes_on_with(parts) {
            return Err(Broken::Altered { boot: boot.into(), sequence });
        }
        (known.sequence, known.time) = (sequence, timestamp.into());
        self.records = self.records.saturating_add(1);
        Ok(())
    }

    /// How many records are proven.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Up to which record and time each boot is proven, the latest last.
    #[must_use]
    pub fn proven(&self) -> Vec<Last<'_>> {
        let boots = self.boots.iter();
        let mut all: Vec<_> =
            boots.map(|(boot, proven)| Last { boot, sequence: proven.sequence, time: &proven.time }).collect();
        all.sort_by_key(|last| last.time);
        all
    }
}

/// The last proven record of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Last<'a> {
    /// Its boot.
    pub boot: &'a str,
    /// The record's number.
    pub sequence: u64,
    /// The record's time.
    pub time: &'a str,
}

impl fmt::Display for Last<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot {} up to record {} of {}", self.boot, self.sequence, self.time)
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
                judged: Judged { generation: Generation::new(1), digest: Digest::of(&[]) },
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
        lines.position(|line| verifier.take(line).is_err()).map(|index| index + 1)
    }

    #[test]
    fn what_was_written_is_proven() {
        let lines = written();
        assert_eq!(broken(&lines), None);
        let mut verifier = Verifier::default();
        lines.iter().for_each(|line| verifier.take(line.trim_ascii_end()).unwrap());
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
        assert_eq!(Verifier::default().take(b"{}"), Err(Broken::NoRecord));
        assert_eq!(Verifier::default().take(b""), Err(Broken::NoRecord));
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
