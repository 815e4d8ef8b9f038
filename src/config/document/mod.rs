//! The config word for word, as a user writes it. Doc comments here are the reference's text.

mod amount;
mod audit;
mod limit;
mod listener;
mod people;
mod pool;
mod revoked;
mod server;
mod trial;

pub use amount::{DurationText, RateText, ShareText, SizeText};
pub use audit::{Audit, Checkpoints, Durability, Keep, OnFailure, Pseudonyms, Rotate};
pub use limit::{EdgeVerdict, Limit};
pub use listener::{
    Certificate, ClientAddress, ClientAuth, CrlExpired, Handshake, HostFrom, Limits, Listener, ProxyProtocol, SharedCa,
    Tls,
};
pub use people::{Mapping, MappingFile, People, Role, Texts};
pub use pool::{
    Agent, Balance, Breaker, ClientCertificate, GrpcCheck, Hash, Health, HttpCheck, OriginTls, Outliers, Pool, Queue,
    Retry, RetryMethods, RetryOn, RetryWord, TcpCheck, Timeouts,
};
pub use revoked::RevokedFile;
pub use server::{Dns, Introduction, SameSite, Server, Sticky, StickyKey};
pub use trial::{PolicyTest, TestUser};

use crate::identity::Profile;
use crate::policy::rules::Type as ClaimType;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeMap};

/// Belay's config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// This node's name, in every audit record and in `belay_build_info`.
    #[serde(default = "node")]
    pub node: String,
    /// What the process says of itself, on stderr. Decisions are in the audit log.
    #[serde(default)]
    pub log: ProcessLog,
    /// Where connections come in, by name.
    #[schemars(extend("minProperties" = 1))]
    pub listeners: BTreeMap<String, Listener>,
    /// What all Workers' tokens have in common. Needed for every profile with a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<Edge>,
    /// Machines that call. Their names can stand in `allow`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub workloads: BTreeMap<String, Workload>,
    /// Users of identity providers, who come through workloads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub people: BTreeMap<String, People>,
    /// Roles. Their names can stand in `allow`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, Role>,
    /// Rules for what a line of `allow` cannot say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Routes. The first that matches a request decides it.
    #[schemars(length(min = 1))]
    pub routes: Vec<Route>,
    /// Servers that do the same job, by name.
    #[schemars(extend("minProperties" = 1))]
    pub pools: BTreeMap<String, Pool>,
    /// A file of what counts no more: workloads, users, keys, certificates, single tokens. YAML, read again when it
    /// changes; a rollback does not bring an older one back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// Secrets that Belay does not read, for example API tokens of Cloudflare, so that their ages are told, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub external_secrets: Vec<ExternalSecret>,
    /// Checks that several pools use, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, Health>,
    /// How names of servers are looked up.
    #[serde(default)]
    pub dns: Dns,
    /// The audit log.
    pub audit: Audit,
    /// What operators read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,
    /// When the config is read again.
    #[serde(default)]
    pub reload: Reload,
    /// How the process ends.
    #[serde(default)]
    pub stop: Stop,
    /// What outlives a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// What all plugins have in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugins: Option<Plugins>,
}

/// What all plugins have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plugins {
    /// A folder for what was compiled of them, which is made if it is not there: a start is then as fast as if it had
    /// been done before. What stands there runs as a part of Belay, so nobody else may write into it.
    pub cache: String,
}

/// A secret that Belay does not read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalSecret {
    /// What it is called in warnings, metrics and `belay keys`: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// The day on which it was made: `2026-11-01`.
    pub created: String,
    /// The age at which it should be replaced: 1d to 3650d. There is a warning 15 days before.
    #[schemars(default = "ninety_days")]
    #[serde(default = "ninety_days")]
    pub max_age: DurationText,
}

/// Rules for what a line of `allow` cannot say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Files of rules in Cedar; `*` in the last name stands for any letters: `policies/*.cedar`. They are one set,
    /// and are read again when they change. `belay policy schema` prints what they can speak of. Needs a build with
    /// the feature `cedar`.
    #[schemars(length(min = 1))]
    pub policies: Vec<String>,
    /// Files of tests for them, and for all else that decides who may: `policies/*.test.yaml`. `belay policy test`
    /// runs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<String>,
}

/// How the process ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// After TERM, how long connections are still accepted while `/readyz` says `draining`, so that whoever balances
    /// before this node hears of it first: 0s to 5m. QUIT does without.
    pub lame_duck: DurationText,
    /// How long requests in flight may take to end, after it and after an upgrade: 0s to 24h. What is open longer,
    /// like a tunnel, is cut then.
    pub grace: DurationText,
}

impl Default for Stop {
    fn default() -> Self {
        Self { lame_duck: time("0s"), grace: time("30s") }
    }
}

/// When the config is read again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reload {
    /// Whether a change of the config's file is a reload, about a second later. Without it a change waits for `belay
    /// reload` or HUP. The files that it names (keys, certificates, lists) are followed in any case.
    pub watch: bool,
}

fn node() -> String {
    "belay".into()
}

/// What all Workers' tokens have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// `iss` of the tokens.
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// What `aud` of the tokens must be or hold. Two load balancers must not share it.
    #[schemars(length(min = 1))]
    pub audience: String,
    /// Rules for tokens.
    #[serde(default)]
    pub token: Token,
    /// The facts among `may_assert` that rules of `access.policies` may read, by name, and what each is. Where a rule
    /// reads it and it is something else, the request is refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, ClaimType>,
    /// The age at which a shared secret is refused, and every other key should be replaced: 1d to 3650d. `belay check`,
    /// `belay keys` and the log warn from 15 days before.
    #[schemars(default = "ninety_days")]
    #[serde(default = "ninety_days")]
    pub max_key_age: DurationText,
}

fn ninety_days() -> DurationText {
    time("90d")
}

/// Rules for tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Token {
    /// The longest time between `iat` and `exp`: 1s to 1h.
    pub max_lifetime: DurationText,
    /// How often one token may be used.
    pub replay: ReplayMode,
    /// Whether a token without a certificate (`jwt`, `psk`) must carry the body's digest (`cdg`).
    pub body_digest: BodyDigestMode,
    /// The longest body whose digest is checked, which is held until then: 1KiB to 1MiB. Of a body over 64KiB the origin
    /// sees the head first; if the digest is wrong, the connection is cut before a byte of the body.
    pub digest_body_max: SizeText,
}

/// Whether a token must carry the body's digest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyDigestMode {
    /// It must.
    #[default]
    Required,
    /// It may. What it carries is checked.
    Optional,
}

impl Default for Token {
    fn default() -> Self {
        Self {
            max_lifetime: time("300s"),
            replay: ReplayMode::default(),
            body_digest: BodyDigestMode::default(),
            digest_body_max: SizeText("64KiB".into()),
        }
    }
}

/// How often one token may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayMode {
    /// GET, HEAD and OPTIONS up to 3 times within 15 s, because the Workers runtime silently repeats them when a
    /// kept-alive connection dies; everything else once.
    #[default]
    Tolerant,
    /// Once.
    Strict,
    /// As often as it is good. Tokens without a certificate (`jwt`, `psk`) still count once.
    Off,
}

/// A machine that calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its SPIFFE id: the only URI SAN of its certificate, and `sub` of its tokens.
    pub id: String,
    /// The keys that it signs tokens with. Several may overlap while one replaces the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Key>,
    /// Claims that its tokens may carry beyond Belay's own: facts that the edge asserts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub may_assert: Vec<String>,
}

/// A key for tokens: `key` for a public key, or `secret` for a shared one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its id: 1 to 64 of `A-Z a-z 0-9 . _ -`, unique in the config.
    pub kid: String,
    /// PEM file with the public key, as `file:PATH`: ECDSA on P-256 (ES256), Ed25519 (`EdDSA`), or RSA from 2048
    /// bits (RS256). The kind decides the algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// File with the base64 of at least 32 random bytes, as `file:PATH`, for HS256 and the profile `psk`. Needs `created`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The day on which it was made: `2026-11-01`. Its age counts from then, or from when it was first seen, if that was
    /// earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Where it is in its life.
    #[serde(default)]
    pub state: KeyState,
}

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It counts already, and nobody signs with it yet.
    Next,
    /// It counts.
    #[default]
    Active,
    /// It still counts; `belay_secret_uses_total` stands still once nobody signs with it any more.
    Retiring,
    /// It does not count.
    Revoked,
}

impl KeyState {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Revoked => "revoked",
        }
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name, in metrics and in the audit log.
    pub name: String,
    /// Which requests.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// The proofs that it demands; the listener's unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Profile>,
    /// Who may pass: names of workloads and roles, or the word `public`. Nobody else may, unless a rule of
    /// `access.policies` permits it: then the list may be empty. What such a rule forbids is forbidden to all of them.
    pub allow: Allow,
    /// Groups of routes of which rules of `access.policies` speak together: `resource in RouteGroup::"…"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whether who may not pass sees what he would see if the route did not exist, in the same time: a 404, or the 401
    /// of the listener. The audit log has the reason.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hide: bool,
    /// Whether the token must carry the body's digest. Where it does, it is checked in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_digest: Option<BodyDigestMode>,
    /// What is done to requests that may pass, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "filters")]
    pub filters: Vec<BTreeMap<String, serde_json::Value>>,
    /// What callers may use of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// How long a request may be served, be it a download or a tunnel: 1s to 365d; as long as it takes, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<DurationText>,
    /// Whether a tunnel, gRPC call or event stream goes on when the user's token ends by which it was begun. It ends
    /// with the client's certificate in any case.
    #[serde(default, skip_serializing_if = "is_false")]
    pub outlives_token: bool,
    /// The pool that it leads to.
    pub pool: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// The schema of the filters comes from the filters: see `schema`.
pub(super) fn filters(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "$ref": "#/$defs/Filter" } })
}

/// Which requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// A host in lower case, without port: `shop.example.com`, `*.example.com` for one label more, `*` for all.
    pub host: String,
    /// A path by whole segments: `/orders` that one, `/orders/*` exactly one segment more, `/orders/**` it and all
    /// below.
    pub path: String,
    /// Methods in upper case. Without it all match; a method not listed goes on to the next route.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub methods: Option<Vec<String>>,
}

impl Default for Match {
    fn default() -> Self {
        Self { host: "*".into(), path: "/**".into(), methods: None }
    }
}

/// `public`, or a list of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Allow {
    /// The word `public`.
    Word(String),
    /// Names of workloads and roles.
    Names(Vec<String>),
}

impl JsonSchema for Allow {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Allow".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "const": "public" }, { "type": "array", "items": { "type": "string" } }]
        })
    }
}

/// What the process says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessLog {
    /// The least that is said.
    pub level: LogLevel,
    /// How it is written.
    pub format: LogFormat,
}

/// The least that is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What does not work.
    Error,
    /// And what somebody should look at.
    Warning,
    /// And what happens.
    #[default]
    Info,
    /// And how.
    Debug,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, with the field names of ECS.
    Json,
}

/// What operators read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// A loopback address with port for `/metrics`, `/livez`, `/readyz` and `/startupz`. Port 0 takes a free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// The same for those who come from elsewhere, Prometheus for example: over TLS, and only for workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<AdminHttps>,
    /// A Unix socket for the same, for `belay recent` and `status`, and for changes. Only root and the user that Belay
    /// runs as may ask there, unless `read` or `change` names others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// More users of the system, by name or number, who may read at the socket: servers,
    /// decisions, when what was live. Not the config.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<String>,
    /// More users of the system, by name or number, who may read all and change things at the
    /// socket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub change: Vec<String>,
}

/// Metrics and health for those who come from elsewhere. The handshake demands a certificate that `ca` vouches for, and
/// each request is answered only if its workload is allowed. At most 64 connections, 16 of an address or workload. In
/// metrics and records the listener is called `admin`; what is read is not recorded, and who is refused is in the process
/// log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminHttps {
    /// An address with port. Port 0 takes a free one.
    pub bind: String,
    /// Certificates, chosen by the name that the client asks for; the first serves everybody else.
    #[schemars(length(min = 1))]
    pub certificates: Vec<Certificate>,
    /// PEM files with the CAs that vouch for clients.
    #[schemars(length(min = 1))]
    pub ca: Vec<String>,
    /// PEM files with the CAs' revocation lists. With any, every certificate of a chain must be covered by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crl: Vec<String>,
    /// Workloads and roles that may read metrics and health.
    #[schemars(length(min = 1))]
    pub allow: Vec<String>,
}

/// What outlives a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// An existing folder for what was live: each generation with the files that decided, but never a secret. Numbers go
    /// on growing after a restart, and `belay history`, `show` and `rollback` work.
    pub dir: String,
    /// How many generations are remembered.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep: u32,
}

fn hundred() -> u32 {
    100
}

fn time(text: &str) -> DurationText {
    DurationText(text.into())
}
