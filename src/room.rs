//! Room that is shared: so much for everybody, and half of it for each workload at most.

use crate::name::WorkloadName;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};

/// Bytes that may be held at once.
#[derive(Debug, Clone)]
pub struct Rooms(Arc<Mutex<Taken>>, usize);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of_each: HashMap<WorkloadName, usize>,
}

/// What one request of a workload's holds, given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    rooms: Rooms,
    workload: WorkloadName,
    bytes: usize,
}

impl Rooms {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::default(), max)
    }

    /// No room yet, for a request of that workload.
    #[must_use]
    pub fn room(&self, workload: WorkloadName) -> Room {
        Room { rooms: self.clone(), workload, bytes: 0 }
    }
}

impl Room {
    /// Takes so many bytes more; whether there was room, for all and for the workload.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let Rooms(taken, max) = &self.rooms;
        let mut taken = taken.lock();
        let (all, of_this) = (taken.all, taken.of_each.get(&self.workload).copied().unwrap_or(0));
        if all.saturating_add(bytes) > *max || of_this.saturating_add(bytes) > max.div_ceil(2) {
            return false;
        }
        taken.all = all.saturating_add(bytes);
        taken.of_each.insert(self.workload.clone(), of_this.saturating_add(bytes));
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = self.rooms.0.lock();
        taken.all = taken.all.saturating_sub(self.bytes);
        match taken.of_each.get_mut(&self.workload) {
            Some(of_this) if *of_this > self.bytes => *of_this = of_this.saturating_sub(self.bytes),
            Some(_) | None => drop(taken.of_each.remove(&self.workload)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_for_each_and_all_of_it_back() {
        let rooms = Rooms::new(100);
        let room = |name: &str| rooms.room(WorkloadName::parse(name).unwrap());
        let (mut greedy, mut more, mut other) = (room("greedy"), room("greedy"), room("other"));
        assert!(greedy.grow(30) && greedy.grow(20));
        assert!(!greedy.grow(1) && !more.grow(1), "half is all that one workload may");
        assert!(other.grow(50) && !other.grow(1));
        drop(greedy);
        assert!(more.grow(50));
        drop((more, other));
        assert!(rooms.0.lock().of_each.is_empty() && rooms.0.lock().all == 0);
    }
}
