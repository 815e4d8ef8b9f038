//! The config word for word, as a user writes it. Doc comments here are the reference's text.

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
    /// Where connections come in, by name.
    #[schemars(extend("minProperties" = 1))]
    pub listeners: BTreeMap<String, Listener>,
    /// What all Workers' tokens have in common. Needed for the profile `mtls+jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<Edge>,
    /// Machines that call. Their names can stand in `allow`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub workloads: BTreeMap<String, Workload>,
    /// Roles. Their names can stand in `allow`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, Role>,
    /// Routes. The first that matches a request decides it.
    #[schemars(length(min = 1))]
    pub routes: Vec<Route>,
    /// Servers that do the same job, by name.
    #[schemars(extend("minProperties" = 1))]
    pub pools: BTreeMap<String, Pool>,
    /// The audit log.
    pub audit: Audit,
    /// What operators read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,
    /// What outlives a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

fn node() -> String {
    "belay".into()
}

/// Where connections come in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Addresses with ports, for example `0.0.0.0:8443` or `[::]:8443` (port 0 takes a free one), `unix:PATH` for a Unix
    /// socket, or `fd:NAME` for a socket that the service manager has opened under that name.
    #[schemars(length(min = 1))]
    pub bind: Vec<String>,
    /// TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1. Without it the listener speaks plain HTTP/1.1 and nobody can prove who
    /// he is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The proofs that routes demand unless they say otherwise. `none` must be written out.
    #[serde(default)]
    pub identity: ProfileName,
    /// Networks that may connect, for example `203.0.113.0/24`; everybody, if there is none. Connections from elsewhere
    /// end before TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Who tells the client's address by the PROXY protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Ports that clients may name beside those of `bind` and 443: what something before us maps to ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// What one client, and all of them together, may use.
    #[serde(default)]
    pub limits: Limits,
}

/// Who tells the client's address by the PROXY protocol (versions 1 and 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// The networks of load balancers that must begin each connection with a header. From elsewhere none is read.
    #[schemars(length(min = 1))]
    pub from: Vec<String>,
}

/// What one client, and all of them together, may use of a listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once: 1 to 1,000,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: u32,
    /// Connections at once from one address (IPv6: from one /64).
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_address: u32,
    /// Connections at once with one workload's certificate.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_workload: u32,
    /// HTTP/2 requests at once on one connection: 1 to 1,000.
    #[schemars(range(min = 1, max = 1_000))]
    pub streams: u32,
    /// For a TLS handshake, and for the PROXY header before it: 10ms to 60s.
    pub handshake_timeout: DurationText,
    /// A request's head: 1KiB to 256KiB.
    pub head: SizeText,
    /// Fields of a head: 1 to 250.
    #[schemars(range(min = 1, max = 250))]
    pub headers: u32,
    /// For a whole head, from its first byte, or from the connection's begin: 10ms to 60s.
    pub head_timeout: DurationText,
    /// Between two requests of a connection: 10ms to 1h.
    pub idle_timeout: DurationText,
    /// A request's body: up to 1TiB.
    pub body: SizeText,
    /// What a body must bring each second, after 5 s of grace: from 1B to 1GiB.
    pub body_min_rate: RateText,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 1_000,
            connections_per_workload: 5_000,
            streams: 100,
            handshake_timeout: time("5s"),
            head: SizeText("32KiB".into()),
            headers: 100,
            head_timeout: time("5s"),
            idle_timeout: time("60s"),
            body: SizeText("10MiB".into()),
            body_min_rate: RateText("1KiB/s".into()),
        }
    }
}

/// A listener's TLS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificates, chosen by the name that the client asks for; the first serves everybody else.
    #[schemars(length(min = 1))]
    pub certificates: Vec<Certificate>,
    /// Who vouches for clients. Every client is asked for a certificate; unless `handshake` is strict, the handshake
    /// succeeds without a good one and the request is then refused, so that the refusal is recorded and explained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
}

/// A certificate of ours, or a folder of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file with the certificate and its intermediates, leaf first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// PEM file with the private key, as `file:PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Instead of both: a folder where each `NAME.pem` has its key in `NAME.key`. What is put there later is served, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

/// Who vouches for clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuth {
    /// PEM files with CA certificates. Several may overlap while one replaces the other.
    #[schemars(length(min = 1))]
    pub ca: Vec<String>,
    /// PEM files with the CAs' revocation lists. With any, every certificate of a chain must be covered by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crl: Vec<String>,
    /// What happens to clients whose CA has let its revocation list expire.
    #[serde(default)]
    pub crl_expired: CrlExpired,
    /// Who decides about a client without a good certificate.
    #[serde(default)]
    pub handshake: Handshake,
    /// The longest time that a client certificate may be valid for, begin to end: 1m to 3650d. Any, if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_certificate_lifetime: Option<DurationText>,
    /// A CA that signs for more than one customer is refused unless it is named here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_shared_ca: Option<SharedCa>,
}

/// What happens to clients whose CA has let its revocation list expire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CrlExpired {
    /// They are refused: nobody knows what was revoked since.
    #[default]
    Refuse,
    /// They are judged by the list as it is, and the log warns.
    Warn,
}

/// Who decides about a client without a good certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Handshake {
    /// HTTP: the refusal is explained and recorded, and public routes are open.
    #[default]
    Lenient,
    /// TLS: the handshake fails. Workers see that as an internal error without a reason.
    Strict,
}

/// A CA that signs for more than one customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SharedCa {
    /// Cloudflare's Authenticated Origin Pulls, whose one certificate every Cloudflare account can send.
    CloudflareOriginPull,
}

/// A set of proofs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProfileName {
    /// Nothing is asked; everybody is anonymous.
    #[serde(rename = "none")]
    None,
    /// A client certificate of a workload.
    #[serde(rename = "mtls")]
    Mtls,
    /// `mtls`, and an Edge-Identity token signed for that certificate and this request.
    #[default]
    #[serde(rename = "mtls+jwt")]
    MtlsJwt,
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
}

/// Rules for tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Token {
    /// The longest time between `iat` and `exp`: 1s to 1h.
    pub max_lifetime: DurationText,
    /// How often one token may be used.
    pub replay: ReplayMode,
}

impl Default for Token {
    fn default() -> Self {
        Self { max_lifetime: time("300s"), replay: ReplayMode::default() }
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
}

/// A key for tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its id: 1 to 64 of `A-Z a-z 0-9 . _ -`, unique in the config.
    pub kid: String,
    /// PEM file with the public key (ECDSA on P-256, for ES256), as `file:PATH`.
    pub key: String,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The workloads that have it.
    #[schemars(length(min = 1))]
    pub workloads: Vec<String>,
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
    pub identity: Option<ProfileName>,
    /// Who may pass: names of workloads and roles, or the word `public`. Nobody else may.
    pub allow: Allow,
    /// What is done to requests that may pass, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "filters")]
    pub filters: Vec<BTreeMap<String, serde_json::Value>>,
    /// The pool that it leads to.
    pub pool: String,
}

/// The schema of the filters comes from the filters: see `schema`.
fn filters(_: &mut SchemaGenerator) -> Schema {
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
            "anyOf": [{ "const": "public" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }]
        })
    }
}

/// Servers that do the same job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// How the next server is chosen.
    #[serde(default)]
    pub balance: Balance,
    /// The servers.
    #[schemars(length(min = 1, max = 1000))]
    pub servers: Vec<Server>,
    /// How long to wait for a server.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How a server shows that it is well. Without it every server counts as healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// How the next server is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn.
    #[default]
    RoundRobin,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its name, in metrics and in the audit log.
    pub name: String,
    /// Its address with port, for example `10.0.0.1:8080`.
    pub address: String,
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
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: time("1s"), between_bytes: time("30s"), idle: time("60s") }
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
    /// An HTTP/1.1 GET.
    pub http: HttpCheck,
    /// From one check to the next: 10ms to 1h.
    #[schemars(default = "two_seconds")]
    #[serde(default = "two_seconds")]
    pub interval: DurationText,
    /// For one whole check: 1ms to 60s.
    #[schemars(default = "one_second")]
    #[serde(default = "one_second")]
    pub timeout: DurationText,
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
    /// The Host to ask for; the server's address unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The statuses that pass: `200`, or `200-299`.
    #[schemars(default = "any_success")]
    #[serde(default = "any_success")]
    pub expect: String,
}

fn any_success() -> String {
    "200-299".into()
}

/// The audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The file that records are appended to, one JSON object a line. While it cannot be written, requests are refused.
    pub file: String,
}

/// What operators read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// A loopback address with port for `/metrics`, `/livez` and `/readyz`. Port 0 takes a free one.
    pub http: String,
}

/// What outlives a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// An existing folder for the number of the last generation, so that numbers go on growing after a restart.
    pub dir: String,
}

fn time(text: &str) -> DurationText {
    DurationText(text.into())
}

/// A time with its unit: `250ms`, `2s`, `5m`, `1h` or `90d`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationText(pub String);

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" })
    }
}

/// An amount of bytes with its unit: `512B`, `32KiB`, `10MiB` or `1GiB`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SizeText(pub String);

impl JsonSchema for SizeText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)$" })
    }
}

/// An amount of bytes each second: `1KiB/s`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RateText(pub String);

impl JsonSchema for RateText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)/s$" })
    }
}
