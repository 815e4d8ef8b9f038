//! What guards a config beside its routes, and what of it is weaker in another. Compared is what holds, not where it is
//! written: a listener is known by its name, its address or its CAs, a key by its id or its file.

use super::Danger;
use crate::config::{AdminHttps, ClientAuth, Config, KeySource, KeyState, Listener, TokenKeyFile, Workload};
use crate::identity::Replay;
use crate::name::WorkloadName;
use crate::network::Networks;
use std::{collections::HashSet, path::PathBuf, time::Duration};

/// What is weaker.
pub(super) fn weaker(old: &Config, new: &Config) -> Vec<Danger> {
    let mut dangers = Vec::new();
    for is in &new.listeners {
        if let Some(was) = counterpart((old, new), is) {
            listener(was, is, &mut dangers);
        }
    }
    edge(old, new, &mut dangers);
    keys(old, new, &mut dangers);
    routes_and_pools(old, new, &mut dangers);
    operators(old, new, &mut dangers);
    scrapers(old, new, &mut dangers);
    dangers
}

pub(super) fn danger(subject: &impl ToString, what: &str, meaning: String) -> Danger {
    Danger { name: format!("{}.{what}", subject.to_string()), what: meaning }
}

/// The listener that one was before.
fn counterpart<'a>((old, new): (&'a Config, &Config), is: &Listener) -> Option<&'a Listener> {
    let cas = |config: &Config, listener: &'_ Listener| {
        let client_auth = listener.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
        let files = client_auth.into_iter().flat_map(|client_auth| &client_auth.ca);
        files.map(|path| config.way_to(path).to_owned()).collect::<HashSet<_>>()
    };
    let own = cas(new, is);
    let same_name = |was: &&Listener| was.name == is.name;
    let same_place = |was: &&Listener| was.bind.iter().any(|bind| is.bind.contains(bind));
    let same_cas = |was: &&Listener| !cas(old, was).is_disjoint(&own);
    let find = |fits: &dyn Fn(&&Listener) -> bool| old.listeners.iter().find(fits);
    find(&same_name).or_else(|| find(&same_place)).or_else(|| find(&same_cas))
}

fn listener(was: &Listener, is: &Listener, dangers: &mut Vec<Danger>) {
    let name = &is.name;
    if was.tls.is_some() && is.tls.is_none() {
        dangers.push(danger(name, "tls", format!("connections to listener {name} are not encrypted any more")));
    }
    let are_wider = match (&was.sources, &is.sources) {
        (Some(was), Some(is)) => !was.cover(is),
        (Some(_), None) => true,
        (None, _) => false,
    };
    if are_wider {
        dangers.push(danger(name, "sources", format!("more networks may connect to listener {name}")));
    }
    let nobody = Networks::default();
    let believed = |listener: &'_ Listener| listener.proxy_protocol.clone().unwrap_or_else(|| nobody.clone());
    if !believed(was).cover(&believed(is)) {
        let meaning = format!("more peers of listener {name} are believed about who their client is");
        dangers.push(danger(name, "proxy_protocol", meaning));
    }
    let client_auth = |listener: &'_ Listener| listener.tls.as_ref().and_then(|tls| tls.client_auth.as_ref()).cloned();
    if let (Some(was), Some(is)) = (client_auth(was), client_auth(is)) {
        certificates(name, &was, &is, dangers);
    }
}

fn certificates(name: &impl ToString, was: &ClientAuth, is: &ClientAuth, dangers: &mut Vec<Danger>) {
    let subject = name.to_string();
    if is.crl.len() < was.crl.len() {
        let meaning = format!("fewer revocation lists are asked at listener {subject}");
        dangers.push(danger(name, "crl", meaning));
    }
    if is.expired_crl_counts && !was.expired_crl_counts {
        let meaning = format!("an expired revocation list goes on to count at listener {subject}");
        dangers.push(danger(name, "crl_expired", meaning));
    }
    if is.trusts_origin_pull && !was.trusts_origin_pull {
        let meaning = format!("listener {subject} trusts a CA that signs for strangers, too");
        dangers.push(danger(name, "trust_shared_ca", meaning));
    }
    let longest = |rules: &ClientAuth| rules.lifetime_max.unwrap_or(Duration::MAX);
    if longest(is) > longest(was) {
        let meaning = format!("certificates at listener {subject} may live longer");
        dangers.push(danger(name, "max_certificate_lifetime", meaning));
    }
}

fn edge(old: &Config, new: &Config, dangers: &mut Vec<Danger>) {
    let rank = |replay: Replay| match replay {
        Replay::Strict => 0,
        Replay::Tolerant => 1,
        Replay::Off => 2,
    };
    let has_tokens = old.edge.is_some() && new.edge.is_some();
    let lifetime = |config: &Config| config.edge.as_ref().map(|edge| edge.lifetime_max);
    let digest = |config: &Config| config.edge.as_ref().is_some_and(|edge| edge.demands_digest);
    let weaker = [
        (rank(new.replay) > rank(old.replay), "token.replay", "a token may be used more often"),
        (lifetime(new) > lifetime(old), "token.max_lifetime", "tokens may live longer"),
        (digest(old) && !digest(new), "token.body_digest", "a token need not name the body"),
        (new.key_age_max > old.key_age_max, "max_key_age", "shared secrets may grow older"),
    ];
    let weaker = weaker.into_iter().filter(|(is_weaker, ..)| has_tokens && *is_weaker);
    dangers.extend(weaker.map(|(_, what, meaning)| danger(&"edge", what, meaning.to_owned())));
}

/// Keys that were revoked, and that count under their id or from their file.
fn keys(old: &Config, new: &Config, dangers: &mut Vec<Danger>) {
    fn path(key: &TokenKeyFile) -> &PathBuf {
        let (KeySource::Public(path) | KeySource::Secret(path)) = &key.source;
        path
    }
    let keys = |config: &'_ Config, is_revoked: bool| {
        let all = config.workloads.iter().flat_map(|workload| &workload.keys);
        let meant = all.filter(|key| (key.state == KeyState::Revoked) == is_revoked);
        meant.map(|key| (key.kid.clone(), config.way_to(path(key)).to_owned())).collect::<Vec<_>>()
    };
    let revoked = keys(old, true);
    for (kid, path) in keys(new, false) {
        if revoked.iter().any(|(known, file)| *known == kid || *file == path) {
            dangers.push(danger(&kid, "revoked", format!("the token key `{kid}` was revoked, and would count again")));
        }
    }
}

fn routes_and_pools(old: &Config, new: &Config, dangers: &mut Vec<Danger>) {
    let asked: HashSet<_> = old.routes.iter().filter(|was| was.demands_digest).map(|was| &was.name).collect();
    for is in new.routes.iter().filter(|route| !route.demands_digest) {
        if asked.contains(&is.name) {
            let meaning = format!("`{}` does not ask for the body's digest any more", is.name);
            dangers.push(danger(&is.name, "body_digest", meaning));
        }
    }
    let encrypted: HashSet<_> = old.pools.iter().filter(|was| was.tls.is_some()).map(|was| &was.name).collect();
    for is in new.pools.iter().filter(|pool| pool.tls.is_none()) {
        if encrypted.contains(&is.name) {
            let meaning = format!("requests to the pool {} are not encrypted any more", is.name);
            dangers.push(danger(&is.name, "tls", meaning));
        }
    }
}

fn operators(old: &Config, new: &Config, dangers: &mut Vec<Danger>) {
    let (was, is) = (&old.operators, &new.operators);
    if is.change.iter().any(|user| !was.change.contains(user)) {
        dangers.push(danger(&"admin", "change", "more users may change what is live".to_owned()));
    }
    if is.read.iter().any(|user| !was.read.contains(user) && !was.change.contains(user)) {
        dangers.push(danger(&"admin", "read", "more users may read decisions and servers".to_owned()));
    }
}

fn scrapers(old: &Config, new: &Config, dangers: &mut Vec<Danger>) {
    let Some(is) = &new.admin_https else { return };
    if !readers(new).is_subset(&readers(old)) {
        dangers.push(danger(&"admin", "https", "more workloads may read metrics and health from elsewhere".to_owned()));
    }
    if let Some(was) = &old.admin_https {
        listener(&was.listener, &is.listener, dangers);
    }
}

/// The workloads that may read metrics and health from elsewhere, by themselves or by a role.
fn readers(config: &Config) -> HashSet<&WorkloadName> {
    let may = |https: &'_ AdminHttps, known: &&Workload| {
        let known = &known.workload;
        https.allow.rule_for(&known.name, known.roles.iter()).is_some()
    };
    let of = |https| config.workloads.iter().filter(move |known| may(https, known)).map(|known| &known.workload.name);
    config.admin_https.iter().flat_map(of).collect()
}
