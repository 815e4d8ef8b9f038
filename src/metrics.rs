//! What Prometheus scrapes.
//!
//! Labels come from the config's names and from closed lists, never from a request, so a stranger cannot make series.
//! Handles are resolved when a config is built; the request path only adds to them.

use crate::clock::UnixSeconds;
use crate::generation::{Digest, Generation};
use crate::hangup::Hangup;
use crate::name::{ListenerName, NodeName, PoolName, RouteName, ServerName};
use crate::refusal::Refusal;
use crate::secret::Label;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Seconds; the boundaries that OpenTelemetry names for HTTP.
const DURATION_BOUNDARIES: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

macro_rules! metrics {
    ($($field:ident: $kind:ident, $name:literal, [$($label:literal),*], $help:literal;)*) => {
        /// Every metric.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] $field: $kind,)*
        }

        impl Metrics {
            /// All metrics at zero.
            ///
            /// # Errors
            /// If two of them have the same name.
            pub fn new() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                $(let $field = <$kind as Kind>::declare($name, $help, &[$($label),*])?;
                registry.register(Box::new($field.clone()))?;)*
                Ok(Self { registry, $($field,)* })
            }

            /// Name, kind, labels and help of every metric, for the reference.
            pub const REFERENCE: &'static [(&'static str, &'static str, &'static [&'static str], &'static str)] =
                &[$(($name, $kind::KIND, &[$($label),*], $help),)*];
        }
    };
}

metrics! {
    build_info: IntGaugeVec, "belay_build_info", ["version", "node"], "1, with the version and this node's name.";
    config_info: IntGaugeVec, "belay_config_info", ["digest", "policy"], "1 for the digests of the live config: of it and all files that it names, and of what of them decides requests, which nodes that are alike have in common.";
    config_generation: IntGauge, "belay_config_generation", [], "Number of the live config.";
    reloads: IntCounterVec, "belay_reloads_total", ["result"], "Reloads that were applied or refused.";
    requests: IntCounterVec, "belay_requests_total", ["route", "decision"], "Requests by route and decision; route is empty where none matched.";
    refusals: IntCounterVec, "belay_refusals_total", ["listener", "reason"], "Refused requests by reason.";
    responses: IntCounterVec, "belay_responses_total", ["route", "class"], "Responses by route and status class.";
    duration: HistogramVec, "belay_request_duration_seconds", ["route"], "Time from a request's head to the end of its response.";
    connections: IntGaugeVec, "belay_connections", ["listener"], "Connections that are open.";
    accepted: IntCounterVec, "belay_connections_total", ["listener"], "Connections that were accepted.";
    hangups: IntCounterVec, "belay_connections_refused_total", ["listener", "reason"], "Connections that ended before they brought a request: refused ones and failed TLS handshakes.";
    crl_expiry: IntGaugeVec, "belay_crl_next_update_timestamp_seconds", ["listener"], "When the listener's first revocation list expires; 0 without one.";
    certificate_expiry: IntGaugeVec, "belay_certificate_not_after_timestamp_seconds", ["listener", "kind"], "When the listener's first certificate expires: its own (server), or a CA's that vouches for clients (ca).";
    server_up: IntGaugeVec, "belay_server_up", ["pool", "server"], "1 while the server's health checks pass.";
    server_requests: IntCounterVec, "belay_server_requests_total", ["pool", "server"], "Requests sent to a server.";
    server_active: IntGaugeVec, "belay_server_active_requests", ["pool", "server"], "Requests that a server is working on.";
    server_connections: IntGaugeVec, "belay_server_connections", ["pool", "server"], "Connections to the server that are open.";
    server_certificate: IntGaugeVec, "belay_server_certificate_not_after_timestamp_seconds", ["pool", "server"], "When the server's certificate expires, as it was seen last.";
    lookups: IntCounterVec, "belay_dns_lookups_total", ["name", "result"], "Questions to DNS for a server's name: answer or failure.";
    found: IntGaugeVec, "belay_dns_servers", ["name"], "Servers that the last good answer told of.";
    server_ejected: IntGaugeVec, "belay_server_ejected", ["pool", "server"], "1 while the server is ejected for its answers.";
    ejections: IntCounterVec, "belay_server_ejections_total", ["pool", "server", "cause"], "Ejections of a server.";
    retries: IntCounterVec, "belay_retries_total", ["pool", "result"], "Requests that were tried again, or were not because the budget was used up.";
    circuit_open: IntGaugeVec, "belay_pool_circuit_open", ["pool"], "1 while the pool is left alone.";
    circuit_openings: IntCounterVec, "belay_pool_circuit_openings_total", ["pool"], "How often the pool was left alone.";
    queued: IntGaugeVec, "belay_pool_queued_requests", ["pool"], "Requests that wait for a server with room.";
    probes: IntCounterVec, "belay_health_checks_total", ["pool", "server", "result"], "Health checks that passed or failed.";
    replay_entries: IntGauge, "belay_replay_entries", [], "Tokens in the replay store.";
    secret_uses: IntCounterVec, "belay_secret_uses_total", ["kind", "owner", "name"], "How often a key, certificate, CA or revocation list was used: tokens that a key has verified, handshakes, cookies, checkpoints.";
    secret_used: IntGaugeVec, "belay_secret_last_used_timestamp_seconds", ["kind", "owner", "name"], "When it was used last, to the second; not there while it was not used since the process has started.";
    secret_created: IntGaugeVec, "belay_secret_created_timestamp_seconds", ["kind", "owner", "name"], "When a key, certificate, CA or revocation list was made, or first seen, if that was earlier.";
    secret_ends: IntGaugeVec, "belay_secret_ends_timestamp_seconds", ["kind", "owner", "name"], "When it expires, is refused for its age, or should be replaced.";
    limited: IntCounterVec, "belay_limit_exceeded_total", ["limit"], "Requests over a limit.";
    shadow: IntCounterVec, "belay_shadow_decisions_total", ["rule", "decision"], "Requests that a rule marked as shadow would decide otherwise, and how: allow or deny.";
    provider_fetches: IntCounterVec, "belay_provider_fetches_total", ["issuer", "result"], "Fetches of an identity provider's keys: success or failure.";
    provider_fetched: IntGaugeVec, "belay_provider_keys_fetched_timestamp_seconds", ["issuer"], "When an identity provider's keys were fetched last.";
    provider_keys: IntGaugeVec, "belay_provider_keys", ["issuer"], "Keys of an identity provider that count; 0 while none is known.";
    clock_offset: IntGaugeVec, "belay_edge_clock_offset_seconds", ["issuer"], "How long before its arrival the last token was signed, by the two clocks; below 0 where the edge's is ahead.";
    plugin_instances: IntGaugeVec, "belay_plugin_instances", ["plugin"], "Instances of a plugin that there are, at work or free.";
    plugin_failures: IntCounterVec, "belay_plugin_failures_total", ["plugin", "cause"], "How often a plugin has stopped: it has crashed, used up its time or fuel, let a request wait for too long (wait), or changed the length of a body (length).";
    plugin_counters: IntCounterVec, "belay_plugin_counter_total", ["plugin", "name"], "What a plugin counts itself: at most 64 metrics each.";
    plugin_gauges: IntGaugeVec, "belay_plugin_gauge", ["plugin", "name"], "What a plugin measures itself.";
    plugin_histograms: HistogramVec, "belay_plugin_histogram", ["plugin", "name"], "What a plugin observes itself, in its own unit; Belay's boundaries are those of milliseconds.";
    audit_records: IntCounter, "belay_audit_records_total", [], "Audit records written.";
    audit_failures: IntCounter, "belay_audit_write_failures_total", [], "Attempts to write audit records that failed.";
    audit_lost: IntCounter, "belay_audit_records_lost_total", [], "Audit records that found no room. Any is one too many.";
    audit_checkpoints: IntCounter, "belay_audit_checkpoints_total", [], "Checkpoints of the audit log that were signed and written.";
    audit_kept: IntGauge, "belay_audit_kept_bytes", [], "Size of the audit log with its older files, as it was found last.";
    audit_kept_max: IntGauge, "belay_audit_kept_bytes_max", [], "Size from which on the oldest files of the audit log are removed.";
}

fn words(label: &Label) -> [&str; 3] {
    [label.kind.word(), &label.owner, &label.name]
}

/// How the macro makes each kind.
trait Kind: Sized {
    const KIND: &'static str;
    fn declare(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error>;
}

macro_rules! kinds {
    ($($kind:ident = $text:literal, |$name:ident, $help:ident, $labels:ident| $make:expr;)*) => {$(
        impl Kind for $kind {
            const KIND: &'static str = $text;
            fn declare($name: &str, $help: &str, $labels: &[&str]) -> Result<Self, prometheus::Error> {
                $make
            }
        }
    )*};
}

kinds! {
    IntCounter = "counter", |name, help, _labels| Self::new(name, help);
    IntGauge = "gauge", |name, help, _labels| Self::new(name, help);
    IntCounterVec = "counter", |name, help, labels| Self::new(Opts::new(name, help), labels);
    IntGaugeVec = "gauge", |name, help, labels| Self::new(Opts::new(name, help), labels);
    HistogramVec = "histogram", |name, help, labels| {
        Self::new(HistogramOpts::new(name, help).buckets(DURATION_BOUNDARIES.to_vec()), labels)
    };
}

/// Where plugins' metrics are.
#[derive(Debug, Clone)]
pub struct PluginFamilies {
    instances: IntGaugeVec,
    failures: IntCounterVec,
    counters: IntCounterVec,
    gauges: IntGaugeVec,
    histograms: HistogramVec,
}

/// A plugin's handles.
#[derive(Debug)]
pub struct PluginHandles {
    /// Its instances.
    pub instances: IntGauge,
    failures: IntCounterVec,
    plugin: Box<str>,
}

impl PluginHandles {
    /// Counts that it has stopped, which is rare.
    pub fn failed(&self, cause: &str) {
        self.failures.with_label_values(&[&*self.plugin, cause]).inc();
    }
}

/// A metric that a plugin has defined.
#[derive(Debug)]
pub enum PluginMetric {
    /// It only grows.
    Counter(IntCounter),
    /// It goes up and down.
    Gauge(IntGauge),
    /// It is observed.
    Histogram(Histogram),
}

impl PluginMetric {
    /// Adds; none where that cannot be.
    #[must_use]
    pub fn add(&self, by: i64) -> Option<()> {
        match self {
            Self::Counter(counter) => counter.inc_by(u64::try_from(by).ok()?),
            Self::Gauge(gauge) => gauge.add(by),
            Self::Histogram(_) => return None,
        }
        Some(())
    }

    /// Sets or observes; none where that cannot be.
    #[must_use]
    pub fn record(&self, value: u64) -> Option<()> {
        match self {
            Self::Counter(_) => return None,
            Self::Gauge(gauge) => gauge.set(i64::try_from(value).ok()?),
            #[expect(clippy::cast_precision_loss, reason = "an observation is no count")]
            Self::Histogram(histogram) => histogram.observe(value as f64 / 1000.0),
        }
        Some(())
    }

    /// What it is; of a histogram how often it was observed.
    #[must_use]
    pub fn value(&self) -> u64 {
        match self {
            Self::Counter(counter) => counter.get(),
            Self::Gauge(gauge) => u64::try_from(gauge.get()).unwrap_or_default(),
            Self::Histogram(histogram) => histogram.get_sample_count(),
        }
    }
}

impl PluginFamilies {
    /// A plugin's handles.
    #[must_use]
    pub fn of(&self, plugin: &str) -> PluginHandles {
        let instances = self.instances.with_label_values(&[plugin]);
        PluginHandles { instances, failures: self.failures.clone(), plugin: plugin.into() }
    }

    /// A metric of a plugin's own, by its kind in proxy-wasm: 0 a counter, 1 a gauge, 2 a histogram; none of another.
    #[must_use]
    pub fn metric(&self, plugin: &str, kind: u32, name: &str) -> Option<PluginMetric> {
        let labels = &[plugin, name];
        match kind {
            0 => Some(PluginMetric::Counter(self.counters.with_label_values(labels))),
            1 => Some(PluginMetric::Gauge(self.gauges.with_label_values(labels))),
            2 => Some(PluginMetric::Histogram(self.histograms.with_label_values(labels))),
            _ => None,
        }
    }
}

/// A listener's handles.
#[derive(Debug)]
pub struct Listener {
    /// Connections that are open.
    pub connections: IntGauge,
    /// Connections that were accepted.
    pub accepted: IntCounter,
    hangups: Box<[IntCounter]>,
    refusals: Box<[IntCounter]>,
}

impl Listener {
    /// Counts a connection that ended before it brought a request.
    pub fn hung_up(&self, hangup: Hangup) {
        if let Some(counter) = self.hangups.get(hangup as usize) {
            counter.inc();
        }
    }

    /// Counts a refusal.
    pub fn refused(&self, refusal: Refusal) {
        if let Some(counter) = self.refusals.get(refusal as usize) {
            counter.inc();
        }
    }
}

/// A route's handles.
#[derive(Debug)]
pub struct Route {
    /// Requests that were allowed.
    pub allowed: IntCounter,
    /// Requests that were denied.
    pub denied: IntCounter,
    /// From the request's head to the end of its response.
    pub duration: Histogram,
    classes: [IntCounter; 5],
}

impl Route {
    /// Counts a response by its status.
    pub fn responded(&self, status: u16) {
        if let Some(counter) = usize::from(status / 100).checked_sub(1).and_then(|class| self.classes.get(class)) {
            counter.inc();
        }
    }
}

/// Labels of [`Server::ejected_for`], by index.
pub const EJECTION_CAUSES: [&str; 3] = ["consecutive_failures", "error_rate", "latency"];

/// A server's handles.
#[derive(Debug)]
pub struct Server {
    /// 1 while its checks pass.
    pub up: IntGauge,
    /// Requests sent to it.
    pub requests: IntCounter,
    /// Requests that it is working on.
    pub active: IntGauge,
    /// Checks that passed.
    pub checks_passed: IntCounter,
    /// Checks that failed.
    pub checks_failed: IntCounter,
    /// Connections to it.
    pub connections: IntGauge,
    /// 1 while it is ejected.
    pub ejected: IntGauge,
    ejections: [IntCounter; 3],
    /// Not every server has a certificate.
    certificate: (IntGaugeVec, [String; 2]),
}

impl Server {
    /// Says when its certificate expires.
    pub fn certificate_ends(&self, ends: UnixSeconds) {
        let (gauges, names) = &self.certificate;
        gauges.with_label_values(&names.each_ref().map(String::as_str)).set(ends);
    }

    /// Counts an ejection by the index of its cause.
    pub fn ejected_for(&self, cause: usize) {
        if let Some(counter) = self.ejections.get(cause) {
            counter.inc();
        }
    }
}

/// A pool's handles.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Requests that wait for a server with room.
    pub queued: IntGauge,
    /// Requests that were tried again.
    pub retries: IntCounter,
    /// Requests that were not, because too many were.
    pub retries_over_budget: IntCounter,
    /// 1 while it is left alone.
    pub circuit_open: IntGauge,
    /// How often it was left alone.
    pub circuit_openings: IntCounter,
}

/// The handles of one question to DNS.
#[derive(Debug)]
pub struct Lookups {
    /// Answers.
    pub answers: IntCounter,
    /// Failures.
    pub failures: IntCounter,
    /// Servers of the last good answer.
    pub servers: IntGauge,
}

/// An identity provider's handles.
#[derive(Debug)]
pub struct Provider {
    /// Fetches of its keys.
    pub fetched: IntCounter,
    /// Fetches that failed.
    pub failed: IntCounter,
    /// When they were fetched last.
    pub fetched_at: IntGauge,
    /// Keys that count.
    pub keys: IntGauge,
}

/// The audit writer's handles.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Records written.
    pub written: IntCounter,
    /// Failed writes.
    pub failures: IntCounter,
    /// Records that found no room.
    pub lost: IntCounter,
    /// Checkpoints that were written.
    pub checkpoints: IntCounter,
    /// Size of the log, in bytes.
    pub kept: IntGauge,
    /// From which size on the oldest is removed, in bytes.
    pub kept_max: IntGauge,
}

impl Metrics {
    /// Resolves a listener's handles.
    #[must_use]
    pub fn listener(&self, name: &ListenerName) -> Listener {
        let name = name.as_str();
        let refusal = |refusal: &Refusal| self.refusals.with_label_values(&[name, refusal.facts().label]);
        Listener {
            connections: self.connections.with_label_values(&[name]),
            accepted: self.accepted.with_label_values(&[name]),
            hangups: Hangup::ALL.iter().map(|hangup| self.hangups.with_label_values(&[name, hangup.label()])).collect(),
            refusals: Refusal::ALL.iter().map(refusal).collect(),
        }
    }

    /// Resolves a route's handles; none stands for requests that no route matches.
    #[must_use]
    pub fn route(&self, name: Option<&RouteName>) -> Route {
        let name = name.map_or("", RouteName::as_str);
        Route {
            allowed: self.requests.with_label_values(&[name, "allow"]),
            denied: self.requests.with_label_values(&[name, "deny"]),
            duration: self.duration.with_label_values(&[name]),
            classes: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| self.responses.with_label_values(&[name, class])),
        }
    }

    /// Resolves a server's handles.
    #[must_use]
    pub fn server(&self, pool: &PoolName, server: &ServerName) -> Server {
        let names = [pool.as_str(), server.as_str()];
        Server {
            up: self.server_up.with_label_values(&names),
            requests: self.server_requests.with_label_values(&names),
            active: self.server_active.with_label_values(&names),
            connections: self.server_connections.with_label_values(&names),
            checks_passed: self.probes.with_label_values(&[names[0], names[1], "pass"]),
            checks_failed: self.probes.with_label_values(&[names[0], names[1], "fail"]),
            ejected: self.server_ejected.with_label_values(&names),
            ejections: EJECTION_CAUSES.map(|cause| self.ejections.with_label_values(&[names[0], names[1], cause])),
            certificate: (self.server_certificate.clone(), names.map(str::to_owned)),
        }
    }

    /// Forgets a server that is no more.
    pub fn forget_server(&self, pool: &PoolName, server: &ServerName) {
        let names = [pool.as_str(), server.as_str()];
        let gauges = [
            &self.server_up,
            &self.server_active,
            &self.server_connections,
            &self.server_ejected,
            &self.server_certificate,
        ];
        // What was never counted is not there to be forgotten.
        gauges.iter().for_each(|gauge| drop(gauge.remove_label_values(&names)));
        drop(self.server_requests.remove_label_values(&names));
        for result in ["pass", "fail"] {
            drop(self.probes.remove_label_values(&[names[0], names[1], result]));
        }
        for cause in EJECTION_CAUSES {
            drop(self.ejections.remove_label_values(&[names[0], names[1], cause]));
        }
    }

    /// Resolves the handles of what DNS is asked.
    #[must_use]
    pub fn lookups(&self, name: &str) -> Lookups {
        Lookups {
            answers: self.lookups.with_label_values(&[name, "answer"]),
            failures: self.lookups.with_label_values(&[name, "failure"]),
            servers: self.found.with_label_values(&[name]),
        }
    }

    /// Where plugins' metrics are.
    #[must_use]
    pub fn plugins(&self) -> PluginFamilies {
        PluginFamilies {
            instances: self.plugin_instances.clone(),
            failures: self.plugin_failures.clone(),
            counters: self.plugin_counters.clone(),
            gauges: self.plugin_gauges.clone(),
            histograms: self.plugin_histograms.clone(),
        }
    }

    /// Resolves a limit's handle.
    #[must_use]
    pub fn limit(&self, name: &str) -> IntCounter {
        self.limited.with_label_values(&[name])
    }

    /// Resolves the handle of a rule that is only tried out.
    #[must_use]
    pub fn shadow(&self, rule: &str, would_allow: bool) -> IntCounter {
        self.shadow.with_label_values(&[rule, if would_allow { "allow" } else { "deny" }])
    }

    /// Resolves an identity provider's handles.
    #[must_use]
    pub fn provider(&self, issuer: &str) -> Provider {
        Provider {
            fetched: self.provider_fetches.with_label_values(&[issuer, "success"]),
            failed: self.provider_fetches.with_label_values(&[issuer, "failure"]),
            fetched_at: self.provider_fetched.with_label_values(&[issuer]),
            keys: self.provider_keys.with_label_values(&[issuer]),
        }
    }

    /// Forgets an identity provider that is not asked any more.
    pub fn forget_provider(&self, issuer: &str) {
        for gauge in [&self.provider_fetched, &self.provider_keys] {
            drop(gauge.remove_label_values(&[issuer]));
        }
        for result in ["success", "failure"] {
            drop(self.provider_fetches.remove_label_values(&[issuer, result]));
        }
    }

    /// Resolves a pool's handles.
    #[must_use]
    pub fn pool(&self, pool: &PoolName) -> Pool {
        let pool = pool.as_str();
        Pool {
            queued: self.queued.with_label_values(&[pool]),
            retries: self.retries.with_label_values(&[pool, "made"]),
            retries_over_budget: self.retries.with_label_values(&[pool, "over_budget"]),
            circuit_open: self.circuit_open.with_label_values(&[pool]),
            circuit_openings: self.circuit_openings.with_label_values(&[pool]),
        }
    }

    /// The audit writer's handles.
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit {
            written: self.audit_records.clone(),
            failures: self.audit_failures.clone(),
            lost: self.audit_lost.clone(),
            checkpoints: self.audit_checkpoints.clone(),
            kept: self.audit_kept.clone(),
            kept_max: self.audit_kept_max.clone(),
        }
    }

    /// Says when what a listener's TLS rests on expires.
    pub fn expiries(
        &self,
        listener: &ListenerName,
        server: UnixSeconds,
        ca: Option<UnixSeconds>,
        crl: Option<UnixSeconds>,
    ) {
        let name = listener.as_str();
        self.certificate_expiry.with_label_values(&[name, "server"]).set(server);
        if let Some(ca) = ca {
            self.certificate_expiry.with_label_values(&[name, "ca"]).set(ca);
        }
        self.crl_expiry.with_label_values(&[name]).set(crl.unwrap_or(0));
    }

    /// Says how old a secret is, and when it ends.
    pub fn secret(&self, label: &Label, created: UnixSeconds, ends: Option<UnixSeconds>) {
        let words = words(label);
        self.secret_created.with_label_values(&words).set(created);
        match ends {
            Some(ends) => self.secret_ends.with_label_values(&words).set(ends),
            None => drop(self.secret_ends.remove_label_values(&words)),
        }
    }

    /// Has the uses of a secret told from the beginning, so that they can be seen to stand still.
    pub fn secret_is_counted(&self, label: &Label) {
        self.secret_uses.with_label_values(&words(label));
    }

    /// Says that a secret was used so many times more, and when.
    pub fn secret_used(&self, label: &Label, more: u64, now: UnixSeconds) {
        let words = words(label);
        self.secret_uses.with_label_values(&words).inc_by(more);
        self.secret_used.with_label_values(&words).set(now);
    }

    /// Forgets a secret that is no more.
    pub fn forget_secret(&self, label: &Label) {
        let words = words(label);
        // What was never told is not there to be forgotten.
        drop(self.secret_uses.remove_label_values(&words));
        for gauge in [&self.secret_used, &self.secret_created, &self.secret_ends] {
            drop(gauge.remove_label_values(&words));
        }
    }

    /// The handle for an issuer's clock.
    #[must_use]
    pub fn clock_offset(&self, issuer: &str) -> IntGauge {
        self.clock_offset.with_label_values(&[issuer])
    }

    /// Says which config is live.
    pub fn applied(&self, node: &NodeName, generation: Generation, (digest, policy): (Digest, Digest)) {
        self.build_info.reset();
        self.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), node.as_str()]).set(1);
        self.config_info.reset();
        self.config_info.with_label_values(&[&digest.to_string(), &policy.to_string()]).set(1);
        self.config_generation.set(i64::try_from(generation.number()).unwrap_or(i64::MAX));
    }

    /// Counts a reload.
    pub fn reloaded(&self, applied: bool) {
        self.reloads.with_label_values(&[if applied { "applied" } else { "refused" }]).inc();
    }

    /// Everything in Prometheus' text format; `replay_entries` is read for the occasion.
    ///
    /// # Errors
    /// If a metric cannot be written.
    pub fn render(&self, replay_entries: usize) -> Result<Vec<u8>, prometheus::Error> {
        self.replay_entries.set(i64::try_from(replay_entries).unwrap_or(i64::MAX));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
