//! What strangers do is written singly up to a rate, and beyond it counted: they must not fill the disk.

use crate::clock::{Timestamp, UnixSeconds};
use crate::name::ListenerName;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Records of one listener and reason that are written singly each second.
const SINGLY_MAX: u32 = 100;

/// A listener and a reason code; both come from closed lists, so there are never many.
pub(super) type Kind = (ListenerName, &'static str);

/// What came in the present second, and what of the seconds before is not summarised yet.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<HashMap<Kind, Window>>);

#[derive(Debug)]
struct Window {
    second: UnixSeconds,
    singly: u32,
    more: u64,
}

impl Strangers {
    /// Whether this one is written singly; otherwise it is counted.
    pub(super) fn admit(&self, kind: Kind, now: Timestamp) -> bool {
        let second = now.unix_seconds();
        let mut windows = self.0.lock();
        let window = windows.entry(kind).or_insert(Window { second, singly: 0, more: 0 });
        if window.second != second {
            window.second = second;
            window.singly = 0;
        }
        if window.singly < SINGLY_MAX {
            window.singly = window.singly.saturating_add(1);
            return true;
        }
        window.more = window.more.saturating_add(1);
        false
    }

    /// What was only counted since the last summary.
    pub(super) fn summaries(&self) -> Vec<(Kind, u64)> {
        let mut windows = self.0.lock();
        let counted = windows.iter_mut().filter(|(_, window)| window.more > 0);
        counted.map(|(kind, window)| (kind.clone(), std::mem::take(&mut window.more))).collect()
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
        assert_eq!(admitted("b", 0, 20), 20, "each reason has its own");
        assert_eq!(admitted("a", 1, 150), 100, "and each second");
        assert_eq!(strangers.summaries(), [((edge.clone(), "a"), 100)]);
        assert!(strangers.summaries().is_empty(), "nothing is told twice");
    }
}
