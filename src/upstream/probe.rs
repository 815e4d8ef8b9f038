//! Active checks: one task a server, which runs from the generation that brings it to the one that does not.

use super::health::Streak;
use super::mode::Mode;
use super::pool::Pools;
use super::server::ServerState;
use super::way::Way;
use crate::config::HealthCheck;
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::lb::Backend;
use pingora_load_balancing::health_check::{HealthCheck as _, HttpHealthCheck};
use std::{sync::Arc, time::Duration};
use tokio::{runtime::Handle, task::AbortHandle, time};

/// The checks that run.
#[derive(Debug)]
pub struct Probes {
    runtime: Handle,
    running: Mutex<Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    server: Arc<ServerState>,
    way: Arc<Way>,
    check: HealthCheck,
    task: AbortHandle,
}

impl Probes {
    /// None yet; they will run there.
    #[must_use]
    pub const fn new(runtime: Handle) -> Self {
        Self { runtime, running: Mutex::new(Vec::new()) }
    }

    /// Makes the running checks those of these pools: new ones start, unchanged ones go on, others end.
    pub fn follow(&self, pools: &Pools) {
        let mut running = self.running.lock();
        let mut kept = Vec::new();
        let checked = pools.iter().filter_map(|pool| pool.health.as_ref().map(|check| (pool, check)));
        let servers =
            checked.flat_map(|(pool, check)| pool.servers.iter().map(move |server| (&server.state, &pool.way, check)));
        for (server, way, check) in servers {
            let same =
                |probe: &Running| Arc::ptr_eq(&probe.server, server) && probe.check == *check && probe.way == *way;
            match running.iter().position(same) {
                Some(index) => kept.push(running.swap_remove(index)),
                None => kept.push(self.start(server, way, check)),
            }
        }
        let ended = std::mem::replace(&mut *running, kept);
        ended.iter().for_each(|probe| probe.task.abort());
    }

    fn start(&self, server: &Arc<ServerState>, way: &Arc<Way>, check: &HealthCheck) -> Running {
        let task = self.runtime.spawn(watch(Arc::clone(server), Arc::clone(way), check.clone())).abort_handle();
        Running { server: Arc::clone(server), way: Arc::clone(way), check: check.clone(), task }
    }
}

async fn watch(server: Arc<ServerState>, way: Arc<Way>, check: HealthCheck) {
    let Some((probe, backend)) = http_probe(&server, &way, &check) else {
        log::error!("pool {} server {}: its check cannot be made", server.pool, server.name);
        return;
    };
    let mut streak = Streak::new(check.rise, check.fall);
    let mut ticks = time::interval(check.interval);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if server.mode() == Mode::Maintenance {
            // What it was before says nothing of what it is after.
            server.health.forget();
            server.metrics.up.set(0);
            continue;
        }
        let result = time::timeout(check.timeout, probe.check(&backend)).await;
        let failure = match &result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(said(error)),
            Err(_elapsed) => Some(format!("nothing within {:?}", check.timeout)),
        };
        observe(&server, &mut streak, failure);
    }
}

/// Pingora's error in a word: its text repeats its causes.
fn said(error: &pingora::Error) -> String {
    if let pingora::ErrorType::CustomCode(what, code) = error.etype() {
        format!("{what} {code}")
    } else {
        error.root_etype().as_str().to_owned()
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

fn http_probe(server: &ServerState, way: &Way, check: &HealthCheck) -> Option<(HttpHealthCheck, Backend)> {
    let host = check.host.clone().unwrap_or_else(|| server.address.to_string());
    let mut probe = HttpHealthCheck::new(&host, false);
    probe.peer_template = way.to(server.address, false);
    let mut request = RequestHeader::build("GET", check.path.as_bytes(), None).ok()?;
    request.insert_header("host", host).ok()?;
    request.insert_header("user-agent", "belay-health-check").ok()?;
    if !way.speaks_h2 {
        request.insert_header("connection", "close").ok()?;
    }
    probe.req = request;
    probe.peer_template.options.connection_timeout = Some(check.timeout);
    probe.peer_template.options.total_connection_timeout = Some(check.timeout);
    probe.peer_template.options.read_timeout = Some(check.timeout);
    probe.peer_template.options.write_timeout = Some(check.timeout.max(Duration::from_millis(1)));
    let expect = check.expect.clone();
    probe.validator = Some(Box::new(move |response: &ResponseHeader| {
        let status = response.status.as_u16();
        if expect.contains(&status) {
            Ok(())
        } else {
            let unexpected = pingora::ErrorType::CustomCode("status", status);
            pingora::Error::e_explain(unexpected, "the check expects another status")
        }
    }));
    Some((probe, Backend::new(&server.address.to_string()).ok()?))
}
