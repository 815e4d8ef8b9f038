//! What grows old, told.

use super::reply::Reply;
use crate::clock::{Timestamp, UnixSeconds};
use crate::generation::Digest;
use crate::runtime::{Held, Live};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::Path;

/// What `/keys` tells.
#[derive(Serialize, JsonSchema)]
pub(super) struct Keys<'a> {
    generation: u64,
    /// Since when uses are counted: the process's start.
    #[schemars(with = "String")]
    since: Timestamp,
    keys: Vec<Key<'a>>,
}

/// A key, a certificate, or what else grows old. Times are in RFC 3339.
#[derive(Serialize, JsonSchema)]
struct Key<'a> {
    /// `token_key`, `shared_secret`, `certificate`, `ca`, `revocation_list`, `cookie_key`, `ticket_key`, `pseudonym_key`,
    /// `checkpoint_key` or `external`.
    kind: &'static str,
    /// Whose, as the config says it: `workloads.checkout`.
    owner: &'a str,
    /// Its id, or the way to its file.
    name: &'a str,
    /// `next`, `active`, `retiring`, `revoked`, `expired` or `too_old`.
    state: &'static str,
    /// The file that it was read from.
    file: Option<&'a Path>,
    /// SHA-256 of what it is; of a certificate of its public key.
    #[schemars(with = "Option<String>")]
    fingerprint: Option<Digest>,
    /// When it was made, or first seen, if that was earlier.
    #[schemars(with = "String")]
    created: Timestamp,
    #[schemars(with = "Option<String>")]
    first_seen: Option<Timestamp>,
    age_days: i64,
    /// When it expires, is refused, or should be replaced; none if never.
    #[schemars(with = "Option<String>")]
    ends: Option<Timestamp>,
    /// How often it was used since the process has started; none if nobody here could know.
    uses: Option<u64>,
    /// When it was used last since then, to the second.
    #[schemars(with = "Option<String>")]
    last_used: Option<Timestamp>,
    /// What is to be said of its age.
    warning: Option<String>,
}

const DAY: UnixSeconds = 24 * 60 * 60;

/// All of them, as JSON.
pub(super) fn all(live: &Live) -> Reply {
    let (snapshot, state) = (live.snapshot(), live.state());
    let now = state.clock.now();
    // So that a use of this very moment shows.
    state.secrets.look(&state.metrics, now);
    let told = |held| told(held, state.secrets.used(held), now);
    let (generation, since) = (snapshot.generation.number(), state.started);
    Reply::json(&Keys { generation, since, keys: snapshot.secrets.iter().map(told).collect() })
}

fn told(held: &Held, (uses, last_used): (u64, Option<UnixSeconds>), now: Timestamp) -> Key<'_> {
    let at = Timestamp::from_unix_seconds;
    Key {
        kind: held.label.kind.word(),
        owner: &held.label.owner,
        name: &held.label.name,
        state: held.state(now),
        file: held.file.as_deref(),
        fingerprint: held.fingerprint,
        created: at(held.born),
        first_seen: held.first_seen.map(at),
        age_days: held.age(now) / DAY,
        ends: held.aging.as_ref().map(|aging| at(aging.ends)),
        uses: held.uses.as_ref().map(|_| uses),
        last_used: last_used.map(at),
        warning: held.aging.as_ref().and_then(|aging| aging.warning(now)),
    }
}
