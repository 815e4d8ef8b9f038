//! The one thread that owns the file: it makes lines of records, writes them, and signs how far they go.

use super::bell::Bell;
use super::file::{Failed, Log, prune};
use super::recent::Recent;
use super::settings::Settings;
use crate::audit::{Judged, Predecessor, Record, Sealer, Upkeep};
use crate::clock::{Clock, Timestamp};
use crate::config::{Durability, OnFailure};
use crate::metrics;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// Bytes written at once, at most about.
const BATCH_MAX: usize = 256 * 1024;
/// How long records gather before they are written together, where nobody waits for them: who is woken for each costs the
/// event loops more than the records themselves. The first one after a pause is written at once.
const GATHER_FOR: Duration = Duration::from_millis(5);
/// The time between two attempts to write what could not be written.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// How often there is a checkpoint, also while nothing happens.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
/// After so many records there is one in any case.
const CHECKPOINT_RECORDS: u64 = 1_000;
/// The clock may go so much wrong between two looks without a record of it.
const CLOCK_SLACK: Duration = Duration::from_secs(1);
/// How often it is told that records found no room.
const GAP_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether old files are to be removed.
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);

/// What the writer is sent.
pub(super) enum Message {
    Record(Record),
    /// Somebody waits until it is as safe as it is to be.
    Awaited(Record, oneshot::Sender<()>),
    /// Of a peer who has proved nothing.
    Stranger(Record),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
    /// The file may have been moved away.
    Reopen,
}

/// What the writer shares with those who send it records.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: ArcSwap<Settings>,
    pub(super) failing: AtomicBool,
    pub(super) closing: AtomicBool,
    /// Records of strangers that wait.
    pub(super) strangers: AtomicUsize,
    /// Records that found no room since that was told last.
    pub(super) lost: AtomicU64,
    /// How far the log goes.
    pub(super) position: Mutex<Predecessor>,
    pub(super) recent: Recent,
    pub(super) metrics: metrics::Audit,
    pub(super) bell: Bell,
}

impl Shared {
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    pub(super) fn lose(&self, count: u64) {
        self.metrics.lost.inc_by(count);
        self.lost.fetch_add(count, Ordering::Relaxed);
    }
}

/// Where checkpoints go.
pub(super) struct Checkpoints {
    pub(super) log: Box<dyn Log>,
    pub(super) path: PathBuf,
    /// How many there are.
    pub(super) count: u64,
    /// Records since the last one.
    pub(super) records: u64,
    pub(super) last: Duration,
    pub(super) is_failing: bool,
}

pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) log: Box<dyn Log>,
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) sealer: Sealer,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lines: Vec<u8>,
    /// How much of the lines is written.
    pub(super) done: usize,
    /// How many records they are.
    pub(super) records: u64,
    /// Who waits for them.
    pub(super) awaited: Vec<oneshot::Sender<()>>,
    /// Whether the file has to be found again first.
    pub(super) is_astray: bool,
    /// The last batch left something in the queue.
    pub(super) was_full: bool,
    /// Something was taken last time, so that there may be more soon.
    pub(super) is_busy: bool,
    /// What was to be taken then.
    pub(super) postponed: Option<Message>,
    /// The config that judged last.
    pub(super) judged: Option<Judged>,
    /// What the clock said last, and when.
    pub(super) looked: (Timestamp, Duration),
    /// When something was written last.
    pub(super) wrote: Timestamp,
    pub(super) told_gap: Duration,
    pub(super) pruned: Option<Duration>,
}

impl Writer {
    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        self.shared.bell.is_heard_here();
        loop {
            let mut asked = Vec::new();
            let (mut is_last, mut is_closing) = (false, false);
            if self.shared.is_failing() {
                is_closing = self.wait_for_the_disk();
            } else if let Some(message) = self.postponed.take() {
                self.gather(message, queue, &mut asked);
            } else {
                match self.next(queue) {
                    Ok(message) => self.gather(message, queue, &mut asked),
                    Err(TryRecvError::Empty) => self.tend(),
                    Err(TryRecvError::Disconnected) => is_last = true,
                }
            }
            if is_last && !self.shared.is_failing() {
                self.tell_gap();
            }
            self.write();
            // What waits is still taken if the disk is there again.
            if is_last || (is_closing && self.shared.is_failing()) {
                return self.end(queue);
            }
            if !self.shared.is_failing() {
                // Who asked may have stopped waiting.
                asked.iter().for_each(|asked| asked.try_send(()).unwrap_or_default());
            }
        }
    }

    /// The queue is left to fill up while the disk fails, so that what waits stays bounded. Whether it is to end.
    fn wait_for_the_disk(&mut self) -> bool {
        std::thread::sleep(RETRY_EVERY);
        if self.is_astray {
            self.tend();
        }
        self.shared.closing.load(Ordering::Relaxed)
    }

    /// The next message. While records keep coming nobody has to wake the writer for them: it comes back by itself.
    fn next(&mut self, queue: &Receiver<Message>) -> Result<Message, TryRecvError> {
        // Where more waited than fits at once, there is no need to wait for more.
        if std::mem::take(&mut self.is_busy) && !std::mem::take(&mut self.was_full) {
            std::thread::park_timeout(GATHER_FOR);
        }
        let next = match queue.try_recv() {
            Err(TryRecvError::Empty) => self.shared.bell.wait(CHECKPOINT_EVERY, || queue.try_recv()),
            next => next,
        };
        self.is_busy = next.is_ok();
        next
    }

    fn gather(&mut self, first: Message, queue: &Receiver<Message>, asked: &mut Vec<SyncSender<()>>) {
        self.tend();
        if self.is_astray {
            self.postponed = Some(first);
            return;
        }
        self.take(first, asked);
        while self.lines.len() < BATCH_MAX {
            let Ok(message) = queue.try_recv() else { break };
            self.take(message, asked);
        }
        self.was_full = self.lines.len() >= BATCH_MAX;
    }

    fn take(&mut self, message: Message, asked: &mut Vec<SyncSender<()>>) {
        match message {
            Message::Record(record) => self.seal(&record),
            Message::Awaited(record, waiting) => {
                self.seal(&record);
                self.awaited.push(waiting);
            }
            Message::Stranger(record) => {
                self.shared.strangers.fetch_sub(1, Ordering::Relaxed);
                self.seal(&record);
            }
            Message::Flush(done) => asked.push(done),
            Message::Reopen => {}
        }
    }

    /// What is due before records are taken: nothing is sealed yet that would stand in the wrong file.
    fn tend(&mut self) {
        let settings = self.shared.settings.load_full();
        self.sealer.hides_people(settings.pseudonyms.clone());
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let is_new = self.renew(&settings, now);
        let (before, then) = std::mem::replace(&mut self.looked, (now, uptime));
        let expected = before.plus(uptime.saturating_sub(then));
        if expected.since(now).max(now.since(expected)) > CLOCK_SLACK {
            log::warn!("the clock was set from {expected} to {now}");
            self.note(now, Upkeep::Clock { expected });
        }
        let is_due = is_new || self.pruned.is_none_or(|last| uptime.saturating_sub(last) >= PRUNE_EVERY);
        if is_due && self.sealer.last() > 0 {
            self.prune(&settings, now);
            self.pruned = Some(uptime);
        }
        if uptime.saturating_sub(self.told_gap) >= GAP_EVERY {
            self.told_gap = uptime;
            self.tell_gap();
        }
    }

    /// Begins a new file if it is time to, which then begins with the place in the chain; whether it did. Nothing is
    /// sealed meanwhile that would stand in the wrong file: what waits to be written belongs to the old one.
    fn renew(&mut self, settings: &Settings, now: Timestamp) -> bool {
        if !self.lines.is_empty() {
            return false;
        }
        self.is_astray = false;
        match self.log.renew(settings.rotate, now) {
            Ok(Some(renewed)) if self.sealer.last() > 0 => {
                self.note(now, Upkeep::File { before: renewed.before });
                true
            }
            Ok(_) => false,
            Err(fault) => {
                self.astray(&fault);
                false
            }
        }
    }

    fn tell_gap(&mut self) {
        let count = self.shared.lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            log::error!("audit: {count} records found no room since {}", self.wrote);
            self.note(self.clock.now(), Upkeep::Gap { count, since: self.wrote });
        }
    }

    /// Removes old files, of the log and of the checkpoints.
    fn prune(&mut self, settings: &Settings, now: Timestamp) {
        let paths = [Some(self.path.clone()), self.checkpoints.as_ref().map(|checkpoints| checkpoints.path.clone())];
        for (index, path) in paths.into_iter().flatten().enumerate() {
            let pruned = match prune(&path, settings.keep, now) {
                Ok(pruned) => pruned,
                Err(fault) => {
                    log::error!("audit: old files of {} cannot be removed: {fault}", path.display());
                    continue;
                }
            };
            for (old, is_for_age) in pruned.removed {
                let file = old.file_name().map(|name| name.to_string_lossy().into()).unwrap_or_default();
                log::warn!("audit: {} is removed, as `audit.keep` says", old.display());
                self.note(now, Upkeep::Removed { file, is_for_age });
            }
            if index == 0 {
                self.kept(pruned.bytes, settings.keep.size);
            }
        }
    }

    fn kept(&self, bytes: u64, max: u64) {
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.shared.metrics.kept.set(gauge(bytes));
        self.shared.metrics.kept_max.set(gauge(max));
        if bytes > max / 5 * 4 {
            log::warn!(
                "audit: {} of the {} MiB of `audit.keep.size` are full; the oldest files go next",
                bytes.div_ceil(1024 * 1024),
                max / (1024 * 1024)
            );
        }
    }

    fn note(&mut self, time: Timestamp, upkeep: Upkeep) {
        let judged = self.judged;
        self.seal(&Record::Upkeep { time, upkeep, judged });
    }

    fn seal(&mut self, record: &Record) {
        self.judged = judged(record).or(self.judged);
        let before = self.lines.len();
        match self.sealer.seal(record, &mut self.lines) {
            Ok(()) => {
                self.records = self.records.saturating_add(1);
                self.shared.recent.remember(record, self.lines.get(before..).unwrap_or_default());
            }
            Err(fault) => {
                self.shared.lose(1);
                log::error!("an audit record could not be written as JSON: {fault}");
            }
        }
    }

    fn write(&mut self) {
        if self.is_astray {
            return;
        }
        if let Some(rest) = self.lines.get(self.done..).filter(|rest| !rest.is_empty()) {
            if let Err(Failed { done, fault }) = self.log.append(rest) {
                self.done = self.done.saturating_add(done);
                return self.failed(&fault);
            }
            // So that it is not written again if the disk cannot be waited for.
            self.done = self.lines.len();
        }
        if self.shared.settings.load().durability == Durability::Synced
            && !self.lines.is_empty()
            && let Err(fault) = self.log.sync()
        {
            return self.failed(&fault);
        }
        self.written();
        self.checkpoint(false);
    }

    fn written(&mut self) {
        if !self.lines.is_empty() {
            self.wrote = self.looked.0;
            *self.shared.position.lock() = self.sealer.position();
        }
        self.lines.clear();
        self.done = 0;
        let records = std::mem::take(&mut self.records);
        self.shared.metrics.written.inc_by(records);
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.records = checkpoints.records.saturating_add(records);
        }
        // Who waited may have gone.
        self.awaited.drain(..).for_each(|waiting| waiting.send(()).unwrap_or_default());
        if self.shared.failing.swap(false, Ordering::Relaxed) {
            log::warn!("audit: {} takes records again", self.path.display());
        }
    }

    /// The file is not where it should be, and no other can be begun: what is written now, nobody would find.
    fn astray(&mut self, fault: &io::Error) {
        self.is_astray = true;
        self.failed(fault);
    }

    fn failed(&mut self, fault: &io::Error) {
        self.shared.metrics.failures.inc();
        let was_failing = self.shared.failing.swap(true, Ordering::Relaxed);
        // Whoever waits hears at once that he waits in vain, and whoever comes after him hears the same.
        self.awaited.clear();
        if !was_failing && fault.kind() == io::ErrorKind::StorageFull {
            // Old files may make room; what of them was removed is recorded once something can be.
            self.pruned = None;
        }
        if !was_failing {
            let path = self.path.display();
            let what = match self.shared.settings.load().on_failure {
                OnFailure::Refuse => "requests are refused until it can",
                OnFailure::Continue => "requests are served without records until it can",
            };
            log::error!("audit: {path} cannot be written ({fault}); {what}");
        }
    }

    /// Signs how far the log goes, if it is time to.
    fn checkpoint(&mut self, is_last: bool) {
        let uptime = self.clock.uptime();
        let Some(checkpoints) = &mut self.checkpoints else { return };
        let settings = self.shared.settings.load();
        let is_due = checkpoints.records >= CHECKPOINT_RECORDS
            || uptime.saturating_sub(checkpoints.last) >= CHECKPOINT_EVERY
            || (is_last && checkpoints.records > 0);
        let Some(key) = settings.key.as_ref().filter(|_| is_due && self.sealer.last() > 0) else { return };
        let now = self.clock.now();
        let mut line = Vec::new();
        let written = checkpoints.log.renew(settings.rotate, now).and_then(|_| {
            self.sealer.checkpoint(checkpoints.count.saturating_add(1), now, key, &mut line)?;
            checkpoints.log.append(&line).map_err(|failed| failed.fault)
        });
        checkpoints.count = checkpoints.count.saturating_add(u64::from(written.is_ok()));
        // What is not signed now is signed by the next one.
        checkpoints.last = uptime;
        checkpoints.records = 0;
        let path = checkpoints.path.display();
        match written {
            Ok(()) if std::mem::take(&mut checkpoints.is_failing) => {
                log::warn!("audit: {path} takes checkpoints again")
            }
            Ok(()) => self.shared.metrics.checkpoints.inc(),
            Err(fault) => {
                self.shared.metrics.failures.inc();
                if !std::mem::replace(&mut checkpoints.is_failing, true) {
                    log::error!("audit: {path} cannot be written ({fault}); records go on without checkpoints");
                }
            }
        }
    }

    /// The last attempt was made; what is left is lost, and counted.
    fn end(mut self, queue: &Receiver<Message>) {
        if !self.shared.is_failing() {
            return self.checkpoint(true);
        }
        let is_record = |message: &Message| !matches!(message, Message::Flush(_) | Message::Reopen);
        let waiting = self.postponed.take().into_iter().chain(queue.try_iter()).filter(is_record).count();
        let lost = self.records.saturating_add(waiting as u64);
        self.shared.metrics.lost.inc_by(lost);
        log::error!("audit: {lost} records could not be written to {}", self.path.display());
    }
}

fn judged(record: &Record) -> Option<Judged> {
    match record {
        Record::Decision(it) => Some(it.judged),
        Record::Outcome(it) => Some(it.judged),
        Record::HungUp(it) => Some(it.judged),
        Record::Summary(it) => Some(it.judged),
        Record::Act(it) => Some(it.judged),
        Record::Upkeep { .. } => None,
    }
}
