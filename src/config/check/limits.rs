//! `limits` of routes and pools, and `limits.requests` of listeners.

use super::routes::allow_list;
use super::{Check, balance};
use crate::config::document::{Allow, Document, Limit};
use crate::config::fault::Fault;
use crate::config::model::{self, EdgeVerdict, LimitKey, Scope};
use crate::config::node::Place;
use crate::config::value;
use crate::limit::{Allowance, Frequency};
use crate::name::{ListenerName, PoolName, RouteName};
use crate::verdict::RuleId;
use std::{collections::HashSet, num::NonZeroU32};

pub(super) fn check(check: &mut Check<'_>, document: &Document) -> Vec<model::Limit> {
    let mut checked = Vec::new();
    let root = Place::root();
    for (name, listener) in &document.listeners {
        let place = root.key("listeners").key(name).key("limits").key("requests");
        let scope = ListenerName::parse(name).ok().map(Scope::Listener);
        checked.extend(of(check, document, &listener.limits.requests, (scope, &place)));
    }
    for (index, route) in document.routes.iter().enumerate() {
        let place = root.key("routes").index(index).key("limits");
        let scope = RouteName::parse(&route.name).ok().map(Scope::Route);
        if matches!(route.allow, Allow::Word(_)) {
            nobody_is_known(check, &route.limits, &place);
        }
        checked.extend(of(check, document, &route.limits, (scope, &place)));
    }
    for (name, pool) in &document.pools {
        let place = root.key("pools").key(name).key("limits");
        let scope = PoolName::parse(name).ok().map(Scope::Pool);
        checked.extend(of(check, document, &pool.limits, (scope, &place)));
    }
    checked
}

/// Where everybody may pass, nobody has proved who he is.
fn nobody_is_known(check: &mut Check<'_>, limits: &[Limit], place: &Place) {
    for (index, limit) in limits.iter().enumerate() {
        let kind = limit.by.split(':').next().unwrap_or_default();
        let named = [(limit.edge.is_some(), "edge"), (!limit.whom.is_empty(), "for")];
        for (_, key) in named.into_iter().filter(|(told, _)| *told) {
            let fault =
                Fault::new(&place.index(index).key(key), "the route is public, so nobody is known here").at_key();
            check.fault(fault.hint("leave it out: it would never apply"));
        }
        if ["workload", "user", "role", "claim"].contains(&kind) {
            let fault = Fault::new(&place.index(index), format!("the route is public, so nobody has a {kind} here"));
            check.fault(fault.hint("tell callers apart by `by: address`, or count them together with `by: all`"));
        }
    }
}

fn of(
    check: &mut Check<'_>,
    document: &Document,
    limits: &[Limit],
    (scope, place): (Option<Scope>, &Place),
) -> Vec<model::Limit> {
    let mut names = HashSet::new();
    let mut checked = Vec::new();
    for (index, limit) in limits.iter().enumerate() {
        let place = place.index(index);
        let read = one(check, document, limit, &place);
        let (Some(scope), Some((by, allowance, body))) = (&scope, read) else { continue };
        let above = format!("{scope}.limits");
        // The second of one kind has a number.
        let numbers = (2..).map(|number: usize| format!("{}-{number}", limit.by));
        let label = std::iter::once(limit.by.clone()).chain(numbers).find(|label| names.insert(label.clone()));
        let label = label.unwrap_or_default();
        let whom =
            (!limit.whom.is_empty()).then(|| allow_list(check, document, &limit.whom, (&above, &place.key("for"))));
        let edge = limit.edge.as_ref().map(|edge| EdgeVerdict {
            claim: edge.claim.as_str().into(),
            has: edge.has.all().iter().map(|text| text.as_str().into()).collect(),
        });
        checked.push(model::Limit {
            name: RuleId::new(&format!("{above}.{label}")),
            label: label.into(),
            scope: scope.clone(),
            by,
            whom,
            allowance,
            body,
            edge,
        });
    }
    checked
}

fn one(
    check: &mut Check<'_>,
    document: &Document,
    limit: &Limit,
    place: &Place,
) -> Option<(LimitKey, Allowance, Option<u64>)> {
    let facts = document.workloads.values().flat_map(|workload| &workload.may_assert).map(String::as_str).collect();
    let by = key(&limit.by, &facts).map_err(|(fault, hint)| Fault::new(&place.key("by"), fault).hint(hint));
    let by = check.take(by);
    let rate = limit.rate.as_ref().map(|rate| frequency(check, rate, limit.burst, &place.key("rate")));
    if limit.rate.is_none() && limit.burst.is_some() {
        let fault = Fault::new(&place.key("burst"), "`burst` says nothing without `rate`").at_key();
        check.fault(fault.hint("for example `rate: 50/s`"));
    }
    let bandwidth =
        limit.bandwidth.as_ref().map(|rate| check.bytes_per_second(&rate.0, &place.key("bandwidth"), 1024..=1 << 40));
    let body = limit.body.as_ref().map(|size| check.bytes(&size.0, &place.key("body"), 0..=1 << 40));
    if let Some(edge) = limit.edge.as_ref().filter(|edge| !facts.contains(edge.claim.as_str())) {
        let fault = Fault::new(&place.key("edge").key("claim"), format!("no workload may assert `{}`", edge.claim));
        check.fault(
            fault.did_you_mean(&edge.claim, facts.iter().copied()).hint("name it in `may_assert` of a workload"),
        );
    }
    let says_something =
        rate.is_some() || limit.concurrency.is_some() || bandwidth.is_some() || body.is_some() || limit.edge.is_some();
    if !says_something {
        let fault = Fault::new(place, "a limit says how much");
        check.fault(fault.hint("`rate`, `concurrency`, `bandwidth`, `body`, or `edge`"));
        return None;
    }
    let allowance =
        Allowance { rate: all_or_none(rate)?, concurrency: limit.concurrency, bandwidth: all_or_none(bandwidth)? };
    Some((by?, allowance, all_or_none(body)?))
}

/// None where it was said and is wrong.
fn all_or_none<T>(said: Option<Option<T>>) -> Option<Option<T>> {
    match said {
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
        None => Some(None),
    }
}

fn frequency(check: &mut Check<'_>, text: &str, burst: Option<u32>, place: &Place) -> Option<Frequency> {
    let Some((times, period)) = value::frequency(text) else {
        let fault = Fault::new(place, format!("`{text}` is no rate of requests"));
        check.fault(fault.hint("a number and /s, /m, /h or /d, for example 50/s; 1 to 1,000,000"));
        return None;
    };
    // As many as in a second, and one at least.
    let seconds = u32::try_from(period.as_secs()).unwrap_or(u32::MAX).max(1);
    let burst = burst.and_then(NonZeroU32::new).or_else(|| NonZeroU32::new(times.get() / seconds));
    Some(Frequency { times, period, burst: burst.unwrap_or(NonZeroU32::MIN) })
}

fn key(text: &str, facts: &balance::Facts<'_>) -> Result<LimitKey, (String, &'static str)> {
    match text {
        "all" => Ok(LimitKey::All),
        "user" => Ok(LimitKey::User),
        "role" => Ok(LimitKey::Role),
        text => balance::key(text, facts).map(LimitKey::Request).map_err(|(fault, hint)| {
            let known = "workload, user, role, address, all, path, header:NAME, cookie:NAME, query:NAME or claim:NAME";
            (fault, if hint.starts_with("address") { known } else { hint })
        }),
    }
}
