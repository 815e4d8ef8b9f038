//! What a config decides of one request, step by step: where it comes in, which route takes it, what must be proved, which
//! rule allows it or nearly does, and where it leads.

use super::asked::{Asked, Asker};
use super::circumstances::{Circumstances, principal};
use super::judge::{Verdict, judge};
use crate::config::{Config, KeySource, KeyState, Listener, Location, Route, Scope, Workload};
use crate::identity::{Asserted, By, Profile, are_few};
use crate::name::RoleName;
use crate::policy::{Access, AllowList};
use crate::principal::Principal;
use crate::verdict::RuleId;
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Display};

/// A decision with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Story {
    /// What is asked.
    pub asked: Asked,
    /// What the workload's token says beside it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: Asserted,
    /// What is decided.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Why, in the order in which it is decided.
    pub steps: Vec<Step>,
    /// The rules that have spoken, of lists and of files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleId>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is about, in a word.
    pub about: &'static str,
    /// What there is to say.
    pub says: String,
}

/// Facts that a workload's token states, by name.
pub type SignedFacts = BTreeMap<String, String>;

/// Routes that almost take a request, and names of a list, are told up to that number.
const TOLD_MAX: usize = 5;

/// What a config decides, and why, of a request whose workload's token states those facts.
#[must_use]
pub fn explain(config: &Config, asked: &Asked, facts: &SignedFacts, beside: &Circumstances<'_>) -> Story {
    story(config, asked, &beside.clone().signed(config, facts))
}

/// The same, where the circumstances have the facts.
pub(super) fn story(config: &Config, asked: &Asked, beside: &Circumstances<'_>) -> Story {
    let facts = &beside.asserted;
    let mut verdict = judge(config, asked, beside);
    let mut spoken: Vec<RuleId> = verdict.rule().cloned().into_iter().collect();
    let mut steps = Vec::new();
    let mut step = |about, says: String| steps.push(Step { about, says });
    let listener = config.listeners.iter().find(|known| known.name == asked.listener);
    step("listener", listener.map_or_else(|| no_listener(config), told_listener));
    if let Some(listener) = listener {
        let takes = |route: &&Route| route.pattern.takes(&asked.method, &asked.host, &asked.path);
        let at = config.routes.iter().position(|route| takes(&route));
        let route = at.and_then(|at| Some((at, config.routes.get(at)?)));
        step("route", route.map_or_else(|| no_route(config, asked), |(at, route)| told_route(config, at, route)));
        let route = route.map(|(_, route)| route);
        let heard = told_facts(config, (listener, route), asked, facts);
        let says = heard.as_ref().map(|heard| heard.says.clone());
        match route {
            Some(route) => of_route(config, (listener, route), (asked, says), beside, (&mut step, &mut spoken)),
            None => says.into_iter().for_each(|says| step("facts", says)),
        }
        // Who can prove nothing signs no token.
        let is_unknown = matches!(verdict, Verdict::Deny { status: 401, .. });
        // Who may not pass never comes to the limits.
        let is_reached = |said: &Verdict| !matches!(said, Verdict::Deny { status: 429, .. }) || verdict.is_allowed();
        let said = heard.and_then(|heard| heard.verdict).filter(|said| !is_unknown && is_reached(said));
        verdict = said.unwrap_or(verdict);
    }
    spoken.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    spoken.dedup();
    Story { asked: asked.clone(), facts: facts.clone(), verdict, steps, rules: spoken }
}

fn of_route(
    config: &Config,
    (listener, route): (&Listener, &Route),
    (asked, facts): (&Asked, Option<String>),
    beside: &Circumstances<'_>,
    (step, spoken): (&mut impl FnMut(&'static str, String), &mut Vec<RuleId>),
) {
    let mut facts = facts.into_iter();
    let who = asked.asker().known(config);
    match &*route.access {
        Access::Public(rule) => {
            step("rule", format!("{rule} lets everybody in, and no identity is asked"));
            let says = beside.told((asked, &Principal::Anonymous), (listener, route), spoken);
            says.into_iter().for_each(|says| step("policies", says));
        }
        Access::Listed(list) => {
            step("proof", proof(config, (listener, route), asked, who));
            facts.by_ref().for_each(|says| step("facts", says));
            let profile = route.identity.unwrap_or(listener.identity);
            if profile.needs_user() {
                step("user", user(config, asked.asker(), who));
            }
            // Where no user is demanded, nobody looks for one.
            let user = asked.user.as_ref().filter(|_| profile.needs_user());
            let asker = Asker { user, ..asked.asker() };
            step("rule", rule(config, list, asker, who));
            if let Some(who) = who {
                let roles = asker.roles_of_user(config, beside.people, who).cloned().collect();
                let principal = principal(config, who, user.map(|user| (user, roles)));
                let says = beside.told((asked, &principal), (listener, route), spoken);
                says.into_iter().for_each(|says| step("policies", says));
            }
        }
    }
    facts.for_each(|says| step("facts", says));
    if route.is_hidden {
        step("hidden", "who may not pass is told what he would be told without the route".into());
    }
    let limits = limits(config, (listener, route));
    if !limits.is_empty() {
        step("limits", list_of(limits));
    }
    if route.demands_digest {
        step("body", "the token must carry the digest of the request's body (cdg)".into());
    }
    if !route.filters.is_empty() {
        step("filters", list_of(route.filters.iter().map(|(kind, _)| *kind)));
    }
    step("pool", pool(config, route));
}

/// What becomes of facts.
struct Heard {
    says: String,
    /// None where they change nothing.
    verdict: Option<Verdict>,
}

/// What becomes of the facts that the token states; none if it states none.
fn told_facts(
    config: &Config,
    (listener, route): (&Listener, Option<&Route>),
    asked: &Asked,
    facts: &Asserted,
) -> Option<Heard> {
    let unheard = |says: &str| Some(Heard { says: says.to_owned(), verdict: None });
    let is_public = route.is_some_and(|route| matches!(*route.access, Access::Public(_)));
    let profile = route.and_then(|route| route.identity).unwrap_or(listener.identity);
    // Where the token says the host, it is read before there is a route.
    let is_read =
        (listener.host_from_token && listener.identity.needs_token()) || (profile.needs_token() && !is_public);
    let who = asked.asker().known(config);
    match who {
        _ if facts.is_empty() => None,
        _ if !is_read => unheard("no token is read here, so they change nothing"),
        None => unheard("whose token it is is not known, so they change nothing"),
        Some(workload) => {
            let heard = heard(config, workload, route, facts);
            // What the edge says of it counts where the token counts.
            let says_enough =
                heard.verdict.is_none().then(|| said_by_the_edge(config, (listener, route), facts)).flatten();
            Some(says_enough.unwrap_or(heard))
        }
    }
}

/// The limit that a fact of the edge's exceeds.
fn said_by_the_edge(
    config: &Config,
    (listener, route): (&Listener, Option<&Route>),
    facts: &Asserted,
) -> Option<Heard> {
    let route = route?;
    let mut limits = config.limits.iter().filter(|limit| is_for(&limit.scope, (listener, route)));
    let limit = limits.find(|limit| {
        let said = limit.edge.as_ref().and_then(|edge| Some((edge, facts.get(&*edge.claim)?)));
        said.is_some_and(|(edge, said)| edge.has.iter().any(|value| said.as_str() == Some(value)))
    })?;
    let verdict = Verdict::Deny {
        route: Some(route.name.clone()),
        status: 429,
        reason: "the edge says that it is too much",
        rule: None,
    };
    Some(Heard { says: format!("{} refuses what the edge says", limit.name), verdict: Some(verdict) })
}

/// What becomes of the facts that a workload's token states, which must be among those that it may assert, and not too
/// much.
fn heard(config: &Config, workload: &Workload, route: Option<&Route>, stated: &Asserted) -> Heard {
    let may = |claim: &&str| workload.may_assert.iter().any(|known| **known == **claim);
    let (facts, others): (Vec<_>, Vec<_>) = stated.keys().map(|name| &**name).partition(may);
    let name = &workload.workload.name;
    let fault = if !others.is_empty() {
        format!("{name} may not assert {}: a token that does is refused, see `may_assert`", list_of(others))
    } else if !are_few(stated.iter().map(|(name, value)| (&**name, value))) {
        "these are more than a token may assert".into()
    } else {
        let is_declared = |fact: &&&str| config.words.facts.iter().any(|known| *known.name == ***fact);
        let read: Vec<_> = facts.iter().filter(is_declared).collect();
        let read =
            if read.is_empty() { "no rule reads it".into() } else { format!("rules may read {}", list_of(read)) };
        return Heard { says: format!("{name} may assert {}; {read}", list_of(facts)), verdict: None };
    };
    let (route, reason) = (route.map(|route| route.name.clone()), "the token asserts too much");
    Heard { says: fault, verdict: Some(Verdict::Deny { route, status: 401, reason, rule: None }) }
}

fn told_listener(listener: &Listener) -> String {
    let at = list_of(&listener.bind);
    let tls = if listener.tls.is_some() { "with TLS" } else { "without TLS" };
    let sources = if listener.sources.is_some() { ", from its `sources` only" } else { "" };
    format!("{} at {at}, {tls}{sources}; it demands {} where a route does not say", listener.name, listener.identity)
}

fn no_listener(config: &Config) -> String {
    format!("there is none of that name; there are {}", list_of(config.listeners.iter().map(|known| &known.name)))
}

fn told_route(config: &Config, index: usize, route: &Route) -> String {
    let (number, all) = (index.saturating_add(1), config.routes.len());
    format!("{} takes it ({}; number {number} of {all})", route.name, told_pattern(route))
}

fn told_pattern(route: &Route) -> String {
    let methods = route.pattern.methods.as_ref().map(|methods| list_of(methods.iter()));
    let methods = methods.unwrap_or_else(|| "any method".into());
    format!("host {}, path {}, {methods}", route.pattern.host, route.pattern.path)
}

/// Routes that would take it, were one thing of it different.
fn no_route(config: &Config, asked: &Asked) -> String {
    let almost = config.routes.iter().filter_map(|route| {
        let pattern = &route.pattern;
        let fits = [
            pattern.methods.as_ref().is_none_or(|methods| methods.contains(&asked.method)),
            pattern.host.takes(&asked.host),
            pattern.path.takes(&asked.path),
        ];
        let but = match fits {
            [false, true, true] => "method",
            [true, false, true] => "host",
            [true, true, false] => "path",
            _ => return None,
        };
        Some(format!("{} but for the {but} ({})", route.name, told_pattern(route)))
    });
    let almost: Vec<_> = almost.take(TOLD_MAX).collect();
    match almost.as_slice() {
        [] => "none takes it".into(),
        almost => format!("none takes it; almost: {}", almost.join("; ")),
    }
}

/// What must be proved, and whether he who asks can.
fn proof(config: &Config, (listener, route): (&Listener, &Route), asked: &Asked, who: Option<&Workload>) -> String {
    let profile = route.identity.unwrap_or(listener.identity);
    let by = if route.identity.is_some() { "the route" } else { "the listener" };
    let demanded = format!("{by} demands {profile}");
    if profile == Profile::None {
        return format!("{demanded}, by which nobody proves who he is");
    }
    let Some(workload) = who else {
        return match &asked.workload {
            Some(name) => format!("{demanded}; the config knows no workload {name}"),
            None => format!("{demanded}; a stranger proves nothing"),
        };
    };
    let name = &workload.workload.name;
    let Some(tls) = &listener.tls else { return format!("{demanded}, which takes TLS, and the listener has none") };
    let mut shown = Vec::new();
    if profile.needs_certificate() {
        if tls.client_auth.is_none() {
            return format!("{demanded}; {name} cannot show a certificate, because the listener trusts no CA");
        }
        shown.push(format!("a certificate with the URI {}", workload.workload.id));
    }
    if profile.needs_token() {
        match token(config, workload, profile) {
            Ok(text) => shown.push(text),
            Err(why) => return format!("{demanded}; {name} cannot sign a token, because {why}"),
        }
    }
    format!("{demanded}: {name} shows {}", shown.join(" and "))
}

/// Which keys sign, or why none does.
fn token(config: &Config, workload: &Workload, profile: Profile) -> Result<String, String> {
    if config.edge.is_none() {
        return Err("the config has no `edge`".into());
    }
    let is_shared = profile.needs_secret();
    let fitting = workload.keys.iter().filter(|key| matches!(key.source, KeySource::Secret(_)) == is_shared);
    let (revoked, good): (Vec<_>, Vec<_>) = fitting.partition(|key| key.state == KeyState::Revoked);
    if good.is_empty() {
        let kind = if is_shared { "shared secret" } else { "public key" };
        return Err(match revoked.is_empty() {
            true => format!("the config has no {kind} of it"),
            false => format!("every {kind} of it is revoked: {}", list_of(revoked.iter().map(|key| &key.kid))),
        });
    }
    Ok(format!("a token signed with {}", list_of(good.iter().map(|key| &key.kid))))
}

/// Which user is proved, and what he is through that workload.
fn user(config: &Config, asker: Asker<'_>, who: Option<&Workload>) -> String {
    let Some(user) = asker.user else { return "nobody's token comes with it, and it must be one of `people`".into() };
    if !asker.is_known_user(config) {
        return format!("the config knows no people {}", user.people);
    }
    let roles: Vec<_> = who.into_iter().flat_map(|who| asker.roles_of_user(config, None, who)).collect();
    let through = who.map(|who| format!(" through {}", who.workload.name)).unwrap_or_default();
    if roles.is_empty() { format!("{user}: no role{through}") } else { format!("{user}: {}{through}", list_of(roles)) }
}

/// The rule that allows it, or those that there are.
fn rule(config: &Config, list: &AllowList, asker: Asker<'_>, who: Option<&Workload>) -> String {
    let roles: Vec<_> = who
        .into_iter()
        .flat_map(|who| who.workload.roles.iter().chain(asker.roles_of_user(config, None, who)))
        .collect();
    if let Some(rule) = who.and_then(|who| list.rule_for(&who.workload.name, roles.iter().copied())) {
        return format!("{rule} allows it");
    }
    let mut allowed: Vec<_> = list.workloads.keys().map(ToString::to_string).collect();
    allowed.extend(list.roles.keys().map(|role| format!("role {role} ({})", members(config, role))));
    allowed.sort();
    let allowed = list_of(&allowed);
    match (asker.workload, who) {
        (Some(name), Some(_)) if roles.is_empty() => {
            let who = if asker.user.is_some() {
                format!("neither {name} nor the user has a role")
            } else {
                format!("{name} has no role")
            };
            format!("none allows it: {who}, and allowed are {allowed}")
        }
        (Some(name), Some(_)) => {
            format!("none allows it: {name} has the roles {}, and allowed are {allowed}", list_of(roles))
        }
        _ => format!("allowed are {allowed}"),
    }
}

/// Who has a role.
fn members(config: &Config, role: &RoleName) -> String {
    let of_people = config.people.iter().map(|people| &people.terms).find_map(|people| {
        let membership = people.memberships.iter().find(|membership| membership.role == *role)?;
        let through = list_of(membership.through.iter());
        let whose = match &membership.by {
            By::Everybody => String::new(),
            By::Claim(claim, wanted) => format!(" whose {claim} has {}", wanted.join(" or ")),
            By::Mapping(_) => " whom its mapping names, which is not read here,".into(),
        };
        Some(format!("{}{whose} through {through}", people.name))
    });
    let has = |known: &&Workload| known.workload.roles.contains(role);
    let workloads: Vec<_> = config.workloads.iter().filter(has).map(|known| &known.workload.name).collect();
    of_people.unwrap_or_else(|| if workloads.is_empty() { "nobody".into() } else { list_of(workloads) })
}

/// The limits that are for it.
fn limits(config: &Config, (listener, route): (&Listener, &Route)) -> Vec<String> {
    let limits = config.limits.iter().filter(|limit| is_for(&limit.scope, (listener, route)));
    limits.map(|limit| limit.name.to_string()).collect()
}

fn is_for(scope: &Scope, (listener, route): (&Listener, &Route)) -> bool {
    match scope {
        Scope::Listener(name) => *name == listener.name,
        Scope::Route(name) => *name == route.name,
        Scope::Pool(name) => *name == route.pool,
    }
}

fn pool(config: &Config, route: &Route) -> String {
    let name = &route.pool;
    let Some(pool) = config.pools.iter().find(|pool| pool.name == *name) else { return name.to_string() };
    let server = |server: &crate::config::Server| match &server.location {
        Location::Fixed(address) => format!("{} at {address}", server.name),
        Location::Found { question, .. } => format!("{} by DNS ({question})", server.name),
    };
    let mut servers: Vec<_> = pool.servers.iter().map(server).collect();
    servers.extend(pool.servers_file.as_ref().map(|file| format!("those in {}", file.display())));
    let tls = if pool.tls.is_some() { ", over TLS" } else { "" };
    format!("{name}: {}{tls}", list_of(&servers))
}

/// Names with commas; the first of many.
pub(super) fn list_of<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    let all: Vec<_> = names.into_iter().map(|name| name.to_string()).collect();
    let told = all.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(TOLD_MAX) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::name::{ListenerName, WorkloadName};
    use http::Method;
    use std::path::Path;
    use test_case::test_case;

    const CONFIG: &str = "\
version: 1
listeners:
  edge:
    bind: ['127.0.0.1:8443']
    tls:
      certificates: [{ cert: lb.pem, key: 'file:lb.key' }]
      client_auth: { ca: [ca.pem] }
  local: { bind: ['127.0.0.1:8081'], identity: none }
edge: { issuer: 'https://edge.example.com', audience: 'https://lb.example.com' }
workloads:
  checkout: { id: spiffe://example.com/checkout, keys: [{ kid: c-1, key: 'file:c.pub' }], may_assert: [country, limit] }
  billing: { id: spiffe://example.com/billing, keys: [{ kid: b-1, key: 'file:b.pub', state: revoked }] }
  reports: { id: spiffe://example.com/reports }
people:
  staff: { issuer: 'https://login.example.com', audience: shop, jwks: 'file:jwks.json' }
roles:
  reader: { workloads: [billing] }
  support: { people: staff, claim: groups, has: [support, sre], through: [checkout] }
routes:
  - { name: orders, match: { host: shop.example, path: /orders/**, methods: [GET] }, allow: [checkout, reader], limits: [{ edge: { claim: limit, has: x } }], pool: shop }
  - { name: stock, match: { path: /stock }, identity: mtls, allow: [reader], pool: shop }
  - { name: status, match: { path: /status }, allow: public, pool: shop }
  - { name: admin, match: { path: /admin }, identity: mtls+jwt+user, allow: [support], pool: shop }
pools:
  shop: { servers: [{ name: a, address: '10.0.0.1:80' }] }
audit: { file: audit.jsonl }
";

    fn story(listener: &str, who: Option<&str>, (method, host, path): (Method, &str, &str)) -> Story {
        stating(&[], listener, who, (method, host, path))
    }

    fn stating(facts: &[&str], listener: &str, who: Option<&str>, (method, host, path): (Method, &str, &str)) -> Story {
        let facts = facts.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        let config = config::read(Path::new("belay.yaml"), CONFIG, crate::filter::KINDS).config.unwrap();
        let asked = Asked {
            listener: ListenerName::parse(listener).unwrap(),
            workload: who.map(|who| WorkloadName::parse(who).unwrap()),
            user: None,
            method,
            host: host.into(),
            path: path.into(),
        };
        let beside = Circumstances::with(None, crate::clock::Timestamp::from_unix_seconds(0));
        explain(&config, &asked, &facts, &beside)
    }

    #[test_case("edge", Some("checkout"), "/orders/7", true, "a token signed with c-1"; "it passes")]
    #[test_case("edge", Some("checkout"), "/stock", false, "none allows it: checkout has no role, and allowed are role reader (billing)"; "another may")]
    #[test_case("edge", Some("billing"), "/stock", true, "routes.stock.allow.reader allows it"; "by a role")]
    #[test_case("edge", Some("billing"), "/orders/7", false, "billing cannot sign a token, because every public key of it is revoked: b-1"; "a revoked key")]
    #[test_case("edge", Some("reports"), "/orders/7", false, "because the config has no public key of it"; "no key")]
    #[test_case("edge", None, "/orders/7", false, "a stranger proves nothing"; "a stranger")]
    #[test_case("edge", None, "/status", true, "lets everybody in"; "a public route")]
    #[test_case("edge", Some("nobody"), "/orders/7", false, "the config knows no workload nobody"; "an unknown workload")]
    #[test_case("local", Some("checkout"), "/orders/7", false, "by which nobody proves who he is"; "where nothing is asked")]
    #[test_case("local", Some("billing"), "/stock", false, "which takes TLS, and the listener has none"; "where nothing can be proved")]
    #[test_case("inner", Some("checkout"), "/orders/7", false, "there is none of that name; there are edge, local"; "no such listener")]
    #[test_case("edge", Some("checkout"), "/order", false, "none takes it; almost: orders but for the path (host shop.example, path /orders/**, GET); stock but for the path (host *, path /stock, any method); status but"; "no route")]
    fn says_why(listener: &str, who: Option<&str>, path: &str, passes: bool, expected: &str) {
        let story = story(listener, who, (Method::GET, "shop.example", path));
        let said: Vec<_> = story.steps.iter().map(|step| format!("{}: {}", step.about, step.says)).collect();
        assert!(story.verdict.is_allowed() == passes && said.join("\n").contains(expected), "{said:#?}");
    }

    #[test_case(&["country"], Some("checkout"), "/orders/7", true, "checkout may assert country; no rule reads it"; "a fact")]
    #[test_case(&["country", "groups"], Some("checkout"), "/orders/7", false, "checkout may not assert groups: a token that does is refused"; "not its own to say")]
    #[test_case(&["limit"], Some("checkout"), "/orders/7", false, "routes.orders.limits.workload refuses what the edge says"; "too much, as the edge says")]
    #[test_case(&["country"], Some("reports"), "/orders/7", false, "reports may not assert country"; "another's fact")]
    #[test_case(&["groups"], Some("billing"), "/stock", true, "no token is read here"; "where a certificate is enough")]
    #[test_case(&["groups"], None, "/status", true, "no token is read here"; "where everybody may")]
    #[test_case(&["groups"], Some("checkout"), "/nowhere", false, "checkout may not assert groups"; "before it is said that there is no route")]
    #[test_case(&["groups"], None, "/orders/7", false, "whose token it is is not known"; "nobody's")]
    fn facts_count_if_they_may_be_stated(facts: &[&str], who: Option<&str>, path: &str, passes: bool, expected: &str) {
        let story = stating(facts, "edge", who, (Method::GET, "shop.example", path));
        let told = story.steps.iter().find(|step| step.about == "facts").unwrap();
        assert!(story.verdict.is_allowed() == passes && told.says.contains(expected), "{story:#?}");
        if expected.contains("may not") && who == Some("checkout") {
            assert!(matches!(story.verdict, Verdict::Deny { status: 401, .. }), "{story:#?}");
        }
    }

    #[test_case(Some("staff"), &["sre"], "checkout", "/admin", Some(200), "a user of staff with groups=sre: support through checkout"; "a role")]
    #[test_case(Some("staff"), &["it", "support"], "checkout", "/admin", Some(200), "routes.admin.allow.support allows it"; "among others")]
    #[test_case(Some("staff"), &["it"], "checkout", "/admin", Some(403), "a user of staff with groups=it: no role through checkout"; "another group")]
    #[test_case(Some("staff"), &["it"], "checkout", "/admin", Some(403), "none allows it: neither checkout nor the user has a role, and allowed are"; "no role at all")]
    #[test_case(Some("staff"), &[], "checkout", "/admin", Some(403), "allowed are role support (staff whose groups has support or sre through checkout)"; "no group")]
    #[test_case(None, &[], "checkout", "/admin", Some(401), "nobody's token comes with it"; "nobody")]
    #[test_case(Some("guests"), &["support"], "checkout", "/admin", Some(401), "the config knows no people guests"; "unknown people")]
    #[test_case(Some("staff"), &["support"], "reports", "/admin", Some(401), "reports cannot sign a token"; "through one who proves nothing")]
    #[test_case(Some("staff"), &["support"], "checkout", "/stock", Some(403), "checkout has no role"; "where no user is asked for")]
    fn a_user_is_told(
        people: Option<&str>,
        groups: &[&str],
        who: &str,
        path: &str,
        status: Option<u16>,
        expected: &str,
    ) {
        let config = config::read(Path::new("belay.yaml"), CONFIG, crate::filter::KINDS).config.unwrap();
        let claims = if groups.is_empty() {
            serde_json::Value::Object(serde_json::Map::new())
        } else {
            serde_json::json!({ "groups": groups })
        };
        let user = people.map(|people| super::super::asked::AskedUser {
            people: crate::name::PeopleName::parse(people).unwrap(),
            claims: serde_json::from_value(claims).unwrap(),
        });
        let asked = Asked {
            listener: ListenerName::parse("edge").unwrap(),
            workload: Some(WorkloadName::parse(who).unwrap()),
            user,
            method: Method::GET,
            host: "shop.example".into(),
            path: path.into(),
        };
        let story = explain(
            &config,
            &asked,
            &SignedFacts::new(),
            &Circumstances::with(None, crate::clock::Timestamp::from_unix_seconds(0)),
        );
        let said: Vec<_> = story.steps.iter().map(|step| format!("{}: {}", step.about, step.says)).collect();
        let decided = match story.verdict {
            Verdict::Allow { .. } => Some(200),
            Verdict::Deny { status, .. } => Some(status),
            Verdict::Nowhere => None,
        };
        assert!(decided == status && said.join("\n").contains(expected), "{decided:?} {said:#?}");
    }

    #[test]
    fn all_steps_to_read() {
        let story = story("edge", Some("checkout"), (Method::GET, "shop.example", "/orders/7"));
        let lines: Vec<_> = story.steps.iter().map(|it| format!("{}: {}", it.about, it.says)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
