//! A number for each who is counted, of so many at most.

use parking_lot::Mutex;
use std::{collections::HashMap, time::Duration};

const SHARDS: usize = 16;
/// How often a full shard is searched for those who count no more.
const SEARCH_EVERY: Duration = Duration::from_millis(100);

/// Numbers by who is counted. One that has come to its `floor` is as none: a moment that has passed, or zero.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// Of one shard.
    room: usize,
}

#[derive(Debug, Default)]
struct Shard {
    numbers: HashMap<u64, u64>,
    searched: Option<Duration>,
}

/// There is no room for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Table {
    pub(super) fn new(room: usize) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), room: room.div_ceil(SHARDS) }
    }

    /// Changes somebody's number, 0 if he has none, to what `change` says, or leaves it. Numbers up to `floor`, a time in
    /// nanoseconds, are as none.
    ///
    /// # Errors
    /// [`Full`] if he has none, and there is no room for one.
    pub(super) fn update<T>(
        &self,
        whom: u64,
        floor: Duration,
        change: impl FnOnce(u64) -> Option<(u64, T)>,
    ) -> Result<Option<T>, Full> {
        let index = usize::try_from(whom >> 60).unwrap_or(0);
        let mut shard = self.shards.get(index).ok_or(Full)?.lock();
        let known = shard.numbers.get(&whom).copied();
        if known.is_none() && shard.numbers.len() >= self.room && !shard.makes_room(floor) {
            return Err(Full);
        }
        let Some((number, result)) = change(known.unwrap_or(0)) else { return Ok(None) };
        if number == 0 {
            shard.numbers.remove(&whom);
        } else {
            shard.numbers.insert(whom, number);
        }
        Ok(Some(result))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().numbers.len()).sum()
    }
}

impl Shard {
    /// Forgets those whose number is as none; whether there were any. Not more often than it is worth.
    fn makes_room(&mut self, floor: Duration) -> bool {
        if self.searched.is_some_and(|searched| floor.saturating_sub(searched) < SEARCH_EVERY) {
            return false;
        }
        self.searched = Some(floor);
        let (before, floor) = (self.numbers.len(), super::pace::nanos(floor));
        self.numbers.retain(|_, number| *number > floor);
        self.numbers.len() < before
    }
}
