//! What a connection and the request on it tell each other, past Pingora.

use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{self, Instant};

/// For how long a body may make its server wait, beyond what its bytes have earned.
const GRACE: Duration = Duration::from_secs(5);
/// The most that bytes can earn: a body that was fast for an hour may not stand still for another.
const EARNED_MAX: Duration = Duration::from_secs(30);
/// How often a body's pace is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

tokio::task_local! {
    /// The link of the request that this task serves.
    static CURRENT: Arc<Link>;
}

/// One request's link.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Link {
    tunnel: AtomicBool,
    head_too_large: AtomicBool,
    too_slow: AtomicBool,
    pace: Mutex<Pace>,
}

/// How long a body was waited for, and what came.
#[derive(Debug, Default)]
struct Pace {
    received: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
}

impl Link {
    /// The link of the request that this task serves; one that leads nowhere, if none does.
    pub(in crate::proxy) fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_default()
    }

    /// Serves a request so that it finds this link.
    pub(super) async fn scope<T>(self: &Arc<Self>, serving: impl Future<Output = T>) -> T {
        CURRENT.scope(Arc::clone(self), serving).await
    }

    /// From here on bytes are a tunnel's: the origin has answered 101.
    pub(in crate::proxy) fn open_tunnel(&self) {
        self.tunnel.store(true, Ordering::Relaxed);
        self.body_came(0);
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Relaxed)
    }

    /// The head had too many fields, and they are thrown away already.
    pub(super) fn head_is_too_large(&self) {
        self.head_too_large.store(true, Ordering::Relaxed);
    }

    /// Whether the head had too many fields.
    pub(in crate::proxy) fn had_too_large_a_head(&self) -> bool {
        self.head_too_large.load(Ordering::Relaxed)
    }

    /// Whether the request was cut because its body came too slowly.
    pub(in crate::proxy) fn was_too_slow(&self) -> bool {
        self.too_slow.load(Ordering::Relaxed)
    }

    /// The body is waited for.
    pub(in crate::proxy) fn wait_for_body(&self) {
        self.pace.lock().waiting_since.get_or_insert_with(Instant::now);
    }

    /// A piece of the body has come, and nobody waits any more.
    pub(in crate::proxy) fn body_came(&self, bytes: usize) {
        let mut pace = self.pace.lock();
        pace.received = pace.received.saturating_add(bytes as u64);
        if let Some(since) = pace.waiting_since.take() {
            pace.waited = pace.waited.saturating_add(since.elapsed());
        }
    }

    /// Ends once the body comes slower than so many bytes a second.
    pub(super) async fn too_slow(&self, rate_min: u64) {
        loop {
            let ends = self.pace.lock().ends(rate_min);
            match ends {
                Some(ends) if ends <= Instant::now() => return self.too_slow.store(true, Ordering::Relaxed),
                Some(ends) => time::sleep_until(ends.min(Instant::now() + LOOK_EVERY)).await,
                None => time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

impl Pace {
    /// When it is too slow, if nothing comes until then.
    fn ends(&self, rate_min: u64) -> Option<Instant> {
        let earned = Duration::from_secs(self.received.checked_div(rate_min).unwrap_or(u64::MAX)).min(EARNED_MAX);
        let left = (GRACE + earned).saturating_sub(self.waited);
        self.waiting_since.map(|since| since + left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_too_slow_after_the_grace() {
        let link = Link::default();
        link.wait_for_body();
        let started = Instant::now();
        link.too_slow(1024).await;
        assert_eq!(started.elapsed(), GRACE);
        assert!(link.was_too_slow());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_earn_time() {
        let link = Link::default();
        link.wait_for_body();
        time::advance(Duration::from_secs(3)).await;
        link.body_came(10 * 1024);
        link.wait_for_body();
        let started = Instant::now();
        link.too_slow(1024).await;
        assert_eq!(started.elapsed(), GRACE + Duration::from_secs(10 - 3));
    }

    #[tokio::test(start_paused = true)]
    async fn only_waiting_counts() {
        let link = Link::default();
        link.wait_for_body();
        link.body_came(1);
        let never = time::timeout(Duration::from_secs(3600), link.too_slow(1024)).await;
        assert!(never.is_err() && !link.was_too_slow(), "the origin is slow, not the client");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_has_no_pace() {
        let link = Link::default();
        link.wait_for_body();
        link.open_tunnel();
        assert!(link.is_tunnel());
        assert!(time::timeout(Duration::from_secs(3600), link.too_slow(1024)).await.is_err());
    }
}
