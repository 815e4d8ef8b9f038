//! `edge` and `workloads`: who can prove what.

use super::roles::Roles;
use super::{Check, twice};
use crate::clock::UnixSeconds;
use crate::config::document::{self, BodyDigestMode, Document, ReplayMode};
use crate::config::fault::Fault;
use crate::config::model::{self, ExternalSecret, KeySource, TokenKeyFile};
use crate::config::node::Place;
use crate::identity::{Edge, Kid, Replay, may_be_fact};
use crate::name::{RoleName, WorkloadName};
use crate::principal::{SpiffeId, Workload};
use std::{sync::Arc, time::Duration};

/// What the config says of tokens.
pub(super) struct Tokens {
    pub(super) edge: Option<Edge>,
    pub(super) replay: Replay,
    pub(super) digest_body_max: usize,
    pub(super) key_age_max: Duration,
}

pub(super) fn tokens(check: &mut Check<'_>, edge: Option<&document::Edge>) -> Option<Tokens> {
    let rules = edge.map(|edge| edge.token.clone()).unwrap_or_default();
    let key_age_max = edge.map_or_else(|| "90d".into(), |edge| edge.max_key_age.0.clone());
    let top = Place::root().key("edge");
    let place = top.key("token");
    let replay = match rules.replay {
        ReplayMode::Tolerant => Replay::Tolerant,
        ReplayMode::Strict => Replay::Strict,
        ReplayMode::Off => {
            let fault = Fault::warning(&place.key("replay"), "whoever sees a token can use it again until it ends");
            check.fault(fault.hint("`tolerant` lets the Workers runtime repeat what does no harm, and nothing else"));
            Replay::Off
        }
    };
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    let lifetime = check.duration(&rules.max_lifetime.0, &place.key("max_lifetime"), range);
    let held = check.bytes(&rules.digest_body_max.0, &place.key("digest_body_max"), 1024..=1024 * 1024);
    let days = DAY..=3650 * DAY;
    let key_age_max = check.duration(&key_age_max, &top.key("max_key_age"), days);
    let lifetime_max = UnixSeconds::try_from(lifetime?.as_secs()).unwrap_or(UnixSeconds::MAX);
    let edge = edge.map(|edge| Edge {
        issuer: edge.issuer.as_str().into(),
        audience: edge.audience.as_str().into(),
        lifetime_max,
        demands_digest: rules.body_digest == BodyDigestMode::Required,
    });
    let digest_body_max = usize::try_from(held?).unwrap_or(usize::MAX);
    Some(Tokens { edge, replay, digest_body_max, key_age_max: key_age_max? })
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn workloads(check: &mut Check<'_>, document: &Document, roles: &Roles) -> Vec<model::Workload> {
    let top = Place::root().key("workloads");
    let mut checked = Vec::new();
    for (name, workload) in &document.workloads {
        let place = top.key(name);
        let id = SpiffeId::parse(&workload.id).map_err(|error| {
            Fault::new(&place.key("id"), format!("`{}` is no SPIFFE id", workload.id)).hint(error.to_string())
        });
        let id = check.take(id);
        let keys = keys(check, workload, &place.key("keys"));
        let may_assert = assertions(check, workload, &place.key("may_assert"));
        let has_it = |(_, members): &&(RoleName, Vec<String>)| members.contains(name);
        let roles = roles.of_workloads.iter().filter(has_it).map(|(role, _)| role.clone()).collect();
        if let (Some(name), Some(id)) = (check.key_name(WorkloadName::parse, name, &place), id) {
            checked.push(model::Workload { workload: Arc::new(Workload { name, id, roles }), keys, may_assert });
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

fn assertions(check: &mut Check<'_>, workload: &document::Workload, place: &Place) -> Arc<[Box<str>]> {
    let mut read = |(index, name): (usize, &String)| {
        let fault = || Fault::new(&place.index(index), format!("`{name}` cannot be a fact"));
        let hint = "1 to 128 of `A-Z a-z 0-9 _ - . : /`, and no claim of the token itself";
        check.take(may_be_fact(name).then(|| name.as_str().into()).ok_or_else(|| fault().hint(hint)))
    };
    workload.may_assert.iter().enumerate().filter_map(&mut read).collect()
}

/// Secrets that others have: only their ages count here.
pub(super) fn external_secrets(check: &mut Check<'_>, document: &Document) -> Vec<ExternalSecret> {
    let top = Place::root().key("external_secrets");
    let names = document.external_secrets.iter().enumerate();
    let names = names.map(|(index, secret)| (&secret.name, top.index(index).key("name")));
    twice(names, "secret").into_iter().for_each(|fault| check.fault(fault));
    let mut checked = Vec::new();
    for (index, secret) in document.external_secrets.iter().enumerate() {
        let place = top.index(index);
        let name = Kid::parse(&secret.name).ok_or_else(|| {
            let fault = Fault::new(&place.key("name"), format!("`{}` is no name", secret.name));
            fault.hint("1 to 64 of `A-Z a-z 0-9 . _ -`")
        });
        let name = check.take(name);
        let created = check.day(&secret.created, &place.key("created"));
        let age_max = check.duration(&secret.max_age.0, &place.key("max_age"), DAY..=3650 * DAY);
        let made =
            |((name, created), age_max): ((Kid, _), _)| ExternalSecret { name: name.as_str().into(), created, age_max };
        checked.extend(name.zip(created).zip(age_max).map(made));
    }
    checked
}

fn keys(check: &mut Check<'_>, workload: &document::Workload, place: &Place) -> Vec<TokenKeyFile> {
    let mut checked = Vec::new();
    for (index, key) in workload.keys.iter().enumerate() {
        let place = place.index(index);
        let kid = Kid::parse(&key.kid).ok_or_else(|| {
            Fault::new(&place.key("kid"), format!("`{}` is no kid", key.kid)).hint("1 to 64 of `A-Z a-z 0-9 . _ -`")
        });
        let created = key.created.as_ref().and_then(|day| check.day(day, &place.key("created")));
        let (kid, source) = (check.take(kid), key_source(check, key, &place));
        let made = |(kid, source)| TokenKeyFile { kid, source, created, state: key.state };
        checked.extend(kid.zip(source).map(made));
    }
    checked
}

fn key_source(check: &mut Check<'_>, key: &document::Key, place: &Place) -> Option<KeySource> {
    match (&key.key, &key.secret) {
        (Some(public), None) => check.file_reference(public, &place.key("key")).map(KeySource::Public),
        (None, Some(secret)) => {
            if key.created.is_none() {
                let fault = Fault::new(place, "a shared secret needs `created`: it is only good for so long");
                check.fault(fault.hint("for example `created: 2026-11-01`"));
            }
            check.file_reference(secret, &place.key("secret")).map(KeySource::Secret)
        }
        (_, _) => {
            let fault = Fault::new(place, "a key is either `key`, a public key, or `secret`, a shared one");
            check.fault(fault.hint("for example { kid: w-2026-11, key: \"file:keys/w-2026-11.pub.pem\" }"));
            None
        }
    }
}
