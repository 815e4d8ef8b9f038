//! Time as a value: decisions take a [`Timestamp`], only the edges read a [`Clock`].

use serde::{Serialize, Serializer};
use std::{
    fmt,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Seconds in which a clock counts for token claims (RFC 7519 `NumericDate`, whole seconds).
pub type UnixSeconds = i64;

/// A moment in UTC, in nanoseconds since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The moment that many seconds after 1970-01-01T00:00:00Z; moments before count as that one.
    #[must_use]
    pub fn from_unix_seconds(seconds: UnixSeconds) -> Self {
        Self(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn unix_nanoseconds(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix_seconds(self) -> UnixSeconds {
        UnixSeconds::try_from(self.0 / 1_000_000_000).unwrap_or(UnixSeconds::MAX)
    }

    /// The time since an earlier moment; zero if it was not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// A later moment.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// An earlier moment.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with nanoseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = std::time::UNIX_EPOCH + Duration::from_nanos(self.0);
        humantime::format_rfc3339_nanos(moment).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// The time since some moment, which goes on evenly when somebody sets the clock.
    fn uptime(&self) -> Duration;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since_epoch.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }

    fn uptime(&self) -> Duration {
        static SINCE: LazyLock<Instant> = LazyLock::new(Instant::now);
        SINCE.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_rfc_3339() {
        let moment = Timestamp::from_unix_seconds(1_795_374_128).plus(Duration::from_nanos(7));
        assert_eq!(moment.to_string(), "2026-11-22T19:02:08.000000007Z");
    }

    #[test]
    fn never_runs_under_or_over() {
        let start = Timestamp::from_unix_seconds(-5);
        assert_eq!(start.minus(Duration::from_secs(1)), start);
        assert_eq!(start.since(start.plus(Duration::MAX)), Duration::ZERO);
    }
}
