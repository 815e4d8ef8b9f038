//! From the words of a [`Document`] to a [`Config`]: names, ranges, references, and what contradicts itself.

mod access;
mod admin;
mod audit;
mod balance;
mod failures;
mod filters;
mod health;
mod limits;
mod listeners;
mod people;
mod policies;
mod pools;
mod revoked;
mod roles;
mod routes;
mod servers;
mod trials;

pub(super) use revoked::revoked;
pub(super) use trials::trials;

use super::amount;
use super::document::{self, Document};
use super::fault::Fault;
use super::filter::FilterKind;
use super::model::{Config, KeyFile, Server};
use super::node::{Node, Place};
use super::value::{self, BadReference};
use crate::clock::UnixSeconds;
use crate::name::{Malformed, NodeName, RoleName};
use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

const MINUTE: Duration = Duration::from_secs(60);

/// What a check needs beside the document.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// The text that the document was read from.
    pub(super) text: &'a str,
    /// Its file, in whose folder relative paths start.
    pub(super) file: &'a Path,
    /// The filters that there are.
    pub(super) filters: &'a [&'a dyn FilterKind],
}

impl Context<'_> {
    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or_else(|| Path::new(""))
    }
}

/// Checks everything; none if something is missing, and the faults say what.
pub(super) fn check(
    document: &Document,
    root: &Node,
    context: &Context<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Config> {
    let top = Place::root();
    let mut check = Check { context: *context, faults };
    let node = check.name(NodeName::parse, &document.node, &top.key("node"));
    let admin = admin::check(&mut check, document);
    let listeners = listeners::check(&mut check, document, root, &admin.addresses);
    let tokens = access::tokens(&mut check, document.edge.as_ref());
    let roles = roles::check(&mut check, document);
    let workloads = access::workloads(&mut check, document, &roles);
    let people = people::check(&mut check, document, &roles);
    let pools = pools::check(&mut check, document);
    let world = routes::World { document, root, listeners: &listeners, workloads: &workloads, roles: &roles };
    let routes = routes::check(&mut check, &world);
    let words = policies::words(&mut check, document, (&listeners, &workloads, &routes));
    let policies = policies::files(&mut check, document);
    let limits = limits::check(&mut check, document);
    servers::not_our_own(&mut check, document, &admin.addresses);
    let dns = servers::dns(&mut check, &document.dns, &top.key("dns"));
    let audit = audit::check(&mut check, &document.audit);
    let external_secrets = access::external_secrets(&mut check, document);
    let stop = top.key("stop");
    let lame_duck = check.duration(&document.stop.lame_duck.0, &stop.key("lame_duck"), Duration::ZERO..=5 * MINUTE);
    let grace = check.duration(&document.stop.grace.0, &stop.key("grace"), Duration::ZERO..=24 * 60 * MINUTE);
    let tokens = tokens?;
    Some(Config {
        text: context.text.into(),
        document: Box::new(document.clone()),
        text_digest: Config::digest_of(context.text.as_bytes()),
        file: context.file.to_owned(),
        node: node?,
        listeners,
        edge: tokens.edge,
        replay: tokens.replay,
        digest_body_max: tokens.digest_body_max,
        key_age_max: tokens.key_age_max,
        external_secrets,
        workloads,
        people,
        limits,
        priorities: Arc::new(roles.priorities),
        revoked_file: document.revoked.as_ref().map(|file| check.path(file)),
        policies,
        words,
        routes,
        pools,
        dns: dns?,
        audit: audit?,
        admin_http: admin.http,
        admin_https: admin.https,
        admin_socket: admin.socket,
        operators: admin.operators,
        lame_duck: lame_duck?,
        grace: grace?,
        is_watched: document.reload.watch,
        log: document.log.clone(),
        history_keep: document
            .history
            .as_ref()
            .map_or(0, |history| usize::try_from(history.keep).unwrap_or(usize::MAX)),
        plugin_cache: document.plugins.as_ref().map(|plugins| check.path(&plugins.cache)),
        history_dir: document.history.as_ref().map(|history| check.path(&history.dir)),
    })
}

/// Checks servers that stand in a file of their own.
pub(super) fn servers(servers: &[document::Server], context: &Context<'_>, faults: &mut Vec<Fault>) -> Vec<Server> {
    let mut check = Check { context: *context, faults };
    servers::check(&mut check, None, servers, &Place::root())
}

/// Checks a file that says who has which of those roles.
pub(super) fn mapping(mapping: &document::MappingFile, roles: &[&RoleName], faults: &mut Vec<Fault>) {
    for (key, entries) in [("people", &mapping.people), ("groups", &mapping.groups)] {
        for (name, given) in entries {
            let place = Place::root().key(key).key(name);
            for (index, role) in
                given.iter().enumerate().filter(|(_, role)| !roles.iter().any(|known| known.as_str() == **role))
            {
                let fault = Fault::new(
                    &place.index(index),
                    format!("there is no role `{role}` of these people that is `mapped`"),
                );
                faults.push(fault.did_you_mean(role, roles.iter().map(|role| role.as_str())));
            }
        }
    }
}

/// Collects faults on the way.
struct Check<'a> {
    context: Context<'a>,
    faults: &'a mut Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// The value, or its fault is noted.
    fn take<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.fault(fault)).ok()
    }

    fn name<T>(&mut self, parse: fn(&str) -> Result<T, Malformed>, text: &str, place: &Place) -> Option<T> {
        self.take(
            parse(text).map_err(|error| Fault::new(place, format!("`{text}` is no name")).hint(error.to_string())),
        )
    }

    fn key_name<T>(&mut self, parse: fn(&str) -> Result<T, Malformed>, text: &str, place: &Place) -> Option<T> {
        let fault =
            |error: Malformed| Fault::new(place, format!("`{text}` is no name")).at_key().hint(error.to_string());
        self.take(parse(text).map_err(fault))
    }

    /// A key's file, under that word, and the day on which the key was made.
    fn key_file(&mut self, (file, word): (&str, &str), created: Option<&str>, place: &Place) -> Option<KeyFile> {
        let path = self.file_reference(file, &place.key(word));
        let created = created.map(|day| self.day(day, &place.key("created")));
        let created = if let Some(day) = created { Some(day?) } else { None };
        Some(KeyFile { path: path?, created })
    }

    fn day(&mut self, text: &str, place: &Place) -> Option<UnixSeconds> {
        let fault = || Fault::new(place, format!("`{text}` is no day")).hint("for example 2026-11-01");
        self.take(value::day(text).ok_or_else(fault))
    }

    fn duration(&mut self, text: &str, place: &Place, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.take(amount::duration(text, place, &range))
    }

    fn bytes(&mut self, text: &str, place: &Place, range: RangeInclusive<u64>) -> Option<u64> {
        self.take(amount::bytes((text, value::bytes(text)), place, &range, "32KiB"))
    }

    fn bytes_per_second(&mut self, text: &str, place: &Place, range: RangeInclusive<u64>) -> Option<u64> {
        self.take(amount::bytes((text, value::bytes_per_second(text)), place, &range, "1KiB/s"))
    }

    fn percent(&mut self, text: &str, place: &Place, range: RangeInclusive<u32>) -> Option<u32> {
        let percent = value::percent(text);
        let fault = match percent {
            Some(percent) if range.contains(&percent) => return Some(percent),
            Some(_) => Fault::new(place, format!("{text} is out of range")).hint(format!(
                "from {}% to {}%",
                range.start(),
                range.end()
            )),
            None => Fault::new(place, format!("`{text}` is no share")).hint("a number and %, for example 50%"),
        };
        self.fault(fault);
        None
    }

    fn path(&self, text: &str) -> PathBuf {
        self.context.folder().join(text)
    }

    fn file_reference(&mut self, text: &str, place: &Place) -> Option<PathBuf> {
        match value::file_reference(text) {
            Ok(path) => Some(self.context.folder().join(path)),
            Err(BadReference::NotYet) => {
                self.fault(Fault::new(place, "keys are read from files only, as yet").hint("write file:PATH"));
                None
            }
            // The text may be the secret itself, so it is not repeated.
            Err(BadReference::Inline) => {
                self.fault(
                    Fault::new(place, "a key never stands in the config itself").hint("write file:PATH").secret(),
                );
                None
            }
        }
    }

    fn address(&mut self, text: &str, place: &Place) -> Option<SocketAddr> {
        let fault = |_not_an_address| {
            let fault = Fault::new(place, format!("`{text}` is no address with a port"));
            fault.hint("for example 10.0.0.1:8080 or [::1]:8080; a name is none here")
        };
        self.take(text.parse().map_err(fault))
    }
}

/// Reports the second of each equal pair.
fn twice<T: Eq + Hash>(items: impl IntoIterator<Item = (T, Place)>, what: &str) -> Vec<Fault> {
    let mut seen: HashMap<T, Place> = HashMap::new();
    let mut faults = Vec::new();
    for (item, place) in items {
        match seen.entry(item) {
            Entry::Occupied(first) => {
                faults.push(Fault::new(&place, format!("this {what} stands at {} too", first.get())));
            }
            Entry::Vacant(free) => {
                free.insert(place);
            }
        }
    }
    faults
}
