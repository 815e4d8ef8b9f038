//! Whoever has sent a flood of HTTP/2 waits before his next connections are served: to be cut and to come back at once
//! must not pay (CVE-2023-44487).

use super::Holder;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// From a flood to the next connection's turn.
const PENALTY: Duration = Duration::from_secs(1);
/// From one turn to the next, until there was calm.
const STEP: Duration = Duration::from_millis(200);
/// For how long there must be no flood until all is forgiven, however many connections come.
const CALM: Duration = Duration::from_secs(10);
/// The longest time that a connection may have to wait.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Holders that are remembered; further ones wait for nothing.
const HOLDERS_MAX: usize = 10_000;

/// Who has sent floods, and when the next of his connections may be served.
#[derive(Debug, Default)]
pub struct Tarpit(Mutex<HashMap<Holder, Flooder>>);

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Flooder {
    flooded: Instant,
    next: Instant,
}

impl Tarpit {
    /// He has sent a flood.
    pub fn flooded(&self, holder: &Holder, now: Instant) {
        let mut turns = self.0.lock();
        if turns.len() >= HOLDERS_MAX {
            turns.retain(|_, flooder| !flooder.is_forgiven(now));
        }
        if turns.len() < HOLDERS_MAX || turns.contains_key(holder) {
            let flooder = turns.entry(holder.clone()).or_insert(Flooder { flooded: now, next: now });
            *flooder = Flooder { flooded: now, next: flooder.next.max(now + PENALTY) };
        }
    }

    /// When a new connection of his may be served; none if too many wait already.
    #[must_use]
    pub fn turn(&self, holder: &Holder, now: Instant) -> Option<Instant> {
        let mut turns = self.0.lock();
        let Some(flooder) = turns.get_mut(holder) else { return Some(now) };
        if flooder.is_forgiven(now) {
            turns.remove(holder);
            return Some(now);
        }
        let turn = flooder.next.max(now);
        if turn.duration_since(now) > WAIT_MAX {
            return None;
        }
        flooder.next = turn + STEP;
        Some(turn)
    }
}

impl Flooder {
    fn is_forgiven(self, now: Instant) -> bool {
        now.saturating_duration_since(self.flooded) > CALM
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ListenerName;
    use crate::network::Client;

    fn holder(address: &str) -> Holder {
        Holder::Client(ListenerName::parse("edge").unwrap(), Client::at(address.parse().unwrap()))
    }

    #[test]
    fn nobody_waits_who_has_done_nothing() {
        let (tarpit, now) = (Tarpit::default(), Instant::now());
        tarpit.flooded(&holder("192.0.2.1"), now);
        assert_eq!(tarpit.turn(&holder("192.0.2.2"), now), Some(now));
    }

    #[test]
    fn after_a_flood_one_comes_after_the_other() {
        let (tarpit, now, who) = (Tarpit::default(), Instant::now(), holder("192.0.2.1"));
        tarpit.flooded(&who, now);
        assert_eq!(tarpit.turn(&who, now), Some(now + PENALTY));
        assert_eq!(tarpit.turn(&who, now), Some(now + PENALTY + STEP));
        tarpit.flooded(&who, now + PENALTY);
        assert_eq!(tarpit.turn(&who, now + PENALTY), Some(now + PENALTY * 2));
    }

    #[test]
    fn too_long_a_queue_takes_no_more() {
        let (tarpit, now, who) = (Tarpit::default(), Instant::now(), holder("192.0.2.1"));
        tarpit.flooded(&who, now);
        let turns = (0..1_000).map_while(|_| tarpit.turn(&who, now)).collect::<Vec<_>>();
        assert_eq!(turns.last(), Some(&(now + WAIT_MAX)));
        assert_eq!(turns.len(), 46);
    }

    #[test]
    fn calm_is_rewarded_however_many_come() {
        let (tarpit, now, who) = (Tarpit::default(), Instant::now(), holder("192.0.2.1"));
        tarpit.flooded(&who, now);
        let later = now + CALM;
        assert_eq!(tarpit.turn(&who, later), Some(later));
        assert_eq!(tarpit.turn(&who, later), Some(later + STEP), "not yet forgiven");
        let calm = later + Duration::from_millis(1);
        assert_eq!([tarpit.turn(&who, calm), tarpit.turn(&who, calm)], [Some(calm); 2]);
        assert!(tarpit.0.lock().is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (tarpit, now) = (Tarpit::default(), Instant::now());
        let address = |number: usize| holder(&format!("10.0.{}.{}", number / 256, number % 256));
        (0..HOLDERS_MAX + 5).for_each(|number| tarpit.flooded(&address(number), now));
        assert_eq!(tarpit.0.lock().len(), HOLDERS_MAX);
        tarpit.flooded(&address(HOLDERS_MAX + 5), now + PENALTY + CALM * 2);
        assert_eq!(tarpit.0.lock().len(), 1);
    }
}
