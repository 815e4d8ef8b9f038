//! One generation, built.

use super::operators::Operators;
use super::secrets::Held;
use crate::audit::Judged;
use crate::clock::Timestamp;
use crate::config::{self, ClientAddress, Config, Finding, Limits};
use crate::filter::Chain;
use crate::generation::{Digest, Generation};
use crate::identity::{Authorities, Profile, Replay, Trust};
use crate::journal;
use crate::keys::{Read, Seen};
use crate::limit::Limiter;
use crate::metrics;
use crate::name::{ListenerName, PeopleName};
use crate::network::Networks;
use crate::policy::Door;
use crate::policy::rules::RuleSet;
use crate::provider::Provider;
use crate::route::Table;
use crate::tls::Terminator;
use crate::upstream::Pools;
use std::{collections::HashMap, sync::Arc};

/// Everything that judges and serves a request.
#[derive(Debug)]
pub struct Snapshot {
    /// What it was built from.
    pub config: Arc<Config>,
    /// Who may ask at the socket, and change things.
    pub operators: Operators,
    /// How the audit log is kept.
    pub journal: journal::Settings,
    /// Its number.
    pub generation: Generation,
    /// The digest of the config and of all files that it names.
    pub digest: Digest,
    /// The digest of what of it decides.
    pub policy: Digest,
    /// Where connections come in: the listeners, and the admin's address for workloads under its name.
    pub entrances: HashMap<ListenerName, Entrance>,
    /// Whom we know.
    pub trust: Trust,
    /// The rules, if there are some.
    pub rules: Option<RuleSet>,
    /// What is probably not meant in the files that it was built from.
    pub warnings: Box<[Finding]>,
    /// The identity providers that are asked for the keys of people.
    pub providers: HashMap<PeopleName, Arc<Provider>>,
    /// How often a token may be used.
    pub replay: Replay,
    /// The longest body that is held until its digest is checked, in bytes.
    pub digest_body_max: usize,
    /// How far the Workers' clock is from ours.
    pub clock_offset: Option<prometheus::IntGauge>,
    /// Keys, certificates and all else that grows old.
    pub secrets: Box<[Held]>,
    /// Where requests belong.
    pub routes: Table<Arc<Route>>,
    /// Whether a route is hidden.
    pub hides: bool,
    /// For requests that belong nowhere.
    pub nowhere: metrics::Route,
    /// Where they go.
    pub pools: Arc<Pools>,
    /// The files that it was built from, as they were then.
    pub files: Box<[Seen]>,
    /// What it was built from: the config, and the files in the order in which they were read.
    pub read: Box<[Read]>,
}

impl Snapshot {
    /// Its number and digest, for records.
    #[must_use]
    pub const fn judged(&self) -> Judged {
        Judged { generation: self.generation, digest: self.digest, policy: self.policy }
    }

    /// What to say now of what grows old.
    pub fn warnings_of_age(&self, now: Timestamp) -> impl Iterator<Item = (&Held, String)> {
        self.secrets.iter().filter_map(move |held| Some((held, held.aging.as_ref()?.warning(now)?)))
    }
}

/// A listener's part of a snapshot.
#[derive(Debug)]
pub struct Entrance {
    /// Its TLS; none means plain HTTP.
    pub tls: Option<Arc<Terminator>>,
    /// Who vouches for its clients; nobody at all, where no CA is named.
    pub authorities: Option<Arc<Authorities>>,
    /// What it demands.
    pub identity: Profile,
    /// Who may connect; none means everybody.
    pub sources: Option<Networks>,
    /// Who tells the client's address.
    pub proxy_protocol: Option<Networks>,
    /// Whose address counts as the client's.
    pub client_address: ClientAddress,
    /// Whether the token says which host is meant.
    pub host_from_token: bool,
    /// Ports that requests may name beside the one that they came to.
    pub ports: Box<[u16]>,
    /// What connections may use.
    pub limits: Limits,
    /// What callers may use who come this way.
    pub requests: Box<[Limit]>,
    /// What is done to those who pass, before the filters of their route.
    pub filters: Chain,
    /// Its handles.
    pub metrics: metrics::Listener,
}

/// What callers may use, and what they have used of it.
#[derive(Debug, Clone)]
pub struct Limit {
    /// How much, and of what.
    pub config: Arc<config::Limit>,
    /// Who is counted.
    pub limiter: Arc<Limiter>,
    /// How often it was exceeded.
    pub exceeded: prometheus::IntCounter,
}

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Who may pass, and where to.
    pub door: Door,
    /// What is done to those who pass.
    pub filters: Chain,
    /// What callers may use of it, and of its pool.
    pub limits: Box<[Limit]>,
    /// Its handles.
    pub metrics: metrics::Route,
}
