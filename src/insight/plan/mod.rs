//! What a change of the config changes for whom.
//!
//! Who may do what is compared by requests: for every kind of request that the routes of either config tell apart, for a
//! stranger and for each workload, at each listener. What differs is told with one such request. Everything else that is
//! said differently is told setting by setting, so that nothing is left out.

mod guards;
mod people;

use super::asked::{Asked, AskedUser, Asker, users};
use super::judge::{Verdict, decide};
use super::settings::{self, Setting};
use crate::config::{Config, Route};
use crate::generation::Digest;
use crate::identity::Profile;
use crate::name::{ListenerName, WorkloadName};
use crate::policy::Access;
use crate::policy::rules::{RouteWords, Rule, RuleSet};
use crate::route::{Others, Table, examples, hiding};
use http::Method;
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
};

/// A config and the files that decide beside it.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The config.
    pub config: &'a Config,
    /// The files with their digests.
    pub files: &'a [(PathBuf, Digest)],
    /// The rules, if there are some.
    pub rules: Option<&'a RuleSet>,
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// For whom something is decided differently.
    pub changes: Vec<Change>,
    /// Routes that no request reaches any more.
    pub shadowed: Vec<String>,
    /// What is said differently, beside what `changes` tells.
    pub settings: Vec<Setting>,
    /// Rules that are new, changed or gone.
    pub rules: Vec<RuleChange>,
    /// Files with another content, new ones, and ones that are not read any more.
    pub files: Vec<PathBuf>,
    /// What must be accepted by name.
    pub dangers: Vec<Danger>,
}

/// What is decided differently.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// How.
    pub kind: Kind,
    /// The route that decides, or the one that did.
    pub route: String,
    /// At which listeners.
    pub listeners: BTreeSet<String>,
    /// For these workloads, and people through them; `strangers` is everybody else.
    pub whom: BTreeSet<String>,
    /// A request that is decided differently.
    pub witness: Witness,
}

/// How a decision changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Everybody may, without an identity.
    Public,
    /// Less proof is asked.
    Weaker,
    /// Who might not, may.
    Opens,
    /// Who might, may not.
    Closes,
    /// Other proof is asked, and not less.
    Stronger,
    /// Another route, rule or pool takes it.
    Moves,
    /// Who may not pass is not told of it any more.
    Hides,
    /// Who may not pass is told of it.
    Reveals,
}

/// A request, and what is decided of it before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Witness {
    /// The request.
    pub asked: Asked,
    /// What was decided.
    pub before: Verdict,
    /// What will be.
    pub after: Verdict,
}

/// A rule that is new, changed or gone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleChange {
    /// As it was.
    pub before: Option<Rule>,
    /// As it will be.
    pub after: Option<Rule>,
}

/// Something that is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Danger {
    /// By what it is accepted.
    pub name: String,
    /// What it is.
    pub what: String,
}

impl Plan {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.shadowed.is_empty()
            && self.settings.is_empty()
            && self.files.is_empty()
            && self.rules.is_empty()
    }

    /// The dangers that were not accepted.
    pub fn unaccepted<'a>(&'a self, accepted: &'a [String]) -> impl Iterator<Item = &'a Danger> {
        let is_meant = |danger: &&Danger| accepted.iter().any(|name| *name == danger.name || name == "all");
        self.dangers.iter().filter(move |danger| !is_meant(danger))
    }
}

/// What changes from one to the other.
#[must_use]
pub fn plan(old: &Side<'_>, new: &Side<'_>) -> Plan {
    let changes = decisions(old.config, new.config);
    let before = shadowed(old.config);
    let shadowed = shadowed(new.config).into_iter().filter(|name| !before.contains(name)).collect();
    let settings = told(old.config, new.config, &changes);
    let files = files(old.files, new.files);
    let mut dangers = dangerous(old.config, new.config, &changes);
    dangers.extend(unlocked(old.rules, new.rules));
    let rules = rules(old.rules, new.rules);
    Plan { changes, shadowed, settings, rules, files, dangers }
}

fn rules(old: Option<&RuleSet>, new: Option<&RuleSet>) -> Vec<RuleChange> {
    let [old, new] = [old, new].map(|rules| rules.map(RuleSet::all).unwrap_or_default());
    fn same<'a>(all: &'a [Rule], rule: &Rule) -> Option<&'a Rule> {
        all.iter().find(|other| other.id == rule.id)
    }
    let gone = old.iter().filter(|rule| same(new, rule).is_none());
    let gone = gone.map(|rule| RuleChange { before: Some(rule.clone()), after: None });
    let other = new.iter().filter(|rule| same(old, rule).is_none_or(|before| !before.decides_like(rule)));
    let other = other.map(|rule| RuleChange { before: same(old, rule).cloned(), after: Some(rule.clone()) });
    gone.chain(other).collect()
}

/// Guardrails that would be gone, or changed, or would hold for less of a route than they do.
#[must_use]
pub fn unlocked(old: Option<&RuleSet>, new: Option<&RuleSet>) -> Vec<Danger> {
    let Some(old) = old else { return Vec::new() };
    let locked = old.all().iter().filter(|rule| rule.is_locked);
    let danger = |rule: &Rule| {
        let id = &rule.id;
        let Some(new) = new.filter(|new| new.all().iter().any(|other| other.decides_like(rule))) else {
            return Some(guards::danger(id, "locked", format!("the guardrail `{id}` would be gone, or another")));
        };
        let routes = old.routes().filter(|route| loses(rule, (old, new), route));
        let names: Vec<_> = routes.map(|route| route.name.as_str()).collect();
        let meaning = format!("the guardrail `{id}` would not hold as it does at {}", names.join(", "));
        (!names.is_empty()).then(|| guards::danger(id, "locked", meaning))
    };
    locked.filter_map(danger).collect()
}

/// Whether a route would keep less out by a rule than it does. A route that is gone keeps all out.
fn loses(rule: &Rule, (old, new): (&RuleSet, &RuleSet), route: &RouteWords) -> bool {
    let Some(later) = new.routes().find(|later| later.name == route.name) else { return false };
    let facts_are_gone = !rule.facts.is_empty() && route.has_facts && !later.has_facts;
    let taken = new.taken_by(&route.name);
    let (before, after) = (old.held_by(rule, &route.name), new.held_by(rule, &route.name));
    let is_lost = |action: &&str| taken.contains(action) && !after.contains(action);
    (facts_are_gone && !before.is_empty()) || before.iter().any(is_lost)
}

/// What must be accepted before a change is made: the dangers of [`plan`], and nothing else of it, since every reload
/// asks.
#[must_use]
pub fn dangers(old: &Config, new: &Config) -> Vec<Danger> {
    dangerous(old, new, &decisions(old, new))
}

fn dangerous(old: &Config, new: &Config, changes: &[Change]) -> Vec<Danger> {
    let mut guards = guards::weaker(old, new);
    people::weaker(old, new, &mut guards);
    changes.iter().filter_map(danger).chain(guards).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Which route takes a request, before and after.
type Pair = (Option<usize>, Option<usize>);
/// Method, host and path.
type Request = (Method, String, String);

/// What is decided differently, of whatever the routes of either config tell apart.
fn decisions(old: &Config, new: &Config) -> Vec<Change> {
    let table = |config: &Config| {
        let patterns = config.routes.iter().map(|route| route.pattern.clone());
        Table::new(patterns.zip(0_usize..))
    };
    let (before, after) = (table(old), table(new));
    let methods = methods(old, new);
    let pairs = if have_same_patterns(old, new) {
        one_for_each(new, &after, &changed(old, new), &methods)
    } else {
        // Each pair of routes that some request belongs to, with the first such request.
        let mut pairs: BTreeMap<Pair, Request> = BTreeMap::new();
        for (host, path) in requests(old, new) {
            for method in &methods {
                let pair = (before.first(method, &host, &path).copied(), after.first(method, &host, &path).copied());
                pairs.entry(pair).or_insert_with(|| (method.clone(), host.clone(), path.clone()));
            }
        }
        pairs
    };
    let mut found = Found::default();
    let listeners: BTreeSet<&ListenerName> =
        [old, new].iter().flat_map(|it| &it.listeners).map(|it| &it.name).collect();
    let workloads = [old, new].into_iter().flat_map(|it| &it.workloads).map(|it| &it.workload.name);
    let everybody: BTreeSet<Option<&WorkloadName>> = workloads.map(Some).chain([None]).collect();
    let users = users([old, new]);
    let alone = |user: Option<&'_ AskedUser>| user.is_none();
    let everywhere = |user| {
        let known = everybody.iter().filter(move |who| who.is_some() || alone(user));
        let places = |workload| listeners.iter().map(move |listener| Asker { listener, workload, user });
        known.copied().flat_map(places).collect::<Vec<_>>()
    };
    let without = everywhere(None);
    let with: Vec<_> = users.iter().flat_map(|user| everywhere(Some(user))).collect();
    for ((was, is), request) in &pairs {
        let was = was.and_then(|index| old.routes.get(index));
        let is = is.and_then(|index| new.routes.get(index));
        let stays_public = was.is_some_and(is_public) && is.is_some_and(is_public);
        let asks_for_users = demands_user(old, was) || demands_user(new, is);
        for asker in without.iter().chain(with.iter().filter(|_| asks_for_users)) {
            let before = decide(old, was, *asker);
            // Another door to what was open to everybody opens it to nobody else.
            if !(stays_public && before == Verdict::Nowhere) {
                found.compare((before, decide(new, is, *asker)), *asker, request);
            }
        }
    }
    found.changes.into_values().collect()
}

fn is_public(route: &Route) -> bool {
    matches!(*route.access, Access::Public(_))
}

/// Whether a user is demanded there, at some listener.
fn demands_user(config: &Config, route: Option<&Route>) -> bool {
    let by_listeners = || config.listeners.iter().any(|listener| listener.identity.needs_user());
    route.and_then(|route| route.identity).map_or_else(by_listeners, Profile::needs_user)
}

/// Changes, by how and of which routes.
#[derive(Default)]
struct Found {
    changes: BTreeMap<(Kind, Option<String>, Option<String>), Change>,
}

impl Found {
    fn compare(&mut self, (before, after): (Verdict, Verdict), asker: Asker<'_>, (method, host, path): &Request) {
        let Some(kind) = kind(&before, &after) else { return };
        let key = (kind, before.route().map(str::to_owned), after.route().map(str::to_owned));
        let change = self.changes.entry(key).or_insert_with(|| Change {
            kind,
            route: after.route().or_else(|| before.route()).unwrap_or("no route").to_owned(),
            listeners: BTreeSet::new(),
            whom: BTreeSet::new(),
            witness: Witness {
                asked: Asked {
                    listener: asker.listener.clone(),
                    workload: asker.workload.cloned(),
                    user: asker.user.cloned(),
                    method: method.clone(),
                    host: host.clone(),
                    path: path.clone(),
                },
                before,
                after,
            },
        });
        change.listeners.insert(asker.listener.to_string());
        change.whom.insert(asker.in_words("strangers"));
    }
}

/// The status of a request that no route takes.
const NOTHING: u16 = 404;

fn kind(before: &Verdict, after: &Verdict) -> Option<Kind> {
    match (before, after) {
        (
            Verdict::Allow { profile: old, route, rule, pool },
            Verdict::Allow { profile: new, route: to, rule: by, pool: there },
        ) => match (old, new) {
            (Some(_), None) => Some(Kind::Public),
            (None, Some(_)) => Some(Kind::Stronger),
            (Some(old), Some(new)) if old != new => {
                Some(if is_weaker(*new, *old) { Kind::Weaker } else { Kind::Stronger })
            }
            _ => ((route, rule, pool) != (to, by, there)).then_some(Kind::Moves),
        },
        (_, Verdict::Allow { profile: None, .. }) => Some(Kind::Public),
        (_, Verdict::Allow { .. }) => Some(Kind::Opens),
        (Verdict::Allow { .. }, _) => Some(Kind::Closes),
        // Only a hidden route answers as none.
        (
            Verdict::Deny { route: Some(was), status: before, .. },
            Verdict::Deny { route: Some(is), status: after, .. },
        ) if was == is => match (*before == NOTHING, *after == NOTHING) {
            (false, true) => Some(Kind::Hides),
            (true, false) => Some(Kind::Reveals),
            (_, _) => None,
        },
        (_, _) => None,
    }
}

/// Whether a profile leaves out a proof that another demands. A shared secret proves less than a key pair.
fn is_weaker(one: Profile, than: Profile) -> bool {
    let proofs: [fn(Profile) -> bool; 3] = [Profile::needs_certificate, Profile::needs_token, Profile::needs_user];
    let a_secret_only = one.needs_secret() && than.of_workload() == Profile::Jwt;
    proofs.into_iter().any(|proof| proof(than) && !proof(one)) || a_secret_only
}

/// Hosts and paths that stand for all requests that could be decided differently.
fn requests(old: &Config, new: &Config) -> BTreeSet<(String, String)> {
    let all: Vec<&Route> = old.routes.iter().chain(&new.routes).collect();
    let others = Others::than(all.iter().map(|route| &route.pattern));
    let changed = changed(old, new);
    let mut requests = BTreeSet::new();
    for one in all.iter().filter(|route| changed.contains(route.name.as_str())) {
        for other in &all {
            requests.extend(examples(&one.pattern, &other.pattern, &others));
        }
    }
    requests
}

/// Whether the same routes are there in the same order, and take the same requests.
fn have_same_patterns(old: &Config, new: &Config) -> bool {
    let same = |(was, is): (&Route, &Route)| was.name == is.name && was.pattern == is.pattern;
    old.routes.len() == new.routes.len() && old.routes.iter().zip(&new.routes).all(same)
}

/// A request for each of those routes, as far as any comes to it: where all take what they took, that is enough.
fn one_for_each(
    config: &Config,
    table: &Table<usize>,
    changed: &HashSet<&str>,
    methods: &[Method],
) -> BTreeMap<Pair, Request> {
    let unnamed = Others::than(config.routes.iter().map(|route| &route.pattern));
    let routes = config.routes.iter().enumerate();
    let wanted = routes.filter(|(_, route)| changed.contains(route.name.as_str()));
    let found = wanted.filter_map(|(index, one)| {
        let others = std::iter::once(one).chain(&config.routes);
        let mut requests = others
            .flat_map(|other| examples(&one.pattern, &other.pattern, &unnamed))
            .flat_map(|(host, path)| methods.iter().map(move |method| (method.clone(), host.clone(), path.clone())));
        let request = requests.find(|(method, host, path)| table.first(method, host, path) == Some(&index))?;
        Some(((Some(index), Some(index)), request))
    });
    found.collect()
}

/// The routes that decide differently, or at another place in the order; all of them, if who can prove what is different.
fn changed<'a>(old: &'a Config, new: &'a Config) -> HashSet<&'a str> {
    let (before, after) = (names(old), names(new));
    let (kept, ordered) = in_both(old, new);
    if kept != ordered || proofs(old) != proofs(new) {
        return before.into_iter().chain(after).collect();
    }
    let by_name =
        |config: &'a Config| config.routes.iter().map(|route| (route.name.as_str(), route)).collect::<BTreeMap<_, _>>();
    let (old_routes, new_routes) = (by_name(old), by_name(new));
    let is_same = |name: &str| match (old_routes.get(name), new_routes.get(name)) {
        (Some(one), Some(other)) => is_same(one, other),
        (_, _) => false,
    };
    before.into_iter().chain(after).filter(|name| !is_same(name)).collect()
}

fn names(config: &Config) -> Vec<&str> {
    config.routes.iter().map(|route| route.name.as_str()).collect()
}

/// The routes that both have, in the order of each.
fn in_both<'a>(old: &'a Config, new: &'a Config) -> (Vec<&'a str>, Vec<&'a str>) {
    let (before, after) = (names(old), names(new));
    let (earlier, later): (HashSet<_>, HashSet<_>) =
        (before.iter().copied().collect(), after.iter().copied().collect());
    let kept = |names: Vec<&'a str>, others: &HashSet<&str>| {
        names.into_iter().filter(|name| others.contains(name)).collect::<Vec<_>>()
    };
    (kept(before, &later), kept(after, &earlier))
}

/// Whether two routes decide the same.
fn is_same(one: &Route, other: &Route) -> bool {
    let rules = |access: &Access| match access {
        Access::Public(_) => None,
        Access::Listed(list) => {
            let (workloads, roles) = (list.workloads.keys(), list.roles.keys());
            let names = workloads.map(ToString::to_string).chain(roles.map(|role| format!("role {role}")));
            Some(names.collect::<BTreeSet<_>>())
        }
    };
    one.pattern == other.pattern
        && (one.identity, one.is_hidden, &one.pool) == (other.identity, other.is_hidden, &other.pool)
        && rules(&one.access) == rules(&other.access)
}

/// All that says who can prove what, beside the routes.
fn proofs(config: &Config) -> Vec<String> {
    let listeners = config.listeners.iter().map(|listener| {
        let trusts = listener.tls.as_ref().map(|tls| tls.client_auth.is_some());
        format!("{} {} {trusts:?}", listener.name, listener.identity)
    });
    let workloads = config.workloads.iter().map(|it| {
        let keys: Vec<_> = it.keys.iter().map(|key| format!("{:?} {:?}", key.source, key.state)).collect();
        format!("{} {:?} {keys:?}", it.workload.name, it.workload.roles)
    });
    let people = config.people.iter().map(|it| format!("{} {:?}", it.terms.name, it.terms.memberships));
    listeners.chain(workloads).chain(people).chain([config.edge.is_some().to_string()]).collect()
}

/// Methods that some route names, and one that none does; GET first, since it reads best.
fn methods(old: &Config, new: &Config) -> Vec<Method> {
    let listed = old.routes.iter().chain(&new.routes).filter_map(|route| route.pattern.methods.as_deref()).flatten();
    let mut methods: Vec<Method> = listed.cloned().collect();
    let usual = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::OPTIONS];
    methods.extend(usual.into_iter().chain([Method::TRACE]).find(|method| !methods.contains(method)));
    methods.sort_by_key(|method| (method != Method::GET, method.as_str().to_owned()));
    methods.dedup();
    methods
}

/// Routes whose requests an earlier one takes.
fn shadowed(config: &Config) -> Vec<String> {
    let hiding = hiding(config.routes.iter().map(|route| &route.pattern));
    let hidden = config.routes.iter().zip(hiding).filter(|(_, hiding)| hiding.is_some());
    hidden.map(|(route, _)| route.name.to_string()).collect()
}

/// The settings that differ, without those that `changes` tells already.
fn told(old: &Config, new: &Config, changes: &[Change]) -> Vec<Setting> {
    let value = |config: &Config| serde_json::to_value(&*config.document).unwrap_or_default();
    let mut settings = settings::compare(&value(old), &value(new));
    let is_told = |setting: &Setting| {
        changes.iter().any(|change| {
            let route = format!("routes[{}]", change.route);
            let rest = setting.place.strip_prefix(&route);
            rest.is_some_and(|rest| {
                (rest.is_empty() && is_plain(setting)) || [".allow", ".hide", ".identity", ".pool"].contains(&rest)
            })
        })
    };
    settings.retain(|setting| !is_told(setting));
    let order = |config: &Config| config.routes.iter().map(|route| Value::from(route.name.as_str())).collect::<Value>();
    let (kept, ordered) = in_both(old, new);
    if kept != ordered {
        settings.push(Setting { place: "the order of routes".into(), from: Some(order(old)), to: Some(order(new)) });
    }
    settings
}

/// Whether a route that comes or goes says nothing but what its change tells.
fn is_plain(setting: &Setting) -> bool {
    let told = |key: &String| ["name", "match", "allow", "hide", "identity", "pool"].contains(&key.as_str());
    [&setting.from, &setting.to].into_iter().flatten().filter_map(Value::as_object).all(|it| it.keys().all(told))
}

fn files(old: &[(PathBuf, Digest)], new: &[(PathBuf, Digest)]) -> Vec<PathBuf> {
    let differs = |one: &'_ (PathBuf, Digest), others: &[(PathBuf, Digest)]| !others.contains(one);
    let gone = old.iter().filter(|file| differs(file, new));
    let come = new.iter().filter(|file| differs(file, old));
    gone.chain(come).map(|(path, _)| path.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What must be said out loud of a decision.
fn danger(change: &Change) -> Option<Danger> {
    let route = &change.route;
    match change.kind {
        Kind::Public => Some(Danger {
            name: format!("{route}.public"),
            what: format!("`{route}` lets everybody in, without an identity"),
        }),
        Kind::Weaker => {
            Some(Danger { name: format!("{route}.identity"), what: format!("`{route}` asks for less proof") })
        }
        Kind::Reveals => {
            Some(Danger { name: format!("{route}.hide"), what: format!("`{route}` is not hidden any more") })
        }
        Kind::Opens | Kind::Closes | Kind::Stronger | Kind::Moves | Kind::Hides => None,
    }
}

#[cfg(test)]
mod tests;
