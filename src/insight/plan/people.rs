//! What a change of `people`, of hidden routes and of limits takes away.

use super::Danger;
use super::guards::danger;
use crate::config::{Config, Limit, People, ProviderKeys, Scope};
use crate::identity::Addressed;
use crate::limit::Frequency;
use crate::network::Networks;
use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    slice,
};

/// What is weaker.
pub(super) fn weaker(old: &Config, new: &Config, dangers: &mut Vec<Danger>) {
    people(old, new, dangers);
    let hidden = |name| old.routes.iter().any(|was| was.name == name && was.is_hidden);
    for is in new.routes.iter().filter(|route| !route.is_hidden && hidden(route.name.clone())) {
        dangers.push(danger(&is.name, "hide", format!("`{}` is not hidden any more", is.name)));
    }
    limits(old, new, dangers);
}

/// Whoever vouches for users could vouch for anybody.
fn people(old: &Config, new: &Config, dangers: &mut Vec<Danger>) {
    for is in &new.people {
        let Some(was) = old.people.iter().find(|was| was.terms.name == is.terms.name) else { continue };
        let name = &is.terms.name;
        if vouchers(old, was) != vouchers(new, is) {
            dangers.push(danger(name, "provider", format!("another provider, or by other keys, vouches for {name}")));
        }
        if !connects_to(was).cover(&connects_to(is)) {
            dangers.push(danger(name, "allow_networks", format!("keys of {name} may come from more private networks")));
        }
        let (was, is) = (&was.terms, &is.terms);
        if is_wider(&was.addressed, &is.addressed) {
            dangers.push(danger(name, "audience", format!("tokens for other services count for {name}, too")));
        }
        if is.subject != was.subject {
            dangers.push(danger(name, "subject", format!("another claim says who {name} are")));
        }
        if is.is_forwarded && !was.is_forwarded {
            dangers.push(danger(name, "forward", format!("the tokens of {name} go on to origins, which can use them")));
        }
    }
}

/// Who vouches for users, and for their keys.
fn vouchers<'a>(config: &Config, people: &'a People) -> (&'a str, &'a str, Vec<String>) {
    let paths = |paths: &[PathBuf]| paths.iter().map(|path| config.way_to(path).display().to_string()).collect();
    match &people.keys {
        ProviderKeys::File(path) => (&people.terms.issuer, "file", paths(slice::from_ref(path))),
        ProviderKeys::Fetched { place, ca, .. } => (&people.terms.issuer, place.url().unwrap_or("metadata"), paths(ca)),
    }
}

/// Whether tokens count that did not.
fn is_wider(was: &Addressed, is: &Addressed) -> bool {
    let more = |was: &[Box<str>], is: &[Box<str>]| is.iter().any(|text| !was.contains(text));
    match (was, is) {
        (Addressed::To { claim, audiences }, Addressed::To { claim: by, audiences: is }) => {
            claim != by || more(audiences, is)
        }
        (Addressed::By { signers }, Addressed::By { signers: is }) => more(signers, is),
        (Addressed::To { .. }, Addressed::By { .. }) | (Addressed::By { .. }, Addressed::To { .. }) => true,
    }
}

fn connects_to(people: &People) -> Networks {
    match &people.keys {
        ProviderKeys::File(_) => Networks::default(),
        ProviderKeys::Fetched { allowed, .. } => allowed.clone(),
    }
}

fn limits(old: &Config, new: &Config, dangers: &mut Vec<Danger>) {
    let is: HashMap<_, _> = new.limits.iter().map(|limit| (&limit.name, limit)).collect();
    // What is limited no more because it is no more is no danger.
    let goes_on = |limit: &&Limit| match &limit.scope {
        Scope::Listener(name) => new.listeners.iter().any(|it| it.name == *name),
        Scope::Route(name) => new.routes.iter().any(|it| it.name == *name),
        Scope::Pool(name) => new.pools.iter().any(|it| it.name == *name),
    };
    for was in old.limits.iter().filter(goes_on) {
        match is.get(&was.name) {
            None => {
                dangers.push(Danger { name: was.name.to_string(), what: format!("the limit {} is gone", was.name) })
            }
            Some(is) if allows_more(was, is) => {
                dangers
                    .push(Danger { name: was.name.to_string(), what: format!("the limit {} allows more", was.name) });
            }
            Some(_) => {}
        }
    }
}

/// Whether anybody may have more than before.
fn allows_more(was: &Limit, is: &Limit) -> bool {
    let more = |was: Option<u64>, is: Option<u64>| was.is_some_and(|was| is.is_none_or(|is| is > was));
    let (before, now) = (&was.allowance, &is.allowance);
    let rate = match (&before.rate, &now.rate) {
        (Some(before), Some(now)) => {
            let pace = |rate: &Frequency| f64::from(rate.times.get()) / rate.period.as_secs_f64();
            pace(now) > pace(before) || now.burst > before.burst
        }
        (Some(_), None) => true,
        (None, _) => false,
    };
    let names = |limit: &'_ Limit| {
        limit.whom.as_ref().map(|whom| {
            let workloads = whom.workloads.keys().map(ToString::to_string);
            workloads.chain(whom.roles.keys().map(ToString::to_string)).collect::<BTreeSet<_>>()
        })
    };
    let fewer = match (names(was), names(is)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(was), Some(is)) => !was.is_subset(&is),
    };
    rate || fewer
        || more(before.concurrency.map(u64::from), now.concurrency.map(u64::from))
        || more(before.bandwidth, now.bandwidth)
        || more(was.body, is.body)
        || (was.edge.is_some() && is.edge.is_none())
}
