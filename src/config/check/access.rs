//! `edge`, `workloads` and `roles`: who can prove what.

use super::{Check, twice};
use crate::clock::UnixSeconds;
use crate::config::document::{self, Document, ReplayMode};
use crate::config::fault::Fault;
use crate::config::model::{self, TokenKeyFile};
use crate::config::node::Place;
use crate::identity::{Edge, Kid, Replay};
use crate::name::{RoleName, WorkloadName};
use crate::principal::{SpiffeId, Workload};
use std::{sync::Arc, time::Duration};

pub(super) fn edge(check: &mut Check<'_>, edge: Option<&document::Edge>) -> (Option<Edge>, Replay) {
    let Some(edge) = edge else { return (None, Replay::Tolerant) };
    let replay = match edge.token.replay {
        ReplayMode::Tolerant => Replay::Tolerant,
        ReplayMode::Strict => Replay::Strict,
    };
    let place = Place::root().key("edge").key("token").key("max_lifetime");
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    let lifetime = check.duration(&edge.token.max_lifetime.0, &place, range);
    let edge = lifetime.map(|lifetime| Edge {
        issuer: edge.issuer.as_str().into(),
        audience: edge.audience.as_str().into(),
        lifetime_max: UnixSeconds::try_from(lifetime.as_secs()).unwrap_or(UnixSeconds::MAX),
    });
    (edge, replay)
}

pub(super) fn workloads(check: &mut Check<'_>, document: &Document) -> Vec<model::Workload> {
    let top = Place::root().key("workloads");
    let roles = roles(check, document);
    let mut checked = Vec::new();
    for (name, workload) in &document.workloads {
        let place = top.key(name);
        let id = SpiffeId::parse(&workload.id).map_err(|error| {
            Fault::new(&place.key("id"), format!("`{}` is no SPIFFE id", workload.id)).hint(error.to_string())
        });
        let id = check.take(id);
        let keys = keys(check, workload, &place.key("keys"));
        let has_it = |(_, members): &&(RoleName, Vec<String>)| members.contains(name);
        let roles = roles.iter().filter(has_it).map(|(role, _)| role.clone()).collect();
        if let (Some(name), Some(id)) = (check.key_name(WorkloadName::parse, name, &place), id) {
            checked.push(model::Workload { workload: Arc::new(Workload { name, id, roles }), keys });
        }
    }
    nothing_twice(check, document);
    checked
}

fn nothing_twice(check: &mut Check<'_>, document: &Document) {
    let top = Place::root().key("workloads");
    let ids = document.workloads.iter().map(|(name, workload)| (&workload.id, top.key(name).key("id")));
    let mut faults = twice(ids, "SPIFFE id");
    let kids = document.workloads.iter().flat_map(|(name, workload)| {
        let place = top.key(name).key("keys");
        workload.keys.iter().enumerate().map(move |(index, key)| (&key.kid, place.index(index).key("kid")))
    });
    faults.extend(twice(kids, "kid"));
    faults.into_iter().for_each(|fault| check.fault(fault));
}

fn keys(check: &mut Check<'_>, workload: &document::Workload, place: &Place) -> Vec<TokenKeyFile> {
    let mut checked = Vec::new();
    for (index, key) in workload.keys.iter().enumerate() {
        let place = place.index(index);
        let kid = Kid::parse(&key.kid).ok_or_else(|| {
            Fault::new(&place.key("kid"), format!("`{}` is no kid", key.kid)).hint("1 to 64 of `A-Z a-z 0-9 . _ -`")
        });
        let (kid, file) = (check.take(kid), check.file_reference(&key.key, &place.key("key")));
        checked.extend(kid.zip(file).map(|(kid, file)| TokenKeyFile { kid, file }));
    }
    checked
}

fn roles(check: &mut Check<'_>, document: &Document) -> Vec<(RoleName, Vec<String>)> {
    let top = Place::root().key("roles");
    let known = || document.workloads.keys().map(String::as_str);
    let mut checked = Vec::new();
    for (name, role) in &document.roles {
        let place = top.key(name);
        if document.workloads.contains_key(name) || name == "public" {
            let taken = if name == "public" { "the word for everybody" } else { "a workload's name too" };
            check.fault(
                Fault::new(&place, format!("`{name}` is {taken}, so `allow` could not tell them apart")).at_key(),
            );
        }
        for (index, member) in role.workloads.iter().enumerate() {
            if !document.workloads.contains_key(member) {
                let fault =
                    Fault::new(&place.key("workloads").index(index), format!("there is no workload `{member}`"));
                check.fault(fault.did_you_mean(member, known()));
            }
        }
        let name = check.key_name(RoleName::parse, name, &place);
        checked.extend(name.map(|name| (name, role.workloads.clone())));
    }
    checked
}
