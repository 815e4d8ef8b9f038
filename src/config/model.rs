//! The config in domain types: no invalid state, names resolved, paths joined.

use super::filter::FilterSpec;
use crate::generation::Digest;
use crate::identity::{Edge, Kid, Profile, Replay};
use crate::name::{ListenerName, NodeName, PoolName, RouteName, ServerName};
use crate::policy::Access;
use crate::principal;
use crate::route::Pattern;
use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

/// A config that can be built.
#[derive(Debug)]
pub struct Config {
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
    /// Machines that call.
    pub workloads: Vec<Workload>,
    /// Routes in order.
    pub routes: Vec<Route>,
    /// Pools.
    pub pools: Vec<Pool>,
    /// The audit log.
    pub audit_file: PathBuf,
    /// The address for metrics and health.
    pub admin_http: Option<SocketAddr>,
    /// The folder for what outlives a restart.
    pub history_dir: Option<PathBuf>,
}

/// A listener.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: ListenerName,
    /// Its addresses.
    pub bind: Vec<SocketAddr>,
    /// Its TLS; none means plain HTTP.
    pub tls: Option<Tls>,
    /// The profile of routes that do not name one.
    pub identity: Profile,
}

/// A listener's TLS.
#[derive(Debug)]
pub struct Tls {
    /// At least one.
    pub certificates: Vec<CertificateFiles>,
    /// PEM files of client CAs; none means that no client is trusted.
    pub client_ca: Vec<PathBuf>,
}

/// A certificate's files.
#[derive(Debug)]
pub struct CertificateFiles {
    /// The chain.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A workload and where its keys are.
#[derive(Debug)]
pub struct Workload {
    /// The workload with its roles.
    pub workload: Arc<principal::Workload>,
    /// Its keys.
    pub keys: Vec<TokenKeyFile>,
}

/// A token key's file.
#[derive(Debug)]
pub struct TokenKeyFile {
    /// The key's id.
    pub kid: Kid,
    /// The public key.
    pub file: PathBuf,
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
    /// Where it leads.
    pub pool: PoolName,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// At least one.
    pub servers: Vec<Server>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// The check; none means that every server is healthy.
    pub health: Option<HealthCheck>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Its address.
    pub address: SocketAddr,
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
}

/// A check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What to ask for.
    pub path: String,
    /// Which host to ask for; none means the server's address.
    pub host: Option<String>,
    /// What passes.
    pub expect: RangeInclusive<u16>,
    /// From check to check.
    pub interval: Duration,
    /// For a whole check.
    pub timeout: Duration,
    /// Passes in a row to become healthy.
    pub rise: u32,
    /// Failures in a row to become unhealthy.
    pub fall: u32,
}
