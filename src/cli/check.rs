//! `belay check`

use super::terminal::Terminal;
use super::{DEFAULT_CONFIG, Exit, policy};
use crate::clock::{self, Clock};
use crate::config::{self, Checked, Config, Finding, Severity};
use crate::filter::{self, Plugins};
use crate::generation::Generation;
use crate::limit::Limiters;
use crate::metrics::Metrics;
use crate::policy::Access;
use crate::provider::Providers;
use crate::runtime::{self, Beside, Revocations, Secrets, Sights, Snapshot};
use crate::secret::Kind;
use crate::upstream::Servers;
use serde_json::json;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Say what is wrong with a config and the files that it names, all at once.
///
/// Nothing live is touched. Ends with 0 if the config can be used, and with 78 if not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay check -c belay.yaml && belay reload -c belay.yaml")]
pub(super) struct Args {
    /// The config.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Do the tests of `access.tests`, too; see `belay policy test`.
    #[arg(long)]
    tests: bool,
    /// Print findings as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) const fn of(config: PathBuf) -> Self {
        Self { config, tests: false, json: false }
    }
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let Checked { config, mut findings } = config::read_file(&args.config, filter::KINDS);
    let config = config.map(Arc::new);
    let snapshot = config.as_ref().and_then(|config| build(config, &mut findings));
    findings.extend(snapshot.iter().flat_map(|snapshot| snapshot.warnings.iter().cloned()));
    findings.extend(snapshot.iter().flat_map(old));
    let digest = snapshot.as_ref().map(|snapshot| snapshot.digest);
    let built = config.as_ref().zip(snapshot.as_ref());
    let tests = match built.filter(|_| args.tests).map(|(config, _)| policy::done(config)) {
        Some(Ok(tests)) => Some(tests),
        Some(Err((_, faults))) => {
            findings.extend(faults);
            None
        }
        None => None,
    };
    let ok = findings.iter().all(|finding| finding.severity != Severity::Error);
    if args.json {
        terminal.say_json(&json!({ "ok": ok, "digest": digest, "findings": findings, "tests": tests }));
    } else {
        terminal.show(&findings);
        if let Some((config, snapshot)) = built.filter(|_| ok) {
            terminal.say(&summary(&args.config, config, snapshot));
        }
        tests.iter().for_each(|tests| terminal.say(&policy::told(tests, terminal)));
    }
    let failed = tests.is_some_and(|tests| tests.tests.iter().any(|tried| tried.fault.is_some()));
    match (ok, failed) {
        (false, _) => Exit::Config,
        (true, true) => Exit::Failed,
        (true, false) => Exit::Ok,
    }
}

/// What grows old, as warnings.
fn old(snapshot: &Snapshot) -> Vec<Finding> {
    let old = snapshot.warnings_of_age(clock::System.now());
    old.map(|(held, warning)| {
        let hint = match held.label.kind {
            Kind::TokenKey | Kind::SharedSecret => {
                let workload = held.label.owner.strip_prefix("workloads.").unwrap_or_default();
                Some(format!("belay keys rotate {workload}"))
            }
            Kind::Certificate
            | Kind::Ca
            | Kind::RevocationList
            | Kind::CookieKey
            | Kind::TicketKey
            | Kind::PseudonymKey
            | Kind::CheckpointKey
            | Kind::External => None,
        };
        let file = held.file.clone().unwrap_or_else(|| snapshot.config.file.clone());
        Finding::of_file(file, warning, hint).as_warning()
    })
    .collect()
}

pub(super) fn build(config: &Arc<Config>, findings: &mut Vec<Finding>) -> Option<Snapshot> {
    let metrics = Metrics::new().map_err(|error| vec![Finding::of_file("", error.to_string(), None)]);
    let (servers, secrets, pins) = (Servers::default(), Secrets::default(), Arc::default());
    let sights = Sights::look(config.history_dir.as_deref()).unwrap_or_else(|fault| {
        let folder = config.history_dir.clone().unwrap_or_default();
        let message = format!("when keys were seen first cannot be read, so that their ages may be wrong: {fault}");
        let finding = Finding::of_file(folder.join("keys.json"), message, None);
        // A start would be refused for what is broken, not for what only this user may not read.
        findings.push(if fault.kind() == io::ErrorKind::PermissionDenied { finding.as_warning() } else { finding });
        Sights::default()
    });
    let (revocations, limiters, providers) = (Revocations::default(), Limiters::default(), Providers::default());
    let built = metrics.and_then(|metrics| {
        let now = clock::System.now();
        let plugins = Plugins::new(&metrics, config.plugin_cache.as_deref());
        let beside = Beside {
            plugins: &plugins,
            metrics: &metrics,
            servers: &servers,
            sights: &sights,
            secrets: &secrets,
            revocations: &revocations,
            limiters: &limiters,
            providers: &providers,
            live: None,
            pins: &pins,
            now,
        };
        runtime::build(config, Generation::new(0), &beside)
    });
    built.map_err(|faults| findings.extend(faults)).ok()
}

fn summary(file: &Path, config: &Config, snapshot: &Snapshot) -> String {
    let count = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    let public: Vec<_> = config
        .routes
        .iter()
        .filter(|route| matches!(*route.access, Access::Public(_)))
        .map(|route| route.name.as_str())
        .collect();
    let counts = [
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.pools.len(), "pool"),
        count(config.workloads.len(), "workload"),
        count(snapshot.files.len(), "file"),
    ];
    let open = if public.is_empty() { "no route is public".into() } else { format!("public: {}", public.join(", ")) };
    let digest = snapshot.digest.to_string();
    format!("{} is good: {}; {open}\ndigest {digest}", file.display(), counts.join(", "))
}
