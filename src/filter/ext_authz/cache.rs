//! What was allowed is remembered for a while, by all that was asked.

use crate::upstream::Call;
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// What an entry takes beside its question, about, in bytes.
const ENTRY: u64 = 256;

type Given = Arc<[(HeaderName, HeaderValue)]>;

/// Answers that let pass, by their questions. Who is over the size is forgotten first who came first.
pub(super) struct Cache {
    ttl: Duration,
    size: u64,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    known: HashMap<Arc<[u8]>, (Instant, Given)>,
    order: VecDeque<(Instant, Arc<[u8]>)>,
    held: u64,
}

impl Cache {
    pub(super) fn new(ttl: Duration, size: u64) -> Self {
        Self { ttl, size, memory: Mutex::default() }
    }

    /// All bytes that are sent, so that nobody is taken for somebody else. Each part has its length before it.
    pub(super) fn question(call: &Call) -> Arc<[u8]> {
        let mut bytes = Vec::with_capacity(512);
        let mut part = |text: &[u8]| {
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
            bytes.extend_from_slice(text);
        };
        part(call.method.as_str().as_bytes());
        part(call.target.as_bytes());
        part(call.host.as_bytes());
        for (name, value) in &call.headers {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        bytes.into()
    }

    pub(super) fn get(&self, question: &[u8]) -> Option<Given> {
        let memory = self.memory.lock();
        let (since, given) = memory.known.get(question)?;
        (since.elapsed() < self.ttl).then(|| Arc::clone(given))
    }

    pub(super) fn put(&self, question: Arc<[u8]>, given: Given) {
        let now = Instant::now();
        let mut memory = self.memory.lock();
        let memory = &mut *memory;
        if memory.known.insert(Arc::clone(&question), (now, given)).is_none() {
            memory.held = memory.held.saturating_add(cost(&question));
        }
        memory.order.push_back((now, question));
        while memory.held > self.size || memory.order.front().is_some_and(|(since, _)| since.elapsed() > self.ttl) {
            let Some((since, oldest)) = memory.order.pop_front() else { return };
            // It may have been asked again since.
            if memory.known.get(&oldest).is_some_and(|(known, _)| *known == since) {
                memory.known.remove(&oldest);
                memory.held = memory.held.saturating_sub(cost(&oldest));
            }
        }
    }
}

fn cost(question: &[u8]) -> u64 {
    ENTRY.saturating_add(question.len() as u64)
}

impl fmt::Debug for Cache {
    /// What it holds may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({:?}, {} bytes)", self.ttl, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(number: u8) -> Arc<[u8]> {
        vec![number; 100].into()
    }

    #[test]
    fn it_forgets_the_oldest_where_there_is_no_room() {
        let cache = Cache::new(Duration::from_secs(60), 3 * (ENTRY + 100));
        (0..5).for_each(|number| cache.put(question(number), Arc::default()));
        let known: Vec<_> = (0..5).filter(|number| cache.get(&question(*number)).is_some()).collect();
        assert_eq!(known, [2, 3, 4]);
    }

    #[test]
    fn it_forgets_in_time() {
        let cache = Cache::new(Duration::ZERO, 1 << 20);
        cache.put(question(0), Arc::default());
        assert!(cache.get(&question(0)).is_none());
    }

    #[test]
    fn what_is_asked_again_is_kept_once() {
        let cache = Cache::new(Duration::from_secs(60), 2 * (ENTRY + 100));
        (0..10).for_each(|_| cache.put(question(7), Arc::default()));
        cache.put(question(8), Arc::default());
        assert!(cache.get(&question(7)).is_some() && cache.get(&question(8)).is_some());
    }
}
