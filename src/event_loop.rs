//! Fair shares of an event loop: dear work of many tasks is spread over the loop's rounds.
//!
//! The runtime runs up to 61 tasks that are ready before it looks for sockets that have become so. If each of them
//! checks a signature, everybody else waits for milliseconds. So in each round only a few of them may go on; the others
//! come back in the next, behind those whose sockets have become ready meanwhile.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// What a round has to give: about a quarter of a millisecond.
const SHARES: u32 = 4;
/// What it has to give to those who have waited too long. They all at once would make others wait as if there were no
/// turns.
const SHARES_FOR_LATE: u32 = 2 * SHARES;
/// After that nothing counts any more.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Work that takes much longer than a task usually does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A signature is checked: some 70 µs.
    Signature,
    /// The same for somebody whose last one was wrong: one in each round, and others may go first.
    DoubtfulSignature,
    /// A TLS handshake, or a head of thousands of fields.
    Long,
}

impl Work {
    const fn shares(self) -> u32 {
        match self {
            Self::Signature | Self::DoubtfulSignature => 1,
            Self::Long => SHARES,
        }
    }

    /// How long it may be put off by others.
    const fn patience(self) -> Duration {
        match self {
            Self::Signature | Self::Long => Duration::from_millis(5),
            Self::DoubtfulSignature => Duration::from_millis(50),
        }
    }

    /// Whether it may begin in a round of which so much is spent.
    const fn fits(self, spent: u32) -> bool {
        match self {
            Self::Signature => spent < SHARES,
            Self::DoubtfulSignature | Self::Long => spent == 0,
        }
    }
}

/// A thread's present round. A thread has one event loop; a task that moves to another thread waits there.
#[derive(Debug, Default)]
struct Round {
    number: Cell<u64>,
    spent: Cell<u32>,
}

thread_local! {
    static ROUND: Round = Round::default();
}

/// One task's wait for a round with room.
#[derive(Debug, Default)]
pub struct Turn {
    /// The round that had none left.
    missed: Option<u64>,
    /// Since when it waits.
    since: Option<Instant>,
}

impl Turn {
    /// Ready when the work may begin, which it has to at once.
    pub fn poll(&mut self, work: Work, cx: &mut Context<'_>) -> Poll<()> {
        let began = ROUND.with(|round| {
            if self.missed.take() == Some(round.number.get()) {
                // The first who comes back begins the next.
                round.number.set(round.number.get().wrapping_add(1));
                round.spent.set(0);
            }
            let spent = round.spent.get();
            let waited = self.since.map(|since| since.elapsed()).unwrap_or_default();
            let is_late = waited > work.patience() && spent < SHARES_FOR_LATE;
            let fits = work.fits(spent) || is_late || waited > WAIT_MAX;
            if fits {
                round.spent.set(spent.saturating_add(work.shares()));
            } else {
                self.missed = Some(round.number.get());
                self.since.get_or_insert_with(Instant::now);
            }
            fits
        });
        if began {
            self.since = None;
            return Poll::Ready(());
        }
        // Wakes this task once the loop has looked for sockets.
        pin!(tokio::task::yield_now()).poll(cx)
    }
}

/// Waits until the work may begin.
pub async fn turn(work: Work) {
    let mut turn = Turn::default();
    poll_fn(|cx| turn.poll(work, cx)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use test_case::test_case;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    async fn begin(work: Option<Work>) {
        if let Some(work) = work {
            turn(work).await;
        }
    }

    /// How many of a crowd, all ready at the same time, work before somebody whose socket has become ready is heard.
    #[tokio::main(flavor = "current_thread")]
    async fn workers_before_a_bystander(work: Option<Work>) -> usize {
        const CROWD: usize = 500;
        let worked = Arc::new(AtomicUsize::new(0));
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let seen = Arc::clone(&worked);
        let bystander = tokio::spawn(async move {
            far.read_u8().await.unwrap();
            seen.load(Ordering::Relaxed)
        });
        tokio::task::yield_now().await;
        let work_once = |worked: Arc<AtomicUsize>| async move {
            begin(work).await;
            worked.fetch_add(1, Ordering::Relaxed);
        };
        let crowd: Vec<_> = (0..CROWD).map(|_| tokio::spawn(work_once(Arc::clone(&worked)))).collect();
        near.write_u8(1).await.unwrap();
        let before = bystander.await.unwrap();
        for worker in crowd {
            worker.await.unwrap();
        }
        assert_eq!(worked.load(Ordering::Relaxed), CROWD, "and all have their turn");
        before
    }

    #[test_case(Work::Signature, 2 * SHARES as usize; "signatures")]
    #[test_case(Work::DoubtfulSignature, 2; "doubtful signatures")]
    #[test_case(Work::Long, 2; "long work")]
    fn others_are_heard_between(work: Work, most: usize) {
        let before = workers_before_a_bystander(Some(work));
        assert!(before <= most, "{before} worked before");
    }

    const CALLED_AT: usize = 60;

    /// Works for a while, and one of the crowd calls the bystander.
    async fn work_and_call(worked: Arc<AtomicUsize>, near: Arc<UnixStream>) {
        turn(Work::Long).await;
        let until = Instant::now() + Duration::from_micros(300);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        if worked.fetch_add(1, Ordering::Relaxed) == CALLED_AT {
            near.try_write(&[1]).unwrap();
        }
    }

    /// A crowd that has waited for long does not work all at once: who is ready in the middle of it is heard soon.
    #[tokio::test]
    async fn a_crowd_that_is_late_still_takes_turns() {
        const CROWD: usize = 200;
        let worked = Arc::new(AtomicUsize::new(0));
        let (near, mut far) = UnixStream::pair().unwrap();
        let (near, seen) = (Arc::new(near), Arc::clone(&worked));
        let bystander = tokio::spawn(async move {
            far.read_u8().await.unwrap();
            seen.load(Ordering::Relaxed)
        });
        let crowd: Vec<_> =
            (0..CROWD).map(|_| tokio::spawn(work_and_call(Arc::clone(&worked), Arc::clone(&near)))).collect();
        let heard_at = bystander.await.unwrap();
        assert!(heard_at - CALLED_AT <= SHARES as usize + 1, "heard after {} more", heard_at - CALLED_AT);
        for worker in crowd {
            worker.await.unwrap();
        }
    }

    async fn keep_coming() {
        loop {
            turn(Work::Signature).await;
            tokio::task::yield_now().await;
        }
    }

    /// However many others come, and however often.
    #[test_case(Work::Signature; "a signature")]
    #[test_case(Work::DoubtfulSignature; "a doubtful signature")]
    #[test_case(Work::Long; "long work")]
    #[tokio::test]
    async fn nobody_waits_for_ever(work: Work) {
        for _ in 0..100 {
            tokio::spawn(keep_coming());
        }
        tokio::task::yield_now().await;
        let waiting = tokio::spawn(turn(work));
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    }

    /// This is what the module is for.
    #[test]
    fn the_runtime_alone_makes_others_wait() {
        let before = workers_before_a_bystander(None);
        assert!(before > 10 * SHARES as usize, "only {before}");
    }
}
