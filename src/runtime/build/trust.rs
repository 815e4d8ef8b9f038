//! Whom we know: workloads, people, and what counts no more.

use super::Build;
use super::secrets::Aged;
use crate::config::{self, Config, Finding, KeySource, KeyState, ProviderKeys, TokenKeyFile};
use crate::identity::{Counts, Keys, People, Revoked, TokenKey, Trust};
use crate::keys::Kind;
use crate::name::WorkloadName;
use crate::provider::{BadRoots, Provider, Roots, Source};
use crate::runtime::rules;
use crate::secret::{self, Label};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

impl Build<'_> {
    pub(super) fn trust(&mut self, config: &Config) -> Trust {
        let mut trust = Trust { edge: config.edge.clone(), ..Trust::default() };
        for workload in &config.workloads {
            for key in &workload.keys {
                trust.keys.extend(self.token_key(workload, key).map(|read| (key.kid.clone(), read)));
            }
            self.not_anothers_keys(workload, &trust);
            trust.workloads.insert(workload.workload.id.clone(), Arc::clone(&workload.workload));
        }
        if let Some(path) = &config.revoked_file {
            let revoked = self.revoked(path, config).unwrap_or_default();
            for kid in &revoked.keys {
                trust.keys.entry(kid.clone()).and_modify(|key| key.counts = Counts::Revoked);
                self.counts_no_more(kid.as_str());
            }
            trust.revoked.store(Arc::new(revoked));
        }
        trust
    }

    /// What counts no more. Whom the config does not know may have been in it before.
    fn revoked(&mut self, path: &Path, config: &Config) -> Option<Revoked> {
        let revoked = self.files.revoked(path).map_err(|findings| self.findings.extend(findings)).ok()?;
        let known = |name: &&WorkloadName| config.workloads.iter().any(|known| known.workload.name == **name);
        for name in revoked.workloads.iter().filter(|name| !known(name)) {
            log::warn!("{} revokes the workload {name}, which the config does not have", path.display());
        }
        let keys = || config.workloads.iter().flat_map(|workload| &workload.keys);
        for kid in revoked.keys.iter().filter(|kid| !keys().any(|known| known.kid == **kid)) {
            log::warn!("{} revokes the key {kid}, which the config does not have", path.display());
        }
        let vouches = |issuer: &str| config.people.iter().any(|people| *people.terms.issuer == *issuer);
        for issuer in revoked.users.keys().filter(|issuer| !vouches(issuer)) {
            log::warn!("{} revokes users of {issuer}, which is no issuer of `people`", path.display());
        }
        Some(revoked)
    }

    /// Those people, and the provider that is asked for their keys, if it is asked.
    pub(super) fn people(&mut self, people: &config::People) -> Option<(People, Option<Arc<Provider>>)> {
        let (keys, provider) = match &people.keys {
            ProviderKeys::File(path) => {
                let keys = self.files.key_set(path);
                (Arc::new(Keys::new(self.take(keys)?)), None)
            }
            ProviderKeys::Fetched { place, ca, allowed } => {
                let (issuer, place) = ((*people.terms.issuer).into(), place.clone());
                let source = Source { issuer, place, roots: self.roots(people, ca)?, allowed: allowed.clone() };
                let provider = self.beside.providers.at(source);
                (Arc::clone(provider.keys()), Some(provider))
            }
        };
        let memberships = rules::memberships(people, &mut self.files);
        let memberships = memberships.map_err(|findings| self.findings.extend(findings)).ok()?;
        let people = People { memberships, keys, ..people.terms.clone() };
        Some((people, provider))
    }

    /// Who vouches for a provider's server.
    fn roots(&mut self, people: &config::People, ca: &[PathBuf]) -> Option<Roots> {
        if ca.is_empty() {
            let hint = "install them (Debian: ca-certificates), or name the provider's in `ca`".to_owned();
            let none = |_none| {
                Finding::of_file("", "this system has no CAs to fetch keys of identity providers by", Some(hint))
            };
            return self.take(Roots::of_system().map_err(none));
        }
        let (mut certificates, mut uses) = (Vec::new(), Vec::new());
        let owner = format!("people.{}", people.terms.name);
        for path in ca {
            let read = self.files.certificates(path, Kind::Decides);
            let read = self.take(read)?;
            uses.extend(self.certificates_age(secret::Kind::Ca, &owner, path, &read));
            certificates.extend(read);
        }
        let bad = |bad: BadRoots| Finding::of_file(ca.first().cloned().unwrap_or_default(), bad.to_string(), None);
        self.take(Roots::new(&certificates).map_err(bad)).map(|roots| roots.counted(uses))
    }

    /// Notes a key that another workload has, too: whoever holds it could sign as both.
    fn not_anothers_keys(&mut self, workload: &config::Workload, trust: &Trust) {
        for own in &workload.keys {
            let Some(key) = trust.keys.get(&own.kid) else { continue };
            let same = |other: &&TokenKey| other.key == key.key && other.workload.name != key.workload.name;
            if let Some(other) = trust.keys.values().find(same) {
                let (KeySource::Public(path) | KeySource::Secret(path)) = &own.source;
                let message =
                    format!("is the key of {} too, and whoever holds it could sign as both", other.workload.name);
                self.findings.push(Finding::of_file(path, message, Some("make each workload a key of its own".into())));
            }
        }
    }

    fn token_key(&mut self, workload: &config::Workload, key: &TokenKeyFile) -> Option<TokenKey> {
        let (path, read) = match &key.source {
            KeySource::Public(path) => (path, self.files.public_key(path)),
            KeySource::Secret(path) => (path, self.files.shared_secret(path)),
        };
        let verifying = self.take(read)?;
        let is_shared = verifying.algorithm().is_shared();
        let kind = if is_shared { secret::Kind::SharedSecret } else { secret::Kind::TokenKey };
        let (uses, ends) = self.ages(Aged {
            label: Label::new(kind, format!("workloads.{}", workload.workload.name), key.kid.as_str()),
            file: path,
            fingerprint: verifying.fingerprint(),
            created: key.created,
            state: key.state,
        });
        let counts = match (key.state, is_shared) {
            (KeyState::Revoked, _) => Counts::Revoked,
            (_, true) => Counts::Until(ends),
            (_, false) => Counts::Always,
        };
        let may_assert = Arc::clone(&workload.may_assert);
        Some(TokenKey { workload: Arc::clone(&workload.workload), key: verifying, may_assert, counts, uses })
    }

    /// A token key of that id is revoked, whatever its state says.
    fn counts_no_more(&mut self, kid: &str) {
        let is_token_key = |kind| matches!(kind, secret::Kind::TokenKey | secret::Kind::SharedSecret);
        for held in &mut self.secrets {
            if is_token_key(held.label.kind) && *held.label.name == *kid {
                (held.state, held.aging) = (KeyState::Revoked, None);
            }
        }
    }
}
