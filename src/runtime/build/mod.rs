//! From a [`Config`] and the files that it names to a [`Snapshot`]. All faults of all files are reported at once.

mod doors;
mod evidence;
mod policy;
mod pools;
mod secrets;
mod trust;

use super::operators::{Operators, UnknownUser};
use super::revocations::Revocations;
use super::rules;
use super::secrets::{Held, Secrets};
use super::sights::Sights;
use super::snapshot::{Entrance, Limit, Route, Snapshot};
use crate::clock::{Timestamp, UnixSeconds};
use crate::config::{self, Config, FilterSpec, Finding, Scope};
use crate::filter::{Building, Chain, Plugins};
use crate::generation::Generation;
use crate::keys::{Files, Read};
use crate::limit::Limiters;
use crate::metrics::Metrics;
use crate::pins::Pins;
use crate::policy::Door;
use crate::policy::rules::RuleSet;
use crate::provider::Providers;
use crate::route::Table;
use crate::upstream::{Pools, Servers};
use std::{collections::HashMap, fs, path::Path, sync::Arc};

/// In seconds.
const DAY: UnixSeconds = 24 * 60 * 60;

/// What a generation is built with.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// The metrics.
    pub metrics: &'a Metrics,
    /// The servers' state.
    pub servers: &'a Servers,
    /// When keys were first seen.
    pub sights: &'a Sights,
    /// How often they were used.
    pub secrets: &'a Secrets,
    /// What was revoked.
    pub revocations: &'a Revocations,
    /// What callers have used of their limits.
    pub limiters: &'a Limiters,
    /// Identity providers that are known.
    pub providers: &'a Providers,
    /// Plugins that run.
    pub plugins: &'a Plugins,
    /// The generation that is live.
    pub live: Option<&'a Snapshot>,
    /// The files that were rolled back.
    pub pins: &'a Arc<Pins>,
    /// When.
    pub now: Timestamp,
}

/// Builds a generation beside the live one, if there is one yet.
///
/// # Errors
/// What is wrong with which file.
pub fn build(config: &Arc<Config>, generation: Generation, beside: &Beside<'_>) -> Result<Snapshot, Vec<Finding>> {
    let (metrics, servers) = (beside.metrics, beside.servers);
    let files = Files::with_pins(config.file.parent().unwrap_or_else(|| Path::new("")), Arc::clone(beside.pins));
    let limits = limits(config, beside);
    let (findings, warnings, secrets) = (Vec::new(), Vec::new(), Vec::new());
    let mut build = Build { config, files, beside, limits, findings, warnings, secrets };
    // First the one that decides no request, so that its files can be told from the others.
    let doors = || config.admin_https.iter().map(|https| &https.listener).chain(&config.listeners);
    let for_admin = config.admin_https.as_ref().map(|https| build.entrance(&https.listener));
    let admins = build.files.read().len();
    let entrances: Vec<_> = config.listeners.iter().map(|listener| build.entrance(listener)).collect();
    let entrances = for_admin.into_iter().chain(entrances);
    let mut trust = build.trust(config);
    let people: Vec<_> = config.people.iter().filter_map(|people| build.people(people)).collect();
    let providers =
        people.iter().filter_map(|(people, provider)| Some((people.name.clone(), provider.clone()?))).collect();
    trust.people = people.into_iter().map(|(people, _)| people).collect();
    let rules = build.rules(config);
    let routes: Vec<_> = config.routes.iter().map(|route| build.route(route, rules.as_ref())).collect();
    let own = Arc::new(config.own());
    let pools: Vec<_> = config.pools.iter().map(|pool| build.pool(pool, &own)).collect();
    let operators = build.operators(config);
    let journal = build.journal(&config.audit);
    build.has_folder(&config.audit.file, config.audit.file.parent());
    build.is_its_own(&config.audit.file, &config.file);
    config.audit.checkpoints.iter().for_each(|checkpoints| build.is_its_own(&checkpoints.file, &config.file));
    config.history_dir.iter().for_each(|folder| build.has_folder(folder, Some(folder)));
    build.external_secrets();
    if build.findings.is_empty() {
        build.remembers_sights();
    }
    if !build.findings.is_empty() {
        return Err(build.findings);
    }
    let names = doors().map(|listener| listener.name.clone());
    Ok(Snapshot {
        config: Arc::clone(config),
        operators: operators.unwrap_or_default(),
        journal: journal.unwrap_or_default(),
        generation,
        digest: build.files.digest(config.text_digest),
        policy: policy::digest(config, build.files.read().get(admins..).unwrap_or_default()),
        entrances: names.zip(entrances.flatten()).collect(),
        trust,
        rules,
        warnings: build.warnings.into(),
        providers,
        replay: config.replay,
        digest_body_max: config.digest_body_max,
        secrets: build.secrets.into(),
        clock_offset: config.edge.as_ref().map(|edge| metrics.clock_offset(&edge.issuer)),
        routes: Table::new(config.routes.iter().map(|route| route.pattern.clone()).zip(routes.into_iter().flatten())),
        hides: config.routes.iter().any(|route| route.is_hidden),
        nowhere: metrics.route(None),
        pools: Arc::new(Pools::build(pools.into_iter().flatten().collect(), &config.priorities, servers, metrics)),
        files: build.files.seen().into(),
        read: std::iter::once(Read::config(&config.file, &config.text)).chain(build.files.read().to_vec()).collect(),
    })
}

/// The limits by what they are of.
fn limits(config: &Config, beside: &Beside<'_>) -> HashMap<Scope, Vec<Limit>> {
    let mut limits: HashMap<Scope, Vec<Limit>> = HashMap::new();
    for limit in &config.limits {
        let name = limit.name.as_str();
        let (limiter, exceeded) = (beside.limiters.of(name), beside.metrics.limit(name));
        let built = Limit { config: Arc::new(limit.clone()), limiter, exceeded };
        limits.entry(limit.scope.clone()).or_default().push(built);
    }
    limits
}

pub(super) struct Build<'a> {
    config: &'a Config,
    files: Files,
    beside: &'a Beside<'a>,
    limits: HashMap<Scope, Vec<Limit>>,
    findings: Vec<Finding>,
    warnings: Vec<Finding>,
    secrets: Vec<Held>,
}

impl Build<'_> {
    /// The value, or its fault is noted.
    fn take<T>(&mut self, result: Result<T, Finding>) -> Option<T> {
        result.map_err(|finding| self.findings.push(finding)).ok()
    }

    fn operators(&mut self, config: &Config) -> Option<Operators> {
        let nobody = |fault: UnknownUser| {
            let hint = "write the name of a user of this system, or his number".to_owned();
            Finding::of_file(&config.file, fault.to_string(), Some(hint))
        };
        let named = Operators::named(&config.operators.read, &config.operators.change);
        // An account that was deleted must not keep a revocation list from being read.
        let known = self.beside.live.filter(|live| live.config.operators == config.operators);
        if let (Err(fault), Some(live)) = (&named, known) {
            log::warn!("{fault}: as `admin` says who may ask, all stay who they were");
            return Some(live.operators.clone());
        }
        self.take(named.map_err(nobody))
    }

    /// The limits of those scopes.
    fn limits(&self, scopes: &[Scope]) -> Box<[Limit]> {
        scopes.iter().filter_map(|scope| self.limits.get(scope)).flatten().cloned().collect()
    }

    /// The rules, if there are some.
    fn rules(&mut self, config: &Config) -> Option<RuleSet> {
        match rules::of(config, &mut self.files)? {
            Ok((rules, warnings)) => {
                self.warnings.extend(warnings);
                Some(rules)
            }
            Err(findings) => {
                self.findings.extend(findings);
                None
            }
        }
    }

    fn route(&mut self, route: &config::Route, rules: Option<&RuleSet>) -> Option<Arc<Route>> {
        let filters = self.filters(&route.filters)?;
        let door = Door {
            route: route.name.clone(),
            demands: route.identity,
            access: Arc::clone(&route.access),
            rules: rules.and_then(|rules| rules.at(&route.name)),
            is_hidden: route.is_hidden,
            demands_digest: route.demands_digest,
            term: route.term,
            pool: route.pool.clone(),
        };
        let limits = self.limits(&[Scope::Route(route.name.clone()), Scope::Pool(route.pool.clone())]);
        let metrics = self.beside.metrics.route(Some(&route.name));
        Some(Arc::new(Route { door, filters, limits, metrics }))
    }

    fn filters(&mut self, specs: &[(&'static str, Box<dyn FilterSpec>)]) -> Option<Chain> {
        let mut building = Building { files: &mut self.files, plugins: self.beside.plugins };
        Chain::build(specs, &mut building).map_err(|findings| self.findings.extend(findings)).ok()
    }

    /// Notes an audit log that is a folder, or a file that the config is read from.
    fn is_its_own(&mut self, audit: &Path, config: &Path) {
        let same =
            |path: &Path| matches!((path.canonicalize(), audit.canonicalize()), (Ok(one), Ok(other)) if one == other);
        if audit.is_dir() {
            self.findings.push(Finding::of_file(audit, "is a folder, and the audit log is a file", None));
        } else if same(config) || self.files.seen().iter().any(|seen| same(seen.path())) {
            let message = "is a file that Belay reads, and the audit log or its checkpoints would be written into it";
            self.findings.push(Finding::of_file(audit, message, None));
        }
    }

    /// Writes down which keys were seen for the first time.
    fn remembers_sights(&mut self) {
        if let Err(fault) = self.beside.sights.remember(self.beside.now) {
            let folder = self.config.history_dir.clone().unwrap_or_default();
            let message = format!("the first sights of keys cannot be remembered: {fault}");
            self.findings.push(Finding::of_file(folder, message, None));
        }
    }

    /// Notes a folder that is not there; what is written into it is opened, once, by its writer.
    fn has_folder(&mut self, path: &Path, folder: Option<&Path>) {
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        if !fs::metadata(folder).is_ok_and(|found| found.is_dir()) {
            let hint = format!("make it: mkdir -p {}", folder.display());
            self.findings.push(Finding::of_file(path, "cannot be written: its folder is not there", Some(hint)));
        }
    }
}
