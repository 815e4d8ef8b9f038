//! How often something happened in the last ten seconds, lock-free.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const SECONDS: usize = 10;

/// A count for each of the last seconds: the second in the upper half, the count in the lower.
#[derive(Debug, Default)]
pub(super) struct Window([AtomicU64; SECONDS]);

impl Window {
    pub(super) fn add(&self, now: Duration) {
        let second = second_of(now);
        let Some(bucket) = usize::try_from(second).ok().and_then(|second| self.0.get(second % SECONDS)) else { return };
        let next = |packed: u64| if packed >> 32 == second { Some(packed + 1) } else { Some(second << 32 | 1) };
        // It always gives one.
        bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok();
    }

    pub(super) fn sum(&self, now: Duration) -> u64 {
        let second = second_of(now);
        let counted = self.0.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let recent = counted.filter(|packed| second.saturating_sub(packed >> 32) < SECONDS as u64);
        recent.map(|packed| packed & u64::from(u32::MAX)).sum()
    }

    pub(super) fn clear(&self) {
        self.0.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
    }
}

/// From 1, so that an empty bucket is of no second.
const fn second_of(now: Duration) -> u64 {
    now.as_secs().saturating_add(1) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_are_remembered() {
        let window = Window::default();
        let at = Duration::from_secs;
        assert_eq!(window.sum(at(0)), 0);
        (0..30).for_each(|second| (0..3).for_each(|_| window.add(at(second))));
        assert_eq!(window.sum(at(29)), 30);
        assert_eq!(window.sum(at(34)), 15);
        assert_eq!(window.sum(at(39)), 0);
        window.add(at(100));
        assert_eq!(window.sum(at(100)), 1);
        window.clear();
        assert_eq!(window.sum(at(100)), 0);
    }
}
