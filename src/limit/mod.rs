//! What callers may use of a route, a pool or a listener: requests in a time and at once, and bytes each second.
//!
//! Each limit has a table of those who are counted, by a hash that nobody can foresee. A table is bounded: who comes when
//! it is full of others that are still counted is refused, never let in uncounted.

mod pace;
mod table;

pub use pace::Frequency;

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};
use table::{Full, Table};

/// How much of a response may go at once before its pace counts, in bytes.
const AT_ONCE: u64 = 64 * 1024;
/// So long a piece of a response waits at most: while it does, nobody sees that the client has gone.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What one of those who are counted may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowance {
    /// How many requests, and how many of them at once after a pause.
    pub rate: Option<Frequency>,
    /// How many requests in flight.
    pub concurrency: Option<u32>,
    /// How many bytes of responses each second.
    pub bandwidth: Option<u64>,
}

/// Why a request is over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// It comes too soon. After that time one may pass.
    Rate(Duration),
    /// Too many are in flight.
    Concurrency,
    /// Too many others are counted.
    Full,
}

/// Who is counted: a number that stands for him in one limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Counted(u64);

/// The tables of one limit. They outlive generations.
#[derive(Debug)]
pub struct Limiter {
    begun: Instant,
    hasher: RandomState,
    rates: Table,
    running: Table,
    bytes: Table,
}

impl Default for Limiter {
    fn default() -> Self {
        Self::with_room(Self::ROOM)
    }
}

/// A request that is within a limit, counted while it lives.
#[derive(Debug)]
pub struct Within {
    /// How many more may come at once, where a rate counts.
    pub remaining: Option<Remaining>,
    paid: Option<(Arc<Limiter>, Counted, Frequency)>,
    running: Option<(Arc<Limiter>, Counted)>,
}

/// What is left of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Requests that may come at once.
    pub requests: u32,
    /// Until all may.
    pub reset: Duration,
}

impl Limiter {
    /// How many are counted at once, at most, in each table.
    pub const ROOM: usize = 65_536;

    /// The same with other room.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        let table = || Table::new(room);
        Self { begun: Instant::now(), hasher: RandomState::new(), rates: table(), running: table(), bytes: table() }
    }

    /// Who that is. The parts are told apart.
    pub fn counted<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Counted {
        let mut hasher = self.hasher.build_hasher();
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        Counted(hasher.finish())
    }

    /// Counts a request.
    ///
    /// # Errors
    /// [`Exceeded`], and then nothing is counted.
    pub fn admit(self: &Arc<Self>, whom: Counted, allowance: &Allowance) -> Result<Within, Exceeded> {
        self.admit_at(whom, allowance, self.begun.elapsed())
    }

    fn admit_at(self: &Arc<Self>, whom: Counted, allowance: &Allowance, now: Duration) -> Result<Within, Exceeded> {
        let full = |_: Full| Exceeded::Full;
        let running = match allowance.concurrency {
            None => None,
            Some(max) => {
                let more = |count: u64| (count < max.into()).then(|| (count.saturating_add(1), ()));
                let counted = self.running.update(whom.0, Duration::ZERO, more).map_err(full)?;
                counted.ok_or(Exceeded::Concurrency)?;
                Some((Arc::clone(self), whom))
            }
        };
        // From here on it is counted, until it is dropped.
        let mut within = Within { remaining: None, paid: None, running };
        if let Some(rate) = allowance.rate {
            let mut wait = Duration::ZERO;
            let next = |due: u64| {
                let admitted = rate.admit(Duration::from_nanos(due), now);
                admitted.map_err(|needed| wait = needed).ok().map(|due| (pace::nanos(due), due))
            };
            let due = self.rates.update(whom.0, now, next).map_err(full)?.ok_or(Exceeded::Rate(wait))?;
            within.remaining = Some(rate.remaining(due, now));
            within.paid = Some((Arc::clone(self), whom, rate));
        }
        Ok(within)
    }

    /// Counts bytes of a response. How long they have to wait.
    #[must_use]
    pub fn pace(&self, whom: Counted, bytes: usize, each_second: u64) -> Duration {
        self.pace_at(whom, bytes, each_second, self.begun.elapsed())
    }

    fn pace_at(&self, whom: Counted, bytes: usize, each_second: u64, now: Duration) -> Duration {
        let takes = |bytes: u64| Duration::from_secs_f64(bytes as f64 / each_second.max(1) as f64);
        let bytes = takes(u64::try_from(bytes).unwrap_or(u64::MAX));
        let next = |due: u64| {
            let due = Duration::from_nanos(due).max(now).saturating_add(bytes);
            // What nobody waits for is not owed.
            let due = due.min(now.saturating_add(WAIT_MAX).saturating_add(takes(AT_ONCE)));
            Some((pace::nanos(due), due))
        };
        match self.bytes.update(whom.0, now, next) {
            Ok(due) => due.unwrap_or(now).saturating_sub(now).saturating_sub(takes(AT_ONCE)),
            // Who cannot be counted goes at the pace of one who has used up all.
            Err(Full) => bytes.min(WAIT_MAX),
        }
    }
}

impl Within {
    /// Gives back what was counted: the request is refused for another reason.
    pub fn undo(self) {
        if let Some((limiter, whom, rate)) = &self.paid {
            let give_back = |due: u64| Some((due.saturating_sub(pace::nanos(rate.interval())), ()));
            // Whom there was no room for has nothing to be given back.
            limiter.rates.update(whom.0, limiter.begun.elapsed(), give_back).ok();
        }
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        if let Some((limiter, whom)) = &self.running {
            // What was counted is there, so there is room.
            limiter.running.update(whom.0, Duration::ZERO, |count| Some((count.saturating_sub(1), ()))).ok();
        }
    }
}

/// All limiters, by the places of their limits.
#[derive(Debug, Default)]
pub struct Limiters(Mutex<HashMap<Box<str>, Arc<Limiter>>>);

impl Limiters {
    /// The limiter of that limit: the same as before, if there was one.
    #[must_use]
    pub fn of(&self, limit: &str) -> Arc<Limiter> {
        Arc::clone(self.0.lock().entry(limit.into()).or_default())
    }

    /// Forgets those that no generation has any more.
    pub fn forget_the_gone(&self) {
        self.0.lock().retain(|_, limiter| Arc::strong_count(limiter) > 1);
    }
}

#[cfg(test)]
mod tests;
