//! `pools.*.balance` and what belongs to it.

use super::Check;
use crate::balance::{Algorithm, Tiers};
use crate::config::document::{Balance, Hash, Pool};
use crate::config::fault::Fault;
use crate::config::model::{self, HashKey};
use crate::config::node::Place;
use http::HeaderName;
use std::{collections::HashSet, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);

/// Facts that some workload may assert.
pub(super) type Facts<'a> = HashSet<&'a str>;

pub(super) fn check(check: &mut Check<'_>, pool: &Pool, place: &Place, facts: &Facts<'_>) -> Option<model::Balance> {
    let slow_start = check.duration(&pool.slow_start.0, &place.key("slow_start"), Duration::ZERO..=HOUR);
    let backups_below = check.percent(&pool.backups_below.0, &place.key("backups_below"), 1..=100);
    let panic_below = check.percent(&pool.panic_below.0, &place.key("panic_below"), 0..=100);
    let (algorithm, key) = algorithm(check, pool, place, facts)?;
    let tiers = Tiers { backups_below: backups_below?, panic_below: panic_below? };
    Some(model::Balance { algorithm, key, tiers, slow_start: slow_start? })
}

fn algorithm(
    check: &mut Check<'_>,
    pool: &Pool,
    place: &Place,
    facts: &Facts<'_>,
) -> Option<(Algorithm, Option<HashKey>)> {
    if pool.hash.is_some() && pool.balance != Balance::Hash {
        let fault = Fault::new(&place.key("hash"), "is for `balance: hash`").at_key();
        check.fault(fault.hint("say `balance: hash`, or take it out"));
        return None;
    }
    let algorithm = match pool.balance {
        Balance::RoundRobin => Algorithm::RoundRobin,
        Balance::LeastConnections => Algorithm::LeastConnections,
        Balance::PowerOfTwo => Algorithm::PowerOfTwo,
        Balance::LeastLatency => Algorithm::LeastLatency,
        Balance::Random => Algorithm::Random,
        Balance::First => Algorithm::First,
        Balance::Hash => return hash(check, pool.hash.as_ref(), place, facts),
    };
    Some((algorithm, None))
}

fn hash(
    check: &mut Check<'_>,
    hash: Option<&Hash>,
    place: &Place,
    facts: &Facts<'_>,
) -> Option<(Algorithm, Option<HashKey>)> {
    let Some(hash) = hash else {
        let fault = Fault::new(&place.key("balance"), "`hash` must say what a request is recognised by");
        check.fault(fault.hint("for example `hash: { by: cookie:session }`"));
        return None;
    };
    let place = place.key("hash");
    let load_max = check.percent(&hash.load_max.0, &place.key("load_max"), 100..=1000);
    let key = key(&hash.by, facts).map_err(|(fault, hint)| Fault::new(&place.key("by"), fault).hint(hint));
    let key = check.take(key)?;
    Some((Algorithm::Hash { load_max: load_max? }, Some(key)))
}

pub(super) fn key(text: &str, facts: &Facts<'_>) -> Result<HashKey, (String, &'static str)> {
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b"=;&,\"".contains(&b));
    match kind {
        "address" if text == kind => Ok(HashKey::Address),
        "path" if text == kind => Ok(HashKey::Path),
        "workload" if text == kind => Ok(HashKey::Workload),
        "header" if !name.is_empty() => {
            let no_header = |_| (format!("`{name}` is no header"), "for example header:x-user");
            name.parse::<HeaderName>().map(HashKey::Header).map_err(no_header)
        }
        "cookie" if is_name(name) => Ok(HashKey::Cookie(name.into())),
        "query" if is_name(name) => Ok(HashKey::Query(name.into())),
        "claim" if facts.contains(name) => Ok(HashKey::Claim(name.into())),
        "claim" if !name.is_empty() => {
            Err((format!("no workload may assert `{name}`"), "name it in `may_assert` of a workload"))
        }
        _ => {
            let hint = "address, path, workload, header:NAME, cookie:NAME, query:NAME or claim:NAME";
            Err((format!("`{text}` is nothing to recognise a request by"), hint))
        }
    }
}
