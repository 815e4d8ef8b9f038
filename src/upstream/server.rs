//! What is known of servers and pools, which outlives generations.

use super::dial::Connections;
use super::discovery::{Answers, Seated, Seats};
use super::health::Health;
use super::learned::Learned;
use super::mode::{Mode, Said};
use super::queue::Queue;
use crate::balance::{Balancer, Seed, Standing, number};
use crate::config::{self, Location};
use crate::metrics::{self, Metrics};
use crate::name::{PoolName, ServerName};
use crate::network::{Address, Own, can_be_dialled};
use crate::resilience::{Breaker, Budget, Outlier};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, AtomicU32, Ordering},
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
    pub address: Address,
    /// What its checks say.
    pub health: Health,
    /// What balancing knows of it.
    pub standing: Standing,
    /// What its answers were like.
    pub outlier: Outlier,
    /// Its handles.
    pub metrics: metrics::Server,
    /// What an operator has said.
    said: Arc<Said>,
    /// When its certificate expires, as far as it was seen.
    pub(super) certificate_ends: AtomicI64,
    /// The connections to it.
    pub(super) connections: Arc<Connections>,
    /// Those to all servers of its pool.
    pub(super) connections_of_all: Arc<Connections>,
    /// What its agent has said; the weight is a share of the other's, in percent.
    pub(super) told: Said,
    id: u64,
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

    /// How many connections to it are open.
    pub fn connections(&self) -> u32 {
        self.connections.count()
    }

    /// A number of its own.
    pub(super) const fn id(&self) -> u64 {
        self.id
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
    /// The connections to its servers.
    pub(super) connections: Arc<Connections>,
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

type Key = (PoolName, ServerName, Address);

/// Where the state of servers and pools lives between generations.
#[derive(Debug)]
pub struct Servers {
    memory: Mutex<Memory>,
    /// What DNS has said.
    pub(super) answers: Arc<Answers>,
    began: Instant,
}

#[derive(Debug, Default)]
struct Memory {
    servers: HashMap<Key, Arc<ServerState>>,
    pools: HashMap<PoolName, Arc<PoolState>>,
    /// What operators have said of servers; it is kept where a server is gone for now.
    said: HashMap<Key, Arc<Said>>,
    /// The connections to servers, which may outlive what else is known of these.
    connections: HashMap<Key, Weak<Connections>>,
    /// Who was found for an entry of a pool.
    seats: HashMap<(PoolName, ServerName), Seats>,
}

impl Default for Servers {
    fn default() -> Self {
        Self { memory: Mutex::default(), answers: Arc::default(), began: Instant::now() }
    }
}

impl Servers {
    /// The state of a server, as it was left, or of a new one.
    pub(super) fn server(
        &self,
        (pool, name, address): (&PoolName, &ServerName, &Address),
        metrics: &Metrics,
    ) -> Arc<ServerState> {
        let of_pool = self.pool(pool, metrics);
        let key = (pool.clone(), name.clone(), address.clone());
        let mut memory = self.memory.lock();
        if let Some(known) = memory.servers.get(&key) {
            return Arc::clone(known);
        }
        let handles = metrics.server(pool, name);
        let open = memory.connections.get(&key).and_then(Weak::upgrade);
        let connections = open.unwrap_or_else(|| Arc::new(Connections::new()));
        connections.tell(handles.connections.clone());
        memory.connections.insert(key.clone(), Arc::downgrade(&connections));
        let state = Arc::new(ServerState {
            pool: pool.clone(),
            name: name.clone(),
            address: address.clone(),
            id: number(format!("{pool}/{name}/{address}").as_bytes()),
            certificate_ends: AtomicI64::new(i64::MAX),
            connections,
            connections_of_all: Arc::clone(&of_pool.connections),
            health: Health::unknown(),
            standing: Standing::new(Seed::of(name.as_str())),
            outlier: Outlier::default(),
            metrics: handles,
            said: Arc::clone(memory.said.entry(key.clone()).or_default()),
            told: Said::default(),
            began: self.began,
        });
        memory.servers.insert(key, Arc::clone(&state));
        state
    }

    /// The state of a pool, as it was left, or of a new one.
    pub(super) fn pool(&self, name: &PoolName, metrics: &Metrics) -> Arc<PoolState> {
        let handles = metrics.pool(name);
        let state = || PoolState {
            name: name.clone(),
            queue: Arc::new(Queue::new(handles.queued.clone())),
            connections: Arc::new(Connections::new()),
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

    /// The servers of an entry of a pool: the one that it names, or those that were found, without our own addresses.
    pub(super) fn seated(&self, pool: &PoolName, entry: &config::Server, own: &Own) -> Vec<Seated> {
        let (question, max) = match &entry.location {
            Location::Fixed(address) => return vec![Seated::alone(entry.name.clone(), address.clone())],
            Location::Found { question, max } => (question, *max),
        };
        let is_theirs = |address| can_be_dialled(address) && !own.has(&Address::Socket(address));
        let found = self.answers.get(question);
        let found: Vec<_> = found.iter().filter(|found| is_theirs(found.address)).collect();
        let addresses: Vec<_> = found.iter().map(|found| (found.address, found.is_backup)).collect();
        let mut memory = self.memory.lock();
        let seats = memory.seats.entry((pool.clone(), entry.name.clone())).or_default();
        seats.seat(&addresses, max.unwrap_or(1));
        let seated = seats.seated().filter_map(|(number, address)| {
            let found = found.iter().find(|found| found.address == address)?;
            let name = if max.is_some() { entry.name.numbered(number)? } else { entry.name.clone() };
            Some(Seated { name, address: Address::Socket(address), share: found.share, is_backup: found.is_backup })
        });
        seated.collect()
    }

    /// What is known of all servers, for the process that replaces this one.
    #[must_use]
    pub fn learned(&self) -> Vec<Learned> {
        let memory = self.memory.lock();
        let of = |server: &Arc<ServerState>| Learned {
            pool: server.pool.clone(),
            name: server.name.clone(),
            address: server.address.to_string(),
            is_up: server.health.known(),
            mode: server.said.mode(),
            weight: server.said.weight(),
            latency: server.standing.latency.average(),
        };
        memory.servers.values().map(of).collect()
    }

    /// Takes over what another process has known.
    pub fn relearn(&self, learned: &[Learned]) {
        let memory = self.memory.lock();
        for known in learned {
            let same = |server: &&Arc<ServerState>| {
                server.pool == known.pool && server.name == known.name && server.address.to_string() == known.address
            };
            let Some(server) = memory.servers.values().find(same) else { continue };
            server.said.set_mode(known.mode);
            server.said.set_weight(known.weight);
            if let Some(latency) = known.latency {
                server.standing.latency.observe(latency, server.now());
            }
            if let Some(is_up) = known.is_up {
                server.health.recall(is_up);
                server.metrics.up.set(i64::from(server.health.is_up()));
            }
        }
    }

    /// Forgets what no generation and no request knows any more.
    pub fn forget_the_gone(&self, metrics: &Metrics) {
        let mut memory = self.memory.lock();
        let mut gone = Vec::new();
        memory.servers.retain(|(pool, name, _), server| {
            let stays = Arc::strong_count(server) > 1;
            if !stays {
                gone.push((pool.clone(), name.clone()));
            }
            stays
        });
        for (pool, name) in gone {
            // Another server may have taken the name.
            if !memory.servers.values().any(|server| server.pool == pool && server.name == name) {
                metrics.forget_server(&pool, &name);
            }
        }
        memory.pools.retain(|_, pool| Arc::strong_count(pool) > 1);
        memory.said.retain(|_, said| Arc::strong_count(said) > 1 || said.says_something());
        memory.connections.retain(|_, connections| connections.strong_count() > 0);
    }
}
