//! Requests that wait for a server with room. Who has a higher priority is served first; among equals there is one line for
//! each workload, served in turn, so that who sends much waits for himself.

use super::picked::Picked;
use crate::name::WorkloadName;
use crate::principal::Priority;
use crate::refusal::Refusal;
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
    classes: Mutex<Classes>,
    /// How many wait, so that requests find out without a lock that nobody does.
    count: AtomicUsize,
}

/// Those who wait, by their priority.
#[derive(Debug, Default)]
struct Classes {
    high: Lines,
    normal: Lines,
    low: Lines,
    next_number: u64,
}

#[derive(Debug, Default)]
struct Lines {
    by_who: HashMap<Who, VecDeque<Waiter>>,
    /// Whose turn it is; each who waits stands here once.
    turns: VecDeque<Who>,
}

/// Takes a server for one who waits, from the pool of the generation that he came in.
pub(super) type Take = Box<dyn Fn() -> Option<Picked> + Send>;

/// One who waits. Who is dropped unserved is sent away.
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
    priority: Priority,
    number: u64,
    queue: Arc<Queue>,
    picked: oneshot::Receiver<Picked>,
    timeout: Duration,
}

impl Queue {
    pub(super) fn new(metric: prometheus::IntGauge) -> Self {
        Self { metric, classes: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// Takes a place at the end of one's line. Where too many wait, whoever has a lower priority and came last makes
    /// room; none if there is nobody like that.
    pub(super) fn join(
        self: &Arc<Self>,
        (who, priority): (Who, Priority),
        take: Take,
        limits: Limits,
    ) -> Option<Place> {
        let mut classes = self.classes.lock();
        let own = classes.count_of(&who);
        let shed = if own >= limits.per_workload && limits.length > 0 {
            Some(classes.shed_for(priority, Some(&who))?)
        } else if self.len() >= limits.length {
            Some(classes.shed_for(priority, None)?)
        } else {
            None
        };
        if shed.is_some() {
            self.one_less();
        }
        let number = classes.next_number;
        classes.next_number += 1;
        self.count.fetch_add(1, Ordering::Relaxed);
        let (sender, picked) = oneshot::channel();
        classes.of(priority).push(who.clone(), Waiter { number, take, picked: sender });
        drop(classes);
        self.metric.inc();
        Some(Place { who, priority, number, queue: Arc::clone(self), picked, timeout: limits.timeout })
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
        let mut classes = self.classes.lock();
        let served = classes.first()?.next_for(find)?;
        drop(classes);
        self.one_less();
        Some(served)
    }

    fn leave(&self, (who, priority): (&Who, Priority), number: u64) {
        let left = self.classes.lock().of(priority).take(who, number);
        if left.is_some() {
            self.one_less();
        }
    }

    fn one_less(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.metric.dec();
    }
}

impl Classes {
    const fn of(&mut self, priority: Priority) -> &mut Lines {
        match priority {
            Priority::High => &mut self.high,
            Priority::Normal => &mut self.normal,
            Priority::Low => &mut self.low,
        }
    }

    /// The lines of the highest priority in which somebody waits.
    fn first(&mut self) -> Option<&mut Lines> {
        [&mut self.high, &mut self.normal, &mut self.low].into_iter().find(|lines| !lines.turns.is_empty())
    }

    fn count_of(&self, who: &Who) -> usize {
        [&self.high, &self.normal, &self.low]
            .into_iter()
            .filter_map(|lines| lines.by_who.get(who))
            .map(VecDeque::len)
            .sum()
    }

    /// Takes the last of the lowest priority below that one, perhaps of just one workload.
    fn shed_for(&mut self, priority: Priority, only: Option<&Who>) -> Option<Waiter> {
        let lower = [Priority::Low, Priority::Normal].into_iter().filter(|lower| *lower > priority);
        lower.into_iter().find_map(|lower| self.of(lower).take_last(only))
    }
}

impl Lines {
    fn push(&mut self, who: Who, waiter: Waiter) {
        let line = self.by_who.entry(who.clone()).or_default();
        line.push_back(waiter);
        if line.len() == 1 {
            self.turns.push_back(who);
        }
    }

    fn next_for<T>(&mut self, find: impl FnOnce(&Waiter) -> Option<T>) -> Option<(Waiter, T)> {
        let who = self.turns.pop_front()?;
        let waiter = self.by_who.get_mut(&who)?.pop_front()?;
        let Some(found) = find(&waiter) else {
            self.by_who.entry(who.clone()).or_default().push_front(waiter);
            self.turns.push_front(who);
            return None;
        };
        if self.has_line(&who) {
            self.turns.push_back(who);
        }
        Some((waiter, found))
    }

    /// Takes who came last, perhaps of just one line.
    fn take_last(&mut self, only: Option<&Who>) -> Option<Waiter> {
        let lines = self.by_who.iter().filter(|(who, _)| only.is_none_or(|only| only == *who));
        let last = lines.filter_map(|(who, line)| Some((line.back()?.number, who)));
        let (number, who) = last.max_by_key(|(number, _)| *number)?;
        let who = who.clone();
        self.take(&who, number)
    }

    fn take(&mut self, who: &Who, number: u64) -> Option<Waiter> {
        let line = self.by_who.get_mut(who)?;
        let at = line.iter().position(|waiter| waiter.number == number)?;
        let waiter = line.remove(at);
        if !self.has_line(who) {
            self.turns.retain(|other| other != who);
        }
        waiter
    }

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
    /// Waits for a server.
    ///
    /// # Errors
    /// [`Refusal::QueueTimeout`] if it takes too long, [`Refusal::QueueShed`] if somebody else got the place.
    pub async fn wait(mut self) -> Result<Picked, Refusal> {
        match tokio::time::timeout(self.timeout, &mut self.picked).await {
            Ok(picked) => picked.map_err(|_sent_away| Refusal::QueueShed),
            Err(_too_long) => Err(Refusal::QueueTimeout),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.leave((&self.who, self.priority), self.number);
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
        join_as(queue, who, Priority::Normal)
    }

    fn join_as(queue: &Arc<Queue>, who: &Who, priority: Priority) -> Option<Place> {
        queue.join((who.clone(), priority), Box::new(|| None), LIMITS)
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
        assert!(queue.is_empty() && queue.classes.lock().normal.by_who.is_empty());
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
        assert!(queue.classes.lock().normal.turns.is_empty());
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
        assert_eq!(join(&queue, &None).unwrap().wait().await.unwrap_err(), Refusal::QueueTimeout);
        assert!(queue.is_empty());
    }

    #[test]
    fn who_has_a_higher_priority_is_served_first() {
        let queue = queue();
        let order = [Priority::Low, Priority::Normal, Priority::High, Priority::Low, Priority::High];
        let places: Vec<_> = order.map(|priority| join_as(&queue, &who("one"), priority).unwrap()).into();
        assert_eq!(served(&queue), [2, 4, 1, 0, 3]);
        drop(places);
    }

    #[tokio::test]
    async fn the_lowest_who_came_last_makes_room() {
        let queue = queue();
        let mut places: Vec<_> = (0..2).map(|_| join_as(&queue, &who("low"), Priority::Low).unwrap()).collect();
        places.extend((0..6).map(|_| join(&queue, &who("much")).unwrap()));
        places.extend((0..2).map(|_| join(&queue, &who("little")).unwrap()));
        assert!(join_as(&queue, &who("third"), Priority::Low).is_none(), "nobody is lower");
        let normal = join(&queue, &who("third")).unwrap();
        assert_eq!(places.remove(1).wait().await.unwrap_err(), Refusal::QueueShed);
        let high: Vec<_> = (0..2).map(|_| join_as(&queue, &who("high"), Priority::High).unwrap()).collect();
        assert_eq!(places.remove(0).wait().await.unwrap_err(), Refusal::QueueShed);
        assert_eq!(normal.wait().await.unwrap_err(), Refusal::QueueShed, "then who is normal and came last");
        assert_eq!((queue.len(), queue.metric.get()), (10, 10));
        assert!(join_as(&queue, &who("much"), Priority::Low).is_none());
        assert!(join_as(&queue, &who("much"), Priority::High).is_some(), "its own make room");
        drop((places, high));
        assert!(queue.is_empty() && queue.metric.get() == 0);
    }

    #[test]
    fn nobody_makes_room_where_nobody_may_wait() {
        let queue = queue();
        let limits = Limits { length: 0, ..LIMITS };
        assert!(queue.join((None, Priority::High), Box::new(|| None), limits).is_none());
    }
}
