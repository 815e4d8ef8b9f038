//! What grows old, and when somebody should hear of it.

use crate::clock::{Timestamp, UnixSeconds};
use std::ops::Range;

/// In seconds.
const HOUR: UnixSeconds = 60 * 60;
const DAY: UnixSeconds = 24 * HOUR;

/// Something that ends, or that is too old at some time.
#[derive(Debug, Clone)]
pub struct Aging {
    /// What it is, and what happens then.
    pub what: String,
    /// From when on it is worth a warning.
    pub warn_from: UnixSeconds,
    /// When it happens.
    pub ends: UnixSeconds,
}

impl Aging {
    /// What is valid for that time: worth a warning so long before its end, or in the last third of a short life.
    #[must_use]
    pub fn of_validity(what: String, valid: &Range<UnixSeconds>, before: UnixSeconds) -> Self {
        let third = valid.end.saturating_sub(valid.start) / 3;
        Self { what, warn_from: valid.end.saturating_sub(before.min(third)), ends: valid.end }
    }

    /// What to say of it now, if anything.
    #[must_use]
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        let now = now.unix_seconds();
        let left = self.ends.saturating_sub(now);
        let left = if left >= 2 * DAY { format!("{} days", left / DAY) } else { format!("{} hours", left / HOUR) };
        match (now >= self.ends, now >= self.warn_from) {
            (true, _) => Some(format!("{}: that time has come", self.what)),
            (false, true) => Some(format!("{}: {left} are left", self.what)),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test]
    fn a_short_life_is_warned_of_in_its_last_third() {
        let warn_from = |valid: Range<UnixSeconds>| Aging::of_validity("x".into(), &valid, 14 * DAY).warn_from;
        assert_eq!(warn_from(0..90 * DAY), 76 * DAY);
        assert_eq!(warn_from(0..3 * HOUR), 2 * HOUR);
    }

    #[test_case(99, None; "young")]
    #[test_case(100, Some("x: 2 days are left"); "old")]
    #[test_case(100 + DAY, Some("x: 24 hours are left"); "older")]
    #[test_case(172_900, Some("x: that time has come"); "over")]
    fn warns(now: UnixSeconds, expected: Option<&str>) {
        let aging = Aging { what: "x".into(), warn_from: 100, ends: 100 + 2 * 24 * 60 * 60 };
        assert_eq!(aging.warning(Timestamp::from_unix_seconds(now)).as_deref(), expected);
    }
}
