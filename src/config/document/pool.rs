//! `pools`: servers, how they are chosen, and what is done when they fail.

use super::Limit;
use super::amount::{DurationText, ShareText};
use super::server::{Introduction, Server, Sticky};
use super::time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Servers that do the same job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// What callers may use of it, by whatever route they come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// How the next server is chosen.
    #[serde(default)]
    pub balance: Balance,
    /// With `balance: hash`, what a request is recognised by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hash>,
    /// Backups take part while less than this share of the other servers is healthy, by their weights: 1% to 100%. With
    /// 1%, while none is.
    #[schemars(default = "one_percent")]
    #[serde(default = "one_percent")]
    pub backups_below: ShareText,
    /// While less than this share of all servers is healthy, the checks are not believed, and every server gets requests,
    /// healthy or not: 0% (never) to 100%.
    #[schemars(default = "zero_percent")]
    #[serde(default = "zero_percent")]
    pub panic_below: ShareText,
    /// How long a server that has become healthy takes to get its whole share; it begins with a tenth: 0s to 1h.
    #[schemars(default = "no_time")]
    #[serde(default = "no_time")]
    pub slow_start: DurationText,
    /// The servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub servers: Vec<Server>,
    /// A file with more servers, in YAML or JSON: a list as in `servers`. It is followed: a change of it counts at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers_file: Option<String>,
    /// Who comes again is sent to the server that he had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Each connection to a server begins with the client's address, in that version of the PROXY protocol. It is used
    /// for requests of the same address only. Needs `http: 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Introduction>,
    /// The version of HTTP that they speak: 1, or 2 (with TLS, or without it as h2c by prior knowledge).
    #[serde(default = "http_1")]
    #[schemars(range(min = 1, max = 2))]
    pub http: u32,
    /// TLS to the servers. Without it requests go on in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<OriginTls>,
    /// Trailers of responses that are passed on. gRPC's own pass in gRPC's responses; others, and those of requests, are
    /// dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub trailers: Vec<String>,
    /// How long to wait for a server.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How a server shows that it is well. Without it every server counts as healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The same by the name of one of `checks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// Agents beside the servers, which say how these are in HAProxy's text protocol: `up`, `down`, `ready`, `drain`,
    /// `maint`, and a share of the weight such as `75%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// How many requests each server may work on at once: 1 to 1000000. Without it as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests: Option<u32>,
    /// How many requests all servers together may work on at once: 1 to 1000000. Without it as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests_in_all: Option<u32>,
    /// How many connections each server may have at once: 1 to 1000000. Over HTTP/1.1 no more requests are sent than fit,
    /// and the others wait; where idle ones of other listeners or clients take the place, another server is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// How many connections all servers together may have at once: 1 to 1000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections_in_all: Option<u32>,
    /// How requests wait while no server has room.
    #[serde(default)]
    pub queue: Queue,
    /// When a request is tried again, each time at another server, and never after the response has begun.
    #[serde(default)]
    pub retry: Retry,
    /// When a server that answers badly is ejected for a while, whatever its checks say. Without it none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outliers: Option<Outliers>,
    /// When the pool as a whole is left alone for a while (circuit breaker). Without it it never is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
}

const fn http_1() -> u32 {
    1
}

/// TLS to the servers of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OriginTls {
    /// PEM files with the CAs that vouch for the servers. There is no other: the system's are not asked.
    #[schemars(length(min = 1))]
    pub ca: Vec<String>,
    /// The name that is asked for and that the servers' certificate must have.
    pub sni: String,
    /// Our certificate, for servers that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientCertificate>,
}

/// A certificate that we show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// PEM file with the certificate and its intermediates, leaf first.
    pub cert: String,
    /// PEM file with the private key, as `file:PATH`.
    pub key: String,
}

/// How the next server is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn, as often as the weights say.
    #[default]
    RoundRobin,
    /// The one that works on the fewest requests for its weight.
    LeastConnections,
    /// Of two that are drawn by weight, the one that works on fewer requests.
    PowerOfTwo,
    /// Of two that are drawn by weight, the one that will probably answer sooner, by the time to its responses' heads.
    LeastLatency,
    /// Drawn by weight.
    Random,
    /// The first that is healthy, in the order below.
    First,
    /// Always the same for the same `hash.by`. If a server goes, only its requests go elsewhere.
    Hash,
}

/// What a request is recognised by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hash {
    /// `address` (the client's), `path`, `header:NAME`, `cookie:NAME`, `query:NAME`, `workload` (who calls), or `claim:NAME` (a
    /// fact of the token).
    /// Requests without it go in turn.
    pub by: String,
    /// The most that a server may work on, compared with its share of all requests at once: 100% to 1000%. What is more
    /// goes elsewhere. Eight requests at once are never too many.
    #[schemars(default = "half_as_much_again")]
    #[serde(default = "half_as_much_again")]
    pub load_max: ShareText,
}

fn half_as_much_again() -> ShareText {
    ShareText("150%".into())
}

fn one_percent() -> ShareText {
    ShareText("1%".into())
}

fn zero_percent() -> ShareText {
    ShareText("0%".into())
}

fn no_time() -> DurationText {
    time("0s")
}

/// How long to wait for a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For a connection: 1ms to 60s.
    pub connect: DurationText,
    /// For the response's head, and between two pieces of its body or of the request's: 1ms to 1h.
    pub between_bytes: DurationText,
    /// That an unused connection is kept: 1s to 1h.
    pub idle: DurationText,
    /// After which a connection is not used for new requests any more, however busy it was: 1s to 24h.
    pub lifetime: DurationText,
    /// Instead of `between_bytes` for tunnels (WebSocket) and gRPC, which may be quiet for long, and for responses to
    /// requests with a body over HTTP/2: 1s to 24h.
    pub tunnel: DurationText,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: time("1s"),
            between_bytes: time("30s"),
            idle: time("60s"),
            lifetime: time("1h"),
            tunnel: time("1h"),
        }
    }
}

fn one_second() -> DurationText {
    time("1s")
}

fn two_seconds() -> DurationText {
    time("2s")
}

/// How a server shows that it is well. It gets no request before its first check has passed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// A request, by the pool's own version of HTTP and over its own TLS. One of `http`, `tcp` and `grpc` it must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// A connection, with a TLS handshake where the pool has `tls`, and perhaps a word and its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// gRPC's own protocol for health, `grpc.health.v1`, for pools with `http: 2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcCheck>,
    /// From one check to the next: 10ms to 1h. Each is up to a tenth shorter or longer, by chance.
    #[schemars(default = "two_seconds")]
    #[serde(default = "two_seconds")]
    pub interval: DurationText,
    /// The same while the last result was another than the state: 10ms to 1h. Without it `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_interval: Option<DurationText>,
    /// The same while the server is unhealthy: 10ms to 1h. Without it `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_interval: Option<DurationText>,
    /// Whether a new server counts as healthy before its first check.
    #[serde(default)]
    pub starts_healthy: bool,
    /// For one whole check: 1ms to 60s.
    #[schemars(default = "one_second")]
    #[serde(default = "one_second")]
    pub timeout: DurationText,
    /// Over TLS: the check fails once the server's certificate ends within that time: 1h to 365d. Without it only one that
    /// has expired fails. `belay_server_certificate_expiry_seconds` tells when it ends in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_ends_in: Option<DurationText>,
    /// Checks in a row that must pass before an unhealthy server is healthy: 1 to 100. The first of a new server counts
    /// alone.
    #[serde(default = "rise")]
    #[schemars(range(min = 1, max = 100))]
    pub rise: u32,
    /// Checks in a row that must fail before a healthy server is unhealthy: 1 to 100.
    #[serde(default = "fall")]
    #[schemars(range(min = 1, max = 100))]
    pub fall: u32,
}

const fn rise() -> u32 {
    2
}

const fn fall() -> u32 {
    3
}

/// An HTTP check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// The path to ask for.
    pub path: String,
    /// The method.
    #[schemars(default = "get")]
    #[serde(default = "get")]
    pub method: String,
    /// The Host to ask for; the server's address unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// More headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A body to send: up to 64 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 65536))]
    pub body: String,
    /// The statuses that pass: `200`, or `200-299`.
    #[schemars(default = "any_success")]
    #[serde(default = "any_success")]
    pub expect: String,
    /// What the response's body must contain, in its first 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// A regular expression that must match there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
}

/// Agents beside the servers. While one does not answer, what it said last counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The port at each server's address: 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What to send first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub send: String,
    /// From one question to the next: 10ms to 1h.
    #[schemars(default = "two_seconds")]
    #[serde(default = "two_seconds")]
    pub interval: DurationText,
    /// For an answer: 1ms to 60s.
    #[schemars(default = "one_second")]
    #[serde(default = "one_second")]
    pub timeout: DurationText,
}

/// A TCP check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpCheck {
    /// What to send.
    #[schemars(length(max = 4096))]
    pub send: String,
    /// What the answer must contain, in its first 16 KiB; nothing is read without it.
    #[schemars(length(max = 4096))]
    pub expect: String,
}

/// A check of gRPC.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcCheck {
    /// The service to ask for; without it the server as a whole.
    #[schemars(length(max = 120))]
    pub service: String,
}

fn get() -> String {
    "GET".into()
}

fn any_success() -> String {
    "200-299".into()
}

/// How requests wait while no server has room. Each workload has a line of its own, and the lines are served in turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// How many may wait: 0 (none) to 100000.
    #[schemars(range(min = 0, max = 100_000))]
    pub length: u32,
    /// How many of them may be one workload's: 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub per_workload: u32,
    /// For how long: 10ms to 1m.
    pub timeout: DurationText,
}

impl Default for Queue {
    fn default() -> Self {
        Self { length: 1000, per_workload: 250, timeout: time("2s") }
    }
}

/// When a request is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How many servers a request may be sent to: 1 (no retry) to 5.
    #[schemars(range(min = 1, max = 5))]
    pub attempts: u32,
    /// After what: `connect_failure` (no server has seen the request, so this is safe for every method), `no_response`
    /// (the server closed the connection instead of answering), `timeout` (of the response's head), or statuses from 400
    /// to 599.
    #[schemars(length(max = 20))]
    pub on: Vec<RetryOn>,
    /// Which requests may be sent twice. Those with an `Idempotency-Key` may always.
    pub methods: RetryMethods,
    /// The most retries in ten seconds, as a share of the pool's requests in that time: 0% to 100%. Ten are always
    /// fine.
    pub budget: ShareText,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            on: vec![RetryOn::Word(RetryWord::ConnectFailure)],
            methods: RetryMethods::Safe,
            budget: ShareText("20%".into()),
        }
    }
}

/// After what a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum RetryOn {
    /// A failure without a response.
    Word(RetryWord),
    /// A response's status.
    Status(#[schemars(range(min = 400, max = 599))] u16),
}

/// A failure without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryWord {
    /// No connection.
    ConnectFailure,
    /// The connection was closed instead of a response.
    NoResponse,
    /// The response's head did not come in time.
    Timeout,
}

/// Which requests may be sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryMethods {
    /// GET, HEAD, OPTIONS and TRACE.
    Safe,
    /// And PUT and DELETE.
    Idempotent,
    /// All, for servers that know a repetition when they see one.
    All,
}

/// When a server is ejected. What counts as a failure: no connection, no response, a broken one, a timeout, a status of
/// 500 or more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outliers {
    /// Failures in a row: 1 to 1000; 0 for never.
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive_failures: u32,
    /// The share of failures among its requests of the last ten seconds: 1% to 100%; 0% for never.
    pub error_rate: ShareText,
    /// How slow it may be, compared with the middle of the pool's servers: 150% to 10000%; 0% for as slow as it likes.
    pub slower_than: ShareText,
    /// How many requests of the last ten seconds `error_rate` and `slower_than` need: 1 to 10000.
    #[schemars(range(min = 1, max = 10000))]
    pub requests_min: u32,
    /// For how long it is ejected the first time: 1s to 1h. The second time it is twice as long, and so on, until it has
    /// been well for ten times as long.
    pub eject: DurationText,
    /// The longest ejection: 1s to 24h.
    pub eject_max: DurationText,
    /// The largest share of the pool's servers that may be ejected at once: 1% to 100%. One always may, if there are
    /// others.
    pub ejected_max: ShareText,
}

impl Default for Outliers {
    fn default() -> Self {
        let share = |text: &str| ShareText(text.into());
        Self {
            consecutive_failures: 5,
            error_rate: share("50%"),
            slower_than: share("0%"),
            requests_min: 20,
            eject: time("30s"),
            eject_max: time("5m"),
            ejected_max: share("50%"),
        }
    }
}

/// When a pool is left alone. Its requests are refused with 503 at once then, but for one now and then that tries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// The share of failures among its requests of the last ten seconds: 1% to 100%. Failures are those of `outliers`.
    pub error_rate: ShareText,
    /// How many requests of the last ten seconds that needs: 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub requests_min: u32,
    /// Until it is tried, and from one trial to the next: 100ms to 10m.
    pub pause: DurationText,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { error_rate: ShareText("50%".into()), requests_min: 20, pause: time("5s") }
    }
}
