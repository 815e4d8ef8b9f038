//! What stands for the host of plugins in a build that has none.

use crate::metrics::Metrics;
use crate::upstream::Pools;
use std::{path::Path, sync::Arc};

/// All plugins of a process: none, in this build.
#[derive(Debug, Clone)]
pub struct Plugins(());

impl Plugins {
    /// None.
    #[must_use]
    pub const fn new(_: &Metrics, _: Option<&Path>) -> Self {
        Self(())
    }

    /// Nobody calls.
    pub const fn use_pools(&self, _: &Arc<Pools>) {}
}
