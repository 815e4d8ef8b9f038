//! Servers that answer badly although their checks pass: they are ejected for a while, and longer each time.

use super::window::Window;
use super::{is_share, millis};
use std::{
    fmt,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// So many times its last ejection a server must have been well for the next one to be short again.
const FORGIVEN_AFTER: u32 = 10;

/// When a server is ejected, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Failures in a row; 0 for never.
    pub consecutive_failures: u32,
    /// The share of failures in the last ten seconds, in percent; 0 for never.
    pub error_rate: u32,
    /// How many requests there must have been for the share to count.
    pub requests_min: u32,
    /// How slow it may be, in percent of the others' middle; 0 for as slow as it likes.
    pub slower_than: u32,
    /// For how long the first time.
    pub eject: Duration,
    /// And the longest time.
    pub eject_max: Duration,
    /// The largest share of a pool's servers that may be ejected at once, in percent.
    pub ejected_max: u32,
}

/// Why a server is ejected. `cause as usize` is the index of its label in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Failures in a row.
    ConsecutiveFailures,
    /// Too large a share of failures.
    ErrorRate,
    /// Slower than the others.
    Latency,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConsecutiveFailures => "failures in a row",
            Self::ErrorRate => "too many failures",
            Self::Latency => "much slower than the others",
        })
    }
}

/// What one server's answers were like.
#[derive(Debug, Default)]
pub struct Outlier {
    answers: Window,
    failures: Window,
    in_a_row: AtomicU32,
    /// The end of the last ejection, in milliseconds.
    until: AtomicU64,
    /// How many there were without forgiveness between.
    times: AtomicU32,
    /// When it may be compared with the others again, in milliseconds.
    next_comparison: AtomicU64,
}

impl Outlier {
    /// It has begun to answer well. How many failures in a row end with that, should the answer fail after all.
    pub fn succeeded(&self, now: Duration) -> u32 {
        self.answers.add(now);
        self.in_a_row.swap(0, Ordering::Relaxed)
    }

    /// It has failed, and what it had begun to do well, if anything; why it should be ejected, if it should.
    pub fn failed(&self, rules: &Rules, begun: Option<u32>, now: Duration) -> Option<Cause> {
        if self.is_ejected(now) {
            // It was on its way already.
            return None;
        }
        if begun.is_none() {
            self.answers.add(now);
        }
        self.failures.add(now);
        let more = begun.unwrap_or(0).saturating_add(1);
        let in_a_row = self.in_a_row.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if rules.consecutive_failures > 0 && in_a_row >= rules.consecutive_failures {
            return Some(Cause::ConsecutiveFailures);
        }
        let answers = self.answers.sum(now);
        let is_rate = rules.error_rate > 0
            && answers >= u64::from(rules.requests_min)
            && is_share(self.failures.sum(now), answers, rules.error_rate);
        is_rate.then_some(Cause::ErrorRate)
    }

    /// Whether its speed should be compared with the others' now: once a second, and not of the first few answers.
    pub fn is_to_be_compared(&self, rules: &Rules, now: Duration) -> bool {
        let due = self.next_comparison.load(Ordering::Relaxed);
        let is_due =
            rules.slower_than > 0 && millis(now) >= due && self.answers.sum(now) >= u64::from(rules.requests_min);
        let next = millis(now).saturating_add(1000);
        is_due && self.next_comparison.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether it is ejected.
    pub fn is_ejected(&self, now: Duration) -> bool {
        millis(now) < self.until.load(Ordering::Relaxed)
    }

    /// Ejects it; for how long. It begins anew after that.
    pub fn eject(&self, rules: &Rules, now: Duration) -> Duration {
        let last = rules.eject.saturating_mul(self.times.load(Ordering::Relaxed)).min(rules.eject_max);
        let well_since = Duration::from_millis(self.until.load(Ordering::Relaxed));
        let is_forgiven = now.saturating_sub(well_since) > last.saturating_mul(FORGIVEN_AFTER);
        let times = if is_forgiven { 1 } else { self.times.load(Ordering::Relaxed).saturating_add(1) };
        let time = rules.eject.saturating_mul(times).min(rules.eject_max);
        self.times.store(times, Ordering::Relaxed);
        self.until.store(millis(now.saturating_add(time)), Ordering::Relaxed);
        self.in_a_row.store(0, Ordering::Relaxed);
        self.answers.clear();
        self.failures.clear();
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    const RULES: Rules = Rules {
        consecutive_failures: 5,
        error_rate: 50,
        requests_min: 10,
        slower_than: 300,
        eject: Duration::from_secs(30),
        eject_max: Duration::from_secs(100),
        ejected_max: 50,
    };
    const NOW: Duration = Duration::from_secs(1_000);

    /// `+` is an answer, `-` a failure; after which an ejection is due.
    #[test_case("----", None; "four in a row")]
    #[test_case("-----", Some((5, Cause::ConsecutiveFailures)); "five")]
    #[test_case("----+----", None; "an answer starts anew")]
    #[test_case("--+--+--+--", Some((10, Cause::ErrorRate)); "most of ten")]
    #[test_case("-++-++-++-++-++", None; "a third")]
    fn failures(answers: &str, expected: Option<(usize, Cause)>) {
        let outlier = Outlier::default();
        let found = answers.chars().enumerate().find_map(|(index, answer)| {
            if answer == '+' {
                outlier.succeeded(NOW);
                return None;
            }
            outlier.failed(&RULES, None, NOW).map(|cause| (index + 1, cause))
        });
        assert_eq!(found, expected);
    }

    /// Bodies that break off: each answer begins well.
    #[test]
    fn an_answer_that_fails_after_all_was_none() {
        let outlier = Outlier::default();
        let fails = |_: &u32| {
            let begun = outlier.succeeded(NOW);
            outlier.failed(&RULES, Some(begun), NOW).is_none()
        };
        assert_eq!((1..20).take_while(fails).count(), 4);
    }

    #[test]
    fn what_was_on_its_way_does_not_count() {
        let outlier = Outlier::default();
        let time = outlier.eject(&RULES, NOW);
        assert!((0..20).all(|_| outlier.failed(&RULES, None, NOW).is_none()));
        assert!(outlier.failed(&RULES, None, NOW + time).is_none(), "it begins anew");
    }

    #[test]
    fn rules_may_be_off() {
        let rules = Rules { consecutive_failures: 0, error_rate: 0, slower_than: 0, ..RULES };
        let outlier = Outlier::default();
        assert!((0..100).all(|_| outlier.failed(&rules, None, NOW).is_none()));
        assert!(!outlier.is_to_be_compared(&rules, NOW));
    }

    #[test]
    fn each_ejection_is_longer_until_it_is_forgiven() {
        let outlier = Outlier::default();
        let seconds = Duration::from_secs;
        let mut now = NOW;
        for expected in [30, 60, 90, 100, 100] {
            assert_eq!(outlier.eject(&RULES, now), seconds(expected));
            assert!(outlier.is_ejected(now) && !outlier.is_ejected(now + seconds(expected)));
            now += seconds(expected + 1);
        }
        assert_eq!(outlier.eject(&RULES, now + seconds(1_000)), seconds(30), "after ten times the last one");
    }

    #[test]
    fn it_is_compared_once_a_second() {
        let outlier = Outlier::default();
        assert!((0..9).all(|_| outlier.succeeded(NOW) == 0));
        assert!(!outlier.is_to_be_compared(&RULES, NOW), "nine answers are few");
        outlier.succeeded(NOW);
        assert!(outlier.is_to_be_compared(&RULES, NOW));
        assert!(!outlier.is_to_be_compared(&RULES, NOW + Duration::from_millis(999)));
        assert!(outlier.is_to_be_compared(&RULES, NOW + Duration::from_secs(1)));
    }
}
