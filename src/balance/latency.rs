//! How fast a server answers: a peak-sensitive moving average, as Finagle's "peak EWMA".
//!
//! A slower answer counts at once, a faster one by and by. What is known fades with time, so that a server that was slow
//! is tried again.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// In which time what is known falls to a third (1/e).
const FADES_IN: Duration = Duration::from_secs(10);
/// What each request costs at a server that has not answered any yet.
const UNKNOWN: f64 = 1.0;

/// The average, lock-free: microseconds in the upper half, the time of the last answer in milliseconds in the lower.
#[derive(Debug, Default)]
pub struct Latency(AtomicU64);

impl Latency {
    /// An answer has taken so long.
    pub fn observe(&self, took: Duration, now: Duration) {
        let next = |packed: u64| {
            let (average, age) = unpacked(packed, now);
            let took = took.as_secs_f64();
            let keeps = fading(age);
            let average = if took > average { took } else { average * keeps + took * (1.0 - keeps) };
            Some(packed_of(average, now))
        };
        // It always gives one.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok();
    }

    /// The average; none before the first answer.
    #[must_use]
    pub fn average(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) >> 32 {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// What one more request would cost there, in seconds, beside those that it works on.
    #[must_use]
    pub fn cost(&self, active: u32, now: Duration) -> f64 {
        let packed = self.0.load(Ordering::Relaxed);
        if packed == 0 {
            return UNKNOWN * f64::from(active);
        }
        let (average, age) = unpacked(packed, now);
        average * fading(age) * (f64::from(active) + 1.0)
    }
}

/// What share is left after such a time.
fn fading(age: Duration) -> f64 {
    (-age.as_secs_f64() / FADES_IN.as_secs_f64()).exp()
}

fn unpacked(packed: u64, now: Duration) -> (f64, Duration) {
    let age = lower_half(millis(now).wrapping_sub(packed));
    // An answer that came a moment after `now` was asked for is not 49 days old.
    let age = if age > u64::from(u32::MAX / 2) { 0 } else { age };
    (Duration::from_micros(packed >> 32).as_secs_f64(), Duration::from_millis(age))
}

/// Never 0, which says that nothing is known.
fn packed_of(average: f64, now: Duration) -> u64 {
    let average = Duration::try_from_secs_f64(average).unwrap_or(Duration::MAX);
    let micros = u32::try_from(average.as_micros()).unwrap_or(u32::MAX).max(1);
    u64::from(micros) << 32 | lower_half(millis(now))
}

fn millis(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

const fn lower_half(number: u64) -> u64 {
    number & 0xffff_ffff
}
