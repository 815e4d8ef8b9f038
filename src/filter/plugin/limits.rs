//! What a plugin may use.

use std::time::Duration;

/// What a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Limits {
    /// Memory of one instance, in bytes.
    pub(super) memory: usize,
    /// Of one call of the plugin.
    pub(super) time: Duration,
    /// Instructions of one call, about.
    pub(super) fuel: u64,
    /// Instances at once, and so requests.
    pub(super) instances: usize,
    /// How much of a body may be held, in bytes.
    pub(super) body: usize,
    /// How long a request may be paused.
    pub(super) wait: Duration,
}
