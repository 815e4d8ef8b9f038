//! A plugin and its instances: those that are free, how many there may be, and what becomes of one that has stopped.

use super::imports::Imports;
use super::instance::{Failure, Instance};
use super::shared::Shared;
use super::work::Host;
use crate::metrics::PluginHandles;
use crate::refusal::Refusal;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
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
    pre: InstancePre<Host>,
    /// Those that are free, the one that worked last at the end.
    free: Mutex<Vec<(Arc<Instance>, Instant)>>,
    all: Mutex<Vec<Weak<Instance>>>,
    count: AtomicUsize,
    crashes: Mutex<VecDeque<Instant>>,
    handles: PluginHandles,
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
        let plugin = Arc::new(Self {
            shared,
            is_optional,
            imports,
            pre,
            free: Mutex::default(),
            all: Mutex::default(),
            count: AtomicUsize::new(0),
            crashes: Mutex::default(),
            handles,
        });
        let first = plugin.more()?;
        plugin.gives_back(first);
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
    pub(super) fn takes_one(self: &Arc<Self>) -> Result<Arc<Instance>, Refusal> {
        if self.is_left_alone() {
            return Err(Refusal::PluginsBusy);
        }
        let free = self.free.lock().pop();
        if let Some((instance, _)) = free {
            return Ok(instance);
        }
        if self.count.load(Ordering::Relaxed) >= self.shared.limits.instances {
            return Err(Refusal::PluginsBusy);
        }
        self.more().map_err(|failure| {
            self.failed(&failure);
            Refusal::PluginFailed
        })
    }

    /// It has done its work, and is free for the next.
    pub(super) fn gives_back(&self, instance: Arc<Instance>) {
        if instance.has_failed() {
            self.loses(1);
        } else {
            self.free.lock().push((instance, Instant::now()));
        }
    }

    fn loses(&self, instances: usize) {
        self.count.fetch_sub(instances, Ordering::Relaxed);
        self.handles.instances.sub(i64::try_from(instances).unwrap_or_default());
    }

    fn is_left_alone(&self) -> bool {
        let mut crashes = self.crashes.lock();
        while crashes.front().is_some_and(|crash| crash.elapsed() > CRASHES_WITHIN) {
            crashes.pop_front();
        }
        crashes.len() >= CRASHES_MAX
    }

    /// One of its instances has stopped.
    pub(super) fn failed(&self, failure: &Failure) {
        self.handles.failed(failure.cause.word());
        let mut crashes = self.crashes.lock();
        crashes.push_back(Instant::now());
        let is_last_straw = crashes.len() == CRASHES_MAX;
        crashes.truncate(CRASHES_MAX);
        drop(crashes);
        self.shared.log(log::Level::Error, &failure.text);
        if is_last_straw {
            let left = CRASHES_WITHIN.as_secs();
            log::error!("plugin {} is left alone for up to {left} s: it stops too often", self.shared.name);
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
            let ticked = instance.vm_if_free().map_or(Ok(()), |mut vm| vm.ticks());
            if let Err(failure) = ticked {
                instance.fails(&failure);
            } else {
                instance.woken.notify_one();
            }
        }
    }

    /// Lets those go who have had nothing to do for long, or have stopped while they were free.
    pub(super) fn trims(&self) {
        let mut free = self.free.lock();
        let before = free.len();
        free.retain(|(instance, _)| !instance.has_failed());
        let idle = free.iter().take_while(|(_, since)| since.elapsed() > IDLE_MAX).count();
        let goes = idle.min(free.len().saturating_sub(1));
        free.drain(..goes);
        let gone = before.saturating_sub(free.len());
        drop(free);
        self.loses(gone);
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
