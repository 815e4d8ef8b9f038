//! A pool that fails as a whole is left alone for a while: its clients hear so at once instead of waiting, and it gets
//! air to recover.

use super::window::Window;
use super::{is_share, millis};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// When a pool is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The share of failures in the last ten seconds, in percent.
    pub error_rate: u32,
    /// How many requests there must have been for it to count.
    pub requests_min: u32,
    /// From the opening to the first trial, and from one trial to the next.
    pub pause: Duration,
}

/// How a request comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// As usual.
    Free,
    /// To see whether the pool is well again.
    Trial,
    /// Not at all.
    Closed,
}

/// A pool's circuit breaker.
#[derive(Debug, Default)]
pub struct Breaker {
    answers: Window,
    failures: Window,
    /// When the next trial is, in milliseconds; 0 while all is well.
    next_trial: AtomicU64,
}

impl Breaker {
    /// Whether the pool is left alone.
    pub fn is_open(&self) -> bool {
        self.next_trial.load(Ordering::Relaxed) > 0
    }

    /// How a request may come in.
    pub fn entry(&self, rules: &Rules, now: Duration) -> Entry {
        let next = self.next_trial.load(Ordering::Relaxed);
        if next == 0 {
            return Entry::Free;
        }
        let after = millis(now.saturating_add(rules.pause));
        let is_due = millis(now) >= next;
        // Of several who come at the same moment, one is the trial.
        if is_due && self.next_trial.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            Entry::Trial
        } else {
            Entry::Closed
        }
    }

    /// A request was begun to be answered well; whether the pool is open to all again by that.
    pub fn succeeded(&self, entry: Entry, now: Duration) -> bool {
        self.answers.add(now);
        let closes = entry == Entry::Trial && self.next_trial.swap(0, Ordering::Relaxed) > 0;
        if closes {
            self.forget();
        }
        closes
    }

    /// What was before says nothing of what is after it.
    fn forget(&self) {
        self.answers.clear();
        self.failures.clear();
    }

    /// A request has failed, perhaps after it was begun to be answered well; whether the pool is left alone from now on.
    pub fn failed(&self, rules: &Rules, has_begun: bool, now: Duration) -> bool {
        if !has_begun {
            self.answers.add(now);
        }
        self.failures.add(now);
        let answers = self.answers.sum(now);
        let is_rate =
            answers >= u64::from(rules.requests_min) && is_share(self.failures.sum(now), answers, rules.error_rate);
        let next = millis(now.saturating_add(rules.pause)).max(1);
        let opens = is_rate && self.next_trial.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if opens {
            self.forget();
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { error_rate: 50, requests_min: 10, pause: Duration::from_secs(5) };
    const NOW: Duration = Duration::from_secs(1_000);

    fn open() -> Breaker {
        let breaker = Breaker::default();
        (0..5).for_each(|_| assert!(!breaker.succeeded(Entry::Free, NOW)));
        assert!((0..4).all(|_| !breaker.failed(&RULES, false, NOW)), "nine requests are few");
        assert!(breaker.failed(&RULES, false, NOW), "five of ten");
        breaker
    }

    #[test]
    fn one_trial_at_a_time() {
        let (breaker, seconds) = (open(), Duration::from_secs);
        assert_eq!(breaker.entry(&RULES, NOW + seconds(4)), Entry::Closed);
        let trial = NOW + seconds(5);
        assert_eq!([breaker.entry(&RULES, trial), breaker.entry(&RULES, trial)], [Entry::Trial, Entry::Closed]);
        breaker.failed(&RULES, false, trial);
        assert_eq!(breaker.entry(&RULES, trial + seconds(4)), Entry::Closed, "the trial has failed");
        assert_eq!(breaker.entry(&RULES, trial + seconds(5)), Entry::Trial);
        assert!(breaker.succeeded(Entry::Trial, trial + seconds(5)));
        assert_eq!(breaker.entry(&RULES, trial + seconds(5)), Entry::Free);
    }

    #[test]
    fn who_was_on_his_way_is_no_trial() {
        let breaker = open();
        assert!(!breaker.succeeded(Entry::Free, NOW));
        assert_eq!(breaker.entry(&RULES, NOW), Entry::Closed);
    }

    #[test]
    fn what_failed_before_is_forgotten_when_it_closes() {
        let (breaker, trial) = (open(), NOW + Duration::from_secs(5));
        assert!((0..10).all(|_| !breaker.failed(&RULES, false, NOW)), "it is open already");
        assert_eq!(breaker.entry(&RULES, trial), Entry::Trial);
        assert!(breaker.succeeded(Entry::Trial, trial));
        assert!((0..9).all(|_| !breaker.succeeded(Entry::Free, trial)));
        assert!(!breaker.failed(&RULES, false, trial), "one of ten");
    }

    #[test]
    fn few_failures_are_fine() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            breaker.succeeded(Entry::Free, NOW);
            breaker.succeeded(Entry::Free, NOW);
            assert!(!breaker.failed(&RULES, false, NOW));
        }
    }
}
