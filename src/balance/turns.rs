//! Turns by weight: whoever's next turn is the earliest has it, and the heavier one is, the sooner its next one comes.
//!
//! This is "earliest deadline first" as Envoy schedules by it. Unlike nginx's smooth weighted round robin it needs no
//! table of all servers: each keeps the time of its own next turn, so servers come and go, weights change, and nothing
//! is locked. Time is counted in strides, and wraps.

use super::{Candidate, WEIGHT_MAX};
use std::sync::atomic::{AtomicU64, Ordering};

/// From one turn of the lightest to its next.
const STRIDE_MAX: u64 = (WEIGHT_MAX as u64) << 12;

/// When a server's next turn is.
#[derive(Debug)]
pub(super) struct Turn(AtomicU64);

impl Default for Turn {
    /// Far in the past.
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX / 2))
    }
}

/// The time of the last turn that somebody had.
#[derive(Debug, Default)]
pub(super) struct Turns(AtomicU64);

impl Turns {
    #[cfg(test)]
    pub(super) const fn at(time: u64) -> Self {
        Self(AtomicU64::new(time))
    }

    /// Who is next. Of several who choose at the same moment, two may choose the same; none is forgotten for it.
    pub(super) fn next<'a>(&self, candidates: impl Iterator<Item = Candidate<'a>>) -> Option<usize> {
        let now = self.0.load(Ordering::Relaxed);
        let waits = candidates.filter_map(|candidate| {
            let stride = STRIDE_MAX.checked_div(u64::from(candidate.weight))?;
            Some((candidate.standing.turn.wait(now, stride), stride, candidate))
        });
        // The first of equals.
        let (wait, stride, next) = waits.min_by_key(|(wait, ..)| *wait)?;
        self.0.store(now.wrapping_add(wait), Ordering::Relaxed);
        next.standing.turn.0.fetch_add(stride, Ordering::Relaxed);
        Some(next.index)
    }
}

impl Turn {
    /// How long it is until then. Who has missed turns does not get them all at once: it joins like a new one.
    fn wait(&self, now: u64, stride: u64) -> u64 {
        let wait = self.0.load(Ordering::Relaxed).wrapping_sub(now);
        if wait <= 2 * STRIDE_MAX {
            return wait;
        }
        let half = stride / 2;
        self.0.store(now.wrapping_add(half), Ordering::Relaxed);
        half
    }
}
