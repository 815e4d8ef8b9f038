//! `pools.*.servers`, and what finds them: `dns`, `sticky`.

use super::amount::DurationText;
use super::time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const fn usual_weight() -> u32 {
    100
}

fn one_day() -> DurationText {
    time("1d")
}

/// A server, or those that DNS tells of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its name, in metrics and in the audit log.
    pub name: String,
    /// Where it is: `10.0.0.1:8080`, `unix:/run/orders.sock`, or a name with a port, `orders.internal:8080`, which DNS is
    /// asked for again and again. This or `srv` it must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The name of SRV records, for example `_http._tcp.orders.internal`. Those of the best priority are the servers, and
    /// the others are backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srv: Option<String>,
    /// With a name or `srv`: up to so many servers, 1 to 100, which are called NAME-1, NAME-2 and so on. Without it there
    /// is one, called NAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max: Option<u32>,
    /// Its share of requests, compared with the others': 0 (none) to 256.
    #[serde(default = "usual_weight")]
    #[schemars(range(min = 0, max = 256))]
    pub weight: u32,
    /// A server of another pool, `POOL/SERVER`, whose health counts as this one's; this one is not checked then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
    /// Whether it only takes part while too few others are healthy (`backups_below`).
    #[serde(default)]
    pub backup: bool,
    /// How many requests it may work on at once, instead of the pool's `max_requests`: 1 to 1000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests: Option<u32>,
}

/// How a client is sent to the same server again: by a signed cookie that Belay sets, and that servers never see. Where
/// its server is down or full another is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sticky {
    /// The cookie's name, for example `__Host-orders`.
    #[schemars(length(min = 1, max = 64))]
    pub cookie: String,
    /// The keys. The first signs, and all of them are understood, so that one can replace the other.
    #[schemars(length(min = 1, max = 4))]
    pub keys: Vec<StickyKey>,
    /// How long a cookie counts after it was set: 1m to 30d. It is set anew after half of it.
    #[schemars(default = "one_day")]
    #[serde(default = "one_day")]
    pub lifetime: DurationText,
    /// Whether the cookie goes along with requests that other sites cause.
    #[serde(default)]
    pub same_site: SameSite,
}

/// A key for cookies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StickyKey {
    /// File with the base64 of at least 32 random bytes, as `file:PATH`.
    pub secret: String,
    /// When it was made, for example `2026-11-01`. Without it its age counts from when Belay saw it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// With which requests a cookie goes along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Of the same site only.
    Strict,
    /// And when somebody follows a link there.
    #[default]
    Lax,
    /// All.
    None,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Introduction {
    /// The one in text.
    V1,
    /// The binary one.
    V2,
}

/// How names of servers are looked up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// The resolvers, for example `10.0.0.53` or `10.0.0.53:5353`. Who does not answer is passed over. Without them those
    /// of the system (`/etc/resolv.conf`), and its `/etc/hosts`.
    #[schemars(length(max = 8))]
    pub resolvers: Vec<String>,
    /// For an answer: 100ms to 60s.
    pub timeout: DurationText,
    /// The shortest time that an answer counts, whatever its TTL: 1s to 1h.
    pub ttl_min: DurationText,
    /// The longest: 1s to 1d.
    pub ttl_max: DurationText,
}

impl Default for Dns {
    fn default() -> Self {
        Self { resolvers: Vec::new(), timeout: time("2s"), ttl_min: time("1s"), ttl_max: time("5m") }
    }
}
