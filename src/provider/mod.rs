//! Identity providers: their keys are fetched ahead of time, kept over reloads, and never let go for a bad answer.
//!
//! Nothing here is asked by a stranger: only a token that a proven workload brings can name a key that is not known, and
//! then the provider is asked at most every 30 s; where each key is by itself, for each key, and for a few of each workload.

mod fetch;
mod timing;

pub use fetch::{BadRoots, Roots};

use crate::clock::Clock;
use crate::config::KeysPlace;
use crate::identity::Keys;
use crate::metrics::{self, Metrics};
use crate::name::WorkloadName;
use crate::network::Networks;
use fetch::{Fault, Fetch, Fetched};
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
/// Where each key is by itself, a workload may name so many in that time that are not known, and all together.
const KEYS_OF_ONE: usize = 4;
const KEYS_OF_ALL: usize = 64;
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
    lately: Vec<Ask>,
    /// Keys that are not known yet, where each is by itself.
    wanted: Vec<Box<str>>,
    /// Those of them that are being fetched.
    fetching: Vec<Box<str>>,
}

#[derive(Debug)]
struct Ask {
    /// Where all keys are in one set, for none of them.
    key: Option<Box<str>>,
    by: Option<WorkloadName>,
    at: Instant,
}

/// A key that is not known, and the workload whose user's token names it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The key, if the token names one.
    pub key: Option<&'a str>,
    /// The workload.
    pub by: Option<&'a WorkloadName>,
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
    pub fn have_it_asked(&self, wanted: Wanted<'_>) {
        let is_each = self.has_each_by_itself();
        let may = || if is_each { self.may_ask_for(wanted) } else { self.may_ask() };
        if self.fetches.send_if_modified(|fetches| (is_each || !fetches.under_way()) && may() && fetches.begin()) {
            self.wanted.notify_one();
        }
    }

    const fn has_each_by_itself(&self) -> bool {
        matches!(self.source.place, KeysPlace::Below(_))
    }

    /// The same, and waits for a fetch that is under way. Whether there may be other keys now.
    pub async fn ask_again(&self, wanted: Wanted<'_>) -> bool {
        let mut fetches = self.fetches.subscribe();
        let before = fetches.borrow_and_update().ended;
        self.have_it_asked(wanted);
        let now = *fetches.borrow();
        if !now.under_way() {
            return now.ended > before;
        }
        let has_ended = |fetches: &Fetches| fetches.ended > before && !self.is_to_come(wanted.key);
        time::timeout(PATIENCE, fetches.wait_for(has_ended)).await.is_ok_and(|ended| ended.is_ok())
    }

    /// Whether it is still to be asked for a key, where each is by itself.
    fn is_to_come(&self, key: Option<&str>) -> bool {
        let asked = self.asked.lock();
        asked.wanted.iter().chain(&asked.fetching).any(|other| Some(&**other) == key)
    }

    /// Whether it is time; noted before it is done, so that no failure makes it be done more often.
    fn may_ask(&self) -> bool {
        let mut asked = self.asked.lock();
        let may = asked.lately().is_empty();
        if may {
            asked.lately.push(Ask { key: None, by: None, at: Instant::now() });
        }
        may
    }

    /// The same for one key. Each workload may name some, so that none keeps others from it.
    fn may_ask_for(&self, Wanted { key, by }: Wanted<'_>) -> bool {
        let Some(key) = key else { return false };
        let mut asked = self.asked.lock();
        let lately = asked.lately();
        let is_late = lately.iter().any(|ask| ask.key.as_deref() == Some(key));
        let own = lately.iter().filter(|ask| ask.by.as_ref() == by).count();
        let may = !is_late && own < KEYS_OF_ONE && lately.len() < KEYS_OF_ALL;
        if may {
            asked.lately.push(Ask { key: Some(key.into()), by: by.cloned(), at: Instant::now() });
            asked.wanted.push(key.into());
        }
        may
    }

    /// The keys to ask for, where each is by itself: those that are wanted, or now and then those that are known.
    fn named(&self, is_due: bool) -> Vec<Box<str>> {
        let known = self.keys.get().filter(|_| is_due);
        let known = known.iter().flat_map(|keys| keys.ids()).map(Into::into);
        let mut asked = self.asked.lock();
        let wanted = std::mem::take(&mut asked.wanted);
        asked.fetching.extend(wanted);
        asked.fetching.iter().cloned().chain(known).collect()
    }

    /// What was asked for is known as well as it can be; or it is still wanted.
    fn has_asked(&self, in_vain: bool) {
        let mut asked = self.asked.lock();
        let fetching = std::mem::take(&mut asked.fetching);
        if in_vain {
            asked.wanted.extend(fetching);
        }
    }
}

impl Asked {
    /// What it was asked for a moment ago.
    fn lately(&mut self) -> &[Ask] {
        let now = Instant::now();
        self.lately.retain(|ask| now.duration_since(ask.at) < ASKED_EVERY);
        &self.lately
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
        let (mut pace, mut due) = (Pace::default(), Instant::now());
        loop {
            let is_due = Instant::now() >= due;
            let named = self.provider.named(is_due);
            if self.provider.has_each_by_itself() && named.is_empty() {
                self.provider.wanted.notified().await;
                continue;
            }
            self.provider.fetches.send_if_modified(Fetches::begin);
            let known = self.provider.keys.get();
            let fetched = Box::pin(self.fetch.keys(&named, known.as_deref())).await;
            let is_known = matches!(&fetched, Ok(_) | Err(Fault::Status(_, _)));
            let wait = match fetched {
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
            self.provider.has_asked(!is_known);
            self.provider.fetches.send_modify(|fetches| fetches.ended = fetches.begun);
            // Each time another moment, so that many nodes do not ask at the same one.
            let wait = wait.mul_f64(0.9 + 0.1 * fastrand::f64());
            let is_more_wanted = is_known && !self.provider.asked.lock().wanted.is_empty();
            if is_due || !is_known {
                due = Instant::now() + wait;
            }
            if !is_more_wanted {
                time::timeout_at(due, self.provider.wanted.notified()).await.ok();
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
