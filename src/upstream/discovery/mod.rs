//! Servers whose addresses DNS tells: it is asked again and again, and the last good answer counts.

mod ask;
mod seats;

pub(super) use seats::Seats;

use super::pool::Pools;
use super::server::Servers;
use crate::config::{Dns, Location, Question};
use crate::metrics::{self, Metrics};
use crate::name::ServerName;
use crate::network::Address;
use ask::Resolver;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{runtime::Handle, sync::watch, task::AbortHandle, time};

/// After the first failure; each further one doubles it.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A server as DNS tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    /// Whether it is only for when the others do not answer (a worse priority).
    pub(super) is_backup: bool,
    /// Where it is.
    pub(super) address: SocketAddr,
    /// Its share of the configured weight, in percent.
    pub(super) share: u32,
}

/// A server of a pool.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) name: ServerName,
    pub(super) address: Address,
    /// Of the configured weight, in percent.
    pub(super) share: u32,
    pub(super) is_backup: bool,
}

impl Seated {
    /// The one that a config names.
    pub(super) const fn alone(name: ServerName, address: Address) -> Self {
        Self { name, address, share: 100, is_backup: false }
    }
}

/// The last good answers.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<HashMap<Question, Arc<[Found]>>>);

impl Answers {
    /// The answer; empty before the first.
    pub(super) fn get(&self, question: &Question) -> Arc<[Found]> {
        self.0.lock().get(question).cloned().unwrap_or_default()
    }

    /// Takes an answer; whether it is another than before.
    fn take(&self, question: &Question, found: Vec<Found>) -> bool {
        let mut answers = self.0.lock();
        let is_new = answers.get(question).is_none_or(|known| **known != *found);
        answers.insert(question.clone(), found.into());
        is_new
    }

    fn keep_only(&self, questions: &HashSet<Question>) {
        self.0.lock().retain(|question, _| questions.contains(question));
    }
}

/// The lookups that run.
#[derive(Debug)]
pub struct Lookups {
    runtime: Handle,
    answered: watch::Sender<()>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    /// How they ask.
    dns: Option<Dns>,
    tasks: HashMap<Question, AbortHandle>,
}

impl Lookups {
    /// None yet; they will run there.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, answered: watch::Sender::default(), running: Mutex::default() }
    }

    /// Tells when there is an answer that is not as the last.
    #[must_use]
    pub fn answers(&self) -> watch::Receiver<()> {
        self.answered.subscribe()
    }

    /// Makes the running lookups those of these pools: new ones start, unchanged ones go on, others end.
    pub fn follow(&self, pools: &Pools, dns: &Dns, servers: &Servers, metrics: &Metrics) {
        let questions = questions(pools);
        let mut running = self.running.lock();
        let is_same = running.dns.as_ref() == Some(dns);
        running.tasks.retain(|question, task| {
            let goes_on = is_same && questions.contains(question);
            if !goes_on {
                task.abort();
            }
            goes_on
        });
        servers.answers.keep_only(&questions);
        if questions.is_empty() {
            return;
        }
        running.dns = Some(dns.clone());
        for question in questions {
            running.tasks.entry(question.clone()).or_insert_with(|| {
                let lookup = Lookup {
                    metrics: metrics.lookups(&question.to_string()),
                    question,
                    answers: Arc::clone(&servers.answers),
                    answered: self.answered.clone(),
                    dns: dns.clone(),
                };
                self.runtime.spawn(lookup.run()).abort_handle()
            });
        }
    }
}

fn questions(pools: &Pools) -> HashSet<Question> {
    let of = |location: &Location| match location {
        Location::Found { question, .. } => Some(question.clone()),
        Location::Fixed(_) => None,
    };
    pools
        .iter()
        .flat_map(|pool| pool.plan.config.servers.iter().filter_map(|it| of(&it.location)).collect::<Vec<_>>())
        .collect()
}

/// One question, asked again and again.
struct Lookup {
    question: Question,
    answers: Arc<Answers>,
    answered: watch::Sender<()>,
    dns: Dns,
    metrics: metrics::Lookups,
}

impl Lookup {
    async fn run(self) {
        let (mut pause, mut resolver) = (PAUSE, None);
        loop {
            let asked = time::timeout(self.dns.timeout, Box::pin(self.ask(&mut resolver))).await;
            let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.dns.timeout)));
            if answer.is_err() || self.dns.resolvers.is_empty() {
                // The system's resolvers and hosts may be others by the next time.
                resolver = None;
            }
            let wait = match answer {
                Ok((found, ttl)) => {
                    pause = PAUSE;
                    self.metrics.answers.inc();
                    self.take(found);
                    ttl.clamp(*self.dns.ttl.start(), *self.dns.ttl.end())
                }
                Err(fault) => {
                    self.fail(&fault, pause == PAUSE);
                    let longer = pause.saturating_mul(2).min(PAUSE_MAX);
                    std::mem::replace(&mut pause, longer)
                }
            };
            // A little earlier, each time another, so that many nodes do not ask at the same moment.
            time::sleep(wait.mul_f64(0.9 + 0.1 * fastrand::f64())).await;
        }
    }

    async fn ask(&self, resolver: &mut Option<Resolver>) -> Result<(Vec<Found>, Duration), String> {
        let ready = match resolver.take() {
            Some(ready) => ready,
            None => {
                let dns = self.dns.clone();
                // It may read the system's files.
                let made = tokio::task::spawn_blocking(move || Resolver::new(&dns)).await;
                made.map_err(|fault| fault.to_string()).flatten()?
            }
        };
        resolver.insert(ready).ask(&self.question, &self.answers.get(&self.question)).await
    }

    /// The fault is said once, until there is an answer again.
    fn fail(&self, fault: &str, is_first: bool) {
        self.metrics.failures.inc();
        if is_first {
            let known = self.answers.get(&self.question).len();
            let then = if known > 0 { "; the last answer still counts" } else { "" };
            log::warn!("DNS tells no servers for {}: {fault}{then}", self.question);
        }
    }

    fn take(&self, found: Vec<Found>) {
        let addresses: Vec<_> = found.iter().map(|found| found.address.to_string()).collect();
        self.metrics.servers.set(i64::try_from(found.len()).unwrap_or(i64::MAX));
        if self.answers.take(&self.question, found) {
            log::info!("DNS says that {} is {}", self.question, addresses.join(", "));
            self.answered.send_replace(());
        }
    }
}
