//! Who holds how many connections, and who must wait for his next.

mod tarpit;

pub use tarpit::Tarpit;

use crate::name::ListenerName;
use crate::name::WorkloadName;
use crate::network::Client;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};

/// By what connections are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// All of a listener.
    Everybody(ListenerName),
    /// One client of a listener.
    Client(ListenerName, Client),
    /// One workload at a listener.
    Workload(ListenerName, WorkloadName),
}

/// The connections that are open. Only holders of some are remembered.
#[derive(Debug, Clone, Default)]
pub struct Slots(Arc<Mutex<HashMap<Holder, usize>>>);

/// One connection of a holder's, counted while it lives.
#[derive(Debug)]
pub struct Slot {
    holder: Holder,
    slots: Slots,
}

impl Slots {
    /// Takes a slot; none if the holder has as many as he may.
    #[must_use]
    pub fn take(&self, holder: Holder, max: usize) -> Option<Slot> {
        let mut held = self.0.lock();
        let count = held.get(&holder).copied().unwrap_or(0);
        if count >= max {
            return None;
        }
        held.insert(holder.clone(), count.saturating_add(1));
        drop(held);
        Some(Slot { holder, slots: self.clone() })
    }
}

impl Slot {
    /// Whose it is.
    #[must_use]
    pub const fn holder(&self) -> &Holder {
        &self.holder
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.0.lock();
        match held.get_mut(&self.holder) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(held.remove(&self.holder)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_his_own() {
        let slots = Slots::default();
        let edge = ListenerName::parse("edge").unwrap();
        let client = |address: &str| Holder::Client(edge.clone(), Client::at(address.parse().unwrap()));
        let one = slots.take(client("192.0.2.1"), 2).unwrap();
        let two = slots.take(client("192.0.2.1"), 2).unwrap();
        assert!(slots.take(client("192.0.2.1"), 2).is_none());
        assert!(slots.take(client("192.0.2.2"), 2).is_some());
        assert!(slots.take(Holder::Everybody(edge.clone()), 1).is_some());
        drop(one);
        let three = slots.take(client("192.0.2.1"), 2).unwrap();
        drop((two, three));
        assert!(slots.0.lock().is_empty(), "who holds none is forgotten");
    }
}
