//! The config in domain types: no invalid state, names resolved, paths joined.

mod audit;
mod pool;
mod trial;

pub use super::document::{
    ClientAddress, Introduction, KeyState, LogFormat, LogLevel, ProcessLog, RetryMethods, SameSite,
};
pub use audit::{Audit, Checkpoints, Durability, KeyFile, OnFailure, Span};
pub use pool::{
    AgentCheck, Balance, CheckKind, Dns, Followed, HashKey, HealthCheck, HttpCheck, Location, Pool, PoolLimits,
    Question, Retry, Server, Sticky, TcpCheck, Timeouts,
};
pub(super) use pool::{Expression, OriginTls};
pub use trial::Trial;

use super::document::Document;
use super::filter::FilterSpec;
use crate::clock::UnixSeconds;
use crate::generation::Digest;
use crate::identity::{self, Edge, Kid, Profile, Replay};
use crate::limit::Allowance;
use crate::name::{GroupName, ListenerName, NodeName, PoolName, RoleName, RouteName};
use crate::network::{Networks, Own};
use crate::policy::rules::Words;
use crate::policy::{Access, AllowList, Term};
use crate::principal::{self, Priority};
use crate::route::Pattern;
use crate::verdict::RuleId;
use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A config that can be built.
#[derive(Debug)]
pub struct Config {
    /// The text.
    pub text: Arc<str>,
    /// The same, word for word.
    pub document: Box<Document>,
    /// SHA-256 of the text.
    pub text_digest: Digest,
    /// The config's file.
    pub file: PathBuf,
    /// This node.
    pub node: NodeName,
    /// Where connections come in.
    pub listeners: Vec<Listener>,
    /// What all Workers' tokens have in common.
    pub edge: Option<Edge>,
    /// How often one token may be used.
    pub replay: Replay,
    /// The longest body whose digest is checked, in bytes.
    pub digest_body_max: usize,
    /// The age at which a shared secret is refused.
    pub key_age_max: Duration,
    /// Secrets that others have.
    pub external_secrets: Vec<ExternalSecret>,
    /// Machines that call.
    pub workloads: Vec<Workload>,
    /// Whose users come through them.
    pub people: Vec<People>,
    /// What callers may use.
    pub limits: Vec<Limit>,
    /// The roles whose people and workloads are served before others, or after them.
    pub priorities: Arc<HashMap<RoleName, Priority>>,
    /// The file of what counts no more.
    pub revoked_file: Option<PathBuf>,
    /// Where rules are, and their tests; none if there are no rules.
    pub policies: Option<PolicyFiles>,
    /// What rules can speak of.
    pub words: Words,
    /// Routes in order.
    pub routes: Vec<Route>,
    /// Pools.
    pub pools: Vec<Pool>,
    /// How names of servers are looked up.
    pub dns: Dns,
    /// The audit log.
    pub audit: Audit,
    /// The address for metrics and health.
    pub admin_http: Option<SocketAddr>,
    /// The same for workloads that come from elsewhere.
    pub admin_https: Option<AdminHttps>,
    /// The Unix socket for operators.
    pub admin_socket: Option<PathBuf>,
    /// Who may ask there.
    pub operators: Operators,
    /// Whether a change of its file is a reload.
    pub is_watched: bool,
    /// After TERM, how long connections are still accepted.
    pub lame_duck: Duration,
    /// How long requests in flight may take to end.
    pub grace: Duration,
    /// What the process says of itself.
    pub log: ProcessLog,
    /// The folder for what outlives a restart.
    pub history_dir: Option<PathBuf>,
    /// Where compiled plugins are kept, if they are.
    pub plugin_cache: Option<PathBuf>,
    /// How many generations are remembered there.
    pub history_keep: usize,
}

impl Config {
    /// The digest of a config's text.
    #[must_use]
    pub fn digest_of(text: &[u8]) -> Digest {
        Digest::of(&[("config", text)])
    }

    /// The way to a file from the config's folder, which may be another one on another machine.
    #[must_use]
    pub fn way_to<'a>(&self, path: &'a Path) -> &'a Path {
        let folder = self.file.parent().unwrap_or_else(|| Path::new(""));
        path.strip_prefix(folder).unwrap_or(path)
    }

    /// Where Belay itself listens: no server can be there.
    #[must_use]
    pub fn own(&self) -> Own {
        let bound = || self.listeners.iter().flat_map(|listener| &listener.bind);
        let path = |bind: &Bind| if let Bind::Unix(path) = bind { Some(path.clone()) } else { None };
        Own {
            addresses: bound()
                .filter_map(Bind::tcp)
                .chain(self.admin_http)
                .chain(self.admin_https.iter().flat_map(AdminHttps::addresses))
                .collect(),
            sockets: bound().filter_map(path).chain(self.admin_socket.clone()).collect(),
        }
    }
}

/// A secret that Belay does not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalSecret {
    /// Its name.
    pub name: Box<str>,
    /// When it was made.
    pub created: UnixSeconds,
    /// The age at which it should be replaced.
    pub age_max: Duration,
}

/// Where rules are. In the last name of a path may be a `*`, which stands for any letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFiles {
    /// Rules.
    pub policies: Vec<PathBuf>,
    /// Their tests.
    pub tests: Vec<PathBuf>,
}

/// Where metrics and health are read from elsewhere.
#[derive(Debug)]
pub struct AdminHttps {
    /// The door, which leads to no route.
    pub listener: Listener,
    /// Who may read.
    pub allow: AllowList,
}

impl AdminHttps {
    /// What it is called beside the listeners.
    pub const NAME: &'static str = "admin";

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listener.bind.iter().filter_map(Bind::tcp)
    }
}

/// Users of the system, by name or number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operators {
    /// Who may read.
    pub read: Vec<String>,
    /// Who may read and change.
    pub change: Vec<String>,
}

/// A listener.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: ListenerName,
    /// Where it listens.
    pub bind: Vec<Bind>,
    /// Its TLS; none means plain HTTP.
    pub tls: Option<Tls>,
    /// The profile of routes that do not name one.
    pub identity: Profile,
    /// Who may connect; none means everybody.
    pub sources: Option<Networks>,
    /// Who tells the client's address.
    pub proxy_protocol: Option<Networks>,
    /// Ports that clients may name.
    pub ports: Vec<u16>,
    /// Whose address counts as the client's.
    pub client_address: ClientAddress,
    /// Whether the token says which host is meant.
    pub host_from_token: bool,
    /// What clients may use.
    pub limits: Limits,
    /// Filters in order, each with its kind's name.
    pub filters: Vec<(&'static str, Box<dyn FilterSpec>)>,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bind {
    /// At an address.
    Tcp(SocketAddr),
    /// At a path.
    Unix(PathBuf),
    /// Where the service manager does, under that name.
    Inherited(String),
}

impl Bind {
    /// The address, if it is one.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) | Self::Inherited(_) => None,
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(name) => write!(f, "fd:{name}"),
        }
    }
}

/// What clients may use of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Of these, from one address.
    pub connections_per_address: usize,
    /// And of one workload.
    pub connections_per_workload: usize,
    /// HTTP/2 requests at once on a connection.
    pub streams: u32,
    /// For what comes before HTTP.
    pub handshake_timeout: Duration,
    /// Bytes of a head.
    pub head: usize,
    /// Fields of a head.
    pub headers: usize,
    /// For a whole head.
    pub head_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// For a client to take a piece of the response.
    pub write_timeout: Duration,
    /// Bytes of a body.
    pub body: u64,
    /// Bytes of a body each second.
    pub body_rate_min: u64,
}

/// A listener's TLS.
#[derive(Debug)]
pub struct Tls {
    /// At least one.
    pub certificates: Vec<CertificateFiles>,
    /// Who vouches for clients; none means that no client is trusted.
    pub client_auth: Option<ClientAuth>,
}

/// Where certificates are.
#[derive(Debug)]
pub enum CertificateFiles {
    /// In two files.
    Pair {
        /// The chain.
        chain: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// In a folder.
    Folder(PathBuf),
}

/// Who vouches for clients.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    /// PEM files of CAs.
    pub ca: Vec<PathBuf>,
    /// PEM files of revocation lists.
    pub crl: Vec<PathBuf>,
    /// Whether a list counts after its time.
    pub expired_crl_counts: bool,
    /// Whether the handshake refuses.
    pub is_strict: bool,
    /// The longest validity of a client certificate.
    pub lifetime_max: Option<Duration>,
    /// Whether a CA that signs for all of Cloudflare's customers is meant.
    pub trusts_origin_pull: bool,
}

/// A workload and where its keys are.
#[derive(Debug)]
pub struct Workload {
    /// The workload with its roles.
    pub workload: Arc<principal::Workload>,
    /// Its keys.
    pub keys: Vec<TokenKeyFile>,
    /// The facts that its tokens may assert.
    pub may_assert: Arc<[Box<str>]>,
}

/// Users of an identity provider, and where its keys and some of their roles are.
#[derive(Debug, Clone)]
pub struct People {
    /// What of their tokens counts. Its keys, and whom a file gives roles, are not known before it is built.
    pub terms: identity::People,
    /// The file that says who has the roles that are mapped.
    pub mapping: Option<PathBuf>,
    /// Where the provider's keys are.
    pub keys: ProviderKeys,
}

/// What callers may use.
#[derive(Debug, Clone)]
pub struct Limit {
    /// Its place in the config.
    pub name: RuleId,
    /// What clients read of it.
    pub label: Box<str>,
    /// Of what.
    pub scope: Scope,
    /// By what they are told apart.
    pub by: LimitKey,
    /// Who; none means everybody.
    pub whom: Option<AllowList>,
    /// How much.
    pub allowance: Allowance,
    /// Bytes of a body.
    pub body: Option<u64>,
    /// By what the edge says that it is too much.
    pub edge: Option<EdgeVerdict>,
}

/// What the edge says in its token when it is too much.
#[derive(Debug, Clone)]
pub struct EdgeVerdict {
    /// The fact.
    pub claim: Box<str>,
    /// Its values that mean too much.
    pub has: Box<[Box<str>]>,
}

/// Of what a limit is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Of all that comes by a listener.
    Listener(ListenerName),
    /// Of a route.
    Route(RouteName),
    /// Of all that goes to a pool.
    Pool(PoolName),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "listeners.{name}"),
            Self::Route(name) => write!(f, "routes.{name}"),
            Self::Pool(name) => write!(f, "pools.{name}"),
        }
    }
}

/// By what callers are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey {
    /// Not at all.
    All,
    /// By the person.
    User,
    /// By the rule that lets them pass: the workload or role that it names.
    Role,
    /// By something that a request has.
    Request(HashKey),
}

/// Where an identity provider's keys are.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderKeys {
    /// In a file.
    File(PathBuf),
    /// At the provider.
    Fetched {
        /// Where.
        place: KeysPlace,
        /// Who vouches for the provider's server; nobody means the system's CAs.
        ca: Vec<PathBuf>,
        /// Private networks in which it may be.
        allowed: Networks,
    },
}

/// Where a provider shows its keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeysPlace {
    /// Where its metadata say (OpenID Connect Discovery 1.0 § 4).
    Metadata,
    /// In a JWK set at this URL.
    Set(Box<str>),
    /// Each in a PEM file of its own below this URL, named by its id.
    Below(Box<str>),
}

impl KeysPlace {
    /// The URL, if there is one.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Metadata => None,
            Self::Set(url) | Self::Below(url) => Some(url),
        }
    }
}

/// A token key's file.
#[derive(Debug)]
pub struct TokenKeyFile {
    /// The key's id.
    pub kid: Kid,
    /// Where it is.
    pub source: KeySource,
    /// When it was made, as the config says.
    pub created: Option<UnixSeconds>,
    /// Where it is in its life.
    pub state: KeyState,
}

/// Where a token key is.
#[derive(Debug)]
pub enum KeySource {
    /// A public key.
    Public(PathBuf),
    /// A shared secret.
    Secret(PathBuf),
}

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: RouteName,
    /// What it matches.
    pub pattern: Pattern,
    /// The profile; none means the listener's.
    pub identity: Option<Profile>,
    /// Who may pass.
    pub access: Arc<Access>,
    /// Filters in order, each with its kind's name.
    pub filters: Vec<(&'static str, Box<dyn FilterSpec>)>,
    /// The groups that it is in.
    pub groups: Vec<GroupName>,
    /// Whether who may not pass sees it.
    pub is_hidden: bool,
    /// Whether the token must carry the body's digest.
    pub demands_digest: bool,
    /// How long what it has let in may go on.
    pub term: Term,
    /// Where it leads.
    pub pool: PoolName,
}
