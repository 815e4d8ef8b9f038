//! What is learned from failures: whether to try again, whom to spare, and when to stop asking at all. Pure state
//! machines; the time is given to them.

mod breaker;
mod budget;
mod outlier;
mod window;

pub use breaker::{Breaker, Entry, Rules as BreakerRules};
pub use budget::Budget;
pub use outlier::{Cause, Outlier, Rules as OutlierRules};

use std::time::Duration;

/// Monotonic time in milliseconds.
fn millis(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Whether so many of so many are that share, in percent, or more.
const fn is_share(part: u64, whole: u64, percent: u32) -> bool {
    part.saturating_mul(100) >= whole.saturating_mul(percent as u64)
}
