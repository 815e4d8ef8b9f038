//! `access`: files of rules, and what these can speak of.

use super::Check;
use crate::config::document::Document;
use crate::config::fault::Fault;
use crate::config::model::{Listener, PolicyFiles, Route, Workload};
use crate::config::node::Place;
use crate::identity::{ClaimPath, Profile, may_be_fact};
use crate::name::{PeopleName, RoleName};
use crate::policy::Access;
use crate::policy::rules::{Declared, RouteWords, Type, Words};
use std::path::{Path, PathBuf};

/// The files; none if there are no rules.
pub(super) fn files(check: &mut Check<'_>, document: &Document) -> Option<PolicyFiles> {
    let access = document.access.as_ref()?;
    let top = Place::root().key("access");
    let policies = patterns(check, &access.policies, &top.key("policies"));
    let tests = patterns(check, &access.tests, &top.key("tests"));
    Some(PolicyFiles { policies, tests })
}

fn patterns(check: &mut Check<'_>, texts: &[String], place: &Place) -> Vec<PathBuf> {
    for (index, text) in texts.iter().enumerate() {
        let folder = Path::new(text).parent().unwrap_or_else(|| Path::new(""));
        let in_folder = folder.to_string_lossy().contains('*');
        if in_folder || text.matches('*').count() > 1 {
            let fault = Fault::new(&place.index(index), "`*` stands once, in the last name");
            check.fault(fault.hint("for example policies/*.cedar"));
        }
    }
    texts.iter().map(|text| check.path(text)).collect()
}

/// What rules can speak of.
pub(super) fn words(
    check: &mut Check<'_>,
    document: &Document,
    (listeners, workloads, routes): (&[Listener], &[Workload], &[Route]),
) -> Words {
    Words {
        workloads: workloads.iter().map(|workload| workload.workload.name.clone()).collect(),
        roles: document.roles.keys().filter_map(|name| RoleName::parse(name).ok()).collect(),
        routes: routes.iter().map(|route| route_words(route, listeners)).collect(),
        claims: claims(check, document),
        facts: facts(check, document),
    }
}

fn route_words(route: &Route, listeners: &[Listener]) -> RouteWords {
    // What is not so at one listener is not so.
    let all = |has: fn(Profile) -> bool| {
        let at = |listener: &Listener| has(route.identity.unwrap_or(listener.identity));
        !matches!(*route.access, Access::Public(_)) && listeners.iter().all(at)
    };
    let (has_facts, has_users) = (all(Profile::needs_token), all(Profile::needs_user));
    let methods = route.pattern.methods.as_ref().map(|methods| methods.to_vec());
    RouteWords { name: route.name.clone(), groups: route.groups.clone(), methods, has_facts, has_users }
}

fn claims(check: &mut Check<'_>, document: &Document) -> Vec<Declared> {
    let mut declared: Vec<Declared> = Vec::new();
    for (people, terms) in &document.people {
        let top = Place::root().key("people").key(people).key("claims");
        for (name, is) in &terms.claims {
            let place = top.key(name);
            let known = declared.iter().position(|known| *known.name == **name);
            let at = known.unwrap_or(declared.len());
            if known.is_none() {
                declared.extend(declare(check, (name, *is), &place));
            }
            let Some(known) = declared.get_mut(at) else { continue };
            known.of.extend(PeopleName::parse(people).ok());
            if known.is != *is {
                let fault = Fault::new(&place, format!("other people's `{name}` is of another type"));
                check.fault(fault.hint("a rule could not tell which it reads: give it the same type"));
            }
        }
    }
    declared
}

fn facts(check: &mut Check<'_>, document: &Document) -> Vec<Declared> {
    let mut declared = Vec::new();
    for (name, is) in document.edge.iter().flat_map(|edge| &edge.facts) {
        let place = Place::root().key("edge").key("facts").key(name);
        let may_assert = |workload: &crate::config::document::Workload| workload.may_assert.contains(name);
        if !may_be_fact(name) || !document.workloads.values().any(may_assert) {
            let asserted = document.workloads.values().flat_map(|workload| &workload.may_assert).map(String::as_str);
            let fault = Fault::new(&place, format!("no workload may assert `{name}`")).at_key();
            check.fault(fault.hint("add it to `may_assert` of one").did_you_mean(name, asserted));
            continue;
        }
        // A fact is one name, whatever dots are in it.
        let path = ClaimPath::of([name.as_str()]).ok();
        declared.extend(path.map(|path| Declared { name: name.as_str().into(), path, is: *is, of: Vec::new() }));
    }
    declared
}

fn declare(check: &mut Check<'_>, (name, is): (&str, Type), place: &Place) -> Option<Declared> {
    let fault = |hint: String| Fault::new(place, format!("`{name}` is no place of a claim")).at_key().hint(hint);
    let is_plain = name.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b));
    let plain = is_plain.then_some(()).ok_or_else(|| fault("plain ASCII without spaces and quotes".into()));
    check.take(plain)?;
    let path = check.take(ClaimPath::parse(name).map_err(|why| fault(why.to_string())))?;
    Some(Declared { name: name.into(), path, is, of: Vec::new() })
}
