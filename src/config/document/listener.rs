//! `listeners`, word for word.

use super::{DurationText, Limit, RateText, SizeText, filters, time};
use crate::identity::Profile;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    pub identity: Profile,
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
    /// Whose address counts as the client's, in the audit log and towards the origin.
    #[serde(default)]
    pub client_address: ClientAddress,
    /// Which host routes match and the origin is asked for.
    #[serde(default)]
    pub host_from: HostFrom,
    /// What is done to requests that may pass, in order, before the filters of their route; to responses after them, in
    /// reverse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "filters")]
    pub filters: Vec<BTreeMap<String, serde_json::Value>>,
    /// What one client, and all of them together, may use.
    #[serde(default)]
    pub limits: Limits,
}

/// Whose address counts as the client's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientAddress {
    /// That of the connection, or the one that the PROXY protocol tells.
    #[default]
    #[serde(rename = "peer")]
    Peer,
    /// The token's `cip`, where there is one.
    #[serde(rename = "claim:cip")]
    Claim,
    /// The header `CF-Connecting-IP` of a workload that has proved itself.
    #[serde(rename = "header:cf-connecting-ip")]
    Header,
}

/// Which host routes match and the origin is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostFrom {
    /// `Host` or `:authority`.
    #[default]
    Authority,
    /// The token's `ohost`, where there is one: a Worker reaches us under another name than the one that a person asked
    /// for. The token is then verified before the route is found, with the listener's `identity`.
    Token,
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
    /// What callers may use who come this way, by whatever route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Limit>,
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
    /// For a client to take a piece of the response: 10ms to 1h.
    pub write_timeout: DurationText,
    /// A request's body: up to 1TiB.
    pub body: SizeText,
    /// What a body must bring each second, after 5 s of grace: from 1B to 1GiB.
    pub body_min_rate: RateText,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: Vec::new(),
            connections: 10_000,
            connections_per_address: 1_000,
            connections_per_workload: 5_000,
            streams: 100,
            handshake_timeout: time("5s"),
            head: SizeText("32KiB".into()),
            headers: 100,
            head_timeout: time("5s"),
            idle_timeout: time("60s"),
            write_timeout: time("5m"),
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
