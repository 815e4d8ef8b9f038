//! How the log is kept. All of it changes with the config, while the log is written.

use crate::audit::{CheckpointKey, Pseudonyms};
use crate::config::{Audit, Durability, OnFailure, Span};
use std::{sync::Arc, time::Duration};

/// How the log is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What becomes of requests while records cannot be written.
    pub on_failure: OnFailure,
    /// How safe the record of a decision is before its request is forwarded.
    pub durability: Durability,
    /// When a new file is begun.
    pub rotate: Span,
    /// How much of the old ones stays.
    pub keep: Span,
    /// What signs checkpoints.
    pub key: Option<Arc<CheckpointKey>>,
    /// Hashes of personal data.
    pub pseudonyms: Option<Arc<Pseudonyms>>,
}

impl Settings {
    /// Those of a config, with the keys that it names.
    #[must_use]
    pub const fn of(audit: &Audit, key: Option<Arc<CheckpointKey>>, pseudonyms: Option<Arc<Pseudonyms>>) -> Self {
        let Audit { on_failure, durability, rotate, keep, .. } = *audit;
        Self { on_failure, durability, rotate, keep, key, pseudonyms }
    }
}

impl Default for Settings {
    /// Nothing is rotated or removed, and nobody waits for the disk.
    fn default() -> Self {
        let all = Span { size: u64::MAX, age: Duration::MAX };
        Self {
            on_failure: OnFailure::Refuse,
            durability: Durability::Queued,
            rotate: all,
            keep: all,
            key: None,
            pseudonyms: None,
        }
    }
}
