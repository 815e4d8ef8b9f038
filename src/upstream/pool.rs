//! Pools and the pick.

use super::discovery::Seated;
use super::health::Health;
use super::mode::Mode;
use super::picked::Picked;
use super::queue::{Limits, Place};
use super::server::{PoolState, ServerState, Servers};
use super::sticky::{Sticky, Tag};
use super::tls::OriginTls;
use super::way::{STREAMS_MAX, Way};
use crate::balance::{Ask, Candidate, Standby, ramped};
use crate::config::{self, Followed, HashKey, Location};
use crate::metrics::Metrics;
use crate::name::{PoolName, RoleName};
use crate::network::Own;
use crate::policy::Permit;
use crate::principal::Priority;
use crate::refusal::Refusal;
use crate::resilience::{Cause, Entry, OutlierRules};
use arc_swap::ArcSwap;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Pools of one generation.
#[derive(Debug)]
pub struct Pools {
    /// A pool is another one whenever other servers are found.
    by_name: HashMap<PoolName, Arc<ArcSwap<Pool>>>,
    cookies: Box<[Box<str>]>,
    /// Whose roles have which.
    priorities: Arc<HashMap<RoleName, Priority>>,
}

/// What a pool is built from.
#[derive(Debug)]
pub struct Plan {
    /// What the config says, with the servers of its file.
    pub config: config::Pool,
    /// TLS to its servers.
    pub tls: Option<OriginTls>,
    /// How who comes again finds his server.
    pub sticky: Option<Sticky>,
    /// Belay's own addresses: whoever is found there is none of its servers.
    pub own: Arc<Own>,
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Its servers.
    pub servers: Box<[Member]>,
    pub(super) plan: Arc<Plan>,
    pub(super) way: Arc<Way>,
    pub(super) state: Arc<PoolState>,
}

/// Where a request would like to go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// What it is recognised by, where the pool is balanced by that.
    pub key: Option<u64>,
    /// The server that it had before, by its place in the pool.
    pub seat: Option<usize>,
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
    /// What its cookies hold, by key.
    pub(super) tags: Box<[Tag]>,
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

    /// Whether it goes on with those whom it has: when it is drained, too.
    fn keeps_its_own(&self, now: Duration) -> bool {
        self.state.mode() != Mode::Maintenance && self.standby(now).is_up
    }

    /// What is compared to tell whether it is the same.
    fn looks(&self) -> (*const ServerState, u32, bool) {
        (Arc::as_ptr(&self.state), self.configured_weight, self.is_backup)
    }

    fn tick(&self) {
        let state = &self.state;
        if !self.is_checked() {
            state.metrics.up.set(i64::from(self.health().is_up()));
        }
        if state.metrics.ejected.get() > 0 && !state.outlier.is_ejected(state.now()) {
            state.metrics.ejected.set(0);
            log::info!("pool {} server {} is no longer ejected", state.pool, state.name);
        }
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
    pub fn build(
        plans: Vec<Plan>,
        priorities: &Arc<HashMap<RoleName, Priority>>,
        servers: &Servers,
        metrics: &Metrics,
    ) -> Self {
        let build = |plan: Plan| {
            let name = plan.config.name.clone();
            (name, Arc::new(ArcSwap::from_pointee(Pool::build(plan, servers, metrics))))
        };
        let cookies = plans.iter().filter_map(|plan| Some(plan.sticky.as_ref()?.name().into())).collect();
        let by_name = plans.into_iter().map(build).collect();
        servers.forget_the_gone(metrics);
        Self { by_name, cookies, priorities: Arc::clone(priorities) }
    }

    /// All pools.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Pool>> {
        self.by_name.values().map(|pool| pool.load_full())
    }

    /// The cookies that are between clients and us only, of all pools.
    pub fn cookies(&self) -> impl Iterator<Item = &str> {
        self.cookies.iter().map(AsRef::as_ref)
    }

    /// Takes the servers that were found since; whether there are others.
    pub fn rediscover(&self, servers: &Servers, metrics: &Metrics) -> bool {
        let mut changed = false;
        for pool in self.by_name.values() {
            let known = pool.load_full();
            if !known.is_discovered() {
                continue;
            }
            let members = known.plan.members(servers, metrics);
            if !members.iter().map(Member::looks).eq(known.servers.iter().map(Member::looks)) {
                pool.store(Arc::new(known.with(members)));
                changed = true;
            }
        }
        if changed {
            servers.forget_the_gone(metrics);
            self.iter().for_each(|pool| pool.admit());
        }
        changed
    }

    /// The next healthy server with room of the permit's pool. `wish` is asked what the request would like there. If no
    /// server has room, the request waits for one.
    ///
    /// ```
    /// use belay::upstream::Pools;
    /// fn with_a_permit(pools: &Pools, permit: &belay::policy::Permit) {
    ///     let _ = pools.pick(permit, |_| belay::upstream::Wish::default());
    /// }
    /// ```
    ///
    /// A pool's name is not enough:
    ///
    /// ```compile_fail
    /// use belay::upstream::Pools;
    /// fn without_a_permit(pools: &Pools, name: &belay::name::PoolName) {
    ///     let _ = pools.pick(name, |_| belay::upstream::Wish::default());
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Refusal::NoServer`] if none is healthy, [`Refusal::CircuitOpen`] if the pool is left alone, and
    /// [`Refusal::QueueFull`] if too many wait.
    pub fn pick(&self, permit: &Permit, wish: impl FnOnce(&Pool) -> Wish) -> Result<Choice, Refusal> {
        let place = self.by_name.get(permit.pool()).ok_or(Refusal::NoServer)?;
        let pool = &place.load_full();
        let now = pool.state.now();
        let entry = pool.enter(now)?;
        let wish = wish(pool);
        // Who comes now is not served before those who wait.
        let free = if pool.state.queue.is_empty() { pool.take(wish, entry) } else { None };
        if let Some(picked) = free {
            return Ok(Choice::Picked(picked));
        }
        if !pool.has_somebody(wish, now) {
            return Err(Refusal::NoServer);
        }
        let principal = permit.principal();
        let who = principal.workload().map(|workload| workload.name.clone());
        let priority = Priority::of(principal, &self.priorities);
        let (place, asked) = (Arc::clone(place), Arc::clone(pool));
        // When there is room, other servers may have been found.
        let take = Box::new(move || {
            let pool = place.load_full();
            let seat = wish.seat.filter(|_| Arc::ptr_eq(&pool, &asked));
            pool.take(Wish { seat, ..wish }, entry)
        });
        let place = pool.state.queue.join((who, priority), take, pool.queue_limits()).ok_or(Refusal::QueueFull)?;
        // Room may have come meanwhile, when nobody was in the queue yet.
        pool.admit();
        Ok(Choice::Queued(place))
    }

    /// A pool by its name.
    pub(super) fn pool(&self, name: &PoolName) -> Option<Arc<Pool>> {
        self.by_name.get(name).map(|pool| pool.load_full())
    }

    /// Looks who has come back, and who has room since; once a second is enough.
    pub fn tick(&self) {
        for pool in self.iter() {
            pool.admit();
            pool.servers.iter().for_each(Member::tick);
        }
    }
}
impl Pool {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &PoolName {
        &self.state.name
    }

    fn queue_limits(&self) -> Limits {
        let limits = &self.plan.config.limits;
        Limits { length: limits.queue_length, per_workload: limits.queue_per_workload, timeout: limits.queue_timeout }
    }

    /// A server by its name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.servers.iter().find(|server| server.state.name.as_str() == name)
    }

    /// Whether any server may be asked, with room or without.
    #[must_use]
    pub fn has_server(&self) -> bool {
        self.members(self.state.now()).next().is_some()
    }

    /// Requests that wait for a server with room.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.state.queue.len()
    }

    /// Whether it gets no requests but trials, because too many have failed.
    #[must_use]
    pub fn is_left_alone(&self) -> bool {
        self.plan.config.breaker.is_some() && self.state.breaker.is_open()
    }

    fn build(plan: Plan, servers: &Servers, metrics: &Metrics) -> Self {
        let config = &plan.config;
        let state = servers.pool(&config.name, metrics);
        let way = Arc::new(Way {
            speaks_h2: config.speaks_h2,
            tls: plan.tls.clone(),
            timeouts: config.timeouts,
            trailers: Arc::clone(&config.trailers),
            introduction: config.introduction,
            connections_max: [config.limits.connections_per_server, config.limits.connections],
        });
        Self { servers: plan.members(servers, metrics), plan: Arc::new(plan), way, state }
    }

    /// The same with other servers.
    fn with(&self, servers: Box<[Member]>) -> Self {
        let (plan, way, state) = (Arc::clone(&self.plan), Arc::clone(&self.way), Arc::clone(&self.state));
        Self { servers, plan, way, state }
    }

    /// The names for which DNS has told no servers yet.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        let names = self.plan.config.servers.iter().filter(|entry| {
            let is_of_it = |server: &Member| entry.is_called(&server.state.name);
            matches!(entry.location, Location::Found { .. }) && !self.servers.iter().any(is_of_it)
        });
        let question = |entry: &config::Server| match &entry.location {
            Location::Found { question, .. } => question.to_string(),
            Location::Fixed(address) => address.to_string(),
        };
        names.map(question).collect()
    }

    /// Whether some of its servers are found, and not told by the config.
    fn is_discovered(&self) -> bool {
        self.plan.config.servers.iter().any(|server| matches!(server.location, Location::Found { .. }))
    }

    /// How who comes again finds his server.
    #[must_use]
    pub fn sticky(&self) -> Option<&Sticky> {
        self.plan.sticky.as_ref()
    }

    fn enter(&self, now: Duration) -> Result<Entry, Refusal> {
        self.state.budget.asked(now);
        let entry = self.plan.config.breaker.as_ref().map_or(Entry::Free, |rules| self.state.breaker.entry(rules, now));
        if entry == Entry::Closed { Err(Refusal::CircuitOpen) } else { Ok(entry) }
    }

    /// A server with room now, unless it is left alone or others wait for one.
    pub(super) fn take_now(self: &Arc<Self>, wish: Wish) -> Option<Picked> {
        let entry = self.enter(self.state.now()).ok()?;
        if self.state.queue.is_empty() { self.take(wish, entry) } else { None }
    }

    /// How many requests all servers may work on.
    fn requests_max(&self) -> u32 {
        let limits = &self.plan.config.limits;
        limits.requests.min(self.plan.requests_over(limits.connections))
    }

    /// A server with room, and the room.
    fn take(self: &Arc<Self>, wish: Wish, entry: Entry) -> Option<Picked> {
        if !self.state.take_room(self.requests_max()) {
            return None;
        }
        let server = self.reserve_now(wish, &[]);
        if server.is_none() {
            self.state.leave_room();
        }
        server.map(|(index, server)| Picked::new(Arc::clone(self), server, (index, entry)))
    }

    /// A server with room that was not tried, and its room; not the pool's.
    pub(super) fn reserve_now(&self, wish: Wish, tried: &[usize]) -> Option<(usize, Arc<ServerState>)> {
        let now = self.state.now();
        let own = wish.seat.filter(|seat| !tried.contains(seat)).and_then(|seat| self.reserve_own(seat, now));
        own.or_else(|| self.reserve(&Ask { key: wish.key, now, dice: fastrand::u64(..) }, tried))
    }

    fn reserve_own(&self, seat: usize, now: Duration) -> Option<(usize, Arc<ServerState>)> {
        let server = self.servers.get(seat).filter(|server| server.keeps_its_own(now))?;
        let has_room = server.state.standing.begin_below(server.requests_max);
        has_room.then(|| (seat, Arc::clone(&server.state)))
    }

    /// Whether anybody may be asked, with room or without.
    fn has_somebody(&self, wish: Wish, now: Duration) -> bool {
        let own = wish.seat.and_then(|seat| self.servers.get(seat));
        own.is_some_and(|server| server.keeps_its_own(now)) || self.members(now).next().is_some()
    }

    /// Whether a server would go on with somebody who had it before.
    pub(super) fn keeps(&self, seat: usize) -> bool {
        self.servers.get(seat).is_some_and(|server| server.keeps_its_own(self.state.now()))
    }

    /// What requests are recognised by, if it is balanced by that.
    #[must_use]
    pub fn hash_key(&self) -> Option<&HashKey> {
        self.plan.config.balance.key.as_ref()
    }

    fn reserve(&self, ask: &Ask, tried: &[usize]) -> Option<(usize, Arc<ServerState>)> {
        loop {
            let candidates = self.candidates(ask.now, tried);
            let index = self.state.balancer.pick(self.plan.config.balance.algorithm, candidates, ask)?;
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
        let tier = self.plan.config.balance.tiers.tier(self.servers.iter().map(|server| server.standby(now)));
        let takes_part = move |server: &Member| server.effective_weight() > 0 && tier.has(server.standby(now));
        self.servers.iter().enumerate().filter(move |(_, server)| takes_part(server))
    }

    /// Who may be asked, but for those who were tried.
    fn candidates<'a>(&'a self, now: Duration, tried: &'a [usize]) -> impl Iterator<Item = Candidate<'a>> + Clone + 'a {
        let members = self.members(now).filter(move |(index, server)| server.has_room() && !tried.contains(index));
        members.map(move |(index, server)| {
            let standing = &server.state.standing;
            let weight =
                ramped(server.effective_weight(), standing.risen_for(now), self.plan.config.balance.slow_start);
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

impl Plan {
    /// How many requests so many connections can carry. Over HTTP/1.1 each has one of its own.
    const fn requests_over(&self, connections: u32) -> u32 {
        if self.config.speaks_h2 { connections.saturating_mul(STREAMS_MAX) } else { connections }
    }

    /// The servers that there are now.
    fn members(&self, servers: &Servers, metrics: &Metrics) -> Box<[Member]> {
        let seated = self.config.servers.iter().flat_map(|server| {
            servers.seated(&self.config.name, server, &self.own).into_iter().map(move |seat| (server, seat))
        });
        seated.map(|(server, seat)| self.member(server, &seat, servers, metrics)).collect()
    }

    fn member(&self, server: &config::Server, seat: &Seated, servers: &Servers, metrics: &Metrics) -> Member {
        let config = &self.config;
        let state = servers.server((&config.name, &seat.name, &seat.address), metrics);
        let followed = |it: &Followed| servers.server((&it.pool, &it.name, &it.address), metrics);
        let requests_max = server.requests_max.unwrap_or(config.limits.requests_per_server);
        Member {
            tags: self.sticky.as_ref().map(|sticky| sticky.tags(&state)).unwrap_or_default(),
            state,
            configured_weight: server.weight.saturating_mul(seat.share).div_ceil(100),
            is_backup: server.is_backup || seat.is_backup,
            requests_max: requests_max.min(self.requests_over(config.limits.connections_per_server)),
            followed: server.follows.as_ref().map(followed),
            is_trusted: config.health.is_none() && server.follows.is_none(),
        }
    }
}
