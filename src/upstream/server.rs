//! What is known of servers and pools, which outlives generations.

use super::health::Health;
use super::mode::{Mode, Said};
use super::queue::Queue;
use crate::balance::{Balancer, Seed, Standing};
use crate::metrics::{self, Metrics};
use crate::name::{PoolName, ServerName};
use crate::resilience::{Breaker, Budget, Outlier};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
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
    /// What its answers were like.
    pub outlier: Outlier,
    /// Its handles.
    pub metrics: metrics::Server,
    /// What an operator has said.
    said: Said,
    /// What its agent has said; the weight is a share of the other's, in percent.
    pub(super) told: Said,
    began: Instant,
}

impl ServerState {
    /// Whether it is meant to take requests. An operator's word counts more than the agent's.
    pub fn mode(&self) -> Mode {
        let said = self.said.mode();
        if said == Mode::Ready { self.told.mode() } else { said }
    }

    /// Whether it takes requests as far as its agent and its answers tell.
    pub(super) fn seems_well(&self, now: Duration) -> bool {
        !self.told.is_down() && !self.outlier.is_ejected(now)
    }

    /// The word for how it is.
    pub fn health_word(&self, health: &Health) -> &'static str {
        if self.told.is_down() {
            "down (agent)"
        } else if self.is_ejected() {
            "ejected"
        } else {
            health.word()
        }
    }

    /// It is meant to take requests from now on, or not.
    pub fn set_mode(&self, mode: Mode) {
        self.said.set_mode(mode);
    }

    /// The weight that counts instead of the config's, or its share that the agent has said.
    pub(super) fn weight(&self, configured: u32) -> u32 {
        let weight = self.said.weight().unwrap_or(configured);
        self.told.weight().map_or(weight, |percent| weight.saturating_mul(percent).div_ceil(100).min(256))
    }

    /// From now on this weight counts, 0 to 256, or the config's.
    pub fn set_weight(&self, weight: Option<u32>) {
        self.said.set_weight(weight);
    }

    /// Whether it is ejected for its answers.
    pub fn is_ejected(&self) -> bool {
        self.outlier.is_ejected(self.now())
    }

    /// The time by which all that is known of it is measured.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// It has become healthy.
    pub(super) fn rises(&self) {
        self.standing.rises(self.now());
    }

    /// A server that nobody checks counts as healthy.
    pub(super) fn assume_up(&self) {
        self.health.assume_up();
        self.metrics.up.set(1);
    }
}

/// What outlives a reload of a pool: kept by its name.
#[derive(Debug)]
pub(super) struct PoolState {
    pub(super) name: PoolName,
    pub(super) balancer: Balancer,
    pub(super) budget: Budget,
    pub(super) breaker: Breaker,
    pub(super) metrics: metrics::Pool,
    /// Who waits for a server with room.
    pub(super) queue: Arc<Queue>,
    /// Held while a server is ejected, so that two at once do not exceed what may be.
    pub(super) ejecting: Mutex<()>,
    /// Requests that its servers work on.
    active: AtomicU32,
    began: Instant,
}

impl PoolState {
    /// Takes room for one more request, if there are fewer than so many.
    pub(super) fn take_room(&self, max: u32) -> bool {
        let more = |active: u32| (active < max).then(|| active.saturating_add(1));
        self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(super) fn leave_room(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

type Key = (PoolName, ServerName, SocketAddr);

/// Where the state of servers and pools lives between generations.
#[derive(Debug)]
pub struct Servers {
    memory: Mutex<Memory>,
    began: Instant,
}

#[derive(Debug, Default)]
struct Memory {
    servers: HashMap<Key, Arc<ServerState>>,
    pools: HashMap<PoolName, Arc<PoolState>>,
}

impl Default for Servers {
    fn default() -> Self {
        Self { memory: Mutex::default(), began: Instant::now() }
    }
}

impl Servers {
    /// The state of a server, as it was left, or of a new one.
    pub(super) fn server(
        &self,
        (pool, name, address): (&PoolName, &ServerName, SocketAddr),
        metrics: &Metrics,
    ) -> Arc<ServerState> {
        let state = || ServerState {
            pool: pool.clone(),
            name: name.clone(),
            address,
            health: Health::unknown(),
            standing: Standing::new(Seed::of(name.as_str())),
            outlier: Outlier::default(),
            metrics: metrics.server(pool, name),
            said: Said::default(),
            told: Said::default(),
            began: self.began,
        };
        let key = (pool.clone(), name.clone(), address);
        Arc::clone(self.memory.lock().servers.entry(key).or_insert_with(|| Arc::new(state())))
    }

    /// The state of a pool, as it was left, or of a new one.
    pub(super) fn pool(&self, name: &PoolName, metrics: &Metrics) -> Arc<PoolState> {
        let handles = metrics.pool(name);
        let state = || PoolState {
            name: name.clone(),
            queue: Arc::new(Queue::new(handles.queued.clone())),
            balancer: Balancer::default(),
            budget: Budget::default(),
            breaker: Breaker::default(),
            metrics: handles.clone(),
            ejecting: Mutex::new(()),
            active: AtomicU32::new(0),
            began: self.began,
        };
        Arc::clone(self.memory.lock().pools.entry(name.clone()).or_insert_with(|| Arc::new(state())))
    }

    /// Forgets what no generation and no request knows any more.
    pub(super) fn forget_the_gone(&self) {
        let mut memory = self.memory.lock();
        memory.servers.retain(|_, server| Arc::strong_count(server) > 1);
        memory.pools.retain(|_, pool| Arc::strong_count(pool) > 1);
    }
}
