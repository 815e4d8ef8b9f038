//! What wakes the writer: dear for who rings, so nobody does while the writer comes back by itself.

use once_cell::sync::OnceCell;
use std::{
    sync::atomic::{AtomicBool, Ordering, fence},
    sync::mpsc::TryRecvError,
    thread::{self, Thread},
    time::Duration,
};

/// The writer's.
#[derive(Debug, Default)]
pub(super) struct Bell {
    writer: OnceCell<Thread>,
    /// Whether the writer waits for the next record, however long.
    sleeps: AtomicBool,
}

impl Bell {
    /// From here on it wakes this thread.
    pub(super) fn is_heard_here(&self) {
        self.writer.get_or_init(thread::current);
    }

    /// Waits until somebody rings, for so long at most, and not at all if something is found first.
    pub(super) fn wait<T>(&self, max: Duration, look: impl Fn() -> Result<T, TryRecvError>) -> Result<T, TryRecvError> {
        self.sleeps.store(true, Ordering::SeqCst);
        // Who has sent before sees it, or what he has sent is found here.
        fence(Ordering::SeqCst);
        let mut found = look();
        if matches!(found, Err(TryRecvError::Empty)) {
            thread::park_timeout(max);
            found = look();
        }
        self.sleeps.store(false, Ordering::SeqCst);
        found
    }

    /// Something was sent: wakes the writer if it would not come back soon.
    pub(super) fn sent(&self) {
        fence(Ordering::SeqCst);
        if self.sleeps.load(Ordering::Relaxed) && self.sleeps.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }

    /// Wakes the writer now.
    pub(super) fn ring(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    /// A writer until nobody sends any more; what it took, and how long that was.
    fn write_all(bell: &Bell, queue: &mpsc::Receiver<()>) -> (usize, Duration) {
        bell.is_heard_here();
        let (started, mut taken) = (Instant::now(), 0);
        loop {
            match bell.wait(LONG, || queue.try_recv()) {
                Ok(()) => taken += 1,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return (taken, started.elapsed()),
            }
        }
    }

    /// However the two meet: nothing that was sent is slept over.
    #[test]
    fn nothing_is_slept_over() {
        let bell = Arc::new(Bell::default());
        let (sender, queue) = mpsc::channel();
        let its = Arc::clone(&bell);
        let writer = thread::spawn(move || write_all(&its, &queue));
        for number in 0..10_000 {
            sender.send(()).unwrap();
            bell.sent();
            if number % 10 == 0 {
                thread::yield_now();
            }
        }
        drop(sender);
        // The thread may not have told its name when the first were sent.
        while !writer.is_finished() {
            bell.ring();
            thread::yield_now();
        }
        let (taken, took) = writer.join().unwrap();
        assert_eq!(taken, 10_000);
        assert!(took < LONG, "{took:?}");
    }

    #[test]
    fn a_ring_before_the_wait_counts() {
        let bell = Bell::default();
        bell.is_heard_here();
        bell.ring();
        let started = Instant::now();
        assert!(bell.wait(LONG, || Err::<(), _>(TryRecvError::Empty)).is_err());
        assert!(started.elapsed() < LONG);
    }
}
