//! What outlives a generation, in one place.

use super::history::History;
use super::live::Live;
use crate::audit::Sealer;
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Finding};
use crate::identity::ReplayStore;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::request::Id;
use crate::slots::Slots;
use crate::upstream::Servers;
use std::{io, path::Path, sync::Arc};

/// What was learned, and what all generations share.
#[derive(Debug)]
pub struct State {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Metrics,
    /// The tokens that were used.
    pub replay: ReplayStore,
    /// The audit log's writer.
    pub journal: Journal,
    /// The connections that are open.
    pub slots: Slots,
    /// The servers' health and the balancers' turns.
    pub servers: Servers,
}

/// Opens what a config names and builds its first generation. Of tokens signed up to `horizon` it is not known whether
/// they were used before.
///
/// # Errors
/// What is wrong with which file.
pub fn start(config: Config, clock: Arc<dyn Clock>, horizon: Timestamp) -> Result<Live, Vec<Finding>> {
    let fault =
        |path: &Path, what: &str, error: &io::Error| vec![Finding::of_file(path, format!("{what}: {error}"), None)];
    let metrics = Metrics::new().map_err(|error| vec![Finding::of_file("", error.to_string(), None)])?;
    let sealer = Sealer::new(config.node.clone(), Id::random());
    let journal = Journal::open(&config.audit_file, sealer, metrics.audit());
    let journal = journal.map_err(|error| fault(&config.audit_file, "the audit log cannot be opened", &error))?;
    let folder = config.history_dir.as_deref();
    let history = History::open(folder);
    let history = history
        .map_err(|error| fault(folder.unwrap_or_else(|| Path::new("")), "the history cannot be read", &error))?;
    let replay = ReplayStore::new(ReplayStore::CAPACITY, horizon);
    let state = State { clock, metrics, replay, journal, slots: Slots::default(), servers: Servers::default() };
    Live::new(config, state, history)
}
