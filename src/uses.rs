//! How often something was used.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A count that is shared by whoever uses the same thing, over generations.
#[derive(Debug, Clone, Default)]
pub struct Uses(Arc<AtomicU64>);

impl Uses {
    /// It is used once more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was used so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
