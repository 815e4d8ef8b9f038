//! What strangers do is written singly up to a rate, and beyond it counted: they must not fill the disk.

use crate::clock::{Timestamp, UnixSeconds};
use crate::name::ListenerName;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Records of one listener that are written singly each second, whatever their reasons.
const SINGLY_MAX: u32 = 100;

/// A listener and a reason code; both come from closed lists, so there are never many.
pub(super) type Kind = (ListenerName, &'static str);

/// What came in the present second, and what of the seconds before is not summarised yet.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    windows: HashMap<ListenerName, Window>,
    more: HashMap<Kind, u64>,
}

#[derive(Debug, Default)]
struct Window {
    second: UnixSeconds,
    singly: u32,
}

impl Strangers {
    /// Whether this one is written singly; otherwise it is counted.
    pub(super) fn admit(&self, kind: Kind, now: Timestamp) -> bool {
        let second = now.unix_seconds();
        let mut counts = self.0.lock();
        let window = counts.windows.entry(kind.0.clone()).or_default();
        if window.second != second {
            *window = Window { second, singly: 0 };
        }
        if window.singly < SINGLY_MAX {
            window.singly = window.singly.saturating_add(1);
            return true;
        }
        let more = counts.more.entry(kind).or_default();
        *more = more.saturating_add(1);
        false
    }

    /// What was only counted since the last summary.
    pub(super) fn summaries(&self) -> Vec<(Kind, u64)> {
        self.0.lock().more.drain().collect()
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
        assert_eq!(admitted("b", 0, 20), 0, "another reason is no other budget");
        assert_eq!(admitted("b", 1, 150), 100, "another second is");
        let mut summaries = strangers.summaries();
        summaries.sort();
        assert_eq!(summaries, [((edge.clone(), "a"), 50), ((edge.clone(), "b"), 70)]);
        assert!(strangers.summaries().is_empty(), "nothing is told twice");
    }
}
