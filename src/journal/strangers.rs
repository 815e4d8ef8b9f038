//! What strangers do is written singly up to a rate, and beyond it counted: they must not fill the disk.

use crate::clock::{Timestamp, UnixSeconds};
use crate::name::ListenerName;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Records of one kind that are written singly each second: who does one thing does not hide who does another.
const SINGLY_MAX: u32 = 100;
/// And in an hour, so that nobody pushes the records of others out of what is kept.
const SINGLY_MAX_HOURLY: u32 = 1_000;
/// In seconds.
const HOUR: UnixSeconds = 60 * 60;

/// A listener and a reason code; both come from closed lists, so there are never many.
pub(super) type Kind = (ListenerName, &'static str);

/// What came in the present second and hour, and what of the time before is not summarised yet.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<HashMap<Kind, Counts>>);

#[derive(Debug, Default)]
struct Counts {
    second: Window,
    hour: Window,
    more: u64,
}

/// A stretch of time, and what came in it.
#[derive(Debug, Default)]
struct Window {
    number: UnixSeconds,
    singly: u32,
}

impl Window {
    /// Whether there is room for one more in that stretch.
    const fn has_room(&mut self, number: UnixSeconds, max: u32) -> bool {
        if self.number != number {
            *self = Self { number, singly: 0 };
        }
        self.singly < max
    }
}

impl Strangers {
    /// Whether this one is written singly; otherwise it is counted.
    pub(super) fn admit(&self, kind: Kind, now: Timestamp) -> bool {
        let now = now.unix_seconds();
        let mut all = self.0.lock();
        let Counts { second, hour, more } = all.entry(kind).or_default();
        if second.has_room(now, SINGLY_MAX) && hour.has_room(now / HOUR, SINGLY_MAX_HOURLY) {
            second.singly = second.singly.saturating_add(1);
            hour.singly = hour.singly.saturating_add(1);
            return true;
        }
        *more = more.saturating_add(1);
        false
    }

    /// What was only counted since the last summary.
    pub(super) fn summaries(&self) -> Vec<(Kind, u64)> {
        let mut all = self.0.lock();
        let told = all.iter_mut().filter(|(_, counts)| counts.more > 0);
        told.map(|(kind, counts)| (kind.clone(), std::mem::take(&mut counts.more))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_singly_and_the_rest_by_count() {
        let strangers = Strangers::default();
        let edge = ListenerName::parse("edge").unwrap();
        let admitted = |reason: &'static str, second: i64, count: usize| {
            let now = Timestamp::from_unix_seconds(second);
            (0..count).filter(|_| strangers.admit((edge.clone(), reason), now)).count()
        };
        assert_eq!(admitted("a", 0, 150), 100);
        assert_eq!(admitted("b", 0, 120), 100, "another reason does not suffer from it");
        assert_eq!(admitted("b", 1, 150), 100, "another second is another budget");
        let mut summaries = strangers.summaries();
        summaries.sort();
        assert_eq!(summaries, [((edge.clone(), "a"), 50), ((edge.clone(), "b"), 70)]);
        assert!(strangers.summaries().is_empty(), "nothing is told twice");
        let hour: usize = (2..60).map(|second| admitted("b", second, 100)).sum();
        assert_eq!(hour, 800, "so many in an hour");
        assert_eq!((admitted("b", 61, 10), admitted("b", HOUR, 10)), (0, 10), "and in the next one as many again");
    }
}
