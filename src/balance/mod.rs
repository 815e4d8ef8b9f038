//! Which server is next: pure state machines over candidates, free of sockets, clocks and dice of their own.

mod hash;
mod latency;
mod tiers;
mod turns;

pub use hash::{Seed, number};
pub use latency::Latency;
pub use tiers::{Standby, Tier, Tiers, ramped};

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};
use turns::{Turn, Turns};

/// How a pool chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn, as often as the weights say.
    RoundRobin,
    /// Who works on the fewest requests for its weight; among equals in turn.
    LeastConnections,
    /// Of two who are drawn by weight, who works on fewer requests for its weight.
    PowerOfTwo,
    /// Of two who are drawn by weight, who will probably answer sooner.
    LeastLatency,
    /// Drawn by weight.
    Random,
    /// The first in the config's order.
    First,
    /// Always the same for the same key, as long as it has not too much to do.
    Hash {
        /// How much more than its share a server may work on, in percent of the share: 100 to 1000.
        load_max: u32,
    },
}

/// What balancing knows of a server. It outlives generations.
#[derive(Debug)]
pub struct Standing {
    seed: Seed,
    turn: Turn,
    active: AtomicU32,
    /// When it has become well, in milliseconds; 0 if it always was.
    risen: AtomicU64,
    /// How fast it answers.
    pub latency: Latency,
}

impl Standing {
    /// Of a server that nothing is known of.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self {
            seed,
            turn: Turn::default(),
            active: AtomicU32::new(0),
            risen: AtomicU64::new(0),
            latency: Latency::default(),
        }
    }

    /// A request goes to it, if it works on fewer than so many.
    #[must_use]
    pub fn begin_below(&self, max: u32) -> bool {
        let more = |active: u32| (active < max).then(|| active.saturating_add(1));
        self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// A request has come to its end.
    pub fn end(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// It has become well.
    pub fn rises(&self, now: Duration) {
        self.risen.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    /// For how long it has been well.
    #[must_use]
    pub fn risen_for(&self, now: Duration) -> Duration {
        match self.risen.load(Ordering::Relaxed) {
            0 => Duration::MAX,
            risen => now.saturating_sub(Duration::from_millis(risen)),
        }
    }

    /// Requests that it works on.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }
}

/// A server that may be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Which it is.
    pub index: usize,
    /// Its weight in thousandths: up to 256,000. Nothing goes to a weight of 0.
    pub weight: u32,
    /// What is known of it.
    pub standing: &'a Standing,
}

/// The largest weight in thousandths.
pub const WEIGHT_MAX: u32 = 256_000;

impl Candidate<'_> {
    /// Requests for its weight; nothing to do is nothing to do, whatever the weight.
    fn load(&self) -> u64 {
        let active = u64::from(self.standing.active());
        let more = if active == 0 { 0 } else { active.saturating_add(1) };
        more.saturating_mul(u64::from(WEIGHT_MAX)).checked_div(u64::from(self.weight)).unwrap_or(u64::MAX)
    }
}

/// What a choice depends on beside the candidates.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// What the request is to be recognised by, if it is.
    pub key: Option<u64>,
    /// Monotonic time, from any start.
    pub now: Duration,
    /// A random number.
    pub dice: u64,
}

/// What a pool remembers of its choices.
#[derive(Debug, Default)]
pub struct Balancer {
    turns: Turns,
}

impl Balancer {
    /// Chooses one; none if there is none with a weight.
    pub fn pick<'a>(
        &self,
        algorithm: Algorithm,
        candidates: impl Iterator<Item = Candidate<'a>> + Clone,
        ask: &Ask,
    ) -> Option<usize> {
        let candidates = candidates.filter(|candidate| candidate.weight > 0);
        let better = |cost: &dyn Fn(&Candidate<'_>) -> f64| {
            let (one, other) = two_of(candidates.clone(), ask.dice)?;
            Some(other.filter(|other| cost(other) < cost(&one)).unwrap_or(one).index)
        };
        match (algorithm, ask.key) {
            (Algorithm::RoundRobin, _) | (Algorithm::Hash { .. }, None) => self.turns.next(candidates),
            (Algorithm::LeastConnections, _) => {
                let least = candidates.clone().map(|candidate| candidate.load()).min()?;
                // Others begin and end meanwhile: if nobody is as free any more, somebody else will do.
                let freest = candidates.clone().filter(|candidate| candidate.load() <= least);
                self.turns.next(freest).or_else(|| self.turns.next(candidates))
            }
            (Algorithm::PowerOfTwo, _) => better(&|candidate| candidate.load() as f64),
            (Algorithm::LeastLatency, _) => {
                better(&|candidate| candidate.standing.latency.cost(candidate.standing.active(), ask.now))
            }
            (Algorithm::Random, _) => two_of(candidates, ask.dice).map(|(one, _)| one.index),
            (Algorithm::First, _) => candidates.map(|candidate| candidate.index).next(),
            (Algorithm::Hash { load_max }, Some(key)) => hash::pick(candidates, key, load_max),
        }
    }
}

/// One drawn by weight, and another if there is one.
fn two_of<'a>(
    candidates: impl Iterator<Item = Candidate<'a>> + Clone,
    dice: u64,
) -> Option<(Candidate<'a>, Option<Candidate<'a>>)> {
    let [first, second] = [dice >> 32, dice & u64::from(u32::MAX)];
    let one = drawn(candidates.clone(), first)?;
    let other = drawn(candidates.filter(|candidate| candidate.index != one.index), second);
    Some((one, other))
}

/// One drawn by weight. The ticket has 32 bits.
fn drawn<'a>(mut candidates: impl Iterator<Item = Candidate<'a>> + Clone, ticket: u64) -> Option<Candidate<'a>> {
    let total: u64 = candidates.clone().map(|candidate| u64::from(candidate.weight)).sum();
    let mut place = ticket.saturating_mul(total) >> 32;
    // Weights and room change meanwhile, so that the place may be past the end.
    let first = candidates.clone().next();
    let found = candidates.find(|candidate| {
        let weight = u64::from(candidate.weight);
        let is_here = place < weight;
        place = place.saturating_sub(weight);
        is_here
    });
    found.or(first)
}

#[cfg(test)]
mod tests;
