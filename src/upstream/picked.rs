//! The server that a request goes to, and what it makes of it.

use super::mode::Mode;
use super::pool::{Pool, Wish};
use super::server::ServerState;
use super::sticky::Ticket;
use super::way::Purpose;
use crate::audit::Times;
use crate::clock::UnixSeconds;
use crate::config::{Retry, RetryMethods};
use crate::refusal::Refusal;
use crate::resilience::{Cause, Entry};
use http::{HeaderName, Method};
use pingora::upstreams::peer::HttpPeer;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The server that a request goes to. While it lives, the request counts as being worked on.
#[derive(Debug)]
pub struct Picked {
    server: Arc<ServerState>,
    pool: Arc<Pool>,
    index: usize,
    entry: Entry,
    asked: Instant,
    times: Times,
    has_failed: bool,
    /// The response has begun well, and ended so many failures in a row.
    begun: Option<u32>,
    /// It holds room of the pool.
    has_room: bool,
}

/// How an attempt has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There was no connection, or the server says that it has not processed the request (RFC 9113 § 8.7).
    Connect,
    /// The connection was closed, or broken, instead of a response.
    NoResponse,
    /// The response's head did not come in time.
    Timeout,
    /// The response has this status.
    Status(u16),
}

impl Failure {
    fn is_retried(self, retry: &Retry) -> bool {
        match self {
            Self::Connect => retry.on_connect_failure,
            Self::NoResponse => retry.on_no_response,
            Self::Timeout => retry.on_timeout,
            Self::Status(status) => retry.on_statuses.contains(&status),
        }
    }
}

impl Picked {
    /// The server, whose room is taken already.
    pub(super) fn new(pool: Arc<Pool>, server: Arc<ServerState>, (index, entry): (usize, Entry)) -> Self {
        server.metrics.active.inc();
        Self {
            server,
            pool,
            index,
            entry,
            asked: Instant::now(),
            times: Times::default(),
            has_failed: false,
            begun: None,
            has_room: true,
        }
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &ServerState {
        &self.server
    }

    /// Which server of its pool it is.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// How to reach it.
    ///
    /// # Errors
    /// If its address can be none.
    pub fn peer(&mut self, purpose: Purpose) -> pingora::Result<HttpPeer> {
        self.server.metrics.requests.inc();
        self.asked = Instant::now();
        self.pool.way.to(&self.server, purpose)
    }

    /// There was no server with room for so long.
    pub const fn waited(&mut self, time: Duration) {
        self.times.queue = Some(time);
    }

    /// There is a connection to it, a new one.
    pub fn connected(&mut self) {
        self.times.connect = Some(self.asked.elapsed());
    }

    /// How long the steps of this attempt took.
    #[must_use]
    pub const fn times(&self) -> Times {
        self.times
    }

    /// Its pool.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The cookie that the client is to be given so that he comes back here; none if he has a good one, or if another
    /// server has only stepped in for his own.
    #[must_use]
    pub fn cookie(&self, had: Option<Ticket>, now: UnixSeconds) -> Option<String> {
        let sticky = self.pool.sticky()?;
        let seat = had.and_then(|ticket| sticky.seat(ticket, &self.pool.servers));
        let keeps = match (had, seat) {
            (Some(ticket), Some(seat)) if seat == self.index => {
                !sticky.grows_old(ticket, now) || self.server.mode() != Mode::Ready
            }
            (Some(_), Some(seat)) => self.pool.keeps(seat),
            (_, _) => false,
        };
        let tag = self.pool.servers.get(self.index).and_then(|server| server.tags.first());
        tag.filter(|_| !keeps).map(|tag| sticky.cookie(*tag, now))
    }

    /// Whether it is spoken to in HTTP/2.
    #[must_use]
    pub fn speaks_h2(&self) -> bool {
        self.pool.way.speaks_h2
    }

    /// How long it may take to take a piece of a body.
    #[must_use]
    pub fn between_bytes(&self) -> Duration {
        self.pool.way.timeouts.between_bytes
    }

    /// Whether a trailer of its responses passes.
    #[must_use]
    pub fn passes_trailer(&self, name: &HeaderName) -> bool {
        self.pool.way.trailers.contains(name)
    }

    /// The server has the whole request: only from here on time is its own.
    pub fn sent(&mut self) {
        self.asked = Instant::now();
    }

    /// The response has begun.
    pub fn responded(&mut self, status: u16) {
        let (now, took) = (self.server.now(), self.asked.elapsed());
        self.times.first_byte = Some(took);
        self.server.standing.latency.observe(took, now);
        if status >= 500 {
            self.failed();
        } else {
            self.begins_well(now);
        }
        let Some(rules) =
            self.pool.plan.config.outliers.filter(|rules| self.server.outlier.is_to_be_compared(rules, now))
        else {
            return;
        };
        if self.pool.is_slow(self.index, rules.slower_than) {
            self.pool.eject(&self.server, &rules, Cause::Latency);
        }
    }

    fn begins_well(&mut self, now: Duration) {
        self.begun = Some(self.server.outlier.succeeded(now));
        let state = &self.pool.state;
        if state.breaker.succeeded(self.entry, now) {
            state.metrics.circuit_open.set(0);
            log::info!("pool {} is asked again: a trial went well", state.name);
        }
    }

    /// The server has failed, perhaps after it has begun to answer. However often that is said, it counts once.
    pub fn failed(&mut self) {
        if std::mem::replace(&mut self.has_failed, true) {
            return;
        }
        let now = self.server.now();
        if let Some(rules) = &self.pool.plan.config.outliers
            && let Some(cause) = self.server.outlier.failed(rules, self.begun, now)
        {
            self.pool.eject(&self.server, rules, cause);
        }
        let state = &self.pool.state;
        if self.pool.plan.config.breaker.is_some_and(|rules| state.breaker.failed(&rules, self.begun.is_some(), now)) {
            state.metrics.circuit_open.set(1);
            state.metrics.circuit_openings.inc();
            log::warn!("pool {} is left alone for a while: too many of its requests fail", state.name);
        }
    }

    /// Another server of the pool instead of this one, in the same room of the pool.
    ///
    /// # Errors
    /// [`Refusal::NoServer`] if none has room.
    pub fn another(mut self, tried: &[usize], wish: Wish) -> Result<Self, Refusal> {
        let pool = Arc::clone(&self.pool);
        let (index, server) = pool.reserve_now(wish, tried).ok_or(Refusal::NoServer)?;
        self.has_room = false;
        Ok(Self::new(pool, server, (index, Entry::Free)))
    }

    /// Takes another attempt, if the config has one after that failure, there is somebody else to ask, and not too many
    /// are made already. `is_repeatable` says that the client has marked its request so.
    #[must_use]
    pub fn takes_another(&self, failure: Failure, method: &Method, is_repeatable: bool, tried: &[usize]) -> bool {
        let retry = &self.pool.plan.config.retry;
        let attempts = u32::try_from(tried.len()).unwrap_or(u32::MAX).saturating_add(1);
        // What no server has seen is not sent twice.
        let may_repeat = failure == Failure::Connect || is_repeatable || may_be_sent_twice(method, retry.methods);
        let is_wanted = failure.is_retried(retry) && attempts < retry.attempts && may_repeat;
        if !is_wanted || !self.pool.has_another(tried, self.index) {
            return false;
        }
        let (state, metrics) = (&self.pool.state, &self.pool.state.metrics);
        let is_taken = state.budget.take(retry.budget, state.now());
        if is_taken { &metrics.retries } else { &metrics.retries_over_budget }.inc();
        is_taken
    }
}

fn may_be_sent_twice(method: &Method, methods: RetryMethods) -> bool {
    match methods {
        RetryMethods::Safe => method.is_safe(),
        RetryMethods::Idempotent => method.is_idempotent(),
        RetryMethods::All => true,
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.server.standing.end();
        if self.has_room {
            self.pool.state.leave_room();
        }
        self.server.metrics.active.dec();
        self.pool.admit();
    }
}
