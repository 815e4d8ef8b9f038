use super::*;
use crate::audit::{Act, Cause, Judged, Predecessor, Record, Sealer, Summary, Upkeep, record};
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
    for torn in [&b"{}"[..], b"x", b"{\"@timestamp\":\"20"] {
        let mut verifier = Verifier::default();
        assert_eq!(verifier.take(torn), Ok(Taken::Torn));
        assert_eq!(verifier.finish(false), Err(Broken::NoRecord));
        assert_eq!(verifier.take(torn), Err(Broken::NoRecord));
    }
}

/// A process that writes, and signs every so often; each of its records is a second after the one before.
struct Process {
    sealer: Sealer,
    now: i64,
    marks: u64,
}

impl Process {
    fn starting_at(now: i64) -> Self {
        Self { sealer: Sealer::new(NodeName::parse("lb").unwrap(), Id::random()), now, marks: 0 }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_352_400 + self.now)
    }

    fn record(&mut self, record: impl FnOnce(Timestamp) -> Record) -> Vec<u8> {
        self.now += 1;
        let mut line = Vec::new();
        self.sealer.seal(&record(self.time()), &mut line).unwrap();
        line.pop();
        line
    }

    fn upkeep(&mut self, upkeep: Upkeep) -> Vec<u8> {
        self.record(|time| Record::Upkeep { time, upkeep, judged: None })
    }

    fn writes(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.upkeep(Upkeep::Clock { expected: Timestamp::EPOCH })).collect()
    }

    fn act(&mut self, action: &'static str, predecessor: Option<Predecessor>) -> Vec<u8> {
        self.record(|time| {
            let judged = Judged { generation: Generation::new(1), digest: Digest::of(&[]), policy: Digest::of(&[]) };
            let (server, key, failure, cause) = (None, None, None, Cause::default());
            let approved_by = Vec::new();
            Record::Act(std::sync::Arc::new(Act {
                time,
                action,
                key,
                server,
                cause,
                predecessor,
                failure,
                approved_by,
                judged,
            }))
        })
    }

    fn signs(&mut self) -> Checkpoint {
        self.marks += 1;
        let at = self.sealer.position();
        let (time, chain) = (self.time().to_string().into(), at.chain.unwrap());
        Checkpoint { time, boot: at.boot, number: self.marks, sequence: at.sequence, chain, key: "k".into() }
    }
}

/// Whether each process ends as one may that still runs, or what is wrong.
fn ends(files: &[Vec<Vec<u8>>], marks: &[Checkpoint]) -> Result<Vec<bool>, Broken> {
    let mut verifier = Verifier::default();
    marks.iter().try_for_each(|mark| verifier.expect(mark.clone()))?;
    files.iter().flatten().for_each(|line| verifier.look(line));
    for file in files {
        verifier.begin_file();
        file.iter().try_for_each(|line| verifier.take(line).map(drop))?;
    }
    verifier.finish(false)?;
    Ok(verifier.proven().iter().map(|last| last.may_be_unsigned).collect())
}

#[test]
fn what_nobody_has_signed_is_not_taken_for_what_is_not_signed_yet() {
    let mut process = Process::starting_at(0);
    let mut log = process.writes(10);
    let mut marks = vec![process.signs()];
    log.extend(process.writes(5));
    assert_eq!(ends(&[log.clone()], &marks), Ok(vec![true]), "it may still run");
    // It goes on, and somebody puts another process between.
    let invented = Process::starting_at(12).writes(3);
    log.extend(invented);
    log.extend(process.writes(20));
    marks.push(process.signs());
    log.extend(process.writes(20));
    marks.push(process.signs());
    assert_eq!(ends(&[log.clone()], &marks), Ok(vec![false, true]));
    // What stops has signed all.
    log.truncate(15);
    let mut stopping = Process::starting_at(30);
    log.extend(stopping.writes(3));
    log.push(stopping.act(STOP, None));
    assert_eq!(ends(&[log[15..].to_vec()], &[stopping.signs()]), Ok(vec![true]));
    log.extend(stopping.writes(1));
    let signed = Checkpoint { sequence: 4, ..stopping.signs() };
    assert!(ends(&[log[15..].to_vec()], &[signed]).is_err(), "of another chain");
    let mut quiet = Process::starting_at(0);
    let mut long = quiet.writes(4);
    let mark = quiet.signs();
    long.extend(quiet.writes(15));
    assert_eq!(ends(&[long], &[mark]), Ok(vec![false]), "it signs every ten seconds");
}

#[test]
fn only_a_signed_word_vouches_for_another() {
    let mut old = Process::starting_at(0);
    let mut log = old.writes(3);
    let mark = old.signs();
    log.extend(old.writes(30));
    let mut new = Process::starting_at(40);
    log.push(new.act("start", Some(old.sealer.position())));
    log.extend(new.writes(2));
    assert_eq!(ends(&[log.clone()], std::slice::from_ref(&mark)), Ok(vec![false, true]), "anybody can say so");
    assert_eq!(ends(&[log.clone()], &[mark.clone(), new.signs()]), Ok(vec![true, true]));
    // The same of one that is told to have died.
    let mut log = log[..33].to_vec();
    let mut third = Process::starting_at(40);
    let at = old.sealer.position();
    let left = record::Left { boot: at.boot, sequence: at.sequence, chain: at.chain, torn_bytes: 0, missing: 0 };
    log.push(third.upkeep(Upkeep::Recovered(left)));
    assert_eq!(ends(&[log.clone()], &[mark.clone(), third.signs()]), Ok(vec![true, true]));
    log.remove(32);
    assert!(matches!(
        ends(&[log], &[mark, third.signs()]),
        Err(Broken::MissingCheckpoint { .. } | Broken::CutOff { .. })
    ));
}

#[test]
fn a_beginning_that_is_missing_is_missed() {
    let mut process = Process::starting_at(0);
    let first = process.writes(5);
    let before = Some("log.1".into());
    let mut second = vec![process.upkeep(Upkeep::File { before })];
    second.extend(process.writes(5));
    let marks = [process.signs()];
    assert_eq!(ends(&[first, second.clone()], &marks), Ok(vec![true]));
    let beheaded = ends(&[second.clone()], &marks);
    assert!(matches!(beheaded, Err(Broken::Beheaded { first: 6, .. })), "{beheaded:?}");
    let other = Process::starting_at(0).writes(2);
    let gap = ends(&[other, second.clone()], &marks);
    assert!(matches!(gap, Err(Broken::Missing { wanted: 1, found: 6, .. })), "{gap:?}");
    second.push(process.upkeep(Upkeep::Removed { file: "log.0".into(), is_for_age: true }));
    assert!(ends(&[second.clone()], &marks).is_err(), "another one was removed");
    second.push(process.upkeep(Upkeep::Removed { file: "log.1".into(), is_for_age: true }));
    assert_eq!(ends(&[second], &marks), Ok(vec![true]));
    assert_eq!(ends(&[], &[]), Err(Broken::Empty));
}

#[test]
fn what_the_log_says_that_is_missing_is_summed_up() {
    let mut process = Process::starting_at(0);
    let mut verifier = Verifier::default();
    for count in [3, 4] {
        verifier.take(&process.upkeep(Upkeep::Gap { count, since: Timestamp::EPOCH })).unwrap();
    }
    assert_eq!(verifier.take(b""), Ok(Taken::Record), "two have ended a torn line at once");
    assert_eq!((verifier.lost(), verifier.records()), (Lost { no_room: 7, unwritten: 0 }, 2));
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
