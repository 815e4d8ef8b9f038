//! Pools in domain types.

use super::{Introduction, KeyFile, RetryMethods, SameSite};
use crate::balance::{Algorithm, Tiers};
use crate::name::{PoolName, ServerName};
use crate::network::Address;
use crate::resilience::{BreakerRules, OutlierRules};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use regex::Regex;
use std::{fmt, net::SocketAddr, ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// How it chooses.
    pub balance: Balance,
    /// At least one, if there is no file.
    pub servers: Vec<Server>,
    /// A file with more.
    pub servers_file: Option<PathBuf>,
    /// How who comes again finds his server.
    pub sticky: Option<Sticky>,
    /// How connections begin.
    pub introduction: Option<Introduction>,
    /// Whether they speak HTTP/2.
    pub speaks_h2: bool,
    /// TLS to them; none means in the clear.
    pub tls: Option<OriginTls>,
    /// Trailers that pass.
    pub trailers: Arc<[HeaderName]>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// The check; none means that every server is healthy.
    pub health: Option<HealthCheck>,
    /// The servers' agents.
    pub agent: Option<AgentCheck>,
    /// How much at once.
    pub limits: PoolLimits,
    /// When a request is tried again.
    pub retry: Retry,
    /// When a server is ejected.
    pub outliers: Option<OutlierRules>,
    /// When the pool is left alone.
    pub breaker: Option<BreakerRules>,
}

/// How much a pool does at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Requests that each server works on.
    pub requests_per_server: u32,
    /// Requests that all work on.
    pub requests: u32,
    /// Connections of each server.
    pub connections_per_server: u32,
    /// Connections of all.
    pub connections: u32,
    /// Requests that wait.
    pub queue_length: usize,
    /// Requests of one workload that wait.
    pub queue_per_workload: usize,
    /// For how long.
    pub queue_timeout: Duration,
}

/// When a request is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// How many servers it may be sent to: 1 to 5.
    pub attempts: u32,
    /// After a connection that did not come about.
    pub on_connect_failure: bool,
    /// After a connection that was closed instead of a response.
    pub on_no_response: bool,
    /// After a timeout of the response's head.
    pub on_timeout: bool,
    /// After these statuses.
    pub on_statuses: Box<[u16]>,
    /// Which requests may be sent twice.
    pub methods: RetryMethods,
    /// The most retries, in percent of requests.
    pub budget: u32,
}

/// TLS to the servers of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginTls {
    /// PEM files of CAs.
    pub ca: Vec<PathBuf>,
    /// The name that the servers' certificate must have.
    pub sni: String,
    /// Our chain and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Where it is.
    pub location: Location,
    /// Its share: 0 to 256.
    pub weight: u32,
    /// Whether it only takes part when too few others do.
    pub is_backup: bool,
    /// How many requests it may work on, if not as many as the pool says.
    pub requests_max: Option<u32>,
    /// Whose health counts as its own.
    pub follows: Option<Followed>,
}

impl Server {
    /// Whether that is the name of one of its servers.
    #[must_use]
    pub fn is_called(&self, name: &ServerName) -> bool {
        let is_number = |rest: &str| rest.strip_prefix('-').is_some_and(|number| number.parse::<u32>().is_ok());
        match &self.location {
            Location::Found { max: Some(_), .. } => {
                name.as_str().strip_prefix(self.name.as_str()).is_some_and(is_number)
            }
            Location::Found { max: None, .. } | Location::Fixed(_) => *name == self.name,
        }
    }
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// There.
    Fixed(Address),
    /// Where DNS says.
    Found {
        /// What DNS is asked.
        question: Question,
        /// So many servers at most, with numbers; none for one without.
        max: Option<usize>,
    },
}

/// What DNS is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// The addresses of a host, at that port.
    Host(Box<str>, u16),
    /// The servers of a service (RFC 2782).
    Service(Box<str>),
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, _) => f.write_str(host),
            Self::Service(name) => f.write_str(name),
        }
    }
}

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The resolvers; none for the system's.
    pub resolvers: Box<[SocketAddr]>,
    /// For an answer.
    pub timeout: Duration,
    /// How long an answer counts.
    pub ttl: RangeInclusive<Duration>,
}

/// How who comes again finds his server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: Box<str>,
    /// Its keys, in the order of the config.
    pub keys: Vec<KeyFile>,
    /// How long a cookie counts.
    pub lifetime: Duration,
    /// With which requests it goes along.
    pub same_site: SameSite,
}

/// A server whose health counts for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Its pool.
    pub pool: PoolName,
    /// Its name.
    pub name: ServerName,
    /// Its address.
    pub address: Address,
}

/// How a pool chooses its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// What a request is recognised by, with [`Algorithm::Hash`].
    pub key: Option<HashKey>,
    /// Who takes part.
    pub tiers: Tiers,
    /// How long a server's share grows after it has become healthy.
    pub slow_start: Duration,
}

/// What a request is recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Address,
    /// The path, without the query.
    Path,
    /// A header's first value.
    Header(HeaderName),
    /// A cookie.
    Cookie(Box<str>),
    /// A parameter of the query.
    Query(Box<str>),
    /// Who calls.
    Workload,
    /// A fact that the token asserts.
    Claim(Box<str>),
}

/// How long to wait for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// Between two pieces.
    pub between_bytes: Duration,
    /// For an unused connection.
    pub idle: Duration,
    /// For a connection that may be used again.
    pub lifetime: Duration,
    /// Between two pieces of what may be quiet for long.
    pub tunnel: Duration,
}

/// The agents of a pool's servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCheck {
    /// At each server's address.
    pub port: u16,
    /// What to send first.
    pub send: String,
    /// From question to question.
    pub interval: Duration,
    /// For an answer.
    pub timeout: Duration,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// Asks in HTTP.
    Http(Box<HttpCheck>),
    /// Connects, and perhaps says something.
    Tcp(TcpCheck),
    /// Asks by `grpc.health.v1`.
    Grpc {
        /// For that service; empty means the server as a whole.
        service: String,
    },
}

/// A check in HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// The method.
    pub method: Method,
    /// What to ask for.
    pub path: String,
    /// Which host to ask for; none means the server's address.
    pub host: Option<String>,
    /// More headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What to send.
    pub body: Bytes,
    /// Statuses that pass.
    pub expect: RangeInclusive<u16>,
    /// What the body must contain.
    pub contains: Option<String>,
    /// What the body must match.
    pub matches: Option<Expression>,
}

/// A regular expression, the same as another if it is written the same.
#[derive(Debug, Clone)]
pub struct Expression(Regex);

impl Expression {
    /// Reads one.
    ///
    /// # Errors
    /// If it is none, or too large.
    pub fn parse(text: &str) -> Result<Self, regex::Error> {
        Regex::new(text).map(Self)
    }

    /// Whether it matches somewhere.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Expression {}

/// A check below HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpCheck {
    /// What to send.
    pub send: String,
    /// What the answer must contain.
    pub expect: String,
}

/// A check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is done.
    pub kind: CheckKind,
    /// From check to check.
    pub interval: Duration,
    /// The same while the state is about to change.
    pub fast_interval: Duration,
    /// The same while the server is unhealthy.
    pub down_interval: Duration,
    /// A certificate that ends within that time fails.
    pub certificate_ends_in: Duration,
    /// Whether a server is healthy before its first check.
    pub starts_healthy: bool,
    /// For a whole check.
    pub timeout: Duration,
    /// Passes in a row to become healthy.
    pub rise: u32,
    /// Failures in a row to become unhealthy.
    pub fall: u32,
}
