//! The state of servers: told, and changed.

use super::reply::Reply;
use crate::audit::Cause;
use crate::name::{PoolName, ServerName};
use crate::network::Address;
use crate::runtime::Live;
use crate::upstream::{Member, Mode, Pool};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;

/// What `/status` tells.
#[derive(Serialize, JsonSchema)]
pub(super) struct Status<'a> {
    generation: u64,
    pools: Vec<PoolStatus<'a>>,
}

/// A pool.
#[derive(Serialize, JsonSchema)]
struct PoolStatus<'a> {
    #[schemars(with = "String")]
    name: &'a PoolName,
    /// Requests that wait for a server with room.
    queued: usize,
    /// The pool is left alone, because too many of its requests have failed.
    circuit_open: bool,
    servers: Vec<ServerStatus<'a>>,
    /// Names of servers that DNS has told nothing of yet.
    unknown: Vec<String>,
}

/// A server.
#[derive(Serialize, JsonSchema)]
struct ServerStatus<'a> {
    #[schemars(with = "String")]
    name: &'a ServerName,
    #[schemars(with = "String")]
    address: &'a Address,
    state: Mode,
    /// `up`, `down`, `unknown` before the first check, `ejected` for its answers, or `down (agent)`.
    health: &'static str,
    /// What counts, and what the config says.
    weight: u32,
    configured_weight: u32,
    backup: bool,
    /// Requests that it works on.
    active: u32,
    /// Connections to it.
    connections: u32,
    /// To the heads of its responses, on average; none before the first.
    latency_seconds: Option<f64>,
}

/// All pools by name, as JSON.
pub(super) fn status(live: &Live) -> Reply {
    let snapshot = live.snapshot();
    let pools: Vec<_> = snapshot.pools.iter().collect();
    let mut pools: Vec<_> = pools.iter().map(|pool| pool_status(pool)).collect();
    pools.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
    Reply::json(&Status { generation: snapshot.generation.number(), pools })
}

fn pool_status(pool: &Pool) -> PoolStatus<'_> {
    PoolStatus {
        name: pool.name(),
        queued: pool.queued(),
        circuit_open: pool.is_left_alone(),
        servers: pool.servers.iter().map(server_status).collect(),
        unknown: pool.unknown(),
    }
}

fn server_status(member: &Member) -> ServerStatus<'_> {
    let state = &member.state;
    ServerStatus {
        name: &state.name,
        address: &state.address,
        state: state.mode(),
        health: state.health_word(member.health()),
        weight: member.weight(),
        configured_weight: member.configured_weight,
        backup: member.is_backup,
        active: state.standing.active(),
        connections: state.connections(),
        latency_seconds: state.standing.latency.average().as_ref().map(Duration::as_secs_f64),
    }
}

/// Does with a server what a word says: `ready`, `drain`, `maint`, `weight=N` or `weight=default`.
pub(super) fn change(live: &Live, (pool, server, act): (&str, &str, &str), cause: &Cause) -> Reply {
    let snapshot = live.snapshot();
    let found = snapshot.pools.iter().find(|it| it.name().as_str() == pool);
    let Some(member) = found.as_ref().and_then(|it| it.member(server)) else {
        return Reply::text(StatusCode::NOT_FOUND, format!("there is no server {pool}/{server}"));
    };
    let Some(act) = Act::parse(act) else {
        let known = "ready, drain, maint, weight=0 to weight=256, weight=default";
        let fault = format!("`{act}` is nothing that can be done; there are {known}");
        return Reply::text(StatusCode::BAD_REQUEST, fault);
    };
    let (action, done) = match act {
        Act::Mode(mode) => {
            member.state.set_mode(mode);
            (mode.action(), format!("{pool}/{server} is {}", mode.word()))
        }
        Act::Weight(weight) => {
            member.state.set_weight(weight);
            ("weight", format!("{pool}/{server} has the weight {}", member.weight()))
        }
    };
    live.record_of(action, &member.state, cause);
    log::info!("{done}");
    Reply::text(StatusCode::OK, done)
}

enum Act {
    Mode(Mode),
    Weight(Option<u32>),
}

impl Act {
    fn parse(word: &str) -> Option<Self> {
        match (word, word.strip_prefix("weight=")) {
            ("ready", _) => Some(Self::Mode(Mode::Ready)),
            ("drain", _) => Some(Self::Mode(Mode::Draining)),
            ("maint", _) => Some(Self::Mode(Mode::Maintenance)),
            (_, Some("default")) => Some(Self::Weight(None)),
            (_, Some(weight)) => weight.parse().ok().filter(|weight| *weight <= 256).map(|it| Self::Weight(Some(it))),
            _ => None,
        }
    }
}
