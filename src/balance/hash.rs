//! The same server for the same key: weighted rendezvous hashing with bounded load.
//!
//! Each server draws a number from the key and its own seed, and the best one has the key. If one goes, only its keys
//! move; if one comes, it takes its share from all. There is no ring to build. A server that works on too much for its
//! share is passed over (Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing with Bounded Loads").

use super::Candidate;
use aws_lc_rs::digest::{SHA256, digest};

/// So many requests at once are never too many: few requests would otherwise lead away from their servers.
const ALWAYS_FINE: u64 = 8;

/// What a server's draws depend on: the same on each node and after each restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// The seed of a name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(number(name.as_bytes()))
    }
}

/// The number that stands for a key.
#[must_use]
pub fn number(bytes: &[u8]) -> u64 {
    digest(&SHA256, bytes).as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

pub(super) fn pick<'a>(
    candidates: impl Iterator<Item = Candidate<'a>> + Clone,
    key: u64,
    load_max: u32,
) -> Option<usize> {
    let (weights, active) = candidates.clone().fold((0, 1), |(weights, active): (u64, u64), candidate| {
        (weights.saturating_add(candidate.weight.into()), active.saturating_add(candidate.standing.active().into()))
    });
    let has_room = |candidate: &Candidate<'_>| {
        let share = active.saturating_mul(candidate.weight.into()).saturating_mul(load_max.into());
        let most = share.div_ceil(weights.saturating_mul(100).max(1)).max(ALWAYS_FINE);
        u64::from(candidate.standing.active()) < most
    };
    let best = |one: &Candidate<'_>, other: &Candidate<'_>| draw(key, one).total_cmp(&draw(key, other));
    // Not everybody is over the average, unless others begin meanwhile.
    let found = candidates.clone().filter(has_room).min_by(best).or_else(|| candidates.min_by(best));
    found.map(|found| found.index)
}

/// An exponentially distributed number, the smaller the heavier: the least of all is each one's as often as its weight
/// says.
fn draw(key: u64, candidate: &Candidate<'_>) -> f64 {
    let mixed = mix(key ^ candidate.standing.seed.0);
    // 53 bits, and never 0.
    let uniform = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -uniform.ln() / f64::from(candidate.weight)
}

/// The finisher of `SplitMix64` (Steele, Lea, Flood): each bit of the input changes half of the output's.
const fn mix(mut number: u64) -> u64 {
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
