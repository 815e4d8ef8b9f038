//! Pools and the pick.

use super::health::Health;
use super::tls::OriginTls;
use crate::balance::{Ask, Balancer, Candidate, Seed, Standby, Standing, ramped};
use crate::config::{self, Balance, HashKey, HealthCheck};
use crate::metrics::{self, Metrics};
use crate::name::{PoolName, ServerName};
use crate::policy::Permit;
use crate::refusal::Refusal;
use http::HeaderName;
use parking_lot::Mutex;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// What outlives a reload of a server: kept by pool, name and address.
#[derive(Debug)]
pub struct ServerState {
    /// Its pool.
    pub pool: PoolName,
    /// Its name.
    pub name: ServerName,
    /// Its address.
    pub address: SocketAddr,
    /// What its checks say.
    pub health: Health,
    /// What balancing knows of it.
    pub standing: Standing,
    /// Its handles.
    pub metrics: metrics::Server,
    /// From when its times are counted.
    began: Instant,
}

impl ServerState {
    /// It has become healthy.
    pub(super) fn rises(&self) {
        self.standing.rises(self.began.elapsed());
    }

    /// A server that nobody checks counts as healthy.
    fn assume_up(&self) {
        self.health.assume_up();
        self.metrics.up.set(1);
    }
}

type Key = (PoolName, ServerName, SocketAddr);

/// Pools of one generation, and their state, which outlives it.
#[derive(Debug)]
pub struct Pools {
    by_name: HashMap<PoolName, Pool>,
    began: Instant,
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Its check.
    pub health: Option<HealthCheck>,
    /// Its servers.
    pub servers: Box<[Member]>,
    pub(super) way: Arc<Way>,
    balance: Balance,
    balancer: Arc<Balancer>,
}

/// A server in a pool.
#[derive(Debug)]
pub struct Member {
    /// What outlives a reload of it.
    pub state: Arc<ServerState>,
    /// Its share: 0 to 256.
    pub weight: u32,
    /// Whether it only takes part when too few others do.
    pub is_backup: bool,
}

impl Member {
    fn standby(&self) -> Standby {
        Standby { weight: self.weight, is_backup: self.is_backup, is_up: self.state.health.is_up() }
    }
}

/// How the servers of a pool are reached.
#[derive(Debug, PartialEq)]
pub(super) struct Way {
    speaks_h2: bool,
    tls: Option<OriginTls>,
    timeouts: config::Timeouts,
    trailers: Arc<[HeaderName]>,
}

/// Requests at once on one HTTP/2 connection to a server.
const STREAMS_MAX: usize = 100;

impl Way {
    pub(super) const fn speaks_h2(&self) -> bool {
        self.speaks_h2
    }

    /// The way to a server, every timeout set. What `is_long` may be quiet for as long as a tunnel.
    pub(super) fn to(&self, address: SocketAddr, is_long: bool) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.tls.is_some(), String::new());
        if let Some(tls) = &self.tls {
            tls.apply(&mut peer);
        }
        let between = if is_long { self.timeouts.tunnel } else { self.timeouts.between_bytes };
        let options = &mut peer.options;
        options.alpn = if self.speaks_h2 { ALPN::H2 } else { ALPN::H1 };
        options.max_h2_streams = STREAMS_MAX;
        options.connection_timeout = Some(self.timeouts.connect);
        options.total_connection_timeout = Some(self.timeouts.connect);
        options.read_timeout = Some(between);
        options.write_timeout = Some(self.timeouts.between_bytes);
        options.idle_timeout = Some(self.timeouts.idle);
        peer
    }
}

/// The state of all servers and balancers that there ever were.
#[derive(Debug, Default)]
pub(super) struct Memory {
    servers: HashMap<Key, Arc<ServerState>>,
    balancers: HashMap<PoolName, Arc<Balancer>>,
}

/// Where the state of servers lives between generations.
#[derive(Debug)]
pub struct Servers {
    memory: Mutex<Memory>,
    began: Instant,
}

impl Default for Servers {
    fn default() -> Self {
        Self { memory: Mutex::default(), began: Instant::now() }
    }
}

impl Pools {
    /// Builds pools, with the state that their servers had. Nobody sees what is new before the swap.
    #[must_use]
    pub fn build(configs: Vec<(&config::Pool, Option<OriginTls>)>, servers: &Servers, metrics: &Metrics) -> Self {
        let mut memory = servers.memory.lock();
        let build =
            |(config, tls): (&config::Pool, _)| (config.name.clone(), memory.pool(config, tls, metrics, servers.began));
        let by_name = configs.into_iter().map(build).collect();
        // What no generation and no request knows any more is forgotten.
        memory.servers.retain(|_, server| Arc::strong_count(server) > 1);
        memory.balancers.retain(|_, balancer| Arc::strong_count(balancer) > 1);
        Self { by_name, began: servers.began }
    }

    /// All pools.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.by_name.values()
    }

    /// The next healthy server of the permit's pool. Where that depends on what the request is recognised by, `key` is
    /// asked for it.
    ///
    /// ```
    /// use belay::upstream::Pools;
    /// fn with_a_permit(pools: &Pools, permit: &belay::policy::Permit) {
    ///     let _ = pools.pick(permit, |_| None);
    /// }
    /// ```
    ///
    /// A pool's name is not enough:
    ///
    /// ```compile_fail
    /// use belay::upstream::Pools;
    /// fn without_a_permit(pools: &Pools, name: &belay::name::PoolName) {
    ///     let _ = pools.pick(name, |_| None);
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Refusal::NoServer`] if none is healthy.
    pub fn pick(&self, permit: &Permit, key: impl FnOnce(&HashKey) -> Option<u64>) -> Result<Picked, Refusal> {
        let pool = self.by_name.get(permit.pool()).ok_or(Refusal::NoServer)?;
        let ask =
            Ask { key: pool.balance.key.as_ref().and_then(key), now: self.began.elapsed(), dice: fastrand::u64(..) };
        let server = pool.pick(&ask).ok_or(Refusal::NoServer)?;
        Ok(Picked::new(Arc::clone(&server.state), Arc::clone(&pool.way)))
    }
}

impl Pool {
    fn pick(&self, ask: &Ask) -> Option<&Member> {
        let tier = self.balance.tiers.tier(self.servers.iter().map(Member::standby));
        let members = self.servers.iter().enumerate().filter(|(_, server)| tier.has(server.standby()));
        let candidates = members.map(|(index, server)| {
            let standing = &server.state.standing;
            let weight = ramped(server.weight, standing.risen_for(ask.now), self.balance.slow_start);
            Candidate { index, weight, standing }
        });
        let index = self.balancer.pick(self.balance.algorithm, candidates, ask)?;
        self.servers.get(index)
    }
}

impl Memory {
    fn pool(&mut self, config: &config::Pool, tls: Option<OriginTls>, metrics: &Metrics, began: Instant) -> Pool {
        let servers = config.servers.iter().map(|server| {
            let key = (config.name.clone(), server.name.clone(), server.address);
            let state = || ServerState {
                pool: config.name.clone(),
                name: server.name.clone(),
                address: server.address,
                health: Health::unknown(),
                standing: Standing::new(Seed::of(server.name.as_str())),
                metrics: metrics.server(&config.name, &server.name),
                began,
            };
            let state = Arc::clone(self.servers.entry(key).or_insert_with(|| Arc::new(state())));
            if config.health.is_none() {
                state.assume_up();
            }
            Member { state, weight: server.weight, is_backup: server.is_backup }
        });
        Pool {
            health: config.health.clone(),
            servers: servers.collect(),
            way: Arc::new(Way {
                speaks_h2: config.speaks_h2,
                tls,
                timeouts: config.timeouts,
                trailers: Arc::clone(&config.trailers),
            }),
            balance: config.balance.clone(),
            balancer: Arc::clone(self.balancers.entry(config.name.clone()).or_default()),
        }
    }
}

/// The server that a request goes to. While it lives, the request counts as being worked on.
#[derive(Debug)]
pub struct Picked {
    server: Arc<ServerState>,
    way: Arc<Way>,
    asked: Instant,
}

impl Picked {
    fn new(server: Arc<ServerState>, way: Arc<Way>) -> Self {
        server.metrics.requests.inc();
        server.metrics.active.inc();
        server.standing.begin();
        Self { server, way, asked: Instant::now() }
    }

    /// The server has the whole request: only from here on time is its own.
    pub fn sent(&mut self) {
        self.asked = Instant::now();
    }

    /// The response has begun.
    pub fn responded(&self) {
        let server = &self.server;
        server.standing.latency.observe(self.asked.elapsed(), server.began.elapsed());
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &ServerState {
        &self.server
    }

    /// How to reach it, for a request that may be quiet for long, or not.
    #[must_use]
    pub fn peer(&self, is_long: bool) -> HttpPeer {
        self.way.to(self.server.address, is_long)
    }

    /// Whether it is spoken to in HTTP/2.
    #[must_use]
    pub fn speaks_h2(&self) -> bool {
        self.way.speaks_h2
    }

    /// How long it may take to take a piece of a body.
    #[must_use]
    pub fn between_bytes(&self) -> Duration {
        self.way.timeouts.between_bytes
    }

    /// Whether a trailer of its responses passes.
    #[must_use]
    pub fn passes_trailer(&self, name: &HeaderName) -> bool {
        self.way.trailers.contains(name)
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.server.standing.end();
        self.server.metrics.active.dec();
    }
}
