//! What grows old, and when somebody should hear of it.

use crate::clock::{Timestamp, UnixSeconds};

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
    /// What to say of it now, if anything.
    #[must_use]
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        let now = now.unix_seconds();
        let days = self.ends.saturating_sub(now) / (24 * 60 * 60);
        match (now >= self.ends, now >= self.warn_from) {
            (true, _) => Some(format!("{}: that time has come", self.what)),
            (false, true) => Some(format!("{}: {days} days are left", self.what)),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case(99, None; "young")]
    #[test_case(100, Some("x: 2 days are left"); "old")]
    #[test_case(172_900, Some("x: that time has come"); "over")]
    fn warns(now: UnixSeconds, expected: Option<&str>) {
        let aging = Aging { what: "x".into(), warn_from: 100, ends: 100 + 2 * 24 * 60 * 60 };
        assert_eq!(aging.warning(Timestamp::from_unix_seconds(now)).as_deref(), expected);
    }
}
