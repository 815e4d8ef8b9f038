//! How far records are signed, and which of the others may be so because a process still runs.

use super::{Claim, Proven, SIGNED_WITHIN, UNSIGNED_MAX, Verifier, between};
use std::{collections::HashMap, time::Duration};

impl Verifier {
    /// Up to which record each process is signed: by its checkpoints, or by the word of another whose own word is signed.
    pub(super) fn signed(&self) -> HashMap<&str, u64> {
        let mut signed: HashMap<&str, u64> =
            self.checkpoints.iter().map(|(boot, last)| (&**boot, last.sequence)).collect();
        loop {
            let before = signed.clone();
            let is_signed = |claim: &&Claim| before.get(&*claim.by.0).is_some_and(|signed| claim.by.1 <= *signed);
            for Claim { of, .. } in self.claims.iter().filter(is_signed) {
                let known = signed.entry(&of.0).or_default();
                *known = (*known).max(of.1);
            }
            if signed == before {
                return signed;
            }
        }
    }

    /// For how long others have signed after a process had done so last, or after its last record.
    pub(super) fn silent_for(&self, boot: &str, proven: &Proven) -> Duration {
        let after = self.signed.iter().find(|(place, _)| *place > proven.place);
        let since = after.map(|(_, time)| time).or_else(|| Some(&self.checkpoints.get(boot)?.time));
        since.map_or(Duration::ZERO, |time| between(time, &self.newest))
    }

    /// Whether a process that ends there could not have signed more yet: it has not stopped, and no other has signed for
    /// long after it.
    pub(super) fn may_be_unsigned(proven: &Proven, unsigned: u64, silent_for: Duration) -> bool {
        !proven.has_stopped && unsigned <= UNSIGNED_MAX && silent_for <= SIGNED_WITHIN
    }
}
