//! `roles`: who has which, a workload by its name or people by what their tokens say.

use super::{Check, twice};
use crate::config::document::{Document, Role, Texts};
use crate::config::fault::Fault;
use crate::config::node::Place;
use crate::identity::{By, ClaimPath, Mapped, Membership, NoClaim};
use crate::name::{RoleName, WorkloadName};
use crate::principal::Priority;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// All roles.
#[derive(Default)]
pub(super) struct Roles {
    /// Those of workloads, each with the names of its members.
    pub(super) of_workloads: Vec<(RoleName, Vec<String>)>,
    /// Those of people, each with the name of the people.
    pub(super) of_people: Vec<(String, Membership)>,
    /// Those that say it.
    pub(super) priorities: HashMap<RoleName, Priority>,
}

pub(super) fn check(check: &mut Check<'_>, document: &Document) -> Roles {
    let mut roles = Roles::default();
    for (name, role) in &document.roles {
        let place = Place::root().key("roles").key(name);
        if document.workloads.contains_key(name) || name == "public" {
            let taken = if name == "public" { "the word for everybody" } else { "a workload's name too" };
            check.fault(
                Fault::new(&place, format!("`{name}` is {taken}, so `allow` could not tell them apart")).at_key(),
            );
        }
        are_known(check, document, &role.workloads, &place.key("workloads"));
        are_known(check, document, &role.through, &place.key("through"));
        let checked = check.key_name(RoleName::parse, name, &place);
        roles.priorities.extend(checked.clone().zip(role.priority));
        let says_who = is_of_one_kind(check, role, &place);
        let claim = claim(check, role, &place);
        match (checked, &role.people) {
            (Some(name), None) => roles.of_workloads.push((name, role.workloads.clone())),
            (Some(role_name), Some(people)) if says_who => {
                is_known_people(check, document, people, &place.key("people"));
                let through = role.through.iter().filter_map(|name| WorkloadName::parse(name).ok()).collect();
                let by = by(check, document, (role, people), claim, &place);
                roles.of_people.push((people.clone(), Membership { role: role_name, by, through }));
            }
            (_, _) => {}
        }
    }
    roles
}

fn are_known(check: &mut Check<'_>, document: &Document, names: &[String], place: &Place) {
    for (index, name) in names.iter().enumerate().filter(|(_, name)| !document.workloads.contains_key(*name)) {
        let fault = Fault::new(&place.index(index), format!("there is no workload `{name}`"));
        check.fault(fault.did_you_mean(name, document.workloads.keys().map(String::as_str)));
    }
    let named = names.iter().enumerate().map(|(index, name)| (name, place.index(index)));
    twice(named, "name").into_iter().for_each(|fault| check.fault(fault));
}

fn is_known_people(check: &mut Check<'_>, document: &Document, name: &str, place: &Place) {
    if !document.people.contains_key(name) {
        let fault = Fault::new(place, format!("there are no people `{name}`"));
        check.fault(fault.did_you_mean(name, document.people.keys().map(String::as_str)));
    }
}

/// A role is of workloads or of people, and says what it must: nobody is meant by what is left out.
fn is_of_one_kind(check: &mut Check<'_>, role: &Role, place: &Place) -> bool {
    let of_people = [
        (role.claim.is_some(), "claim"),
        (role.has.is_some(), "has"),
        (!role.through.is_empty(), "through"),
        (role.mapped, "mapped"),
    ];
    let fault = match (&role.people, role.workloads.is_empty()) {
        (None, true) => Fault::new(place, "a role says whose it is").hint("add `workloads: […]`, or `people: …`"),
        (Some(_), false) => Fault::new(&place.key("workloads"), "a role is of workloads or of people, not of both")
            .at_key()
            .hint("`through` names the workloads by which people come"),
        (Some(_), true) if role.through.is_empty() => {
            Fault::new(place, "a role of people says through which workloads they come").hint("add `through: […]`")
        }
        (None, false) => match of_people.into_iter().find(|(told, _)| *told) {
            Some((_, key)) => Fault::new(&place.key(key), format!("`{key}` is for roles of people")).at_key(),
            None => return true,
        },
        (Some(_), true) => return true,
    };
    check.fault(fault);
    false
}

/// By what people have a role. Whom a file names is known when it is read.
fn by(
    check: &mut Check<'_>,
    document: &Document,
    (role, people): (&Role, &str),
    claim: Option<(ClaimPath, Box<[Box<str>]>)>,
    place: &Place,
) -> By {
    if !role.mapped {
        return claim.map_or(By::Everybody, |(claim, wanted)| By::Claim(claim, wanted));
    }
    let place = place.key("mapped");
    if claim.is_some() {
        let fault = Fault::new(&place, "a role is by a claim or by the mapping, not by both").at_key();
        check.fault(fault.hint("name two roles, and allow both"));
    }
    let mapping = document.people.get(people).and_then(|people| people.mapping.as_ref());
    let Some(mapping) = mapping else {
        let fault = Fault::new(&place, format!("the people `{people}` have no `mapping`")).at_key();
        check.fault(fault.hint("add `mapping: { file: people.yaml }`"));
        return By::Everybody;
    };
    let top = Place::root().key("people").key(people).key("mapping");
    let mut read = |text: &str, key: &str| {
        let fault =
            |why: NoClaim| Fault::new(&top.key(key), format!("`{text}` is no place of a claim")).hint(why.to_string());
        check.take(ClaimPath::parse(text).map_err(fault))
    };
    let (person, group) = (read(&mapping.person, "person"), read(&mapping.group, "group"));
    match person.zip(group) {
        Some((person, group)) => {
            By::Mapping(Arc::new(Mapped { person, people: HashSet::new(), group, groups: HashSet::new() }))
        }
        None => By::Everybody,
    }
}

fn claim(check: &mut Check<'_>, role: &Role, place: &Place) -> Option<(ClaimPath, Box<[Box<str>]>)> {
    let (claim, has) = match (&role.claim, &role.has) {
        (Some(claim), Some(has)) => (claim, has),
        (None, None) => return None,
        (told, _) => {
            let (here, missing) = if told.is_some() { ("claim", "has") } else { ("has", "claim") };
            let fault = Fault::new(&place.key(here), format!("`{here}` says nothing without `{missing}`")).at_key();
            check.fault(fault.hint("for example `claim: groups` and `has: support`"));
            return None;
        }
    };
    let path = match claim {
        Texts::One(text) => ClaimPath::parse(text),
        Texts::Many(names) => ClaimPath::of(names.iter().map(String::as_str)),
    };
    let path = path.map_err(|why| Fault::new(&place.key("claim"), "this is no place of a claim").hint(why.to_string()));
    let wanted = has.all().iter().map(|text| text.as_str().into()).collect();
    check.take(path).map(|path| (path, wanted))
}
