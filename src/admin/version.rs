//! Which program, and which config.

use super::reply::Reply;
use crate::generation::Digest;
use crate::runtime::Live;
use schemars::JsonSchema;
use serde::Serialize;

/// What `/version` tells.
#[derive(Serialize, JsonSchema)]
pub(super) struct Version<'a> {
    /// The program's.
    version: &'static str,
    node: &'a str,
    /// The number of the config that is live.
    generation: u64,
    /// SHA-256 over the config and all files that it names.
    #[schemars(with = "String")]
    digest: Digest,
    /// SHA-256 over what decides requests. It is the same on nodes that are alike.
    #[schemars(with = "String")]
    policy: Digest,
}

pub(super) fn told(live: &Live) -> Reply {
    let snapshot = live.snapshot();
    Reply::json(&Version {
        version: env!("CARGO_PKG_VERSION"),
        node: snapshot.config.node.as_str(),
        generation: snapshot.generation.number(),
        digest: snapshot.digest,
        policy: snapshot.policy,
    })
}
