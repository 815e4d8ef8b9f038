//! What callers may use of a route, a pool or a listener.

use super::{RateText, SizeText, Texts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What each of those who are told apart may use. What is over it gets a 429, and may come again after what
/// `Retry-After` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// By what callers are told apart: `workload`, `user`, `role` (by which of them he may pass), `address` (IPv6: /64),
    /// `header:NAME`, `cookie:NAME`, `query:NAME`, `path`, `claim:NAME` (a fact of the workload's token), or `all`, who
    /// are counted together. Those who have nothing of the kind are counted as one.
    #[serde(default = "workload")]
    pub by: String,
    /// The workloads and roles that it is for; all, if none is named.
    #[serde(rename = "for", default, skip_serializing_if = "Vec::is_empty")]
    pub whom: Vec<String>,
    /// Requests in a time: `50/s`, `1000/m`, `5000/h` or `20000/d`. They are spread evenly over it, but for `burst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Requests that may come at once after a pause: 1 to 1,000,000. Without it as many as `rate` allows in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
    /// Requests in flight: 1 to 1,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u32>,
    /// Bytes of responses each second, of all his requests together: 1KiB/s to 1TiB/s. What is over it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<RateText>,
    /// A request's body; a longer one is a 413.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<SizeText>,
    /// A fact of the workload's token by which the edge says that it is too much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeVerdict>,
}

fn workload() -> String {
    "workload".into()
}

/// What the edge says in its token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgeVerdict {
    /// The fact, which the workload `may_assert`.
    pub claim: String,
    /// Its values that mean too much: one text, or a list of which one is enough.
    pub has: Texts,
}
