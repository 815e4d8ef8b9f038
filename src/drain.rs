//! One signal that says "finish what you have and begin nothing new", and a count of who has not finished yet.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Starts the drain and waits for its end.
#[derive(Debug)]
pub struct Trigger {
    signal: watch::Sender<bool>,
    is_announced: AtomicBool,
}

/// Hears of the drain. While a clone lives, its owner has not finished.
#[derive(Debug, Clone)]
pub struct Watch {
    signal: watch::Receiver<bool>,
}

/// A drain that has not started.
#[must_use]
pub fn channel() -> (Trigger, Watch) {
    let (sender, receiver) = watch::channel(false);
    (Trigger { signal: sender, is_announced: AtomicBool::new(false) }, Watch { signal: receiver })
}

impl Trigger {
    /// Tells every [`Watch`] to finish.
    pub fn start(&self) {
        self.signal.send_replace(true);
    }

    /// Says that it will start soon.
    pub fn announce(&self) {
        self.is_announced.store(true, Ordering::Relaxed);
    }

    /// Whether the drain has started, or will soon.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.is_announced.load(Ordering::Relaxed) || *self.signal.borrow()
    }

    /// Waits until every [`Watch`] is gone.
    pub async fn finished(&self) {
        self.signal.closed().await;
    }
}

impl Watch {
    /// Waits for the start of the drain. A vanished [`Trigger`] counts as one.
    pub async fn wait(&mut self) {
        // An error says that the trigger is gone: nobody can tell us anything any more, so we finish.
        self.signal.wait_for(|started| *started).await.ok();
    }

    /// The same signal as Pingora's applications take it.
    #[must_use]
    pub fn receiver(&self) -> &watch::Receiver<bool> {
        &self.signal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_when_the_last_watch_is_gone() {
        let (trigger, mut watch) = channel();
        let other = watch.clone();
        assert!(!trigger.is_announced() && !*other.receiver().borrow());
        trigger.announce();
        assert!(trigger.is_announced() && !*other.receiver().borrow());
        trigger.start();
        watch.wait().await;
        assert!(trigger.is_announced() && *other.receiver().borrow());
        drop((watch, other));
        trigger.finished().await;
    }
}
