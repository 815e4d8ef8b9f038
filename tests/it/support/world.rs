//! A whole load balancer in process: TLS and HTTP over a duplex, real origins, a clock of its own.

use super::client::{Ask, Reply, over_h1, over_h2};
use super::records::record;
use super::site::{NOW, Site, alpn};
use belay::audit::Cause;
use belay::clock::{Clock, Timestamp, UnixSeconds};
use belay::config::{self, Finding};
use belay::drain;
use belay::filter;
use belay::name::ListenerName;
use belay::provider::Fetcher;
use belay::proxy::Front;
use belay::runtime::{self, Beginning, Live};
use belay::upstream::{Lookups, Probes};
use pingora::protocols::Stream;
use serde_json::Value;
use std::{
    fs,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use tokio::io::DuplexStream;
use tokio_rustls::client::TlsStream;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn set(&self, seconds: UnixSeconds) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.0.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

pub struct World {
    pub site: Site,
    pub live: Arc<Live>,
    pub clock: Arc<TestClock>,
    probes: Probes,
    lookups: Lookups,
    fetcher: Fetcher,
    front: Front,
}

impl Deref for World {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl World {
    /// The usual config.
    pub async fn new() -> Self {
        Self::with(|text| text).await
    }

    /// The usual config, edited, with a healthy server in every pool.
    pub async fn with(edit: impl FnOnce(String) -> String) -> Self {
        let world = Self::before_checks(Site::new(NOW).await, edit);
        world.is_healthy().await;
        world
    }

    /// Waits for a healthy server in every pool.
    pub async fn is_healthy(&self) {
        let is_up = || {
            self.live.snapshot().pools.iter().all(|pool| pool.servers.iter().any(|server| server.state.health.is_up()))
        };
        settled("a healthy server in every pool", is_up).await;
    }

    /// The same, as it starts.
    pub fn before_checks(site: Site, edit: impl FnOnce(String) -> String) -> Self {
        site.write("belay.yaml", &edit(site.config_text()));
        let clock = Arc::new(TestClock(AtomicI64::new(NOW)));
        let config = load(&site).unwrap_or_else(|findings| panic!("{}", show(&findings)));
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let started = runtime::start(config, Beginning::new(time, Timestamp::from_unix_seconds(0)));
        let live = Arc::new(started.unwrap_or_else(|findings| panic!("{}", show(&findings))));
        let probes = Probes::new(tokio::runtime::Handle::current());
        let lookups = Lookups::new(tokio::runtime::Handle::current());
        let fetcher = Fetcher::new(tokio::runtime::Handle::current(), Arc::clone(&clock) as Arc<dyn Clock>);
        let front = Front::new(&Arc::default(), ListenerName::parse("edge").unwrap(), Arc::clone(&live));
        let world = Self { site, live, clock, probes, lookups, fetcher, front };
        world.follow();
        world
    }

    /// Has the checks and lookups be those of the live generation, as the server does it.
    fn follow(&self) {
        let (snapshot, state) = (self.live.snapshot(), self.live.state());
        self.lookups.follow(&snapshot.pools, &snapshot.config.dns, &state.servers, &state.metrics);
        self.probes.follow(&snapshot.pools);
        let providers: Vec<_> = snapshot.providers.values().cloned().collect();
        self.fetcher.follow(&providers, &state.providers, &state.metrics);
    }

    /// Takes what DNS has said since, as the server does it.
    pub fn take_answers(&self) {
        if self.live.rediscover() {
            self.probes.follow(&self.live.snapshot().pools);
        }
    }

    /// The servers of the pool `shop`, each with its address.
    pub fn servers(&self) -> Vec<String> {
        let pools: Vec<_> = self.live.snapshot().pools.iter().filter(|pool| pool.name().as_str() == "shop").collect();
        let of = |server: &belay::upstream::Member| format!("{}={}", server.state.name, server.state.address);
        pools.iter().flat_map(|pool| pool.servers.iter().map(of)).collect()
    }

    /// Applies another text of the config.
    pub fn apply(&self, text: &str) -> Result<runtime::Change, Vec<Finding>> {
        self.site.write("belay.yaml", text);
        let cause = Cause { accepted: vec!["all".into()], ..Cause::default() };
        let change = load(&self.site)
            .and_then(|config| self.live.consent(config, "reload", &cause))
            .and_then(|consented| self.live.apply(consented, false, &cause));
        self.follow();
        change
    }

    /// Makes a request on a connection of its own.
    pub async fn ask(&self, ask: &Ask) -> Reply {
        self.send(ask, &self.headers(ask)).await
    }

    /// Makes a request with just these headers.
    pub async fn send(&self, ask: &Ask, headers: &[(String, String)]) -> Reply {
        let stream = self.connect(ask.certificate, alpn(ask)).await;
        if ask.h2 { over_h2(stream, ask, headers).await } else { over_h1(stream, ask, headers).await }
    }

    /// A TLS connection to the load balancer.
    pub async fn connect(&self, certificate: Option<&str>, alpn: &[&[u8]]) -> TlsStream<DuplexStream> {
        self.site.tls(self.plain(), certificate, alpn, rustls::DEFAULT_VERSIONS).await
    }

    /// A connection to the load balancer.
    pub fn plain(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let (front, live) = (self.front.clone(), Arc::clone(&self.live));
        tokio::spawn(async move {
            let (_never, going_on) = drain::channel();
            let snapshot = live.snapshot();
            let entrance = snapshot.entrances.values().next().unwrap();
            let stream: Stream = match &entrance.tls {
                // Who fails the handshake has shown it to the client already.
                Some(tls) => match tls.accept(far).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => return,
                },
                None => Box::new(far),
            };
            // What ended it is in the records.
            front.serve(stream, going_on).await.ok();
        });
        near
    }

    /// The audit log so far.
    pub fn records(&self) -> Vec<Value> {
        self.live.state().journal.flush();
        let text = fs::read_to_string(self.site.folder.path().join("audit.jsonl")).unwrap();
        text.lines().map(record).collect()
    }

    /// The records of an action, in order.
    pub fn records_of(&self, action: &str) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["event"]["action"] == action).collect()
    }

    pub fn metrics(&self) -> String {
        String::from_utf8(self.live.state().render_metrics().unwrap()).unwrap()
    }

    /// How many requests have reached an origin.
    pub fn forwarded(&self) -> u64 {
        let lines = self.metrics();
        let counts = lines.lines().filter(|line| line.starts_with("belay_server_requests_total"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

/// Lets the tasks of this thread work until something is true.
pub async fn settled(what: &str, is_true: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_true() {
        assert!(tokio::time::Instant::now() < deadline, "never so: {what}");
        tokio::task::yield_now().await;
    }
}

fn load(site: &Site) -> Result<config::Config, Vec<Finding>> {
    let checked = config::read_file(&site.config(), filter::KINDS);
    checked.config.ok_or(checked.findings)
}

pub fn show(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}
