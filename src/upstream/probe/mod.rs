//! Active checks: one task a server, which runs from the generation that brings it to the one that does not.

mod agent;
mod certificate;
mod http;
mod tcp;

use super::health::Streak;
use super::mode::Mode;
use super::pool::{Pool, Pools};
use super::server::ServerState;
use super::way::{Purpose, Way};
use crate::config::{AgentCheck, CheckKind, HealthCheck};
use parking_lot::Mutex;
use pingora::connectors::TransportConnector;
use pingora::connectors::http::Connector;
use pingora::upstreams::peer::HttpPeer;
use std::{fmt, sync::Arc, time::Duration};
use tokio::{runtime::Handle, task::AbortHandle, time};

/// The checks that run.
#[derive(Debug)]
pub struct Probes {
    runtime: Handle,
    connectors: Arc<Connectors>,
    running: Mutex<Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    server: Arc<ServerState>,
    way: Arc<Way>,
    job: Job,
    task: AbortHandle,
}

/// What is done again and again.
#[derive(Debug, Clone, PartialEq)]
enum Job {
    Check(HealthCheck),
    Agent(AgentCheck),
    /// When its certificate expires.
    Certificate,
}

impl Probes {
    /// None yet; they will run there.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        let connectors = Connectors { http: Connector::new(None), transport: TransportConnector::new(None) };
        Self { runtime, connectors: Arc::new(connectors), running: Mutex::new(Vec::new()) }
    }

    /// Makes the running checks those of these pools: new ones start, unchanged ones go on, others end.
    pub fn follow(&self, pools: &Pools) {
        let mut running = self.running.lock();
        let mut kept = Vec::new();
        let pools: Vec<_> = pools.iter().collect();
        for (server, way, job) in pools.iter().flat_map(|pool| jobs(pool)) {
            // An agent is asked in its own way.
            let is_agent = matches!(job, Job::Agent(_));
            let same = |probe: &Running| {
                Arc::ptr_eq(&probe.server, server) && probe.job == job && (is_agent || probe.way == *way)
            };
            match running.iter().position(same) {
                Some(index) => kept.push(running.swap_remove(index)),
                None => kept.push(self.start(server, way, job)),
            }
        }
        let ended = std::mem::replace(&mut *running, kept);
        let has_agent = |probe: &Running, server: &Arc<ServerState>| {
            matches!(probe.job, Job::Agent(_)) && Arc::ptr_eq(&probe.server, server)
        };
        for probe in ended {
            probe.task.abort();
            if matches!(probe.job, Job::Agent(_)) && !running.iter().any(|kept| has_agent(kept, &probe.server)) {
                // Who is not asked any more has no say any more.
                probe.server.told.forget();
            }
        }
        let unchecked = pools.iter().filter(|pool| pool.plan.config.health.is_none()).flat_map(|pool| &pool.servers);
        unchecked.for_each(|server| server.state.assume_up());
    }

    fn start(&self, server: &Arc<ServerState>, way: &Arc<Way>, job: Job) -> Running {
        let (state, connectors) = (Arc::clone(server), Arc::clone(&self.connectors));
        let task = match job.clone() {
            Job::Check(check) => self.runtime.spawn(watch(state, Arc::clone(way), check, connectors)),
            Job::Agent(agent) => self.runtime.spawn(listen(state, Arc::clone(way), agent, connectors)),
            Job::Certificate => self.runtime.spawn(certificate::follow(state, Arc::clone(way))),
        };
        Running { server: Arc::clone(server), way: Arc::clone(way), job, task: task.abort_handle() }
    }
}

/// What is done for a pool, server by server.
fn jobs(pool: &Pool) -> impl Iterator<Item = (&Arc<ServerState>, &Arc<Way>, Job)> {
    let checked = pool.servers.iter().filter(|server| server.is_checked());
    let config = &pool.plan.config;
    let checks = config.health.iter().flat_map(move |check| checked.clone().map(|it| (it, Job::Check(check.clone()))));
    let agents = config.agent.iter().flat_map(|agent| pool.servers.iter().map(|it| (it, Job::Agent(agent.clone()))));
    let certificates = pool.way.tls.iter().flat_map(|_| pool.servers.iter().map(|it| (it, Job::Certificate)));
    checks.chain(agents).chain(certificates).map(|(server, job)| (&server.state, &pool.way, job))
}

/// What connects.
struct Connectors {
    http: Connector,
    transport: TransportConnector,
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connectors")
    }
}

/// What is looked at.
struct Target<'a> {
    server: &'a Arc<ServerState>,
    way: &'a Way,
    timeout: Duration,
}

impl Target<'_> {
    /// The way there, no step of which may take longer than the check.
    fn peer(&self) -> Result<HttpPeer, String> {
        let mut peer = self.way.to(self.server, Purpose { is_look: true, ..Purpose::default() }).map_err(http::said)?;
        let options = &mut peer.options;
        // A connection of its own for each check: one that leads nowhere any more must not fail all that follow.
        options.max_h2_streams = 1;
        options.connection_timeout = Some(self.timeout);
        options.total_connection_timeout = Some(self.timeout);
        options.read_timeout = Some(self.timeout);
        options.write_timeout = Some(self.timeout);
        Ok(peer)
    }
}

async fn watch(server: Arc<ServerState>, way: Arc<Way>, check: HealthCheck, connectors: Arc<Connectors>) {
    if check.starts_healthy && server.health.assume_up_unless_known() {
        server.metrics.up.set(1);
    }
    let target = Target { server: &server, way: &way, timeout: check.timeout };
    let mut streak = Streak::new(check.rise, check.fall);
    loop {
        if server.mode() == Mode::Maintenance {
            // What it was before says nothing of what it is after.
            server.health.forget();
            server.metrics.up.set(0);
        } else {
            let result = time::timeout(check.timeout, look(&target, &check.kind, &connectors)).await;
            let failure = result.map_or_else(|_| Some(format!("nothing within {:?}", check.timeout)), Result::err);
            let failure = failure.or_else(|| certificate::fault(&server, check.certificate_ends_in));
            observe(&server, &mut streak, failure);
        }
        time::sleep(jittered(next_look(&check, &server, &streak))).await;
    }
}

/// Asks a server's agent. What it said last counts while it does not answer.
async fn listen(server: Arc<ServerState>, way: Arc<Way>, agent: AgentCheck, connectors: Arc<Connectors>) {
    let target = Target { server: &server, way: &way, timeout: agent.timeout };
    let mut last = String::new();
    loop {
        let asked = agent::ask(&target, &agent, &connectors.transport);
        let answer = time::timeout(agent.timeout, Box::pin(asked)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("nothing within {:?}", agent.timeout)));
        let said =
            answer.as_ref().map_or_else(|fault| format!("does not answer: {fault}"), |line| format!("says: {line}"));
        if said != last {
            log::info!("pool {} server {}: its agent {said}", server.pool, server.name);
            last = said;
        }
        if let Ok(line) = answer {
            agent::take(&line, &server.told);
        }
        time::sleep(jittered(agent.interval)).await;
    }
}

/// How long until the next look: it depends on how things are, and whether they are about to change.
fn next_look(check: &HealthCheck, server: &ServerState, streak: &Streak) -> Duration {
    if streak.is_about_to_change() {
        check.fast_interval
    } else if server.health.is_up() {
        check.interval
    } else {
        check.down_interval
    }
}

/// A tenth more or less, so that many checks do not come at the same moment.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}

async fn look(target: &Target<'_>, kind: &CheckKind, connectors: &Connectors) -> Result<(), String> {
    match kind {
        CheckKind::Http(check) => http::look(target, check, &connectors.http).await,
        CheckKind::Grpc { service } => http::look_grpc(target, service, &connectors.http).await,
        CheckKind::Tcp(check) => tcp::look(target, check, &connectors.transport).await,
    }
}

fn observe(server: &ServerState, streak: &mut Streak, failure: Option<String>) {
    let counter = if failure.is_none() { &server.metrics.checks_passed } else { &server.metrics.checks_failed };
    counter.inc();
    let Some(up) = streak.observe(failure.is_none(), &server.health) else { return };
    server.metrics.up.set(i64::from(up));
    let (pool, name) = (&server.pool, &server.name);
    match failure {
        None => {
            server.rises();
            log::info!("pool {pool} server {name} is up");
        }
        Some(failure) => log::warn!("pool {pool} server {name} is down: {failure}"),
    }
}
