//! From a [`Config`] and the files that it names to a [`Snapshot`]. All faults of all files are reported at once.

use super::snapshot::{Entrance, Route, Snapshot};
use crate::config::{self, Config, Finding};
use crate::filter::Chain;
use crate::generation::Generation;
use crate::identity::{Authorities, TokenKey, Trust};
use crate::keys::Files;
use crate::metrics::Metrics;
use crate::policy::Door;
use crate::route::Table;
use crate::tls::{Certificates, Terminator};
use crate::upstream::{Pools, Servers};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Builds a generation beside the live one.
///
/// # Errors
/// What is wrong with which file.
pub fn build(
    config: &Config,
    generation: Generation,
    (metrics, servers): (&Metrics, &Servers),
) -> Result<Snapshot, Vec<Finding>> {
    let mut build =
        Build { files: Files::new(config.file.parent().unwrap_or_else(|| Path::new(""))), findings: Vec::new() };
    let entrances: Vec<_> = config.listeners.iter().map(|listener| build.entrance(listener, metrics)).collect();
    let trust = build.trust(config);
    let routes: Vec<_> = config.routes.iter().map(|route| build.route(route, metrics)).collect();
    build.has_folder(&config.audit_file, config.audit_file.parent());
    build.is_its_own(&config.audit_file, &config.file);
    config.history_dir.iter().for_each(|folder| build.has_folder(folder, Some(folder)));
    if !build.findings.is_empty() {
        return Err(build.findings);
    }
    let names = config.listeners.iter().map(|listener| listener.name.clone());
    Ok(Snapshot {
        generation,
        digest: build.files.digest(config.text_digest),
        entrances: names.zip(entrances.into_iter().flatten()).collect(),
        trust,
        replay: config.replay,
        routes: Table::new(config.routes.iter().map(|route| route.pattern.clone()).zip(routes.into_iter().flatten())),
        nowhere: metrics.route(None),
        pools: Pools::build(&config.pools, servers, metrics),
        files: build.files.seen().into(),
    })
}

struct Build {
    files: Files,
    findings: Vec<Finding>,
}

impl Build {
    /// The value, or its fault is noted.
    fn take<T>(&mut self, result: Result<T, Finding>) -> Option<T> {
        result.map_err(|finding| self.findings.push(finding)).ok()
    }

    fn entrance(&mut self, listener: &config::Listener, metrics: &Metrics) -> Option<Entrance> {
        let (tls, authorities) = match &listener.tls {
            Some(tls) => {
                // Both are read before either ends this, so that the faults of both are reported.
                let (terminator, authorities) = (self.terminator(tls), self.authorities(&tls.client_ca));
                (Some(terminator?), Some(authorities?))
            }
            None => (None, None),
        };
        Some(Entrance { tls, authorities, identity: listener.identity, metrics: metrics.listener(&listener.name) })
    }

    fn terminator(&mut self, tls: &config::Tls) -> Option<Terminator> {
        let mut pairs = Vec::new();
        for files in &tls.certificates {
            let chain = self.files.certificates(&files.chain);
            let key = self.files.private_key(&files.key);
            let (chain, key) = (self.take(chain), self.take(key));
            pairs.extend(chain.zip(key));
        }
        if pairs.len() < tls.certificates.len() {
            return None;
        }
        let certificates = Certificates::new(pairs).map_err(|(index, fault)| {
            let file = tls.certificates.get(index).map_or_else(PathBuf::new, |files| files.key.clone());
            Finding::of_file(file, fault.to_string(), None)
        });
        let terminator = self.take(certificates).map(Terminator::new)?;
        self.take(terminator.map_err(|fault| Finding::of_file("", format!("TLS cannot be set up: {fault}"), None)))
    }

    fn authorities(&mut self, paths: &[PathBuf]) -> Option<Authorities> {
        let mut certificates = Vec::new();
        for path in paths {
            let read = self.files.certificates(path);
            certificates.extend(self.take(read).into_iter().flatten().map(|certificate| (path, certificate)));
        }
        let ders: Vec<_> = certificates.iter().map(|(_, certificate)| certificate.clone()).collect();
        let authorities = Authorities::new(&ders).map_err(|index| {
            let path = certificates.get(index).map_or_else(PathBuf::new, |(path, _)| (*path).clone());
            Finding::of_file(
                path,
                "holds a certificate that is no CA's",
                Some("a CA says basicConstraints CA:TRUE, and keyCertSign if it has a keyUsage".into()),
            )
        });
        self.take(authorities)
    }

    fn trust(&mut self, config: &Config) -> Trust {
        let mut trust = Trust { edge: config.edge.clone(), ..Trust::default() };
        for workload in &config.workloads {
            for key in &workload.keys {
                let read = self.files.public_key(&key.file);
                let token_key = |verifying| TokenKey { workload: Arc::clone(&workload.workload), key: verifying };
                trust.keys.extend(self.take(read).map(|read| (key.kid.clone(), token_key(read))));
            }
            trust.workloads.insert(workload.workload.id.clone(), Arc::clone(&workload.workload));
        }
        trust
    }

    fn route(&mut self, route: &config::Route, metrics: &Metrics) -> Option<Arc<Route>> {
        let unknown = |kind: &str| Finding::of_file("", format!("there is no filter `{kind}`"), None);
        let filters = self.take(Chain::build(&route.filters).map_err(unknown))?;
        let door = Door {
            route: route.name.clone(),
            demands: route.identity,
            access: Arc::clone(&route.access),
            pool: route.pool.clone(),
        };
        Some(Arc::new(Route { door, filters, metrics: metrics.route(Some(&route.name)) }))
    }

    /// Notes an audit log that is a folder, or a file that the config is read from.
    fn is_its_own(&mut self, audit: &Path, config: &Path) {
        let same =
            |path: &Path| matches!((path.canonicalize(), audit.canonicalize()), (Ok(one), Ok(other)) if one == other);
        if audit.is_dir() {
            self.findings.push(Finding::of_file(audit, "is a folder, and the audit log is a file", None));
        } else if same(config) || self.files.seen().iter().any(|seen| same(seen.path())) {
            let message = "is a file that Belay reads, and the audit log would be written into it";
            self.findings.push(Finding::of_file(audit, message, None));
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
