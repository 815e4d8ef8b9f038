//! What the instances of a plugin have in common, and what outlives a reload of it: data, metrics, and what it may log.

use crate::filter::plugin::Limits;
use crate::metrics::{PluginFamilies, PluginMetric};
use crate::room::Rooms;
use crate::upstream::{Errand, Pools};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// How much a plugin's shared data may take, in bytes, with their keys.
const DATA_MAX: usize = 1024 * 1024;
/// What an entry takes beside that.
const ENTRY: usize = 64;
/// How much of bodies all instances may hold at once, in bytes; one workload half of it.
const HELD_MAX: usize = 64 * 1024 * 1024;
/// The most metrics that a plugin may define.
const METRICS_MAX: usize = 64;
/// The longest name of one, in bytes.
const METRIC_NAME_MAX: usize = 128;
/// The most lines that a plugin may log in a second.
const LINES_MAX: u32 = 50;
/// The longest line, in bytes.
const LINE_MAX: usize = 1024;

/// What all instances of a plugin share.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) root_id: Arc<str>,
    pub(super) configuration: Bytes,
    pub(super) vm_configuration: Bytes,
    pub(super) limits: Limits,
    /// The pools that it may call, by name.
    pub(super) errands: HashMap<Box<str>, Errand>,
    pub(super) kept: Arc<Kept>,
    /// The pools of the live generation, for calls that belong to no request.
    pub(super) pools: Arc<ArcSwapOption<Pools>>,
    /// Where such calls are made.
    pub(super) runtime: Arc<OnceCell<Handle>>,
    pub(super) metrics: PluginFamilies,
}

/// What is kept of a plugin by its name, over reloads.
pub(super) struct Kept {
    data: Mutex<Data>,
    metrics: Mutex<Vec<(Box<str>, PluginMetric)>>,
    lines: Mutex<Lines>,
    left_out: AtomicU64,
    /// What is held of bodies.
    pub(super) rooms: Rooms,
}

#[derive(Default)]
struct Data {
    entries: HashMap<Box<[u8]>, (Bytes, u32)>,
    held: usize,
    last_cas: u32,
}

struct Lines {
    since: Instant,
    count: u32,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            data: Mutex::default(),
            metrics: Mutex::default(),
            lines: Mutex::new(Lines { since: Instant::now(), count: 0 }),
            left_out: AtomicU64::new(0),
            rooms: Rooms::new(HELD_MAX),
        }
    }
}

/// Why shared data were not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotSet {
    /// Somebody else has set them since.
    Mismatch,
    /// There is no more room.
    Full,
}

impl Kept {
    /// Data, and the number by which it can be told whether they were set since.
    pub(super) fn data(&self, key: &[u8]) -> Option<(Bytes, u32)> {
        self.data.lock().entries.get(key).cloned()
    }

    /// Sets data, if they are those of that number, or whatever they are if it is 0.
    ///
    /// # Errors
    /// [`NotSet`].
    pub(super) fn set_data(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), NotSet> {
        let mut data = self.data.lock();
        let data = &mut *data;
        let known = data.entries.get(key);
        if cas != 0 && known.is_none_or(|(_, own)| *own != cas) {
            return Err(NotSet::Mismatch);
        }
        let cost = |value: usize| key.len().saturating_add(value).saturating_add(ENTRY);
        let before = known.map_or(0, |(value, _)| cost(value.len()));
        let held = data.held.saturating_sub(before).saturating_add(cost(value.len()));
        if held > DATA_MAX {
            return Err(NotSet::Full);
        }
        // 0 means that it does not matter.
        data.last_cas = data.last_cas.checked_add(1).unwrap_or(1);
        data.held = held;
        data.entries.insert(key.into(), (Bytes::copy_from_slice(value), data.last_cas));
        Ok(())
    }

    /// The number of a metric, which is defined if it is new; none if there are too many, or it cannot be one.
    pub(super) fn metric(&self, name: &str, define: impl FnOnce() -> Option<PluginMetric>) -> Option<u32> {
        let mut metrics = self.metrics.lock();
        let known = metrics.iter().position(|(known, _)| **known == *name);
        let is_name = !name.is_empty() && name.len() <= METRIC_NAME_MAX && name.bytes().all(|b| b.is_ascii_graphic());
        let number = match known {
            Some(number) => number,
            None if is_name && metrics.len() < METRICS_MAX => {
                metrics.push((name.into(), define()?));
                metrics.len().checked_sub(1)?
            }
            None => return None,
        };
        u32::try_from(number).ok()
    }

    /// Does something with a metric; none if there is no such.
    pub(super) fn with_metric<T>(&self, number: u32, act: impl FnOnce(&PluginMetric) -> Option<T>) -> Option<T> {
        let metrics = self.metrics.lock();
        metrics.get(usize::try_from(number).ok()?).and_then(|(_, metric)| act(metric))
    }

    /// Whether one more line may be logged; what was left out is said by the first line after it.
    fn may_log(&self) -> Option<u64> {
        let mut lines = self.lines.lock();
        if lines.since.elapsed() > Duration::from_secs(1) {
            *lines = Lines { since: Instant::now(), count: 0 };
        }
        lines.count = lines.count.saturating_add(1);
        if lines.count <= LINES_MAX {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Shared {
    /// Logs a line of the plugin's.
    pub(super) fn log(&self, level: log::Level, text: &str) {
        if level > log::max_level() {
            return;
        }
        let Some(left_out) = self.kept.may_log() else { return };
        if left_out > 0 {
            log::warn!("plugin {}: {left_out} lines were left out", self.name);
        }
        let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= LINE_MAX).unwrap_or(text.len());
        let shown = text.get(..end).unwrap_or_default();
        log::log!(level, "plugin {}: {}", self.name, shown.escape_debug());
    }

    /// The number of a metric.
    pub(super) fn metric(&self, kind: u32, name: &str) -> Option<u32> {
        self.kept.metric(name, || self.metrics.metric(&self.name, kind, name))
    }
}

impl fmt::Debug for Shared {
    /// Its configuration may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_are_set_by_who_knows_them() {
        let kept = Kept::default();
        assert_eq!(kept.set_data(b"k", b"v", 7), Err(NotSet::Mismatch), "there is nothing yet");
        kept.set_data(b"k", b"1", 0).unwrap();
        let (_, cas) = kept.data(b"k").unwrap();
        assert_eq!(kept.set_data(b"k", b"2", cas), Ok(()));
        assert_eq!(kept.set_data(b"k", b"3", cas), Err(NotSet::Mismatch), "it was set since");
        assert_eq!(kept.data(b"k").unwrap().0, "2");
    }

    #[test]
    fn data_have_room() {
        let kept = Kept::default();
        let value = vec![0; DATA_MAX / 4];
        let set = |key: &[u8]| kept.set_data(key, &value, 0);
        assert_eq!((set(b"a"), set(b"b"), set(b"c"), set(b"d")), (Ok(()), Ok(()), Ok(()), Err(NotSet::Full)));
        assert_eq!(set(b"a"), Ok(()), "what takes the place of itself has room");
        assert_eq!(kept.set_data(b"a", b"", 0), Ok(()));
        assert_eq!(set(b"d"), Ok(()), "and gives it back");
    }

    #[test]
    fn lines_are_few() {
        let kept = Kept::default();
        let told = (0..LINES_MAX * 3).filter(|_| kept.may_log().is_some()).count();
        assert_eq!(told, usize::try_from(LINES_MAX).unwrap());
    }
}
