//! Whether a server is well: a pure state machine over the results of its checks.

use std::sync::atomic::{AtomicU8, Ordering};

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// What is known of a server's health; the request path reads it.
#[derive(Debug)]
pub struct Health(AtomicU8);

impl Health {
    /// Nothing is known: it counts as unhealthy until its first check.
    #[must_use]
    pub const fn unknown() -> Self {
        Self(AtomicU8::new(UNKNOWN))
    }

    /// Whether requests may be sent.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed) == UP
    }

    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => "unknown",
            UP => "up",
            _ => "down",
        }
    }

    /// What is known; none if nothing is.
    pub(super) fn known(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => None,
            state => Some(state == UP),
        }
    }

    /// Counts as it was before, unless something is known already.
    pub(super) fn recall(&self, is_up: bool) {
        let state = if is_up { UP } else { DOWN };
        // What was seen since counts more.
        self.0.compare_exchange(UNKNOWN, state, Ordering::Relaxed, Ordering::Relaxed).ok();
    }

    /// What was known counts no more.
    pub(super) fn forget(&self) {
        self.0.store(UNKNOWN, Ordering::Relaxed);
    }

    /// Counts as healthy if nothing is known; whether nothing was.
    pub(super) fn assume_up_unless_known(&self) -> bool {
        self.0.compare_exchange(UNKNOWN, UP, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A server that nobody checks.
    pub(super) fn assume_up(&self) {
        self.0.store(UP, Ordering::Relaxed);
    }
}

/// Counts results in a row.
#[derive(Debug)]
pub(super) struct Streak {
    rise: u32,
    fall: u32,
    against: u32,
}

impl Streak {
    pub(super) const fn new(rise: u32, fall: u32) -> Self {
        Self { rise, fall, against: 0 }
    }

    /// Whether the last result was another than the state says.
    pub(super) const fn is_about_to_change(&self) -> bool {
        self.against > 0
    }

    /// Takes a result; the new state if it changed. The first result of all counts alone.
    pub(super) fn observe(&mut self, passed: bool, health: &Health) -> Option<bool> {
        let state = health.0.load(Ordering::Relaxed);
        let agrees = (state == UP && passed) || (state == DOWN && !passed);
        self.against = if agrees { 0 } else { self.against.saturating_add(1) };
        let needed = match state {
            UNKNOWN => 1,
            UP => self.fall,
            _ => self.rise,
        };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        health.0.store(if passed { UP } else { DOWN }, Ordering::Relaxed);
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    /// `+` passes, `-` fails; then `U` or `D`, what it is after each.
    #[test_case("+", "U"; "the first pass counts alone")]
    #[test_case("-", "D"; "the first failure counts alone")]
    #[test_case("+--", "UUU"; "two failures are not three")]
    #[test_case("+---", "UUUD"; "three failures")]
    #[test_case("+--+--", "UUUUUU"; "a pass starts the count anew")]
    #[test_case("-+", "DD"; "one pass is not two")]
    #[test_case("-++", "DDU"; "two passes")]
    #[test_case("-+-+", "DDDD"; "a failure starts the count anew")]
    fn rise_2_fall_3(results: &str, states: &str) {
        let (health, mut streak) = (Health::unknown(), Streak::new(2, 3));
        assert!(!health.is_up(), "nothing is known");
        let seen: String = results
            .chars()
            .map(|result| {
                streak.observe(result == '+', &health);
                if health.is_up() { 'U' } else { 'D' }
            })
            .collect();
        assert_eq!(seen, states);
    }

    #[test]
    fn tells_changes_only() {
        let (health, mut streak) = (Health::unknown(), Streak::new(1, 1));
        let told: Vec<_> = [true, true, false, false, true].map(|passed| streak.observe(passed, &health)).into();
        assert_eq!(told, [Some(true), None, Some(false), None, Some(true)]);
    }
}
