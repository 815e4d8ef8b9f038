//! Identity providers: their keys are fetched ahead of time, kept over reloads, and never let go for a bad answer.
//!
//! Nothing here is asked by a stranger: only a token that a proven workload brings can name a key that is not known, and
//! then the provider is asked at most every 30 s.

mod fetch;
mod timing;

pub use fetch::{BadRoots, Roots};

use crate::clock::Clock;
use crate::config::KeysPlace;
use crate::identity::Keys;
use crate::metrics::{self, Metrics};
use crate::network::Networks;
use fetch::{Fetch, Fetched};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};
use timing::Pace;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{self, Instant};

/// At most so often a provider is asked because somebody named a key that is not known.
const ASKED_EVERY: Duration = Duration::from_secs(30);
/// So many keys are asked for, where each is by itself.
const KEYS_MAX: usize = 16;
/// For so long a request waits for keys that are being fetched.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where an identity provider's keys are, and whom we believe that it is he.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// `iss` of its tokens.
    pub issuer: Box<str>,
    /// Where it shows its keys.
    pub place: KeysPlace,
    /// Who vouches for its server.
    pub roots: Roots,
    /// Private networks in which its server may be.
    pub allowed: Networks,
}

/// An identity provider, and what is known of its keys. It outlives generations.
#[derive(Debug)]
pub struct Provider {
    source: Source,
    keys: Arc<Keys>,
    /// How many fetches have begun and ended.
    fetches: watch::Sender<Fetches>,
    /// Asks for one more.
    wanted: Notify,
    asked: Mutex<Asked>,
}

/// For what it was asked lately, and for what it is still to be asked.
#[derive(Debug, Default)]
struct Asked {
    /// When, for which key; where all are in one set, for none of them.
    lately: Vec<(Option<Box<str>>, Instant)>,
    /// Keys that are not known yet, where each is by itself.
    keys: Vec<Box<str>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Fetches {
    begun: u64,
    ended: u64,
}

impl Fetches {
    const fn under_way(self) -> bool {
        self.begun > self.ended
    }

    /// Begins one, unless one is under way that somebody has asked for.
    const fn begin(&mut self) -> bool {
        let begins = !self.under_way();
        if begins {
            self.begun = self.begun.saturating_add(1);
        }
        begins
    }
}

impl Provider {
    fn new(source: Source) -> Self {
        Self {
            source,
            keys: Arc::default(),
            fetches: watch::Sender::default(),
            wanted: Notify::new(),
            asked: Mutex::default(),
        }
    }

    /// The keys that are known now.
    #[must_use]
    pub const fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Somebody wants a key that is not known: has the provider be asked again, unless that was done a moment ago.
    pub fn have_it_asked(&self, key: Option<&str>) {
        let key = key.filter(|_| self.has_each_by_itself());
        let may = || self.may_ask(key);
        if self.fetches.send_if_modified(|fetches| (key.is_some() || !fetches.under_way()) && may() && fetches.begin())
        {
            self.wanted.notify_one();
        }
    }

    const fn has_each_by_itself(&self) -> bool {
        matches!(self.source.place, KeysPlace::Below(_))
    }

    /// The keys to ask for, where each is by itself: those that are known, and those that are wanted.
    fn named(&self) -> Vec<Box<str>> {
        let known = self.keys.get();
        let known = known.iter().flat_map(|keys| keys.ids()).map(Into::into);
        // Those that are wanted come first: nothing says which of the others are old.
        std::mem::take(&mut self.asked.lock().keys).into_iter().chain(known).take(KEYS_MAX).collect()
    }

    /// The same, and waits for a fetch that is under way. Whether there may be other keys now.
    pub async fn ask_again(&self, key: Option<&str>) -> bool {
        let mut fetches = self.fetches.subscribe();
        let before = fetches.borrow_and_update().ended;
        self.have_it_asked(key);
        let now = *fetches.borrow();
        if !now.under_way() {
            return now.ended > before;
        }
        let ended = fetches.wait_for(|fetches| fetches.ended > before);
        time::timeout(PATIENCE, ended).await.is_ok_and(|ended| ended.is_ok())
    }

    /// Whether it is time, for any key or for that one; noted before it is done, so that no failure makes it be done more often.
    fn may_ask(&self, key: Option<&str>) -> bool {
        let now = Instant::now();
        let mut asked = self.asked.lock();
        asked.lately.retain(|(_, last)| now.duration_since(*last) < ASKED_EVERY);
        let is_late = asked.lately.iter().any(|(other, _)| other.as_deref() == key);
        let may = !is_late && asked.lately.len() < KEYS_MAX;
        if may {
            asked.lately.push((key.map(Into::into), now));
            asked.keys.extend(key.map(Into::into));
        }
        may
    }
}

/// The providers that are known.
#[derive(Debug, Default)]
pub struct Providers(Mutex<HashMap<Source, Arc<Provider>>>);

impl Providers {
    /// The provider at that source: the same as before, if it was known.
    #[must_use]
    pub fn at(&self, source: Source) -> Arc<Provider> {
        match self.0.lock().entry(source) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(free) => {
                let provider = Arc::new(Provider::new(free.key().clone()));
                Arc::clone(free.insert(provider))
            }
        }
    }

    /// These are all that are known: what is built from now on has the same.
    fn are(&self, wanted: &[Arc<Provider>]) {
        let wanted = wanted.iter().map(|provider| (provider.source.clone(), Arc::clone(provider)));
        *self.0.lock() = wanted.collect();
    }
}

/// The fetches that run.
#[derive(Debug)]
pub struct Fetcher {
    runtime: Handle,
    clock: Arc<dyn Clock>,
    tasks: Mutex<HashMap<Source, (Arc<Provider>, AbortHandle)>>,
}

impl Fetcher {
    /// None yet; they will run there.
    #[must_use]
    pub fn new(runtime: Handle, clock: Arc<dyn Clock>) -> Self {
        Self { runtime, clock, tasks: Mutex::default() }
    }

    /// Makes the running fetches those of these providers: new ones start, others end.
    pub fn follow(&self, wanted: &[Arc<Provider>], providers: &Providers, metrics: &Metrics) {
        let mut tasks = self.tasks.lock();
        tasks.retain(|source, (followed, task)| {
            let goes_on = wanted.iter().any(|provider| Arc::ptr_eq(provider, followed));
            if !goes_on {
                task.abort();
                metrics.forget_provider(&source.issuer);
            }
            goes_on
        });
        providers.are(wanted);
        for provider in wanted {
            tasks.entry(provider.source.clone()).or_insert_with(|| {
                let following = Following {
                    metrics: metrics.provider(&provider.source.issuer),
                    fetch: Fetch::new(&provider.source),
                    provider: Arc::clone(provider),
                    clock: Arc::clone(&self.clock),
                };
                (Arc::clone(provider), self.runtime.spawn(following.run()).abort_handle())
            });
        }
    }
}

/// One provider, asked again and again.
struct Following {
    provider: Arc<Provider>,
    fetch: Fetch,
    clock: Arc<dyn Clock>,
    metrics: metrics::Provider,
}

impl Following {
    async fn run(self) {
        let mut pace = Pace::default();
        loop {
            let named = self.provider.named();
            if self.provider.has_each_by_itself() && named.is_empty() {
                self.provider.wanted.notified().await;
                continue;
            }
            self.provider.fetches.send_if_modified(Fetches::begin);
            let wait = match Box::pin(self.fetch.keys(&named)).await {
                Ok(fetched) => {
                    let wait = pace.succeeded(fetched.fresh_for, Instant::now());
                    self.take(fetched);
                    wait
                }
                Err(fault) => {
                    let (wait, is_over) = pace.failed(Instant::now());
                    self.fail(&brief(&fault.to_string()), pace.is_first_failure(), is_over);
                    wait
                }
            };
            self.provider.fetches.send_modify(|fetches| fetches.ended = fetches.begun);
            // Each time another moment, so that many nodes do not ask at the same one.
            let wait = wait.mul_f64(0.9 + 0.1 * fastrand::f64());
            let is_more_wanted = !self.provider.asked.lock().keys.is_empty();
            if !is_more_wanted {
                time::timeout(wait, self.provider.wanted.notified()).await.ok();
            }
        }
    }

    fn take(&self, Fetched { keys, .. }: Fetched) {
        let now = self.clock.now();
        let (issuer, count) = (&self.provider.source.issuer, keys.len());
        self.metrics.fetched.inc();
        self.metrics.fetched_at.set(now.unix_seconds());
        self.metrics.keys.set(i64::try_from(count).unwrap_or(i64::MAX));
        if self.provider.keys.get().is_none_or(|known| *known != keys) {
            log::info!("{issuer} has {count} keys that users' tokens may be signed with");
            self.provider.keys.set(Some(keys));
        }
    }

    /// The fault is said once, until there is an answer again. Keys that nobody has confirmed for too long do not count.
    fn fail(&self, fault: &str, is_first: bool, is_over: bool) {
        let issuer = &self.provider.source.issuer;
        self.metrics.failed.inc();
        let has_keys = self.provider.keys.get().is_some();
        if is_over && has_keys {
            self.provider.keys.set(None);
            self.metrics.keys.set(0);
            log::error!("the keys of {issuer} could not be fetched for too long, and count no more: {fault}");
        } else if is_first {
            let then = if has_keys { "those that are known still count" } else { "its users are refused until then" };
            log::warn!("the keys of {issuer} cannot be fetched: {fault}; {then}");
        }
    }
}

/// The beginning of a text that may be the provider's own words, on one line.
fn brief(text: &str) -> String {
    const LENGTH_MAX: usize = 200;
    text.chars().take(LENGTH_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
