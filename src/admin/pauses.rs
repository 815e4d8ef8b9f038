//! When nothing is asked on a connection, and for how long.

use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tokio::time;

/// The pauses between the requests of a connection.
#[derive(Debug)]
pub(super) struct Pauses(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Requests that are being answered.
    under_way: usize,
    /// When the last one began or ended.
    since: Instant,
}

impl Default for Pauses {
    fn default() -> Self {
        Self(Mutex::new(State { under_way: 0, since: Instant::now() }))
    }
}

impl Pauses {
    /// There is no pause while this lives.
    pub(super) fn interrupt(&self) -> Answering<'_> {
        let mut state = self.0.lock();
        state.under_way = state.under_way.saturating_add(1);
        Answering(self)
    }

    /// Waits until a pause has lasted so long.
    pub(super) async fn last(&self, length: Duration) {
        while let Some(left) = self.left(length) {
            time::sleep(left).await;
        }
    }

    /// How much of that length is left at least; none if it is over.
    fn left(&self, length: Duration) -> Option<Duration> {
        let state = self.0.lock();
        if state.under_way > 0 {
            return Some(length);
        }
        length.checked_sub(state.since.elapsed()).filter(|left| !left.is_zero())
    }
}

/// A request is being answered.
pub(super) struct Answering<'a>(&'a Pauses);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.under_way = state.under_way.saturating_sub(1);
        state.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_begins_when_the_last_answer_ends() {
        let (pauses, second) = (Pauses::default(), Duration::from_secs(1));
        assert_eq!(pauses.left(Duration::ZERO), None, "it lasts from the beginning");
        let (one, other) = (pauses.interrupt(), pauses.interrupt());
        drop(one);
        assert_eq!(pauses.left(Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(pauses.left(second), Some(second));
        drop(other);
        assert!(pauses.left(second).is_some_and(|left| left < second));
        assert_eq!(pauses.left(Duration::ZERO), None);
    }
}
