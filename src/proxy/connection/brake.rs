//! Who is refused again and again without having proven who he is, is heard more slowly: each no costs a signature's
//! check, and a few connections that do nothing else would keep the machine busy.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// For how long no more of a connection is read, after what was dear and in vain.
pub(super) const PAUSE: Duration = Duration::from_millis(10);
/// Refusals in a row that cost nothing. A client whose key has just expired is not slowed down at once.
const FREE: u32 = 100;

/// One connection's brake.
#[derive(Debug, Default)]
pub(super) struct Brake(AtomicU32);

impl Brake {
    /// Whether the last request was refused so.
    pub(super) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// A request was answered; whether a pause has to follow.
    pub(super) fn answered(&self, was_unproven: bool) -> bool {
        if !was_unproven {
            self.0.store(0, Ordering::Relaxed);
            return false;
        }
        // Requests of HTTP/2 are answered at the same time: that one more is counted, or less, does not matter.
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.saturating_add(1), Ordering::Relaxed);
        before >= FREE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_row_of_refusals_brakes() {
        let brake = Brake::default();
        assert!((0..FREE).all(|_| !brake.answered(true)));
        assert!(brake.answered(true) && brake.answered(true) && brake.is_on());
        assert!(!brake.answered(false) && !brake.is_on());
        assert!(!brake.answered(true), "one good request, and all begins anew");
    }
}
