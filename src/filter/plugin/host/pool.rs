//! A plugin and its instances: those that are free, how many there may be, and what becomes of one that has stopped.

use super::imports::Imports;
use super::instance::{Failure, Instance, OF_REQUESTS};
use super::shared::Shared;
use super::work::Host;
use crate::metrics::PluginHandles;
use crate::name::WorkloadName;
use crate::refusal::Refusal;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use wasmtime::InstancePre;

/// A plugin that stops so often within [`CRASHES_WITHIN`] is left alone for the rest of that time.
const CRASHES_MAX: usize = 20;
const CRASHES_WITHIN: Duration = Duration::from_secs(10);
/// Who has had nothing to do for so long goes, unless he is the last.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// A plugin that is compiled and configured.
pub(super) struct Plugin {
    pub(super) shared: Arc<Shared>,
    pub(super) is_optional: bool,
    pub(super) imports: Imports,
    /// It does nothing with requests, but perhaps something by itself.
    pub(super) is_idle: bool,
    pre: InstancePre<Host>,
    desk: Mutex<Desk>,
    all: Mutex<Vec<Weak<Instance>>>,
    count: AtomicUsize,
    handles: PluginHandles,
}

/// Who has nothing to do, and for whom the others work.
#[derive(Debug, Default)]
struct Desk {
    /// Those that are free, the one that worked last at the end.
    free: Vec<(Arc<Instance>, Instant)>,
    callers: HashMap<Option<WorkloadName>, Caller>,
}

/// A workload whose requests come to the plugin. There are no more of them than the config knows.
#[derive(Debug, Default)]
struct Caller {
    /// Requests that it works on.
    active: usize,
    /// When it has stopped over one.
    stopped: VecDeque<Instant>,
}

impl Desk {
    /// A request of somebody's has ended.
    fn goes(&mut self, who: &Option<WorkloadName>) {
        if let Some(caller) = self.callers.get_mut(who) {
            caller.active = caller.active.saturating_sub(1);
        }
    }
}

impl Caller {
    /// One more request comes; whether it may.
    fn comes(&mut self, share: usize) -> bool {
        while self.stopped.front().is_some_and(|crash| crash.elapsed() > CRASHES_WITHIN) {
            self.stopped.pop_front();
        }
        let may = self.active < share && self.stopped.len() < CRASHES_MAX;
        self.active = self.active.saturating_add(usize::from(may));
        may
    }

    /// The plugin has stopped over a request; whether that was once too often.
    fn crashes(&mut self) -> bool {
        self.stopped.push_back(Instant::now());
        let is_last_straw = self.stopped.len() == CRASHES_MAX;
        self.stopped.truncate(CRASHES_MAX);
        is_last_straw
    }
}

impl Plugin {
    /// A plugin with its first instance, which shows whether it can be.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) fn new(
        pre: InstancePre<Host>,
        shared: Arc<Shared>,
        (imports, is_optional, handles): (Imports, bool, PluginHandles),
    ) -> Result<Arc<Self>, Failure> {
        let mut exports = pre.module().exports();
        let is_idle = !exports.any(|export| OF_REQUESTS.contains(&export.name()));
        drop(exports);
        let plugin = Arc::new(Self {
            is_idle,
            shared,
            is_optional,
            imports,
            pre,
            desk: Mutex::default(),
            all: Mutex::default(),
            count: AtomicUsize::new(0),
            handles,
        });
        let first = plugin.more()?;
        plugin.desk.lock().free.push((first, Instant::now()));
        Ok(plugin)
    }

    fn more(self: &Arc<Self>) -> Result<Arc<Instance>, Failure> {
        let instance = Instance::start(&self.pre, &self.shared, Arc::downgrade(self))?;
        self.all.lock().push(Arc::downgrade(&instance));
        self.count.fetch_add(1, Ordering::Relaxed);
        self.handles.instances.inc();
        Ok(instance)
    }

    /// An instance that nobody else works with.
    ///
    /// # Errors
    /// [`Refusal::PluginsBusy`] if there may be no more, or too many have stopped; [`Refusal::PluginFailed`] if another
    /// cannot be made.
    pub(super) fn takes_one(self: &Arc<Self>, who: &Option<WorkloadName>) -> Result<Arc<Instance>, Refusal> {
        // What one workload uses up must not be missed by others.
        let share = self.shared.limits.instances.div_ceil(2);
        let (free, failed) = {
            let mut desk = self.desk.lock();
            if !desk.callers.entry(who.clone()).or_default().comes(share) {
                return Err(Refusal::PluginsBusy);
            }
            let before = desk.free.len();
            let free = std::iter::from_fn(|| desk.free.pop()).find(|(instance, _)| !instance.has_failed());
            (
                free.as_ref().map(|(instance, _)| Arc::clone(instance)),
                before.saturating_sub(desk.free.len()).saturating_sub(usize::from(free.is_some())),
            )
        };
        self.loses(failed);
        let taken = free.map_or_else(|| self.new_one(who), Ok);
        taken.inspect_err(|_refused| self.desk.lock().goes(who))
    }

    fn new_one(self: &Arc<Self>, who: &Option<WorkloadName>) -> Result<Arc<Instance>, Refusal> {
        if self.count.load(Ordering::Relaxed) >= self.shared.limits.instances {
            return Err(Refusal::PluginsBusy);
        }
        self.more().map_err(|failure| {
            self.failed(&failure, who.clone());
            Refusal::PluginFailed
        })
    }

    /// It has done its work for somebody, and is free for the next.
    pub(super) fn gives_back(&self, instance: Arc<Instance>, who: &Option<WorkloadName>) {
        let has_failed = instance.has_failed();
        let mut desk = self.desk.lock();
        desk.goes(who);
        if !has_failed {
            desk.free.push((instance, Instant::now()));
        }
        drop(desk);
        self.loses(usize::from(has_failed));
    }

    fn loses(&self, instances: usize) {
        if instances == 0 {
            return;
        }
        self.count.fetch_sub(instances, Ordering::Relaxed);
        self.handles.instances.sub(i64::try_from(instances).unwrap_or_default());
    }

    /// One of its instances has stopped, which has worked for somebody.
    pub(super) fn failed(&self, failure: &Failure, who: Option<WorkloadName>) {
        self.handles.failed(failure.cause.word());
        let whom = who.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
        let is_last_straw = self.desk.lock().callers.entry(who).or_default().crashes();
        self.shared.log(log::Level::Error, &failure.text);
        if is_last_straw {
            let (name, left) = (&self.shared.name, CRASHES_WITHIN.as_secs());
            log::error!("plugin {name} works no more for {whom}, for up to {left} s: it stops too often");
        }
    }

    /// Wakes those who want to be woken.
    pub(super) fn ticks(&self) {
        let all: Vec<_> = {
            let mut all = self.all.lock();
            all.retain(|instance| instance.strong_count() > 0);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        for instance in all.into_iter().filter(|instance| !instance.has_failed()) {
            // Who is at work is woken the next time.
            let ticked = instance.vm_if_free().map_or(Ok(false), |mut vm| vm.ticks());
            match ticked {
                Err(failure) => instance.fails(&failure),
                Ok(true) => instance.woken.notify_one(),
                Ok(false) => {}
            }
        }
    }

    /// Lets those go who have had nothing to do for long, or have stopped while they were free.
    pub(super) fn trims(&self) {
        let free = &mut self.desk.lock().free;
        let before = free.len();
        free.retain(|(instance, _)| !instance.has_failed());
        let idle = free.iter().take_while(|(_, since)| since.elapsed() > IDLE_MAX).count();
        let goes = idle.min(free.len().saturating_sub(1));
        free.drain(..goes);
        self.loses(before.saturating_sub(free.len()));
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {} instances", self.shared, self.count.load(Ordering::Relaxed))
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.loses(self.count.load(Ordering::Relaxed));
    }
}
