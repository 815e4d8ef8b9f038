//! Writes audit records: a bounded queue and one thread that owns the file.
//!
//! A record that the queue has taken survives a failing disk: its line stays until it is written. While lines cannot be
//! written, [`Journal::decision`] refuses, so nothing is served unrecorded.

mod recent;
mod strangers;

pub use recent::Recent;

use crate::audit::{Decision, HungUp, Judged, Predecessor, Record, Sealer, Summary};
use crate::clock::Timestamp;
use crate::metrics;
use crate::name::ListenerName;
use crate::refusal::Refusal;
use crate::request::Id;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};
use strangers::Strangers;

/// Records that may wait for the writer.
const QUEUE_MAX: usize = 65_536;
/// Of these, those of peers who have proved nothing, so that their refusals never push out what must be recorded.
const STRANGERS_MAX: usize = QUEUE_MAX / 4;
/// Bytes written at once, at most about.
const BATCH_MAX: usize = 256 * 1024;
/// How long records gather before they are written together. A writer that slept for each would be woken for each,
/// which costs the event loops more than the records themselves.
const GATHER_FOR: Duration = Duration::from_millis(1);
/// The time between two attempts to write what could not be written.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// How long a flush waits for the disk.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// Opens a log. What a crash has torn in it stays, on a line of its own.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    let length = file.metadata().map(|found| if found.is_file() { found.len() } else { 0 })?;
    if let Some(last) = length.checked_sub(1) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, last)?;
        if byte != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

enum Message {
    Record(Record),
    /// Of a peer who has proved nothing.
    Stranger(Record),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
    /// The file was moved away: a new one is to be opened at its place.
    Reopen,
}

/// Where records go.
#[derive(Debug)]
pub struct Journal {
    boot: Id,
    /// The number of the last record.
    sequence: Arc<AtomicU64>,
    queue: Option<SyncSender<Message>>,
    failing: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
    strangers: Arc<AtomicUsize>,
    singly: Strangers,
    recent: Arc<Recent>,
    metrics: metrics::Audit,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens the file for appending, readable by its owner and group only, and starts the writer.
    ///
    /// # Errors
    /// If the file cannot be opened or the thread not started.
    pub fn open(path: &Path, sealer: Sealer, metrics: metrics::Audit) -> io::Result<Self> {
        let place = path.to_owned();
        let opens = move || open(&place);
        Self::write_to(opens, path, sealer, metrics)
    }

    fn write_to<W: Write + Send + 'static>(
        opens: impl Fn() -> io::Result<W> + Send + 'static,
        path: &Path,
        sealer: Sealer,
        metrics: metrics::Audit,
    ) -> io::Result<Self> {
        let (boot, sequence) = (sealer.boot().clone(), Arc::<AtomicU64>::default());
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let failing = Arc::new(AtomicBool::new(false));
        let closing = Arc::new(AtomicBool::new(false));
        let strangers = Arc::new(AtomicUsize::new(0));
        let recent = Arc::new(Recent::default());
        let writer = Writer {
            path: path.to_owned(),
            file: opens()?,
            opens: Box::new(opens),
            reopens: false,
            sealer,
            sequence: Arc::clone(&sequence),
            lines: Vec::with_capacity(BATCH_MAX),
            done: 0,
            records: 0,
            failing: Arc::clone(&failing),
            closing: Arc::clone(&closing),
            strangers: Arc::clone(&strangers),
            recent: Arc::clone(&recent),
            metrics: metrics.clone(),
        };
        let writer = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&receiver))?;
        let singly = Strangers::default();
        let (queue, writer) = (Some(sender), Some(writer));
        Ok(Self { boot, sequence, queue, failing, closing, strangers, singly, recent, metrics, writer })
    }

    /// Takes the record of a decision that lets a request pass.
    ///
    /// # Errors
    /// [`Refusal::AuditUnavailable`] while records cannot be written, or no more fit in the queue. The refusal itself
    /// is then recorded, if it finds room.
    pub fn decision(&self, mut decision: Box<Decision>) -> Result<(), Refusal> {
        if self.is_writing() {
            let queued = self
                .queue
                .as_ref()
                .is_some_and(|queue| queue.try_send(Message::Record(Record::Decision(decision))).is_ok());
            return if queued { Ok(()) } else { Err(self.lost()) };
        }
        decision.verdict = Err(Refusal::AuditUnavailable);
        self.note(Record::Decision(decision));
        Err(Refusal::AuditUnavailable)
    }

    /// Takes the record of what has happened already; it waits with the others while the disk fails. A full queue
    /// loses it, which is counted.
    pub fn note(&self, record: Record) {
        let queued = self.queue.as_ref().is_some_and(|queue| queue.try_send(Message::Record(record)).is_ok());
        if !queued {
            self.lost();
        }
    }

    /// The same for a peer who has proved nothing. Strangers share a quarter of the queue; beyond it their records are
    /// lost, and counted.
    pub fn note_of_stranger(&self, record: Record) {
        if self.strangers.fetch_add(1, Ordering::Relaxed) >= STRANGERS_MAX {
            self.strangers.fetch_sub(1, Ordering::Relaxed);
            self.lost();
            return;
        }
        let queued = self.queue.as_ref().is_some_and(|queue| queue.try_send(Message::Stranger(record)).is_ok());
        if !queued {
            self.strangers.fetch_sub(1, Ordering::Relaxed);
            self.lost();
        }
    }

    /// Whether what a stranger did at a listener is to be recorded singly; otherwise it is counted, and a summary tells
    /// how often it was.
    pub fn admits(&self, listener: &ListenerName, code: &'static str, now: Timestamp) -> bool {
        self.singly.admit((listener.clone(), code), now)
    }

    /// Takes the record of a connection that brought no request, singly or into a summary.
    pub fn hung_up(&self, hung_up: HungUp) {
        if self.admits(&hung_up.listener, hung_up.hangup.code(), hung_up.time) {
            self.note_of_stranger(Record::HungUp(Box::new(hung_up)));
        }
    }

    /// Records what was only counted since the last time. Called every second.
    pub fn summarise(&self, time: Timestamp, judged: Judged) {
        for ((listener, reason), count) in self.singly.summaries() {
            self.note(Record::Summary(Box::new(Summary { time, listener, reason, count, judged })));
        }
    }

    /// Waits until what was taken before is written, 5 s at most.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        let asked = self.queue.as_ref().is_some_and(|queue| queue.try_send(Message::Flush(done)).is_ok());
        if !asked || written.recv_timeout(FLUSH_MAX).is_err() {
            log::error!("audit: not every record could be written");
        }
    }

    /// Opens the file anew, once everything that was taken before is written: somebody has moved it away.
    pub fn reopen(&self) {
        let asked = self.queue.as_ref().is_some_and(|queue| queue.try_send(Message::Reopen).is_ok());
        if !asked {
            log::error!("audit: the file is not opened anew, too much waits to be written");
        }
    }

    /// Where its records end now, for the process that goes on after it.
    #[must_use]
    pub fn position(&self) -> Predecessor {
        Predecessor { boot: self.boot.as_str().into(), sequence: self.sequence.load(Ordering::Relaxed) }
    }

    /// The last decisions, from memory.
    #[must_use]
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Whether records can be written now.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        !self.failing.load(Ordering::Relaxed)
    }

    fn lost(&self) -> Refusal {
        self.metrics.lost.inc();
        Refusal::AuditUnavailable
    }
}

impl Drop for Journal {
    /// Waits for the writer to write what it has.
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        drop(self.queue.take());
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            log::error!("the audit writer ended by a fault");
        }
    }
}

struct Writer<W> {
    path: PathBuf,
    file: W,
    opens: Box<dyn Fn() -> io::Result<W> + Send>,
    /// Whether the file is to be opened anew once everything is written.
    reopens: bool,
    sealer: Sealer,
    sequence: Arc<AtomicU64>,
    lines: Vec<u8>,
    /// How much of the lines is written.
    done: usize,
    records: u64,
    failing: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
    strangers: Arc<AtomicUsize>,
    recent: Arc<Recent>,
    metrics: metrics::Audit,
}

impl<W: Write> Writer<W> {
    fn run(mut self, queue: &Receiver<Message>) {
        loop {
            let mut asked = Vec::new();
            if self.is_well() {
                match queue.recv() {
                    Ok(message) => self.gather(message, queue, &mut asked),
                    Err(_all_gone) => return,
                }
            } else {
                // The queue is left to fill up while the disk fails, so that what waits stays bounded.
                std::thread::sleep(RETRY_EVERY);
            }
            self.write();
            if !self.is_well() && self.closing.load(Ordering::Relaxed) {
                return self.give_up(queue);
            }
            if self.is_well() {
                // Who asked may have stopped waiting.
                asked.iter().for_each(|asked| asked.try_send(()).unwrap_or_default());
            }
        }
    }

    fn gather(&mut self, first: Message, queue: &Receiver<Message>, asked: &mut Vec<SyncSender<()>>) {
        self.take(first, asked);
        if asked.is_empty() {
            std::thread::sleep(GATHER_FOR);
        }
        self.take_waiting(queue, asked);
    }

    fn take_waiting(&mut self, queue: &Receiver<Message>, asked: &mut Vec<SyncSender<()>>) {
        while self.lines.len() < BATCH_MAX {
            let Ok(message) = queue.try_recv() else { break };
            self.take(message, asked);
        }
    }

    fn take(&mut self, message: Message, asked: &mut Vec<SyncSender<()>>) {
        match message {
            Message::Record(record) => self.seal(&record),
            Message::Stranger(record) => {
                self.strangers.fetch_sub(1, Ordering::Relaxed);
                self.seal(&record);
            }
            Message::Flush(done) => asked.push(done),
            Message::Reopen => self.reopens = true,
        }
    }

    /// The last attempt was made; what is left is lost, and counted.
    fn give_up(&self, queue: &Receiver<Message>) {
        let waiting =
            queue.try_iter().filter(|message| matches!(message, Message::Record(_) | Message::Stranger(_))).count();
        let lost = self.records.saturating_add(waiting as u64);
        self.metrics.lost.inc_by(lost);
        log::error!("audit: {lost} records could not be written to {}", self.path.display());
    }

    fn is_well(&self) -> bool {
        !self.failing.load(Ordering::Relaxed)
    }

    fn seal(&mut self, record: &Record) {
        let before = self.lines.len();
        match self.sealer.seal(record, &mut self.lines) {
            Ok(()) => {
                self.records = self.records.saturating_add(1);
                self.sequence.store(self.sealer.last(), Ordering::Relaxed);
                self.recent.remember(record, self.lines.get(before..).unwrap_or_default());
            }
            Err(fault) => {
                self.metrics.lost.inc();
                log::error!("an audit record could not be written as JSON: {fault}");
            }
        }
    }

    fn write(&mut self) {
        while let Some(rest) = self.lines.get(self.done..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(count) if count > 0 => self.done = self.done.saturating_add(count),
                Ok(_) => return self.failed(&io::ErrorKind::WriteZero.into()),
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return self.failed(&fault),
            }
        }
        self.lines.clear();
        self.done = 0;
        self.metrics.written.inc_by(std::mem::take(&mut self.records));
        if self.failing.swap(false, Ordering::Relaxed) {
            log::warn!("audit: {} takes records again", self.path.display());
        }
        if std::mem::take(&mut self.reopens) {
            match (self.opens)() {
                Ok(file) => self.file = file,
                Err(fault) => {
                    log::error!("audit: {} cannot be opened anew, the old file goes on: {fault}", self.path.display());
                }
            }
        }
    }

    fn failed(&mut self, fault: &io::Error) {
        self.metrics.failures.inc();
        if !self.failing.swap(true, Ordering::Relaxed) {
            let path = self.path.display();
            log::error!("audit: {path} cannot be written ({fault}); requests are refused until it can");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Act, Judged};
    use crate::clock::Timestamp;
    use crate::generation::{Digest, Generation};
    use crate::name::NodeName;
    use parking_lot::Mutex;

    /// A disk that is full as long as somebody says so, and takes three bytes at a time.
    #[derive(Clone, Default)]
    struct Disk {
        full: Arc<AtomicBool>,
        content: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.get(..3).unwrap_or(bytes);
            self.content.lock().extend_from_slice(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn act(action: &'static str) -> Record {
        let judged = Judged { generation: Generation::new(1), digest: Digest::of(&[]) };
        Record::Act(Arc::new(Act {
            time: Timestamp::from_unix_seconds(0),
            action,
            server: None,
            cause: crate::audit::Cause::default(),
            predecessor: None,
            failure: None,
            approved_by: Vec::new(),
            judged,
        }))
    }

    fn journal(disk: &Disk) -> Journal {
        let sealer = Sealer::new(NodeName::parse("test").unwrap(), Id::random());
        let metrics = metrics::Metrics::new().unwrap().audit();
        let disk = disk.clone();
        Journal::write_to(move || Ok(disk.clone()), Path::new("disk"), sealer, metrics).unwrap()
    }

    /// A journal whose first record could not be written.
    fn on_a_full_disk() -> (Disk, Journal) {
        let disk = Disk::default();
        disk.full.store(true, Ordering::SeqCst);
        let journal = journal(&disk);
        journal.note(act("start"));
        wait_until(|| !journal.is_writing());
        (disk, journal)
    }

    fn sequence(disk: &Disk) -> Vec<u64> {
        let text = String::from_utf8(disk.content.lock().clone()).unwrap();
        let number =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"]["sequence"].as_u64();
        text.lines().map(|line| number(line).unwrap()).collect()
    }

    fn wait_until(is_true: impl Fn() -> bool) {
        while !is_true() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_a_crash_has_torn_stays_on_its_own_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"whole\":1}\n{\"to").unwrap();
        for _twice in 0..2 {
            let sealer = Sealer::new(NodeName::parse("test").unwrap(), Id::random());
            let journal = Journal::open(&path, sealer, metrics::Metrics::new().unwrap().audit()).unwrap();
            journal.note(act("start"));
            drop(journal);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[1]), (4, "{\"to"), "{text}");
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
        assert_eq!(sequence(&disk), [1]);
        disk.full.store(false, Ordering::SeqCst);
        wait_until(|| journal.is_writing());
        journal.flush();
        assert_eq!(sequence(&disk), [1, 2, 3, 4], "each once, in order");
        assert_eq!((journal.metrics.written.get(), journal.metrics.lost.get()), (4, 0));
        assert!(journal.metrics.failures.get() > 0);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (disk, journal) = on_a_full_disk();
        for _ in 0..QUEUE_MAX + 10 {
            journal.note(act("reload"));
        }
        let lost = journal.metrics.lost.clone();
        assert!(lost.get() >= 10);
        drop(journal);
        assert_eq!(lost.get(), QUEUE_MAX as u64 + 11, "and so is what waited, when there is no more waiting");
        assert_eq!(sequence(&disk), [0; 0]);
    }

    #[test]
    fn strangers_leave_room_for_others() {
        let (_disk, journal) = on_a_full_disk();
        for _ in 0..STRANGERS_MAX + 10 {
            journal.note_of_stranger(act("reload"));
        }
        assert_eq!(journal.metrics.lost.get(), 10);
        journal.note(act("reload"));
        assert_eq!(journal.metrics.lost.get(), 10, "there is room");
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
}
