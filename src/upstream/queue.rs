//! Requests that wait for a server with room: one line for each workload, served in turn, so that who sends much waits
//! for himself.

use super::picked::Picked;
use crate::name::WorkloadName;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// Who waits; strangers share a line.
pub(super) type Who = Option<WorkloadName>;

/// How many may wait, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) length: usize,
    pub(super) per_workload: usize,
    pub(super) timeout: Duration,
}

/// The queue of a pool.
#[derive(Debug)]
pub(super) struct Queue {
    metric: prometheus::IntGauge,
    lines: Mutex<Lines>,
    /// How many wait, so that requests find out without a lock that nobody does.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Lines {
    by_who: HashMap<Who, VecDeque<Waiter>>,
    /// Whose turn it is; each who waits stands here once.
    turns: VecDeque<Who>,
    next_number: u64,
}

/// Takes a server for one who waits, from the pool of the generation that he came in.
pub(super) type Take = Box<dyn Fn() -> Option<Picked> + Send>;

/// One who waits.
pub(super) struct Waiter {
    number: u64,
    take: Take,
    picked: oneshot::Sender<Picked>,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiter({})", self.number)
    }
}

impl Waiter {
    /// Gives it its server. If it has gone meanwhile, the server is free again by that.
    pub(super) fn serve(self, picked: Picked) {
        drop(self.picked.send(picked));
    }
}

/// A place in the queue. Who drops it has left.
#[derive(Debug)]
pub struct Place {
    who: Who,
    number: u64,
    queue: Arc<Queue>,
    picked: oneshot::Receiver<Picked>,
    timeout: Duration,
}

impl Queue {
    pub(super) fn new(metric: prometheus::IntGauge) -> Self {
        Self { metric, lines: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// Takes a place at the end of one's line; none if too many wait.
    pub(super) fn join(self: &Arc<Self>, who: &Who, take: Take, limits: Limits) -> Option<Place> {
        let mut lines = self.lines.lock();
        let own = lines.by_who.get(who).map_or(0, VecDeque::len);
        if self.len() >= limits.length || own >= limits.per_workload {
            return None;
        }
        let number = lines.next_number;
        lines.next_number += 1;
        self.count.fetch_add(1, Ordering::Relaxed);
        let (sender, picked) = oneshot::channel();
        lines.by_who.entry(who.clone()).or_default().push_back(Waiter { number, take, picked: sender });
        if own == 0 {
            lines.turns.push_back(who.clone());
        }
        drop(lines);
        self.metric.inc();
        Some(Place { who: who.clone(), number, queue: Arc::clone(self), picked, timeout: limits.timeout })
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes whose turn it is, if a server is found for him. Each request asks at its end, so nothing is locked while
    /// nobody waits.
    pub(super) fn next(&self) -> Option<(Waiter, Picked)> {
        if self.is_empty() {
            return None;
        }
        self.next_for(|waiter| (waiter.take)())
    }

    fn next_for<T>(&self, find: impl FnOnce(&Waiter) -> Option<T>) -> Option<(Waiter, T)> {
        let mut lines = self.lines.lock();
        let who = lines.turns.pop_front()?;
        let waiter = lines.by_who.get_mut(&who)?.pop_front()?;
        let Some(found) = find(&waiter) else {
            lines.by_who.entry(who.clone()).or_default().push_front(waiter);
            lines.turns.push_front(who);
            return None;
        };
        if lines.has_line(&who) {
            lines.turns.push_back(who);
        }
        drop(lines);
        self.one_less();
        Some((waiter, found))
    }

    fn leave(&self, who: &Who, number: u64) {
        let mut lines = self.lines.lock();
        let Some(line) = lines.by_who.get_mut(who) else { return };
        let before = line.len();
        line.retain(|waiter| waiter.number != number);
        if line.len() == before {
            return;
        }
        if !lines.has_line(who) {
            lines.turns.retain(|other| other != who);
        }
        drop(lines);
        self.one_less();
    }

    fn one_less(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.metric.dec();
    }
}

impl Lines {
    /// Whether somebody waits in that line; an empty one is forgotten.
    fn has_line(&mut self, who: &Who) -> bool {
        let has = self.by_who.get(who).is_some_and(|line| !line.is_empty());
        if !has {
            self.by_who.remove(who);
        }
        has
    }
}

impl Place {
    /// Waits for a server; none if it takes too long.
    pub async fn wait(mut self) -> Option<Picked> {
        tokio::time::timeout(self.timeout, &mut self.picked).await.ok()?.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.leave(&self.who, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { length: 10, per_workload: 6, timeout: Duration::from_secs(1) };

    fn queue() -> Arc<Queue> {
        Arc::new(Queue::new(prometheus::IntGauge::new("waiting", "Those who wait.").unwrap()))
    }

    fn who(name: &str) -> Who {
        Some(WorkloadName::parse(name).unwrap())
    }

    fn join(queue: &Arc<Queue>, who: &Who) -> Option<Place> {
        queue.join(who, Box::new(|| None), LIMITS)
    }

    /// In which order they came who are served.
    fn served(queue: &Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.next_for(|_| Some(()))).map(|(waiter, ())| waiter.number).collect()
    }

    #[test]
    fn who_waits_much_waits_for_himself() {
        let queue = queue();
        let (much, little) = (who("much"), who("little"));
        let places: Vec<_> = (0..4).map(|_| join(&queue, &much).unwrap()).collect();
        let others = [join(&queue, &little).unwrap(), join(&queue, &None).unwrap()];
        assert_eq!(served(&queue), [0, 4, 5, 1, 2, 3]);
        assert!(queue.is_empty() && queue.lines.lock().by_who.is_empty());
        drop((places, others));
        assert_eq!(queue.metric.get(), 0);
    }

    #[test]
    fn it_is_bounded_for_each_and_for_all() {
        let queue = queue();
        let mut places: Vec<_> = (0..6).map(|_| join(&queue, &who("much")).unwrap()).collect();
        assert!(join(&queue, &who("much")).is_none());
        places.extend((0..4).map(|_| join(&queue, &who("little")).unwrap()));
        assert!(join(&queue, &who("third")).is_none());
        drop(places.pop());
        assert!(join(&queue, &who("third")).is_some());
        assert_eq!(served(&queue).len(), 9);
        drop(places);
    }

    #[test]
    fn who_leaves_is_not_waited_for() {
        let queue = queue();
        let (much, little) = (who("much"), who("little"));
        let mut places: Vec<_> = (0..3).map(|_| join(&queue, &much).unwrap()).collect();
        let last = join(&queue, &little).unwrap();
        places.remove(1);
        assert_eq!(queue.metric.get(), 3);
        assert_eq!(served(&queue), [0, 3, 2]);
        drop(last);
        drop(places);
        assert!(queue.lines.lock().turns.is_empty());
    }

    #[test]
    fn who_finds_no_server_stays() {
        let queue = queue();
        let _place = join(&queue, &None).unwrap();
        assert!(queue.next().is_none());
        assert_eq!(served(&queue), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends() {
        let queue = queue();
        assert!(join(&queue, &None).unwrap().wait().await.is_none());
        assert!(queue.is_empty());
    }
}
