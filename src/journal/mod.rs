//! Writes audit records: a bounded queue and one thread that owns the file.
//!
//! A record that the queue has taken survives a failing disk: its line stays until it is written. While lines cannot be
//! written, [`Journal::decision`] refuses, so nothing is served unrecorded, unless the config says otherwise.

mod bell;
mod file;
mod left;
mod recent;
mod settings;
mod strangers;
mod writer;

pub use file::older_files;
pub use left::{Found, look};
pub use recent::Recent;
pub use settings::Settings;

use crate::audit::{Decision, HungUp, Judged, Predecessor, Record, Sealer, Summary};
use crate::clock::{Clock, Timestamp};
use crate::config::{Durability, OnFailure};
use crate::metrics;
use crate::name::ListenerName;
use crate::refusal::Refusal;
use crate::request::Id;
use arc_swap::ArcSwap;
use bell::Bell;
use file::{Log, LogFile};
use parking_lot::Mutex;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};
use strangers::Strangers;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::timeout;
use writer::{Checkpoints, Message, Shared, Writer};

/// Records that may wait for the writer.
const QUEUE_MAX: usize = 65_536;
/// Of these, those of peers who have proved nothing, so that their refusals never push out what must be recorded.
const STRANGERS_MAX: usize = QUEUE_MAX / 4;
/// How long a flush waits for the disk.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// How long a request waits for its record. A disk that is slower does not work.
const RECORDED_WITHIN: Duration = Duration::from_secs(1);

/// What a log is opened with.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The file.
    pub file: &'a Path,
    /// The file of checkpoints.
    pub checkpoints: Option<&'a Path>,
    /// How it is kept at first.
    pub settings: Settings,
    /// Makes the lines.
    pub sealer: Sealer,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What it counts.
    pub metrics: metrics::Audit,
}

/// Where records go.
#[derive(Debug)]
pub struct Journal {
    boot: Id,
    queue: Option<SyncSender<Message>>,
    shared: Arc<Shared>,
    singly: Strangers,
    writer: Option<JoinHandle<()>>,
}

/// The record of a decision is on its way.
#[derive(Debug)]
#[must_use = "the request is forwarded once the record is as safe as it is to be"]
pub struct Recorded(Option<Awaited>);

/// Who waits for it.
#[derive(Debug)]
struct Awaited {
    written: oneshot::Receiver<()>,
    on_failure: OnFailure,
    shared: Arc<Shared>,
}

impl Recorded {
    /// Waits until the record is as safe as the config demands: a second at most.
    ///
    /// # Errors
    /// [`Refusal::AuditUnavailable`] if it is not, where nothing is served without a record.
    pub async fn safely(self) -> Result<(), Refusal> {
        let Some(Awaited { mut written, on_failure, shared }) = self.0 else { return Ok(()) };
        // What all who are ready have to record is written together: one wakes the writer for all of them.
        tokio::task::yield_now().await;
        let is_written = match written.try_recv() {
            Ok(()) => true,
            Err(TryRecvError::Closed) => false,
            Err(TryRecvError::Empty) => {
                shared.bell.ring();
                matches!(timeout(RECORDED_WITHIN, written).await, Ok(Ok(())))
            }
        };
        if is_written || on_failure == OnFailure::Continue { Ok(()) } else { Err(Refusal::AuditUnavailable) }
    }
}

impl Journal {
    /// Opens the file for appending, readable by its owner and group only, and starts the writer.
    ///
    /// # Errors
    /// If a file cannot be opened or the thread not started. It says which file.
    pub fn open(opening: Opening<'_>) -> Result<Self, (PathBuf, io::Error)> {
        let open = |path: &Path| match LogFile::open(path) {
            Ok(log) => Ok(Box::new(log) as Box<dyn Log>),
            Err(fault) => Err((path.to_owned(), fault)),
        };
        let log = open(opening.file)?;
        let checkpoints = opening.checkpoints.map(|path| Ok((path.to_owned(), open(path)?))).transpose()?;
        let path = opening.file.to_owned();
        Self::write_to(log, checkpoints, opening).map_err(|fault| (path, fault))
    }

    fn write_to(
        log: Box<dyn Log>,
        checkpoints: Option<(PathBuf, Box<dyn Log>)>,
        opening: Opening<'_>,
    ) -> io::Result<Self> {
        let Opening { file, settings, sealer, clock, metrics, .. } = opening;
        let (boot, position) = (sealer.boot().clone(), Mutex::new(sealer.position()));
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let shared = Arc::new(Shared {
            settings: ArcSwap::from_pointee(settings),
            failing: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            strangers: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            position,
            recent: Recent::default(),
            metrics,
            bell: Bell::default(),
        });
        let (now, uptime) = (clock.now(), clock.uptime());
        let checkpoints = checkpoints.map(|(path, log)| Checkpoints {
            log,
            path,
            count: 0,
            records: 0,
            last: uptime,
            is_failing: false,
        });
        let writer = Writer {
            path: file.to_owned(),
            log,
            checkpoints,
            sealer,
            shared: Arc::clone(&shared),
            clock,
            lines: Vec::new(),
            done: 0,
            records: 0,
            awaited: Vec::new(),
            is_astray: false,
            was_full: false,
            is_busy: false,
            postponed: None,
            judged: None,
            looked: (now, uptime),
            wrote: now,
            told_gap: uptime,
            pruned: None,
        };
        let writer = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self { boot, queue: Some(sender), shared, singly: Strangers::default(), writer: Some(writer) })
    }

    /// From here on it is kept like that.
    pub fn adopt(&self, settings: Settings) {
        self.shared.settings.store(Arc::new(settings));
    }

    /// Takes the record of a decision that lets a request pass.
    ///
    /// # Errors
    /// [`Refusal::AuditUnavailable`] while records cannot be written, or no more fit in the queue, where nothing is
    /// served without a record. The refusal itself is then recorded, if it finds room.
    pub fn decision(&self, mut decision: Box<Decision>) -> Result<Recorded, Refusal> {
        let settings = self.shared.settings.load();
        let on_failure = settings.on_failure;
        let is_writing = self.is_writing();
        if !is_writing && on_failure == OnFailure::Refuse {
            decision.verdict = Err(Refusal::AuditUnavailable);
            self.note(Record::Decision(decision));
            return Err(Refusal::AuditUnavailable);
        }
        let record = Record::Decision(decision);
        let is_awaited = settings.durability != Durability::Queued && is_writing;
        let (message, written) = if is_awaited {
            let (done, written) = oneshot::channel();
            let shared = Arc::clone(&self.shared);
            (Message::Awaited(record, done), Some(Awaited { written, on_failure, shared }))
        } else {
            (Message::Record(record), None)
        };
        match (self.send(message), on_failure) {
            (true, _) | (false, OnFailure::Continue) => Ok(Recorded(written)),
            (false, OnFailure::Refuse) => Err(Refusal::AuditUnavailable),
        }
    }

    /// Takes the record of what has happened already; it waits with the others while the disk fails. A full queue
    /// loses it, which is counted.
    pub fn note(&self, record: Record) {
        self.send(Message::Record(record));
    }

    /// The same for a peer who has proved nothing. Strangers share a quarter of the queue; beyond it their records are
    /// lost, and counted.
    pub fn note_of_stranger(&self, record: Record) {
        let has_room = self.shared.strangers.fetch_add(1, Ordering::Relaxed) < STRANGERS_MAX;
        if !has_room {
            self.shared.lose(1);
        }
        if !has_room || !self.send(Message::Stranger(record)) {
            self.shared.strangers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether there was room; what finds none is counted.
    fn send(&self, message: Message) -> bool {
        let is_sent = self.queue.as_ref().is_some_and(|queue| queue.try_send(message).is_ok());
        if is_sent {
            self.shared.bell.sent();
        } else {
            self.shared.lose(1);
        }
        is_sent
    }

    /// Sends what is not to wait for other records to gather; whether there was room.
    fn ask(&self, message: Message) -> bool {
        let is_asked = self.queue.as_ref().is_some_and(|queue| queue.try_send(message).is_ok());
        self.shared.bell.ring();
        is_asked
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
        let asked = self.ask(Message::Flush(done));
        if !asked || written.recv_timeout(FLUSH_MAX).is_err() {
            log::error!("audit: not every record could be written");
        }
    }

    /// Looks whether the file was moved away, and begins a new one then.
    pub fn reopen(&self) {
        if !self.ask(Message::Reopen) {
            log::error!("audit: whether the file was moved is looked at later, too much waits to be written");
        }
    }

    /// How far its records are written.
    #[must_use]
    pub fn position(&self) -> Predecessor {
        self.shared.position.lock().clone()
    }

    /// The process that writes it.
    #[must_use]
    pub const fn boot(&self) -> &Id {
        &self.boot
    }

    /// The last decisions, from memory.
    #[must_use]
    pub fn recent(&self) -> &Recent {
        &self.shared.recent
    }

    /// Whether records can be written now.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        !self.shared.is_failing()
    }

    /// Whether requests are served, as far as the log goes.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.is_writing() || self.shared.settings.load().on_failure == OnFailure::Continue
    }
}

impl Drop for Journal {
    /// Waits for the writer to write what it has.
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        drop(self.queue.take());
        self.shared.bell.ring();
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            log::error!("the audit writer ended by a fault");
        }
    }
}

#[cfg(test)]
mod tests;
