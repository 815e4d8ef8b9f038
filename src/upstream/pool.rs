//! Pools and the pick.

use super::health::Health;
use super::mode::Mode;
use super::picked::Picked;
use super::queue::{Limits, Place};
use super::server::{PoolState, ServerState, Servers};
use super::tls::OriginTls;
use super::way::Way;
use crate::balance::{Ask, Candidate, Standby, ramped};
use crate::config::{self, AgentCheck, Balance, HashKey, HealthCheck, Retry};
use crate::metrics::Metrics;
use crate::name::PoolName;
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::resilience::{BreakerRules, Cause, Entry, OutlierRules};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Pools of one generation.
#[derive(Debug)]
pub struct Pools {
    by_name: HashMap<PoolName, Arc<Pool>>,
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Its check.
    pub health: Option<HealthCheck>,
    /// Its servers' agents.
    pub(super) agent: Option<AgentCheck>,
    /// Its servers.
    pub servers: Box<[Member]>,
    pub(super) way: Arc<Way>,
    pub(super) state: Arc<PoolState>,
    pub(super) retry: Retry,
    pub(super) breaker: Option<BreakerRules>,
    pub(super) outliers: Option<OutlierRules>,
    balance: Balance,
    /// How many requests all servers may work on.
    requests_max: u32,
    queue: Limits,
}

/// What a request gets.
#[derive(Debug)]
pub enum Choice {
    /// A server.
    Picked(Picked),
    /// A place in the queue for one.
    Queued(Place),
}

/// A server in a pool.
#[derive(Debug)]
pub struct Member {
    /// What outlives a reload of it.
    pub state: Arc<ServerState>,
    /// Its share, as the config says it: 0 to 256.
    pub configured_weight: u32,
    /// Whether it only takes part when too few others do.
    pub is_backup: bool,
    /// How many requests it may work on.
    requests_max: u32,
    /// Whose health counts as its own.
    followed: Option<Arc<ServerState>>,
    /// Nobody looks how it is, so it counts as healthy.
    is_trusted: bool,
}

impl Member {
    /// The health that counts.
    #[must_use]
    pub fn health(&self) -> &Health {
        self.followed.as_ref().map_or(&self.state.health, |followed| &followed.health)
    }

    /// Whether it is checked itself.
    pub(super) const fn is_checked(&self) -> bool {
        self.followed.is_none()
    }

    /// Its share: 0 to 256.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.state.weight(self.configured_weight)
    }

    /// The weight that counts, which is none unless it is meant to take requests.
    fn effective_weight(&self) -> u32 {
        if self.state.mode() == Mode::Ready { self.weight() } else { 0 }
    }

    fn has_room(&self) -> bool {
        self.state.standing.active() < self.requests_max
    }

    fn standby(&self, now: Duration) -> Standby {
        Standby {
            weight: self.effective_weight(),
            is_backup: self.is_backup,
            is_up: (self.is_trusted || self.health().is_up()) && self.state.seems_well(now),
        }
    }
}

impl Pools {
    /// Builds pools, with the state that their servers had. Nobody sees what is new before the swap.
    #[must_use]
    pub fn build(configs: Vec<(&config::Pool, Option<OriginTls>)>, servers: &Servers, metrics: &Metrics) -> Self {
        let build = |(config, tls): (&config::Pool, _)| {
            (config.name.clone(), Arc::new(Pool::build(config, tls, servers, metrics)))
        };
        let by_name = configs.into_iter().map(build).collect();
        servers.forget_the_gone();
        Self { by_name }
    }

    /// All pools.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.by_name.values().map(Arc::as_ref)
    }

    /// The next healthy server with room of the permit's pool. Where that depends on what the request is recognised by,
    /// `key` is asked for it. If none has room, the request waits for one.
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
    /// [`Refusal::NoServer`] if none is healthy, [`Refusal::CircuitOpen`] if the pool is left alone, and
    /// [`Refusal::QueueFull`] if too many wait.
    pub fn pick(&self, permit: &Permit, key: impl FnOnce(&HashKey) -> Option<u64>) -> Result<Choice, Refusal> {
        let pool = self.by_name.get(permit.pool()).ok_or(Refusal::NoServer)?;
        let now = pool.state.now();
        let entry = pool.enter(now)?;
        let key = pool.balance.key.as_ref().and_then(key);
        // Who comes now is not served before those who wait.
        let free = if pool.state.queue.is_empty() { pool.take(key, entry) } else { None };
        if let Some(picked) = free {
            return Ok(Choice::Picked(picked));
        }
        if pool.members(now).next().is_none() {
            return Err(Refusal::NoServer);
        }
        let who = permit.principal().workload().map(|workload| workload.name.clone());
        let waits = Arc::clone(pool);
        let take = Box::new(move || waits.take(key, entry));
        let place = pool.state.queue.join(&who, take, pool.queue).ok_or(Refusal::QueueFull)?;
        // Room may have come meanwhile, when nobody was in the queue yet.
        pool.admit();
        Ok(Choice::Queued(place))
    }

    /// Looks who has come back, and who has room since; once a second is enough.
    pub fn tick(&self) {
        self.by_name.values().for_each(|pool| pool.admit());
        for server in self.iter().flat_map(|pool| &pool.servers) {
            let state = &server.state;
            if !server.is_checked() {
                state.metrics.up.set(i64::from(server.health().is_up()));
            }
            if state.metrics.ejected.get() > 0 && !state.outlier.is_ejected(state.now()) {
                state.metrics.ejected.set(0);
                log::info!("pool {} server {} is no longer ejected", state.pool, state.name);
            }
        }
    }
}

impl Pool {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &PoolName {
        &self.state.name
    }

    /// A server by its name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.servers.iter().find(|server| server.state.name.as_str() == name)
    }

    /// Requests that wait for a server with room.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.state.queue.len()
    }

    /// Whether it gets no requests but trials, because too many have failed.
    #[must_use]
    pub fn is_left_alone(&self) -> bool {
        self.breaker.is_some() && self.state.breaker.is_open()
    }

    fn build(config: &config::Pool, tls: Option<OriginTls>, servers: &Servers, metrics: &Metrics) -> Self {
        let member = |server: &config::Server| {
            let state = servers.server((&config.name, &server.name, server.address), metrics);
            let followed = server.follows.as_ref().map(|it| servers.server((&it.pool, &it.name, it.address), metrics));
            let requests_max = config.limits.requests_per_server;
            let is_trusted = config.health.is_none() && followed.is_none();
            Member {
                state,
                configured_weight: server.weight,
                is_backup: server.is_backup,
                requests_max,
                followed,
                is_trusted,
            }
        };
        let state = servers.pool(&config.name, metrics);
        let limits = Limits {
            length: config.limits.queue_length,
            per_workload: config.limits.queue_per_workload,
            timeout: config.limits.queue_timeout,
        };
        Self {
            queue: limits,
            requests_max: config.limits.requests,
            health: config.health.clone(),
            agent: config.agent.clone(),
            servers: config.servers.iter().map(member).collect(),
            way: Arc::new(Way {
                speaks_h2: config.speaks_h2,
                tls,
                timeouts: config.timeouts,
                trailers: Arc::clone(&config.trailers),
            }),
            state,
            retry: config.retry.clone(),
            breaker: config.breaker,
            outliers: config.outliers,
            balance: config.balance.clone(),
        }
    }

    fn enter(&self, now: Duration) -> Result<Entry, Refusal> {
        self.state.budget.asked(now);
        let entry = self.breaker.as_ref().map_or(Entry::Free, |rules| self.state.breaker.entry(rules, now));
        if entry == Entry::Closed { Err(Refusal::CircuitOpen) } else { Ok(entry) }
    }

    /// A server with room, and the room.
    fn take(self: &Arc<Self>, key: Option<u64>, entry: Entry) -> Option<Picked> {
        if !self.state.take_room(self.requests_max) {
            return None;
        }
        let server = self.reserve_now(key, &[]);
        if server.is_none() {
            self.state.leave_room();
        }
        server.map(|(index, server)| Picked::new(Arc::clone(self), server, (index, entry)))
    }

    /// A server with room that was not tried, and its room; not the pool's.
    pub(super) fn reserve_now(&self, key: Option<u64>, tried: &[usize]) -> Option<(usize, Arc<ServerState>)> {
        self.reserve(&Ask { key, now: self.state.now(), dice: fastrand::u64(..) }, tried)
    }

    /// What requests are recognised by.
    pub(super) const fn hash_key(&self) -> Option<&HashKey> {
        self.balance.key.as_ref()
    }

    fn reserve(&self, ask: &Ask, tried: &[usize]) -> Option<(usize, Arc<ServerState>)> {
        loop {
            let candidates = self.candidates(ask.now, tried);
            let index = self.state.balancer.pick(self.balance.algorithm, candidates, ask)?;
            let server = self.servers.get(index)?;
            // Somebody else may have taken the last room since; then another is picked.
            if server.state.standing.begin_below(server.requests_max) {
                return Some((index, Arc::clone(&server.state)));
            }
        }
    }

    /// Gives those who wait what there is.
    pub(super) fn admit(self: &Arc<Self>) {
        while let Some((waiter, picked)) = self.state.queue.next() {
            waiter.serve(picked);
        }
    }

    /// Who takes part.
    fn members(&self, now: Duration) -> impl Iterator<Item = (usize, &Member)> + Clone {
        let tier = self.balance.tiers.tier(self.servers.iter().map(|server| server.standby(now)));
        let takes_part = move |server: &Member| server.effective_weight() > 0 && tier.has(server.standby(now));
        self.servers.iter().enumerate().filter(move |(_, server)| takes_part(server))
    }

    /// Who may be asked, but for those who were tried.
    fn candidates<'a>(&'a self, now: Duration, tried: &'a [usize]) -> impl Iterator<Item = Candidate<'a>> + Clone + 'a {
        let members = self.members(now).filter(move |(index, server)| server.has_room() && !tried.contains(index));
        members.map(move |(index, server)| {
            let standing = &server.state.standing;
            let weight = ramped(server.effective_weight(), standing.risen_for(now), self.balance.slow_start);
            Candidate { index, weight, standing }
        })
    }

    /// Whether there is somebody who was not tried.
    pub(super) fn has_another(&self, tried: &[usize], but: usize) -> bool {
        let mut candidates = self.candidates(self.state.now(), tried);
        candidates.any(|candidate| candidate.index != but && candidate.weight > 0)
    }

    /// Ejects a server, if not too many are ejected.
    pub(super) fn eject(&self, server: &ServerState, rules: &OutlierRules, cause: Cause) {
        let now = server.now();
        let _one_at_a_time = self.state.ejecting.lock();
        let ejected = self.servers.iter().filter(|other| other.state.outlier.is_ejected(now)).count();
        let share = self.servers.len().saturating_mul(usize::try_from(rules.ejected_max).unwrap_or(100)) / 100;
        let is_last = !self.members(now).any(|(_, other)| other.state.name != server.name);
        if is_last || server.outlier.is_ejected(now) || ejected >= share.max(1) {
            return;
        }
        let time = server.outlier.eject(rules, now);
        server.standing.rises(now.saturating_add(time));
        server.metrics.ejected.set(1);
        server.metrics.ejected_for(cause as usize);
        log::warn!("pool {} server {} is ejected for {time:?}: {cause}", server.pool, server.name);
    }

    /// Whether a server is so much slower than the others, in percent of their middle.
    pub(super) fn is_slow(&self, index: usize, percent: u32) -> bool {
        let average = |server: &Member| server.state.standing.latency.average();
        let others = self.servers.iter().enumerate().filter(|(other, _)| *other != index);
        let mut others: Vec<_> = others.filter_map(|(_, server)| average(server)).collect();
        others.sort_unstable();
        let middle = others.get(others.len() / 2);
        let own = self.servers.get(index).and_then(average);
        own.zip(middle).is_some_and(|(own, middle)| own.saturating_mul(100) > middle.saturating_mul(percent))
    }
}
