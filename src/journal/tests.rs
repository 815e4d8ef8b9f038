use super::file::{Failed, Renewed};
use super::*;
use crate::audit::{Act, CheckpointKey, Taken, Verifier, read_checkpoint};
use crate::clock::System;
use crate::config::Span;
use crate::generation::{Digest, Generation};
use crate::name::NodeName;
use serde_json::Value;
use std::sync::atomic::AtomicI64;

/// A disk that is full as long as somebody says so, and then takes three bytes of what it is given.
#[derive(Clone, Default)]
struct Disk {
    full: Arc<AtomicBool>,
    content: Arc<Mutex<Vec<u8>>>,
    synced: Arc<AtomicUsize>,
    moved: Arc<AtomicBool>,
}

impl Log for Disk {
    fn append(&mut self, lines: &[u8]) -> Result<(), Failed> {
        if self.full.load(Ordering::SeqCst) {
            let done = lines.len().min(3);
            self.content.lock().extend_from_slice(&lines[..done]);
            return Err(Failed { done, fault: io::ErrorKind::StorageFull.into() });
        }
        self.content.lock().extend_from_slice(lines);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.synced.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn renew(&mut self, _: Span, _: Timestamp) -> io::Result<Option<Renewed>> {
        Ok(self.moved.swap(false, Ordering::SeqCst).then(|| Renewed { before: Some("old".into()) }))
    }
}

/// A clock that is set, and one that cannot be.
#[derive(Debug, Default)]
struct Clocks {
    now: AtomicI64,
    up: AtomicI64,
}

impl Clocks {
    fn pass(&self, seconds: i64) {
        for clock in [&self.now, &self.up] {
            clock.fetch_add(seconds, Ordering::SeqCst);
        }
    }
}

impl Clock for Clocks {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.now.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(self.up.load(Ordering::SeqCst).unsigned_abs())
    }
}

fn judged() -> Judged {
    Judged { generation: Generation::new(1), digest: Digest::of(&[]), policy: Digest::of(&[]) }
}

fn act(action: &'static str) -> Record {
    Record::Act(Arc::new(Act {
        time: Timestamp::EPOCH,
        action,
        server: None,
        key: None,
        cause: crate::audit::Cause::default(),
        predecessor: None,
        failure: None,
        approved_by: Vec::new(),
        judged: judged(),
    }))
}

fn decision() -> Box<Decision> {
    let source = crate::audit::Source {
        listener: ListenerName::parse("edge").unwrap(),
        address: None,
        client: None,
        tls_version: None,
        certificate: None,
    };
    Box::new(Decision {
        time: Timestamp::EPOCH,
        request_id: Id::random(),
        source,
        subject: None,
        cf_ray: None,
        traceparent: None,
        route: None,
        profile: None,
        workload: None,
        kid: None,
        token: None,
        user: None,
        verdict: Ok(crate::verdict::RuleId::new("routes.orders.allow.checkout")),
        denied_by: None,
        near: Vec::new(),
        read: crate::verdict::HasRead::default(),
        shadow: None,
        judged: judged(),
        took: Duration::ZERO,
    })
}

fn opening<'a>(settings: Settings, clock: Arc<dyn Clock>) -> Opening<'a> {
    let sealer = Sealer::new(NodeName::parse("test").unwrap(), Id::random());
    let metrics = metrics::Metrics::new().unwrap().audit();
    Opening { file: Path::new("disk"), checkpoints: None, settings, sealer, clock, metrics }
}

fn kept_as(disk: &Disk, settings: Settings) -> Journal {
    Journal::write_to(Box::new(disk.clone()), None, opening(settings, Arc::new(System))).unwrap()
}

fn journal(disk: &Disk) -> Journal {
    kept_as(disk, Settings::default())
}

/// A journal whose first record could not be written.
fn on_a_full_disk(settings: Settings) -> (Disk, Journal) {
    let disk = Disk::default();
    disk.full.store(true, Ordering::SeqCst);
    let journal = kept_as(&disk, settings);
    journal.note(act("start"));
    wait_until(|| !journal.is_writing());
    (disk, journal)
}

fn records(disk: &Disk) -> Vec<Value> {
    let text = String::from_utf8(disk.content.lock().clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sequence(disk: &Disk) -> Vec<u64> {
    records(disk).iter().map(|record| record["event"]["sequence"].as_u64().unwrap()).collect()
}

fn proves(disk: &Disk) -> Verifier {
    let mut verifier = Verifier::default();
    for line in disk.content.lock().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert_eq!(verifier.take(line).unwrap(), Taken::Record);
    }
    verifier
}

fn wait_until(is_true: impl Fn() -> bool) {
    while !is_true() {
        std::thread::yield_now();
    }
}

fn lost(journal: &Journal) -> u64 {
    journal.shared.metrics.lost.get()
}

#[test]
fn a_full_disk_loses_nothing_and_recovers() {
    let disk = Disk::default();
    let journal = journal(&disk);
    journal.note(act("start"));
    journal.flush();
    disk.full.store(true, Ordering::SeqCst);
    journal.note(act("reload"));
    wait_until(|| !journal.is_writing());
    journal.note(act("reload"));
    journal.note(act("reload"));
    disk.full.store(false, Ordering::SeqCst);
    wait_until(|| journal.is_writing());
    journal.flush();
    assert_eq!(sequence(&disk), [1, 2, 3, 4], "each once, in order");
    proves(&disk);
    assert_eq!((journal.shared.metrics.written.get(), lost(&journal)), (4, 0));
    assert!(journal.shared.metrics.failures.get() > 0);
}

#[test]
fn what_finds_no_room_is_counted() {
    let (disk, journal) = on_a_full_disk(Settings::default());
    for _ in 0..QUEUE_MAX + 10 {
        journal.note(act("reload"));
    }
    let lost = journal.shared.metrics.lost.clone();
    assert!(lost.get() >= 10);
    drop(journal);
    assert_eq!(lost.get(), QUEUE_MAX as u64 + 11, "and so is what waited, when there is no more waiting");
    assert!(!disk.content.lock().contains(&b'\n'));
}

#[test]
fn the_log_tells_how_many_found_no_room() {
    let (disk, journal) = on_a_full_disk(Settings { on_failure: OnFailure::Continue, ..Settings::default() });
    let given = 1334;
    let serve = |count: usize| assert!((0..count).all(|_| journal.decision(decision()).is_ok()), "requests go on");
    serve(100);
    while journal.queue.as_ref().unwrap().try_send(Message::Reopen).is_ok() {}
    serve(given - 100);
    let missing = lost(&journal);
    assert_eq!(missing, 1234);
    disk.full.store(false, Ordering::SeqCst);
    wait_until(|| journal.is_writing());
    drop(journal);
    let records = records(&disk);
    let gaps: Vec<_> = records.iter().filter(|record| record["event"]["action"] == "audit.gap").collect();
    let told: u64 = gaps.iter().map(|gap| gap["belay"]["count"].as_u64().unwrap()).sum();
    assert_eq!(told, missing, "{gaps:?}");
    let decisions = records.iter().filter(|record| record["event"]["action"] == "decision").count();
    assert_eq!(decisions as u64 + told, given as u64, "every one is there, or counted");
    assert_eq!(proves(&disk).records(), records.len() as u64);
}

#[test]
fn strangers_leave_room_for_others() {
    let (_disk, journal) = on_a_full_disk(Settings::default());
    for _ in 0..STRANGERS_MAX + 10 {
        journal.note_of_stranger(act("reload"));
    }
    assert_eq!(lost(&journal), 10);
    journal.note(act("reload"));
    assert_eq!(lost(&journal), 10, "there is room");
}

#[test]
fn the_end_writes_what_is_left() {
    let disk = Disk::default();
    let journal = journal(&disk);
    for _ in 0..100 {
        journal.note(act("reload"));
    }
    drop(journal);
    assert_eq!(sequence(&disk), (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_request_waits_for_its_record() {
    for (durability, syncs) in [(Durability::Written, false), (Durability::Synced, true)] {
        let disk = Disk::default();
        let journal = kept_as(&disk, Settings { durability, ..Settings::default() });
        for number in 1..=20 {
            journal.decision(decision()).unwrap().safely().await.unwrap();
            assert_eq!(sequence(&disk).len(), number, "it is there");
        }
        assert_eq!(disk.synced.load(Ordering::SeqCst) >= 20, syncs, "{durability:?}");
        disk.full.store(true, Ordering::SeqCst);
        let refused = journal.decision(decision()).unwrap().safely().await;
        assert_eq!(refused, Err(Refusal::AuditUnavailable), "the disk is full");
        assert_eq!(journal.decision(decision()).unwrap_err(), Refusal::AuditUnavailable);
        journal.adopt(Settings { durability, on_failure: OnFailure::Continue, ..Settings::default() });
        journal.decision(decision()).unwrap().safely().await.unwrap();
        disk.full.store(false, Ordering::SeqCst);
        wait_until(|| journal.is_writing());
        journal.decision(decision()).unwrap().safely().await.unwrap();
        assert_eq!(sequence(&disk).len(), 24, "what waited is there, too");
    }
}

/// The writer may have failed before anybody waits.
#[tokio::test]
async fn what_was_lost_before_it_is_waited_for_is_refused() {
    for (on_failure, expected) in [(OnFailure::Refuse, Err(Refusal::AuditUnavailable)), (OnFailure::Continue, Ok(()))] {
        let disk = Disk::default();
        let settings = Settings { durability: Durability::Written, on_failure, ..Settings::default() };
        let journal = kept_as(&disk, settings);
        disk.full.store(true, Ordering::SeqCst);
        let recorded = journal.decision(decision()).unwrap();
        wait_until(|| !journal.is_writing());
        assert_eq!(recorded.safely().await, expected);
        disk.full.store(false, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_slow_disk() {
    struct Slow(std::sync::mpsc::Receiver<()>);
    impl Log for Slow {
        fn append(&mut self, _: &[u8]) -> Result<(), Failed> {
            self.0.recv().unwrap_or_default();
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn renew(&mut self, _: Span, _: Timestamp) -> io::Result<Option<Renewed>> {
            Ok(None)
        }
    }
    let (goes_on, waits) = std::sync::mpsc::channel();
    // Without Sync it could not be sent; it is used by the writer only.
    let settings = Settings { durability: Durability::Written, ..Settings::default() };
    let journal = Journal::write_to(Box::new(Slow(waits)), None, opening(settings, Arc::new(System))).unwrap();
    let refused = journal.decision(decision()).unwrap().safely().await;
    assert_eq!(refused, Err(Refusal::AuditUnavailable));
    drop(goes_on);
}

/// Keys, and a journal that signs.
fn signing(disk: &Disk, marks: &Disk, clocks: &Arc<Clocks>) -> (Journal, CheckpointKey) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = || CheckpointKey::from_pkcs8(pair.serialized_der()).unwrap();
    let settings = Settings { key: Some(Arc::new(key())), ..Settings::default() };
    let clock: Arc<dyn Clock> = Arc::clone(clocks) as _;
    let marks: (PathBuf, Box<dyn Log>) = ("marks".into(), Box::new(marks.clone()));
    (Journal::write_to(Box::new(disk.clone()), Some(marks), opening(settings, clock)).unwrap(), key())
}

fn marks(disk: &Disk) -> Vec<u64> {
    records(disk).iter().map(|mark| mark["sequence"].as_u64().unwrap()).collect()
}

#[test]
fn checkpoints_sign_how_far_it_goes() {
    let (disk, signed, clocks) = (Disk::default(), Disk::default(), Arc::<Clocks>::default());
    let (journal, key) = signing(&disk, &signed, &clocks);
    let note = |count: usize| {
        (0..count).for_each(|_| journal.note(act("reload")));
        journal.flush();
    };
    note(10);
    assert_eq!(marks(&signed), [0; 0], "it is not time yet");
    clocks.pass(10);
    note(1);
    assert_eq!(marks(&signed), [11]);
    note(1);
    assert_eq!(marks(&signed), [11]);
    note(2000);
    let many = marks(&signed);
    assert!(many.len() > 1 && many.iter().skip(1).all(|at| (1012..=2012).contains(at)), "{many:?}");
    signed.full.store(true, Ordering::SeqCst);
    clocks.pass(10);
    note(1);
    assert!(journal.is_writing(), "records go on without");
    signed.content.lock().retain(|_| false);
    signed.full.store(false, Ordering::SeqCst);
    note(3);
    drop(journal);
    assert_eq!(marks(&signed), [2016], "the last one covers all");
    let mut verifier = proves(&disk);
    for line in signed.content.lock().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        verifier.expect(read_checkpoint(line, &[key.public().unwrap()]).unwrap()).unwrap();
    }
    assert_eq!(verifier.proven()[0].unsigned, 0);
}

#[test]
fn a_clock_that_is_set_is_told() {
    let (disk, clocks) = (Disk::default(), Arc::<Clocks>::default());
    let hour = 3600;
    clocks.now.store(10 * hour, Ordering::SeqCst);
    let (journal, _) = signing(&disk, &Disk::default(), &clocks);
    let note_at = |now: i64, up: i64| {
        clocks.now.store(now, Ordering::SeqCst);
        clocks.up.store(up, Ordering::SeqCst);
        journal.note(act("reload"));
        journal.flush();
    };
    note_at(10 * hour, 0);
    note_at(10 * hour + 60, 60);
    note_at(9 * hour + 60, 61);
    note_at(9 * hour + 61, 61);
    drop(journal);
    let told: Vec<_> = records(&disk).iter().map(|record| record["event"]["action"].clone()).collect();
    assert_eq!(told, ["reload", "reload", "audit.clock", "reload", "reload"]);
    let set = &records(&disk)[2];
    assert_eq!(set["@timestamp"], "1970-01-01T09:01:00.000000000Z");
    assert_eq!(set["belay"]["expected"], "1970-01-01T10:01:01.000000000Z");
    assert_eq!(sequence(&disk), [1, 2, 3, 4, 5]);
    proves(&disk);
}

#[test]
fn a_new_file_goes_on_with_the_chain() {
    let disk = Disk::default();
    let journal = journal(&disk);
    let note = || {
        journal.note(act("reload"));
        journal.flush();
    };
    note();
    note();
    disk.moved.store(true, Ordering::SeqCst);
    let before = disk.content.lock().len();
    note();
    drop(journal);
    let opening = &records(&disk)[2];
    assert_eq!((&opening["event"]["action"], &opening["file"]["name"]), (&"audit.file".into(), &"old".into()));
    assert_eq!(opening["belay"]["continues"]["sequence"], 2);
    assert_eq!(proves(&disk).records(), 4, "together");
    disk.content.lock().drain(..before);
    let alone = proves(&disk);
    assert_eq!((alone.records(), alone.proven()[0].first), (2, 3), "and alone");
    let text = String::from_utf8(disk.content.lock().clone()).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    assert!(Verifier::default().take(rest.trim_end().as_bytes()).is_err(), "without its beginning it is nothing");
}

#[test]
fn what_a_crash_has_torn_stays_on_its_own_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    std::fs::write(&path, "{\"whole\":1}\n{\"to").unwrap();
    for _twice in 0..2 {
        let opening = Opening { file: &path, ..opening(Settings::default(), Arc::new(System)) };
        let journal = Journal::open(opening).unwrap();
        journal.note(act("start"));
        drop(journal);
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[1]), (4, "{\"to"), "{text}");
}
