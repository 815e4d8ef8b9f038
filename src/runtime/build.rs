//! From a [`Config`] and the files that it names to a [`Snapshot`]. All faults of all files are reported at once.

use super::aging::Aging;
use super::operators::{Operators, UnknownUser};
use super::revocations::Revocations;
use super::rules;
use super::sights::Sights;
use super::snapshot::{Entrance, Limit, Route, Snapshot};
use crate::clock::{Timestamp, UnixSeconds};
use crate::config::{
    self, CertificateFiles, Config, Finding, KeySource, KeyState, Location, ProviderKeys, Scope, TokenKeyFile,
};
use crate::filter::Chain;
use crate::generation::{Digest, Generation};
use crate::identity::{Authorities, BadAuthority, Counts, Keys, People, Revoked, Rules, TokenKey, Trust};
use crate::keys::{Files, Kind, Read};
use crate::limit::Limiters;
use crate::metrics::Metrics;
use crate::name::WorkloadName;
use crate::network::Own;
use crate::pins::Pins;
use crate::policy::Door;
use crate::policy::rules::RuleSet;
use crate::provider::{BadRoots, Provider, Providers, Roots, Source};
use crate::route::Table;
use crate::tls::{BadCertificate, Certificates, Terminator};
use crate::upstream::{BadOriginTls, OriginTls, Plan, Pools, Servers, Sticky};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

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
    /// What was revoked.
    pub revocations: &'a Revocations,
    /// What callers have used of their limits.
    pub limiters: &'a Limiters,
    /// Identity providers that are known.
    pub providers: &'a Providers,
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
    let mut build = Build { files, beside, limits, findings: Vec::new(), warnings: Vec::new(), aging: Vec::new() };
    let doors = || config.listeners.iter().chain(config.admin_https.as_ref().map(|https| &https.listener));
    let entrances: Vec<_> = doors().map(|listener| build.entrance(listener)).collect();
    let mut trust = build.trust(config);
    let people: Vec<_> = config.people.iter().filter_map(|people| build.people(people)).collect();
    let providers =
        people.iter().filter_map(|(people, provider)| Some((people.name.clone(), provider.clone()?))).collect();
    trust.people = people.into_iter().map(|(people, _)| people).collect();
    let rules = build.rules(config);
    let routes: Vec<_> = config.routes.iter().map(|route| build.route(route, rules.as_ref())).collect();
    let own = Arc::new(config.own());
    let pools: Vec<_> = config.pools.iter().map(|pool| build.pool(pool, config, &own)).collect();
    let operators = build.operators(config);
    let journal = build.journal(&config.audit);
    build.has_folder(&config.audit.file, config.audit.file.parent());
    build.is_its_own(&config.audit.file, &config.file);
    config.audit.checkpoints.iter().for_each(|checkpoints| build.is_its_own(&checkpoints.file, &config.file));
    config.history_dir.iter().for_each(|folder| build.has_folder(folder, Some(folder)));
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
        entrances: names.zip(entrances.into_iter().flatten()).collect(),
        trust,
        rules,
        warnings: build.warnings.into(),
        providers,
        replay: config.replay,
        digest_body_max: config.digest_body_max,
        aging: build.aging.into(),
        keys: metrics.token_keys(
            config
                .workloads
                .iter()
                .flat_map(|workload| workload.keys.iter().map(|key| (workload.workload.name.clone(), key.kid.clone()))),
        ),
        clock_offset: config.edge.as_ref().map(|edge| metrics.clock_offset(&edge.issuer)),
        routes: Table::new(config.routes.iter().map(|route| route.pattern.clone()).zip(routes.into_iter().flatten())),
        hides: config.routes.iter().any(|route| route.is_hidden),
        nowhere: metrics.route(None),
        pools: Pools::build(pools.into_iter().flatten().collect(), &config.priorities, servers, metrics),
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
    pub(super) files: Files,
    beside: &'a Beside<'a>,
    limits: HashMap<Scope, Vec<Limit>>,
    findings: Vec<Finding>,
    warnings: Vec<Finding>,
    aging: Vec<Aging>,
}

impl Build<'_> {
    /// The value, or its fault is noted.
    pub(super) fn take<T>(&mut self, result: Result<T, Finding>) -> Option<T> {
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

    fn entrance(&mut self, listener: &config::Listener) -> Option<Entrance> {
        let (tls, authorities) = match &listener.tls {
            Some(tls) => self.tls(listener, tls)?,
            None => (None, None),
        };
        let own = listener.bind.iter().filter_map(config::Bind::tcp).map(|address| address.port());
        Some(Entrance {
            tls,
            authorities,
            identity: listener.identity,
            sources: listener.sources.clone(),
            proxy_protocol: listener.proxy_protocol.clone(),
            client_address: listener.client_address,
            host_from_token: listener.host_from_token,
            ports: own.chain(listener.ports.iter().copied()).chain([443]).collect(),
            limits: listener.limits,
            requests: self.limits(&[Scope::Listener(listener.name.clone())]),
            metrics: self.beside.metrics.listener(&listener.name),
        })
    }

    fn tls(&mut self, listener: &config::Listener, tls: &config::Tls) -> Option<Tls> {
        // Both are read before either ends this, so that the faults of both are reported.
        let certificates = self.certificates(&tls.certificates);
        let authorities = tls.client_auth.as_ref().map(|client_auth| self.authorities(client_auth));
        let certificates = certificates?;
        let authorities = match authorities {
            Some(authorities) => Some(Arc::new(authorities?)),
            None => None,
        };
        let is_strict = tls.client_auth.as_ref().is_some_and(|client_auth| client_auth.is_strict);
        let strict = authorities.as_ref().filter(|_| is_strict).map(Arc::clone);
        let vouched = authorities.as_ref().map(|authorities| authorities.digest().to_string()).unwrap_or_default();
        let own = certificates.digest().to_string();
        let trust =
            Digest::of(&[("own", own.as_bytes()), ("vouched", vouched.as_bytes()), ("strict", &[is_strict.into()])]);
        let same = |known: &&Arc<Terminator>| known.trust() == trust;
        let live = self.beside.live.and_then(|live| live.entrances.get(&listener.name)?.tls.as_ref());
        // Where nothing that sessions rest on has changed, they go on.
        let terminator = match live.filter(same) {
            Some(live) => Arc::clone(live),
            None => {
                let fault = |fault| Finding::of_file("", format!("TLS cannot be set up: {fault}"), None);
                Arc::new(self.take(Terminator::new(certificates, strict, trust).map_err(fault))?)
            }
        };
        self.expires(listener, &terminator, authorities.as_deref());
        Some((Some(terminator), authorities))
    }

    fn expires(&mut self, listener: &config::Listener, own: &Terminator, vouching: Option<&Authorities>) {
        let ends = [
            ("a certificate", Some(own.valid()), 14 * DAY),
            ("a CA of clients", vouching.and_then(Authorities::valid), 30 * DAY),
            ("a revocation list", vouching.and_then(Authorities::lists_valid), 3 * DAY),
        ];
        for (what, valid, before) in ends {
            let what = format!("{what} of listener {} expires", listener.name);
            self.aging.extend(valid.map(|valid| Aging::of_validity(what, &valid, before)));
        }
    }

    fn certificates(&mut self, files: &[CertificateFiles]) -> Option<Certificates> {
        let mut paths = Vec::new();
        for files in files {
            match files {
                CertificateFiles::Pair { chain, key } => paths.push((chain.clone(), key.clone())),
                CertificateFiles::Folder(folder) => {
                    let found = self.files.pairs(folder);
                    paths.extend(self.take(found)?);
                }
            }
        }
        let mut pairs = Vec::new();
        for (chain, key) in &paths {
            let chain = self.files.certificates(chain, Kind::Current);
            let key = self.files.private_key(key);
            let (chain, key) = (self.take(chain), self.take(key));
            pairs.extend(chain.zip(key));
        }
        if pairs.len() < paths.len() {
            return None;
        }
        let certificates = Certificates::new(pairs).map_err(|(index, fault)| {
            let (chain, key) = paths.get(index).cloned().unwrap_or_default();
            let file = if fault == BadCertificate::Nameless { chain } else { key };
            Finding::of_file(file, fault.to_string(), None)
        });
        self.take(certificates)
    }

    fn authorities(&mut self, client_auth: &config::ClientAuth) -> Option<Authorities> {
        let (mut certificates, mut lists) = (Vec::new(), Vec::new());
        for path in &client_auth.ca {
            let read = self.files.certificates(path, Kind::Decides);
            certificates.extend(self.take(read).into_iter().flatten().map(|certificate| (path, certificate)));
        }
        for path in &client_auth.crl {
            let read = self.files.revocation_lists(path);
            lists.extend(self.take(read).into_iter().flatten().map(|list| (path, list)));
        }
        let rules = Rules {
            expired_list_counts: client_auth.expired_crl_counts,
            lifetime_max: client_auth.lifetime_max,
            trusts_origin_pull: client_auth.trusts_origin_pull,
        };
        let ders: Vec<_> = certificates.iter().map(|(_, certificate)| certificate.clone()).collect();
        let list_ders: Vec<_> = lists.iter().map(|(_, list)| list.clone()).collect();
        let file = |of: &[&PathBuf], index: usize| of.get(index).map_or_else(PathBuf::new, |path| (*path).clone());
        let ca_file = |index| file(&certificates.iter().map(|(path, _)| *path).collect::<Vec<_>>(), index);
        let list_file = |index| file(&lists.iter().map(|(path, _)| *path).collect::<Vec<_>>(), index);
        let authorities =
            Authorities::new(&ders, &list_ders, rules).map_err(|bad| bad_authority(bad, ca_file, list_file));
        let authorities = self.take(authorities)?;
        if let Some(older) = self.beside.revocations.older_list(&authorities) {
            let message = "holds an older revocation list than one that was live";
            let hint = "its CRL number is lower; what was revoked since would be trusted again".to_owned();
            self.findings.push(Finding::of_file(list_file(older), message, Some(hint)));
        }
        Some(authorities)
    }

    fn trust(&mut self, config: &Config) -> Trust {
        let mut trust = Trust { edge: config.edge.clone(), ..Trust::default() };
        for workload in &config.workloads {
            for key in &workload.keys {
                trust.keys.extend(self.token_key(workload, key, config).map(|read| (key.kid.clone(), read)));
            }
            self.not_anothers_keys(workload, &trust);
            trust.workloads.insert(workload.workload.id.clone(), Arc::clone(&workload.workload));
        }
        if let Some(path) = &config.revoked_file {
            let revoked = self.revoked(path, config).unwrap_or_default();
            for kid in &revoked.keys {
                trust.keys.entry(kid.clone()).and_modify(|key| key.counts = Counts::Revoked);
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

    /// The limits of those scopes.
    fn limits(&self, scopes: &[Scope]) -> Box<[Limit]> {
        scopes.iter().filter_map(|scope| self.limits.get(scope)).flatten().cloned().collect()
    }

    /// Those people, and the provider that is asked for their keys, if it is asked.
    fn people(&mut self, people: &config::People) -> Option<(People, Option<Arc<Provider>>)> {
        let (keys, provider) = match &people.keys {
            ProviderKeys::File(path) => {
                let keys = self.files.key_set(path);
                (Arc::new(Keys::new(self.take(keys)?)), None)
            }
            ProviderKeys::Fetched { place, ca, allowed } => {
                let (issuer, place) = ((*people.terms.issuer).into(), place.clone());
                let source = Source { issuer, place, roots: self.roots(ca)?, allowed: allowed.clone() };
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
    fn roots(&mut self, ca: &[PathBuf]) -> Option<Roots> {
        if ca.is_empty() {
            let hint = "install them (Debian: ca-certificates), or name the provider's in `ca`".to_owned();
            let none = |_none| {
                Finding::of_file("", "this system has no CAs to fetch keys of identity providers by", Some(hint))
            };
            return self.take(Roots::of_system().map_err(none));
        }
        let mut certificates = Vec::new();
        for path in ca {
            let read = self.files.certificates(path, Kind::Decides);
            certificates.extend(self.take(read)?);
        }
        let bad = |bad: BadRoots| Finding::of_file(ca.first().cloned().unwrap_or_default(), bad.to_string(), None);
        self.take(Roots::new(&certificates).map_err(bad))
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

    fn token_key(&mut self, workload: &config::Workload, key: &TokenKeyFile, config: &Config) -> Option<TokenKey> {
        let (path, read) = match &key.source {
            KeySource::Public(path) => (path, self.files.public_key(path)),
            KeySource::Secret(path) => (path, self.files.shared_secret(path)),
        };
        let verifying = self.take(read)?;
        let now = self.beside.now.unix_seconds();
        let unseen = |fault| Finding::of_file(path, format!("its first sight cannot be remembered: {fault}"), None);
        let first = self.take(self.beside.sights.first(verifying.fingerprint(), self.beside.now).map_err(unseen))?;
        let created = key.created.unwrap_or(first);
        if created > now.saturating_add(DAY) {
            let message = format!("`{}` is created on a day that has not come", key.kid);
            self.findings.push(Finding::of_file(path, message, Some("a key's age counts from `created`".into())));
        }
        let born = created.min(first);
        let age_max = UnixSeconds::try_from(config.key_age_max.as_secs()).unwrap_or(UnixSeconds::MAX);
        let ends = born.saturating_add(age_max);
        let is_shared = verifying.algorithm().is_shared();
        if key.state != KeyState::Revoked {
            let then = if is_shared { "is refused" } else { "should be replaced" };
            let what = format!(
                "the key `{}` of {} {then} at the age of {} days",
                key.kid,
                workload.workload.name,
                age_max / DAY
            );
            self.aging.push(Aging { what, warn_from: ends.saturating_sub(15 * DAY), ends });
        }
        self.beside.metrics.token_key_created(&workload.workload.name, &key.kid, born);
        let counts = match (key.state, is_shared) {
            (KeyState::Revoked, _) => Counts::Revoked,
            (_, true) => Counts::Until(ends),
            (_, false) => Counts::Always,
        };
        let may_assert = Arc::clone(&workload.may_assert);
        Some(TokenKey { workload: Arc::clone(&workload.workload), key: verifying, may_assert, counts })
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
        let unknown = |kind: &str| Finding::of_file("", format!("there is no filter `{kind}`"), None);
        let filters = self.take(Chain::build(&route.filters).map_err(unknown))?;
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

    /// What a pool is built from, its servers' file and keys read.
    fn pool(&mut self, pool: &config::Pool, config: &Config, own: &Arc<Own>) -> Option<Plan> {
        let tls = self.origin_tls(pool);
        let sticky = pool.sticky.as_ref().map(|sticky| self.sticky(pool, sticky, config));
        let mut pool = pool.clone();
        if let Some(path) = pool.servers_file.clone() {
            let more = self.servers(&pool, &path, own);
            pool.servers.extend(more);
        }
        let sticky = match sticky {
            Some(sticky) => Some(sticky?),
            None => None,
        };
        Some(Plan { config: pool, tls, sticky, own: Arc::clone(own) })
    }

    /// The servers of a pool's file.
    fn servers(&mut self, pool: &config::Pool, path: &Path, own: &Own) -> Vec<config::Server> {
        let servers = self.files.servers(path).unwrap_or_else(|findings| {
            self.findings.extend(findings);
            Vec::new()
        });
        for server in &servers {
            if pool.servers.iter().any(|known| known.name == server.name || known.is_called(&server.name)) {
                let message = format!("`{}` is a server of the pool {} in the config, too", server.name, pool.name);
                self.findings.push(Finding::of_file(path, message, Some("give one of them another name".into())));
            }
            if matches!(&server.location, Location::Fixed(address) if own.has(address)) {
                let message = format!("the address of `{}` is Belay's own", server.name);
                self.findings.push(Finding::of_file(path, message, None));
            }
        }
        servers
    }

    /// The keys of a pool's cookies.
    fn sticky(&mut self, pool: &config::Pool, sticky: &config::Sticky, config: &Config) -> Option<Sticky> {
        let mut secrets = Vec::new();
        for (path, created) in &sticky.keys {
            let read = self.files.own_secret(path);
            let secret = self.take(read)?;
            let fingerprint = Digest::of(&[("sticky", secret.expose())]);
            let unseen = |fault| Finding::of_file(path, format!("its first sight cannot be remembered: {fault}"), None);
            let first = self.take(self.beside.sights.first(fingerprint, self.beside.now).map_err(unseen))?;
            let age_max = UnixSeconds::try_from(config.key_age_max.as_secs()).unwrap_or(UnixSeconds::MAX);
            let ends = created.unwrap_or(first).min(first).saturating_add(age_max);
            let (pool, days) = (&pool.name, age_max / DAY);
            let what = format!("a key of the pool {pool}'s cookies should be replaced at the age of {days} days");
            self.aging.push(Aging { what, warn_from: ends.saturating_sub(15 * DAY), ends });
            secrets.push(secret);
        }
        Some(Sticky::new(pool, sticky, &secrets))
    }

    /// The TLS of a pool; none if it has none, or if it is broken, which is noted then.
    fn origin_tls(&mut self, pool: &config::Pool) -> Option<OriginTls> {
        let tls = pool.tls.as_ref()?;
        let mut ca = Vec::new();
        for path in &tls.ca {
            let read = self.files.certificates(path, Kind::Decides);
            ca.extend(self.take(read)?);
        }
        let client = match &tls.client {
            Some((chain, key)) => {
                let chain = self.files.certificates(chain, Kind::Current);
                let key = self.files.private_key(key);
                Some((self.take(chain)?, self.take(key)?))
            }
            None => None,
        };
        let built = OriginTls::new(&ca, &tls.sni, client).map_err(|bad| {
            let client = tls.client.as_ref().map(|(_, key)| key).filter(|_| bad == BadOriginTls::Client);
            let file = client.or_else(|| tls.ca.first()).cloned().unwrap_or_default();
            Finding::of_file(file, bad.to_string(), None)
        });
        self.take(built)
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

    /// Notes a folder that is not there; what is written into it is opened, once, by its writer.
    pub(super) fn has_folder(&mut self, path: &Path, folder: Option<&Path>) {
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        if !fs::metadata(folder).is_ok_and(|found| found.is_dir()) {
            let hint = format!("make it: mkdir -p {}", folder.display());
            self.findings.push(Finding::of_file(path, "cannot be written: its folder is not there", Some(hint)));
        }
    }
}

/// What serves TLS, and who vouches for its clients.
type Tls = (Option<Arc<Terminator>>, Option<Arc<Authorities>>);

fn bad_authority(
    bad: BadAuthority,
    ca_file: impl Fn(usize) -> PathBuf,
    list_file: impl Fn(usize) -> PathBuf,
) -> Finding {
    let (file, message, hint) = match bad {
        BadAuthority::NoCa(index) => (
            ca_file(index),
            "holds a certificate that is no CA's",
            "a CA says `basicConstraints: critical, CA:TRUE` and has a subjectKeyIdentifier, keyCertSign if it has a keyUsage, and an authorityKeyIdentifier unless it signed itself",
        ),
        BadAuthority::OriginPull(index) => (
            ca_file(index),
            "holds Cloudflare's shared CA for Authenticated Origin Pulls, whose certificate every Cloudflare account can send",
            "use a CA of your own, or say that it is meant: `trust_shared_ca: cloudflare_origin_pull`",
        ),
        BadAuthority::NoList(index) => (
            list_file(index),
            "holds a revocation list that cannot be used",
            "a list as RFC 5280 says, with a CRL number",
        ),
        BadAuthority::Uncovered(index) => (
            ca_file(index),
            "holds a CA without a revocation list, although `crl` names lists",
            "add its list to `crl`: what cannot be checked would pass",
        ),
    };
    Finding::of_file(file, message, Some(hint.into()))
}
