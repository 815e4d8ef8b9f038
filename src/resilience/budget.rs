//! How many requests of a pool may be tried again. When a pool fails as a whole, retries would only double its load.

use super::window::Window;
use std::time::Duration;

/// Retries in ten seconds that are always fine: a pool that is asked rarely may retry, too.
const ALWAYS_FINE: u64 = 10;

/// A pool's retries.
#[derive(Debug, Default)]
pub struct Budget {
    requests: Window,
    retries: Window,
}

impl Budget {
    /// A request came.
    pub fn asked(&self, now: Duration) {
        self.requests.add(now);
    }

    /// Takes one more retry, if in the last ten seconds there were not more than that share of the requests.
    #[must_use]
    pub fn take(&self, percent: u32, now: Duration) -> bool {
        let most = self.requests.sum(now).saturating_mul(u64::from(percent)) / 100;
        let fits = self.retries.sum(now) < most.max(ALWAYS_FINE);
        if fits {
            self.retries.add(now);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_may_be_tried_again() {
        let (budget, now) = (Budget::default(), Duration::ZERO);
        let taken = |now| (0..1_000).take_while(|_| budget.take(20, now)).count();
        assert_eq!(taken(now), 10, "a few always");
        (0..200).for_each(|_| budget.asked(now));
        assert_eq!(taken(now), 30, "a fifth of 200");
        let later = Duration::from_secs(10);
        assert_eq!(taken(later), 10, "what was is forgotten");
    }
}
