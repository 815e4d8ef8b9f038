//! What a connection and the request on it tell each other, past Pingora.

use super::brake::Brake;
use crate::event_loop::Work;
use crate::generation::Generation;
use crate::proxy::standing::Standing;
use crate::refusal::Refusal;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio::time::{self, Instant};

/// For how long a body may make its server wait at first.
const GRACE: Duration = Duration::from_secs(5);
/// The most that bytes can earn: a body that was fast for an hour may not stand still for another.
const PATIENCE_MAX: Duration = Duration::from_secs(30);
/// How often a body's pace is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

tokio::task_local! {
    /// The link of the request that this task serves.
    static CURRENT: Arc<Link>;
}

/// One request's link.
#[derive(Debug)]
pub(in crate::proxy) struct Link {
    tunnel: AtomicBool,
    head_too_large: AtomicBool,
    judged: AtomicBool,
    unproven: AtomicBool,
    /// It is a stream: what has no end of its own.
    stream: AtomicBool,
    standing: OnceCell<Standing>,
    cut_for: OnceCell<Refusal>,
    /// The connection's.
    brake: Arc<Brake>,
    /// The least bytes of the body a second.
    rate_min: u64,
    pace: Mutex<Pace>,
}

/// How long the body may still be waited for.
#[derive(Debug)]
struct Pace {
    patience: Duration,
    /// The most that it may become.
    patience_max: Duration,
    waiting_since: Option<Instant>,
    /// Whether its pace is of interest: until the response begins, and not before the client may send it.
    counts: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self::new(1, Arc::default())
    }
}

impl Link {
    pub(super) fn new(rate_min: u64, brake: Arc<Brake>) -> Self {
        Self {
            tunnel: AtomicBool::new(false),
            head_too_large: AtomicBool::new(false),
            judged: AtomicBool::new(false),
            unproven: AtomicBool::new(false),
            stream: AtomicBool::new(false),
            standing: OnceCell::new(),
            cut_for: OnceCell::new(),
            brake,
            rate_min,
            pace: Mutex::new(Pace { patience: GRACE, patience_max: PATIENCE_MAX, waiting_since: None, counts: true }),
        }
    }

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
        self.is_streaming();
        self.stop_counting();
    }

    pub(in crate::proxy) fn is_tunnel(&self) -> bool {
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

    /// What it takes to check its token.
    pub(in crate::proxy) fn token_check(&self) -> Work {
        if self.brake.is_on() { Work::DoubtfulSignature } else { Work::Signature }
    }

    /// Our own code has the request, and records what becomes of it.
    pub(in crate::proxy) fn is_judged(&self) {
        self.judged.store(true, Ordering::Relaxed);
    }

    /// Whether our own code had it.
    pub(super) fn was_judged(&self) -> bool {
        self.judged.load(Ordering::Relaxed)
    }

    /// It is refused, and the client has not proven who it is.
    pub(in crate::proxy) fn is_unproven(&self) {
        self.unproven.store(true, Ordering::Relaxed);
    }

    /// Whether it was refused like that.
    pub(super) fn was_unproven(&self) -> bool {
        self.unproven.load(Ordering::Relaxed)
    }

    /// Why the request was cut, if it was.
    pub(in crate::proxy) fn cut_for(&self) -> Option<Refusal> {
        self.cut_for.get().copied()
    }

    /// The request was let in, by that.
    pub(in crate::proxy) fn rests_on(&self, standing: Standing) -> &Standing {
        self.standing.get_or_init(|| standing)
    }

    /// The response is a stream.
    pub(in crate::proxy) fn is_streaming(&self) {
        self.stream.store(true, Ordering::Relaxed);
    }

    fn is_stream(&self) -> bool {
        self.stream.load(Ordering::Relaxed)
    }

    /// The body is waited for.
    pub(in crate::proxy) fn wait_for_body(&self) {
        let mut pace = self.pace.lock();
        if pace.counts {
            pace.waiting_since.get_or_insert_with(Instant::now);
        }
    }

    /// The wait may also be for the server, which has so long to take a piece: its own timeout shall come first.
    pub(in crate::proxy) fn wait_also_for_server(&self, timeout: Duration) {
        let mut pace = self.pace.lock();
        pace.patience = GRACE.saturating_add(timeout);
        pace.patience_max = PATIENCE_MAX.saturating_add(timeout);
    }

    /// A piece of the body has come, and nobody waits any more.
    pub(in crate::proxy) fn body_came(&self, bytes: usize) {
        let mut pace = self.pace.lock();
        let waited = pace.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let millis = (bytes as u64).saturating_mul(1000).checked_div(self.rate_min).unwrap_or(0);
        let patience = pace.patience.saturating_sub(waited).saturating_add(Duration::from_millis(millis));
        pace.patience = patience.min(pace.patience_max);
    }

    /// The client waits for our word before it sends the body, or does not any more.
    pub(super) fn may_send(&self, may: bool) {
        let mut pace = self.pace.lock();
        pace.counts = may;
        pace.waiting_since = None;
    }

    /// The response has begun: who talks and listens at once talks when he likes.
    pub(in crate::proxy) fn stop_counting(&self) {
        self.may_send(false);
    }

    /// Ends once the request must not go on: its body comes too slowly, its time is over, or a generation became live
    /// that would not let it in.
    pub(super) async fn is_cut(&self, mut generations: watch::Receiver<Generation>) {
        // What changed before there was a standing is looked at when there is one.
        let mut is_news = false;
        loop {
            let next = Instant::now() + LOOK_EVERY;
            let next = self.pace.lock().ends().map_or(next, |ends| ends.min(next));
            tokio::select! {
                Ok(()) = generations.changed() => is_news = true,
                () = time::sleep_until(next) => {}
            }
            let standing = self.standing.get().filter(|_| is_news);
            is_news &= standing.is_none();
            let lost = standing.and_then(|standing| standing.lost(self.is_stream()));
            if let Some(refusal) = lost.or_else(|| self.is_over()) {
                self.cut_for.set(refusal).ok();
                return;
            }
        }
    }

    /// Why its time is over, if it is.
    fn is_over(&self) -> Option<Refusal> {
        let is_too_slow = self.pace.lock().ends().is_some_and(|ends| ends <= Instant::now());
        let ended = || self.standing.get()?.ended(self.is_stream());
        if is_too_slow { Some(Refusal::BodyTooSlow) } else { ended() }
    }
}

impl Pace {
    /// When it is too slow, if nothing comes until then.
    fn ends(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link::new(1024, Arc::default())
    }

    async fn is_cut_within(link: &Link, time: Duration) -> bool {
        let (_live, generations) = watch::channel(Generation::new(1));
        time::timeout(time, link.is_cut(generations)).await.is_ok() && link.cut_for() == Some(Refusal::BodyTooSlow)
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_too_slow_after_the_grace() {
        let link = link();
        link.wait_for_body();
        let started = Instant::now();
        assert!(is_cut_within(&link, HOUR).await);
        assert_eq!(started.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_earn_time() {
        let link = link();
        link.wait_for_body();
        time::advance(Duration::from_secs(3)).await;
        link.body_came(10 * 1024);
        link.wait_for_body();
        let started = Instant::now();
        assert!(is_cut_within(&link, HOUR).await);
        assert_eq!(started.elapsed(), GRACE + Duration::from_secs(10 - 3));
    }

    /// However long it takes: what comes fast enough is never cut, and what is too slow always is.
    #[tokio::test(start_paused = true)]
    async fn only_the_pace_counts_and_not_the_length() {
        for (bytes_a_second, lives) in [(1100, true), (50 * 1024, true), (900, false)] {
            let link = link();
            let lived = tokio::select! {
                () = upload(&link, bytes_a_second) => true,
                is_cut = is_cut_within(&link, HOUR) => !is_cut,
            };
            assert_eq!(lived, lives, "{bytes_a_second} bytes a second");
        }
    }

    async fn upload(link: &Link, bytes_a_second: usize) {
        for _ in 0..600 {
            link.wait_for_body();
            time::sleep(Duration::from_secs(1)).await;
            link.body_came(bytes_a_second);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_hour_does_not_pay_for_a_slow_one() {
        let link = link();
        link.wait_for_body();
        link.body_came(1 << 30);
        link.wait_for_body();
        let started = Instant::now();
        assert!(is_cut_within(&link, HOUR).await);
        assert_eq!(started.elapsed(), PATIENCE_MAX);
    }

    /// Once: it is no allowance for each piece.
    #[tokio::test(start_paused = true)]
    async fn a_slow_server_is_blamed_by_its_own_timeout() {
        let server = Duration::from_secs(30);
        let link = link();
        link.wait_also_for_server(server);
        link.wait_for_body();
        assert!(!is_cut_within(&link, server).await);
        time::advance(GRACE).await;
        link.body_came(1);
        link.wait_for_body();
        assert!(is_cut_within(&link, Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn only_waiting_counts() {
        let link = link();
        link.wait_for_body();
        link.body_came(1);
        assert!(!is_cut_within(&link, HOUR).await, "the origin is slow, not the client");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_and_a_response_that_has_begun_have_no_pace() {
        let (tunnel, stream) = (link(), link());
        tunnel.wait_for_body();
        tunnel.open_tunnel();
        tunnel.wait_for_body();
        assert!(tunnel.is_tunnel() && !is_cut_within(&tunnel, HOUR).await);
        stream.wait_for_body();
        stream.stop_counting();
        stream.wait_for_body();
        assert!(!is_cut_within(&stream, HOUR).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_word_is_not_waited_for() {
        let link = link();
        link.may_send(false);
        link.wait_for_body();
        assert!(!is_cut_within(&link, HOUR).await);
        link.may_send(true);
        link.wait_for_body();
        assert!(is_cut_within(&link, HOUR).await);
    }
}
