//! The generic cell rate algorithm: of each who is counted one moment is remembered, at which all that he has had is paid
//! back.

use super::Remaining;
use std::{num::NonZeroU32, time::Duration};

/// How often something may be: so many times in a period, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frequency {
    /// How often in a period.
    pub times: NonZeroU32,
    /// The period.
    pub period: Duration,
    /// How many at once.
    pub burst: NonZeroU32,
}

impl Frequency {
    /// The time between two at an even pace.
    pub(super) fn interval(&self) -> Duration {
        self.period / self.times.get()
    }

    /// How long it takes until as many as at once may come again.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.interval().saturating_mul(self.burst.get())
    }

    /// Takes one where all before are paid back at `due`. When all will be with this one.
    ///
    /// # Errors
    /// How long to wait until there is room for one.
    pub(super) fn admit(&self, due: Duration, now: Duration) -> Result<Duration, Duration> {
        let latest = now.saturating_add(self.window());
        // By a slower rate that was live before more may be owed than this one lets anybody owe: one passes, and then it
        // is no more than that.
        let due = if due > latest { latest.saturating_sub(self.interval()) } else { due.max(now) };
        let next = due.saturating_add(self.interval());
        if next <= latest { Ok(next) } else { Err(next.saturating_sub(latest)) }
    }

    /// What is left where all is paid back at `due`.
    pub(super) fn remaining(&self, due: Duration, now: Duration) -> Remaining {
        let owed = due.saturating_sub(now);
        let room = self.window().saturating_sub(owed);
        let requests = room.as_nanos().checked_div(self.interval().as_nanos()).unwrap_or(0);
        Remaining { requests: u32::try_from(requests).unwrap_or(u32::MAX), reset: owed }
    }
}

/// Nanoseconds; 584 years fit.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
