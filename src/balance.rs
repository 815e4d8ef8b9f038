//! Which server is next: pure state machines over indices, free of sockets and time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Takes servers in turn.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: AtomicUsize,
}

impl RoundRobin {
    /// The next of `count` servers that is eligible; none if none is.
    pub fn pick(&self, count: usize, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = |step: usize| start.wrapping_add(step).checked_rem(count);
        let found = (0..count).find_map(|step| turn(step).filter(|index| eligible(*index)).map(|index| (step, index)));
        found.map(|(skipped, index)| {
            // Whoever was skipped must not give its turns to its right neighbour alone.
            self.next.fetch_add(skipped, Ordering::Relaxed);
            index
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nobody_to_pick() {
        assert_eq!(RoundRobin::default().pick(0, |_| true), None);
        assert_eq!(RoundRobin::default().pick(3, |_| false), None);
    }

    #[test]
    fn survives_the_end_of_numbers() {
        let balance = RoundRobin { next: AtomicUsize::new(usize::MAX) };
        let picks: Vec<_> = (0..4).filter_map(|_| balance.pick(2, |_| true)).collect();
        assert_eq!(picks.len(), 4);
    }

    proptest! {
        #[test]
        fn eligible_servers_share_evenly(up in proptest::collection::vec(any::<bool>(), 1..8)) {
            let balance = RoundRobin::default();
            let eligible = up.iter().filter(|up| **up).count();
            let mut picks = vec![0usize; up.len()];
            for _ in 0..eligible * 100 {
                let index = balance.pick(up.len(), |index| up[index]).unwrap();
                prop_assert!(up[index]);
                picks[index] += 1;
            }
            prop_assert!(picks.iter().zip(&up).all(|(picks, up)| *picks == if *up { 100 } else { 0 }), "{picks:?}");
        }
    }
}
