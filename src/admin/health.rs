//! Whether this node should get requests.

use super::reply::Reply;
use crate::runtime::Live;
use http::StatusCode;

/// Unready is what this node alone suffers from. What all nodes share, such as a pool without a server, is told where
/// more is asked, and shows in the metrics: if it counted, one lost pool would take every node away.
pub(super) fn readiness(live: &Live, is_draining: bool, is_verbose: bool) -> Reply {
    let own = [
        (!is_draining, "not draining", "draining"),
        (live.state().journal.serves(), "the audit log is written", "the audit log cannot be written"),
    ];
    let missing = own.iter().find(|(is_well, ..)| !is_well).map(|(.., missing)| *missing);
    let status = if missing.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    if !is_verbose {
        return Reply::text(status, missing.unwrap_or("ok"));
    }
    let line = |is_well: bool, what: String| format!("[{}] {what}", if is_well { '+' } else { '-' });
    let own = own.iter().map(|(is_well, well, ill)| line(*is_well, (if *is_well { *well } else { *ill }).into()));
    let shared = shared(live).map(|(is_well, what)| line(is_well, format!("{what} (does not count)")));
    let lines: Vec<_> = own.chain(shared).collect();
    Reply::text(status, format!("{}\n{}", lines.join("\n"), if missing.is_some() { "not ready" } else { "ready" }))
}

/// What all nodes share.
fn shared(live: &Live) -> impl Iterator<Item = (bool, String)> {
    let (snapshot, now) = (live.snapshot(), live.state().clock.now());
    let mut pools: Vec<_> = snapshot
        .pools
        .iter()
        .map(|pool| (pool.has_server(), format!("pool {}: a server takes requests", pool.name())))
        .collect();
    pools.sort_by(|(_, one), (_, other)| one.cmp(other));
    let aging: Vec<_> = snapshot.warnings_of_age(now).map(|(_, warning)| warning).collect();
    pools.into_iter().chain(aging.into_iter().map(|warning| (false, warning)))
}
