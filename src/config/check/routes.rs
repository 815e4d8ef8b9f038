//! `routes`: what they match, whom they let in, where they lead, and which can never be reached.

use super::filters::{self, Around};
use super::roles::Roles;
use super::{Check, twice};
use crate::config::document::{Allow, BodyDigestMode, Document, Match, Route};
use crate::config::fault::Fault;
use crate::config::model::{self, KeySource};
use crate::config::node::{Node, Place};
use crate::config::value;
use crate::identity::Profile;
use crate::name::{GroupName, PoolName, RoleName, RouteName, WorkloadName};
use crate::policy::{Access, AllowList, Term};
use crate::route::{HostPattern, PathPattern, Pattern, hiding};
use crate::verdict::RuleId;
use std::{ops::RangeInclusive, sync::Arc, time::Duration};

/// How long a request may be served at most.
const AGES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 60 * 60);

/// What routes refer to.
pub(super) struct World<'a> {
    pub(super) document: &'a Document,
    pub(super) root: &'a Node,
    pub(super) listeners: &'a [model::Listener],
    pub(super) workloads: &'a [model::Workload],
    pub(super) roles: &'a Roles,
}

impl World<'_> {
    /// The workloads through which people have a role; none if it is not one of people.
    fn through(&self, role: &str) -> Option<&[WorkloadName]> {
        let found = self.roles.of_people.iter().find(|(_, membership)| membership.role.as_str() == role);
        found.map(|(_, membership)| &*membership.through)
    }

    /// The profiles that a route may be judged by.
    fn demanded(&self, route: &Route) -> Vec<Profile> {
        match route.identity {
            Some(name) => vec![name],
            None => self.listeners.iter().map(|listener| listener.identity).collect(),
        }
    }
}

pub(super) fn check(check: &mut Check<'_>, world: &World<'_>) -> Vec<model::Route> {
    let top = Place::root().key("routes");
    let mut checked = Vec::new();
    for (index, route) in world.document.routes.iter().enumerate() {
        let place = top.index(index);
        let name = check.name(RouteName::parse, &route.name, &place.key("name"));
        let pattern = pattern(check, &route.matches, &place.key("match"));
        let access = access(check, world, route, &place);
        demands_fit(check, world, route, &place);
        let around = Around { root: world.root, pools: &world.document.pools };
        let filters = filters::check(check, around, route.filters.len(), &place.key("filters"));
        let groups = groups(check, route, &place.key("groups"));
        let pool = pool(check, world, route, &place.key("pool"));
        let max_age = route.max_age.as_ref().map(|text| check.duration(&text.0, &place.key("max_age"), AGES));
        let term = Term { max_age: max_age.flatten(), outlives_token: route.outlives_token };
        if let (Some(name), Some(pattern), Some(pool)) = (name, pattern, pool) {
            let identity = route.identity;
            let demands_digest = route.body_digest == Some(BodyDigestMode::Required);
            let (access, is_hidden) = (Arc::new(access), route.hide);
            let route = model::Route {
                name,
                pattern,
                identity,
                access,
                filters,
                groups,
                is_hidden,
                demands_digest,
                term,
                pool,
            };
            checked.push((route, place));
        }
    }
    let names =
        world.document.routes.iter().enumerate().map(|(index, route)| (&route.name, top.index(index).key("name")));
    twice(names, "name").into_iter().for_each(|fault| check.fault(fault));
    order(check, &checked);
    unused_pools(check, world.document);
    checked.into_iter().map(|(route, _)| route).collect()
}

fn pattern(check: &mut Check<'_>, matches: &Match, place: &Place) -> Option<Pattern> {
    let host = HostPattern::parse(&matches.host);
    let host = host.map_err(|error| {
        Fault::new(&place.key("host"), format!("`{}` is no host", matches.host)).hint(error.to_string())
    });
    let path = PathPattern::parse(&matches.path);
    let path = path.map_err(|error| {
        Fault::new(&place.key("path"), format!("`{}` is no path", matches.path)).hint(error.to_string())
    });
    let (host, path) = (check.take(host), check.take(path));
    let methods = matches.methods.as_ref().map(|methods| {
        let mut read = |(index, text): (usize, &String)| {
            let fault = || Fault::new(&place.key("methods").index(index), format!("`{text}` is no method"));
            let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
            check.take(value::method(text).ok_or_else(|| fault().did_you_mean(&text.to_ascii_uppercase(), known)))
        };
        methods.iter().enumerate().filter_map(&mut read).collect()
    });
    Some(Pattern { host: host?, path: path?, methods })
}

fn groups(check: &mut Check<'_>, route: &Route, place: &Place) -> Vec<GroupName> {
    let all = || route.groups.iter().enumerate();
    let groups = all().filter_map(|(index, name)| check.name(GroupName::parse, name, &place.index(index))).collect();
    let named = all().map(|(index, name)| (name, place.index(index)));
    twice(named, "group").into_iter().for_each(|fault| check.fault(fault));
    groups
}

fn access(check: &mut Check<'_>, world: &World<'_>, route: &Route, place: &Place) -> Access {
    let above = format!("routes.{}", route.name);
    if world.document.access.is_none() && matches!(&route.allow, Allow::Names(names) if names.is_empty()) {
        let fault = Fault::new(&place.key("allow"), "nobody may pass");
        check.fault(
            fault.hint("name workloads or roles, or let rules permit it: `access: { policies: [policies/*.cedar] }`"),
        );
    }
    match &route.allow {
        Allow::Word(_) => Access::Public(RuleId::new(&format!("{above}.allow.public"))),
        Allow::Names(names) => Access::Listed(allow_list(check, world.document, names, (&above, &place.key("allow")))),
    }
}

/// Workloads and roles; their rules are named after the place above the list.
pub(super) fn allow_list(
    check: &mut Check<'_>,
    document: &Document,
    names: &[String],
    (above, place): (&str, &Place),
) -> AllowList {
    let rule = |name: &str| RuleId::new(&format!("{above}.allow.{name}"));
    let mut list = AllowList::default();
    for (index, name) in names.iter().enumerate() {
        let place = place.index(index);
        if document.workloads.contains_key(name) {
            list.workloads.extend(WorkloadName::parse(name).ok().map(|workload| (workload, rule(name))));
        } else if document.roles.contains_key(name) {
            list.roles.extend(RoleName::parse(name).ok().map(|role| (role, rule(name))));
        } else if name == "public" {
            check.fault(Fault::new(&place, "`public` stands alone, not in a list").hint("write `allow: public`"));
        } else {
            let known = document.workloads.keys().chain(document.roles.keys()).map(String::as_str);
            let fault = Fault::new(&place, format!("there is no workload or role `{name}`"));
            check.fault(fault.did_you_mean(name, known));
        }
    }
    let entries = names.iter().enumerate().map(|(index, name)| (name, place.index(index)));
    twice(entries, "name").into_iter().for_each(|fault| check.fault(fault));
    list
}

/// Whoever is allowed must be able to prove what the route demands, somewhere.
fn demands_fit(check: &mut Check<'_>, world: &World<'_>, route: &Route, place: &Place) {
    let Allow::Names(names) = &route.allow else {
        if route.identity.is_some() {
            let fault = Fault::warning(&place.key("identity"), "the route is public, so no identity is asked");
            check.fault(fault.hint("leave it out"));
        }
        if route.hide {
            let fault = Fault::new(&place.key("hide"), "the route is public, so it is hidden from nobody").at_key();
            check.fault(fault.hint("leave it out, or say in `allow` who may see it"));
        }
        return;
    };
    let demanded = world.demanded(route);
    if demanded.iter().all(|profile| *profile == Profile::None) {
        let fault = Fault::new(&place.key("allow"), "nobody proves who he is here, so nobody can be allowed");
        check.fault(fault.at_key().hint("demand an `identity`, or write `allow: public`"));
    }
    let asked = route.identity.map(Profile::of_workload).filter(|profile| profile.needs_token());
    let never = |listener: &model::Listener| listener.host_from_token && Some(listener.identity.of_workload()) != asked;
    if let (Some(_), Some(listener)) = (asked, world.listeners.first())
        && world.listeners.iter().all(never)
    {
        let message =
            format!("listener {} verifies tokens as {} before it finds the route", listener.name, listener.identity);
        let fault = Fault::warning(&place.key("identity"), message);
        check.fault(fault.hint("with `host_from: token` a token of another profile never gets here"));
    }
    if let Some(profile) = route.identity {
        listeners_fit(check, world, profile, &place.key("identity"));
    }
    for profile in demanded.iter().filter(|profile| profile.needs_token()) {
        tokens_fit(check, world, names, (*profile, place));
    }
    if !demanded.iter().any(|profile| profile.needs_user()) {
        no_people(check, world, (names, &demanded), &place.key("allow"));
    }
    if route.body_digest == Some(BodyDigestMode::Required) && !demanded.iter().all(|profile| profile.needs_token()) {
        let fault = Fault::new(&place.key("body_digest"), "a digest comes in a token, and none is demanded here");
        check.fault(fault.hint("demand `identity: mtls+jwt`"));
    }
}

/// A profile that a route names must be possible at one listener at least.
fn listeners_fit(check: &mut Check<'_>, world: &World<'_>, profile: Profile, place: &Place) {
    let trusts = |listener: &model::Listener| listener.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some());
    let (possible, missing, hint) = if profile.needs_certificate() {
        let possible = world.listeners.iter().any(trusts);
        (possible, "no listener trusts client certificates", "add tls with client_auth to a listener")
    } else {
        let possible = profile == Profile::None || world.listeners.iter().any(|listener| listener.tls.is_some());
        (possible, "no listener has TLS, without which anybody could read the tokens", "add tls to a listener")
    };
    if !possible {
        check.fault(Fault::new(place, missing).hint(hint));
    }
}

/// Where no user is proved, a role of people lets nobody in.
fn no_people(check: &mut Check<'_>, world: &World<'_>, (names, demanded): (&[String], &[Profile]), place: &Place) {
    for (index, name) in names.iter().enumerate().filter(|(_, name)| world.through(name).is_some()) {
        let asked = demanded.first().copied().unwrap_or(Profile::None);
        let fault =
            Fault::new(&place.index(index), format!("`{name}` is a role of people, and {asked} proves no user"));
        let better = asked.with_user().unwrap_or(Profile::MtlsJwtUser);
        check.fault(fault.hint(format!("demand `identity: {better}`")));
    }
}

fn tokens_fit(check: &mut Check<'_>, world: &World<'_>, names: &[String], (profile, place): (Profile, &Place)) {
    if world.document.edge.is_none() {
        let fault =
            Fault::new(place, format!("it demands {profile}, but `edge` says neither issuer nor audience of tokens"));
        check.fault(fault.hint("add `edge: { issuer: …, audience: … }`"));
    }
    let (kind, fitting) = if profile.needs_secret() { ("secret", "a `secret`") } else { ("key", "a `key`") };
    let can = |workload: &&model::Workload| {
        workload.keys.iter().any(|key| matches!(key.source, KeySource::Secret(_)) == profile.needs_secret())
    };
    for (index, name) in names.iter().enumerate() {
        let place = place.key("allow").index(index);
        let is_meant = |workload: &&model::Workload| workload.workload.name.as_str() == name;
        if world.workloads.iter().find(is_meant).is_some_and(|workload| !can(&workload)) {
            let fault = Fault::new(&place, format!("`{name}` has no {kind}, so it cannot prove {profile}"));
            check.fault(fault.hint(format!("add {fitting} to workloads.{name}.keys, or demand `identity: mtls`")));
        }
        let has_it = |workload: &&model::Workload| match world.through(name) {
            Some(through) => through.contains(&workload.workload.name),
            None => workload.workload.roles.iter().any(|role| role.as_str() == name),
        };
        let members = world.workloads.iter().filter(has_it);
        let (members, keyless): (Vec<_>, Vec<_>) = members.partition(can);
        if members.is_empty() && !keyless.is_empty() {
            let message = format!("no workload of the role `{name}` has a {kind}, so none can prove {profile}");
            check.fault(Fault::new(&place, message).hint("add `keys` to one of them, or demand `identity: mtls`"));
        }
    }
}

fn pool(check: &mut Check<'_>, world: &World<'_>, route: &Route, place: &Place) -> Option<PoolName> {
    let pools = &world.document.pools;
    if !pools.contains_key(&route.pool) {
        let fault = Fault::new(place, format!("there is no pool `{}`", route.pool));
        check.fault(fault.did_you_mean(&route.pool, pools.keys().map(String::as_str)));
        return None;
    }
    PoolName::parse(&route.pool).ok()
}

/// What a route hides of later ones, and what it lets fall through to weaker ones.
fn order(check: &mut Check<'_>, routes: &[(model::Route, Place)]) {
    let hiding = hiding(routes.iter().map(|(route, _)| &route.pattern));
    for (index, ((later, place), hiding)) in routes.iter().zip(hiding).enumerate() {
        let earlier = || routes.iter().take(index).map(|(route, _)| route);
        if let Some((hiding, _)) = hiding.and_then(|index| routes.get(index)) {
            let fault = Fault::warning(
                place,
                format!("`{}` is never reached: `{}` takes all its requests", later.name, hiding.name),
            );
            check.fault(fault.hint("put the narrower route first"));
            continue;
        }
        betrays(check, (later, place), earlier());
        let any_method = |route: &model::Route| Pattern { methods: None, ..route.pattern.clone() };
        if !matches!(*later.access, Access::Public(_)) {
            continue;
        }
        let guarded =
            |route: &&model::Route| matches!(*route.access, Access::Listed(_)) && route.pattern.methods.is_some();
        let falls = |route: &&model::Route| any_method(later).covers(&any_method(route));
        if let Some(weakened) = earlier().filter(guarded).find(falls) {
            let message = format!(
                "methods that `{}` does not list fall through to `{}`, which is public",
                weakened.name, later.name
            );
            check.fault(Fault::warning(place, message).hint("say which paths are public"));
        }
    }
}

/// A hidden route is answered as none, which is seen where a later one would take what it takes.
fn betrays<'a>(
    check: &mut Check<'_>,
    (later, place): (&model::Route, &Place),
    earlier: impl Iterator<Item = &'a model::Route>,
) {
    let mut hidden = earlier.filter(|route| route.is_hidden);
    if let Some(hidden) = hidden.find(|hidden| later.pattern.covers(&hidden.pattern)) {
        let message = format!("`{}` is hidden, but without it `{}` would take its requests", hidden.name, later.name);
        let hint = "who may not pass gets a 404 there and can tell: narrow this one, or hide it, too";
        check.fault(Fault::warning(place, message).hint(hint));
    }
}

fn unused_pools(check: &mut Check<'_>, document: &Document) {
    for name in document.pools.keys() {
        if !document.routes.iter().any(|route| route.pool == *name) {
            let place = Place::root().key("pools").key(name);
            check.fault(Fault::warning(&place, format!("no route leads to the pool `{name}`")).at_key());
        }
    }
}
