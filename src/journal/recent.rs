//! The last decisions, kept in memory for whoever asks what has just happened.

use parking_lot::Mutex;
use std::collections::VecDeque;

/// How many are kept.
const KEPT_MAX: usize = 10_000;

/// Lines of the audit log, the oldest first.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Kept>>);

#[derive(Debug)]
struct Kept {
    is_denied: bool,
    line: Box<[u8]>,
}

impl Recent {
    pub(super) fn remember(&self, is_denied: bool, line: &[u8]) {
        let mut kept = self.0.lock();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept { is_denied, line: line.into() });
    }

    /// The last lines, at most so many, the oldest first; only denials, if only they are asked for.
    #[must_use]
    pub fn last(&self, count: usize, only_denied: bool) -> Vec<u8> {
        let kept = self.0.lock();
        let meant = kept.iter().rev().filter(|kept| kept.is_denied || !only_denied).take(count);
        let meant: Vec<_> = meant.map(|kept| &*kept.line).collect();
        meant.into_iter().rev().collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_in_their_order() {
        let recent = Recent::default();
        for number in 0..KEPT_MAX + 5 {
            recent.remember(number % 2 == 0, format!("{number}\n").as_bytes());
        }
        assert_eq!(recent.last(3, false), b"10002\n10003\n10004\n");
        assert_eq!(recent.last(2, true), b"10002\n10004\n");
        assert!(recent.last(KEPT_MAX * 2, false).starts_with(b"5\n"), "the oldest are forgotten");
        assert!(Recent::default().last(5, false).is_empty());
    }
}
