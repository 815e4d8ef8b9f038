//! What outlives a generation, in one place.

use super::approval::Approval;
use super::build::Beside;
use super::history::History;
use super::live::Live;
use super::revocations::Revocations;
use super::secrets::Secrets;
use super::sights::Sights;
use super::snapshot::Snapshot;
use crate::audit::{Predecessor, Sealer};
use crate::clock::{Clock, Timestamp};
use crate::config::{self, Config, Finding};
use crate::filter::{self, Plugins};
use crate::identity::{Elsewhere, ReplayStore};
use crate::journal::{self, Found, Journal, Opening};
use crate::limit::Limiters;
use crate::metrics::Metrics;
use crate::pins::Pins;
use crate::provider::Providers;
use crate::request::Id;
use crate::room::Rooms;
use crate::slots::{Slots, Tarpit};
use crate::upstream::Servers;
use arc_swap::ArcSwapOption;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicI64},
};

/// What was learned, and what all generations share.
#[derive(Debug)]
pub struct State {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When the process began.
    pub started: Timestamp,
    /// The metrics.
    pub metrics: Metrics,
    /// The tokens that were used.
    pub replay: ReplayStore,
    /// Who enters the uses of tokens instead, once this process is being replaced.
    heir: ArcSwapOption<Box<dyn Elsewhere>>,
    /// The audit log's writer.
    pub journal: Journal,
    /// When keys were first seen.
    pub sights: Sights,
    /// How often they were used, and when last.
    pub secrets: Secrets,
    /// What was revoked.
    pub revocations: Revocations,
    /// What callers have used of their limits.
    pub limiters: Limiters,
    /// Identity providers and their keys.
    pub providers: Providers,
    /// Plugins that run.
    pub plugins: Plugins,
    /// Who must approve a config, if somebody must.
    pub approval: Option<Approval>,
    /// Room for bodies that are held until their digest is checked.
    pub held: Rooms,
    /// The hour of the last warnings of what grows old.
    pub(super) warned: AtomicI64,
    /// The connections that are open.
    pub slots: Slots,
    /// Who has sent floods of HTTP/2.
    pub tarpit: Tarpit,
    /// The servers' health and the balancers' turns.
    pub servers: Servers,
}

/// How much of bodies may be held at once, in bytes.
const HELD_MAX: usize = 64 * 1024 * 1024;

impl State {
    /// All metrics in Prometheus' text format, as they are now.
    ///
    /// # Errors
    /// If a metric cannot be written.
    pub fn render_metrics(&self) -> Result<Vec<u8>, prometheus::Error> {
        self.secrets.look(&self.metrics, self.clock.now());
        self.metrics.render(self.replay.len())
    }

    /// Who enters the uses of tokens instead of our own store.
    #[must_use]
    pub fn heir(&self) -> Option<Arc<Box<dyn Elsewhere>>> {
        self.heir.load().as_ref().map(Arc::clone)
    }

    /// From now on the uses of tokens are entered there, or here again.
    pub fn set_heir(&self, heir: Option<Box<dyn Elsewhere>>) {
        self.heir.store(heir.map(Arc::new));
    }

    pub(super) fn beside<'a>(&'a self, live: Option<&'a Snapshot>, pins: &'a Arc<Pins>) -> Beside<'a> {
        let now = self.clock.now();
        let (metrics, servers, providers) = (&self.metrics, &self.servers, &self.providers);
        let (sights, revocations) = (&self.sights, &self.revocations);
        let (limiters, secrets) = (&self.limiters, &self.secrets);
        let plugins = &self.plugins;
        Beside { metrics, servers, sights, secrets, revocations, limiters, providers, plugins, live, pins, now }
    }
}

/// What a process begins with, beside its config.
#[derive(Debug)]
pub struct Beginning {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Of tokens signed up to then it is not known whether they were used before.
    pub horizon: Timestamp,
    /// The process that this one replaces.
    pub predecessor: Option<Predecessor>,
    /// The file that names those who must approve every config, if they must.
    pub approvers: Option<PathBuf>,
}

impl Beginning {
    /// Nothing but the time.
    #[must_use]
    pub const fn new(clock: Arc<dyn Clock>, horizon: Timestamp) -> Self {
        Self { clock, horizon, predecessor: None, approvers: None }
    }
}

/// Opens what a config names and builds its first generation.
///
/// # Errors
/// What is wrong with which file.
pub fn start(
    config: Config,
    Beginning { clock, horizon, predecessor, approvers }: Beginning,
) -> Result<Live, Vec<Finding>> {
    let fault = |path: &Path, what: &str, error: &io::Error| {
        let hint = (error.kind() == io::ErrorKind::NotFound).then(|| "is its folder there?".to_owned());
        vec![Finding::of_file(path, format!("{what}: {error}"), hint)]
    };
    let metrics = Metrics::new().map_err(|error| vec![Finding::of_file("", error.to_string(), None)])?;
    let sealer = Sealer::new(config.node.clone(), Id::random());
    let audit = &config.audit;
    let marks = audit.checkpoints.as_ref().map(|checkpoints| &*checkpoints.file);
    // Whom this process replaces, that is not dead.
    let found = match predecessor {
        Some(predecessor) => Found { last: Some(predecessor), left: Vec::new() },
        None => journal::look(&audit.file, marks)
            .map_err(|error| fault(&audit.file, "the end of the audit log cannot be read", &error))?,
    };
    let opening = Opening {
        file: &audit.file,
        checkpoints: marks,
        settings: journal::Settings::of(audit, None, None),
        sealer,
        clock: Arc::clone(&clock),
        metrics: metrics.audit(),
    };
    let opened = Journal::open(opening);
    let journal = opened.map_err(|(path, error)| fault(&path, "the audit log cannot be opened", &error))?;
    let folder = config.history_dir.as_deref();
    let of_history = |what: &'static str| move |error| fault(folder.unwrap_or_else(|| Path::new("")), what, &error);
    let history = History::open(folder, config.history_keep).map_err(of_history("the history cannot be read"))?;
    let sights = Sights::open(folder).map_err(of_history("the history of keys cannot be read"))?;
    let revocations = Revocations::open(folder).map_err(of_history("what was revoked cannot be read"))?;
    let approval = approvers.map(|approvers| Approval::open(approvers, folder)).transpose();
    let approval = approval.map_err(|finding| vec![finding])?;
    let warned = AtomicI64::new(clock.now().unix_seconds() / 3600);
    let held = Rooms::new(HELD_MAX);
    let replay = ReplayStore::new(ReplayStore::CAPACITY, horizon);
    let (slots, tarpit, servers) = (Slots::default(), Tarpit::default(), Servers::default());
    let heir = ArcSwapOption::empty();
    let plugins = Plugins::new(&metrics, config.plugin_cache.as_deref());
    let state = State {
        started: clock.now(),
        clock,
        metrics,
        replay,
        heir,
        journal,
        sights,
        secrets: Secrets::default(),
        revocations,
        limiters: Limiters::default(),
        providers: Providers::default(),
        plugins,
        approval,
        held,
        warned,
        slots,
        tarpit,
        servers,
    };
    let config = rolled_back(config, &history.pins())?;
    Live::new(config, state, history, found)
}

/// The config that counts, where the one on disk was rolled back.
fn rolled_back(config: Config, pins: &Pins) -> Result<Config, Vec<Finding>> {
    let text = pins.correct(&config.file, Some(config.text.as_bytes().into()));
    let Some(text) = text.filter(|text| **text != *config.text.as_bytes()) else { return Ok(config) };
    log::warn!("{} was rolled back: an earlier text counts until it is changed", config.file.display());
    let checked = config::read(&config.file, &String::from_utf8_lossy(&text), filter::KINDS);
    checked.config.ok_or(checked.findings)
}
