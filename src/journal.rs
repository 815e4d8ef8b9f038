//! Writes audit records: a bounded queue and one thread that owns the file.
//!
//! A record that the queue has taken survives a failing disk: its line stays until it is written. While lines cannot be
//! written, [`Journal::decision`] refuses, so nothing is served unrecorded.

use crate::audit::{Decision, Record, Sealer};
use crate::metrics;
use crate::refusal::Refusal;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Records that may wait for the writer.
const QUEUE_MAX: usize = 65_536;
/// Bytes written at once, at most about.
const BATCH_MAX: usize = 256 * 1024;
/// The time between two attempts to write what could not be written.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// How long a flush waits for the disk.
const FLUSH_MAX: Duration = Duration::from_secs(5);

enum Message {
    Record(Record),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// Where records go.
#[derive(Debug)]
pub struct Journal {
    queue: Option<SyncSender<Message>>,
    failing: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
    metrics: metrics::Audit,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens the file for appending, readable by its owner and group only, and starts the writer.
    ///
    /// # Errors
    /// If the file cannot be opened or the thread not started.
    pub fn open(path: &Path, sealer: Sealer, metrics: metrics::Audit) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let failing = Arc::new(AtomicBool::new(false));
        let closing = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            path: path.to_owned(),
            file,
            sealer,
            lines: Vec::with_capacity(BATCH_MAX),
            records: 0,
            failing: Arc::clone(&failing),
            closing: Arc::clone(&closing),
            metrics: metrics.clone(),
        };
        let writer = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self { queue: Some(sender), failing, closing, metrics, writer: Some(writer) })
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

    /// Waits until what was taken before is written, 5 s at most.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        let asked = self.queue.as_ref().is_some_and(|queue| queue.try_send(Message::Flush(done)).is_ok());
        if !asked || written.recv_timeout(FLUSH_MAX).is_err() {
            log::error!("audit: not every record could be written");
        }
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

struct Writer {
    path: PathBuf,
    file: File,
    sealer: Sealer,
    lines: Vec<u8>,
    records: u64,
    failing: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
    metrics: metrics::Audit,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Message>) {
        loop {
            let mut asked = Vec::new();
            if self.is_well() {
                match queue.recv() {
                    Ok(message) => self.take(message, &mut asked),
                    Err(_all_gone) => return,
                }
                self.take_waiting(queue, &mut asked);
            } else if self.closing.load(Ordering::Relaxed) {
                self.take_waiting(queue, &mut asked);
                self.write();
                return self.give_up();
            } else {
                // The queue is left to fill up while the disk fails, so that what waits stays bounded.
                std::thread::sleep(RETRY_EVERY);
            }
            self.write();
            if self.is_well() {
                // Who asked may have stopped waiting.
                asked.iter().for_each(|asked| asked.try_send(()).unwrap_or_default());
            }
        }
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
            Message::Flush(done) => asked.push(done),
        }
    }

    fn give_up(&self) {
        if !self.is_well() {
            self.metrics.lost.inc_by(self.records);
            log::error!("audit: {} records could not be written to {}", self.records, self.path.display());
        }
    }

    fn is_well(&self) -> bool {
        !self.failing.load(Ordering::Relaxed)
    }

    fn seal(&mut self, record: &Record) {
        match self.sealer.seal(record, &mut self.lines) {
            Ok(()) => self.records = self.records.saturating_add(1),
            Err(fault) => {
                self.metrics.lost.inc();
                log::error!("an audit record could not be written as JSON: {fault}");
            }
        }
    }

    fn write(&mut self) {
        while !self.lines.is_empty() {
            match self.file.write(&self.lines) {
                Ok(count) if count > 0 => drop(self.lines.drain(..count)),
                Ok(_) => return self.failed(&io::ErrorKind::WriteZero.into()),
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return self.failed(&fault),
            }
        }
        self.metrics.written.inc_by(std::mem::take(&mut self.records));
        if self.failing.swap(false, Ordering::Relaxed) {
            log::warn!("audit: {} takes records again", self.path.display());
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
