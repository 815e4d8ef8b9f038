//! `pools`.

use super::{Check, balance, failures, health, servers, twice};
use crate::config::document::{Document, OriginTls, Pool, Timeouts};
use crate::config::fault::Fault;
use crate::config::model;
use crate::config::node::Place;
use crate::name::PoolName;
use crate::request::headers::{is_framing, is_ours};
use crate::request::host_of;
use http::HeaderName;
use std::{net::IpAddr, ops::RangeInclusive, sync::Arc, time::Duration};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn check(check: &mut Check<'_>, document: &Document) -> Vec<model::Pool> {
    let top = Place::root().key("pools");
    let facts = document.workloads.values().flat_map(|workload| &workload.may_assert).map(String::as_str).collect();
    let cookies = document
        .pools
        .iter()
        .filter_map(|(name, pool)| Some((&pool.sticky.as_ref()?.cookie, top.key(name).key("sticky").key("cookie"))));
    // On one host one would replace the other.
    twice(cookies, "cookie").into_iter().for_each(|fault| check.fault(fault));
    let mut checked = Vec::new();
    for (name, pool) in &document.pools {
        let place = top.key(name);
        let balance = balance::check(check, pool, &place, &facts);
        let name = check.key_name(PoolName::parse, name, &place);
        if pool.servers.is_empty() && pool.servers_file.is_none() {
            let fault = Fault::new(&place, "has no `servers`, and no `servers_file`").at_key();
            check.fault(fault.hint("for example `servers: [{ name: a, address: \"10.0.0.1:8080\" }]`"));
        }
        let servers = servers::check(check, Some(document), &pool.servers, &place.key("servers"));
        let sticky = pool.sticky.as_ref().map(|it| servers::sticky(check, it, &place.key("sticky")));
        let timeouts = timeouts(check, &pool.timeouts, &place.key("timeouts"));
        let health = health::of_pool(check, document, pool, &place);
        let tls = pool.tls.as_ref().map(|tls| origin_tls(check, tls, &place.key("tls")));
        let trailers = trailers(check, &pool.trailers, &place.key("trailers"));
        let retry = failures::retry(check, &pool.retry, &place.key("retry"));
        let outliers = pool.outliers.as_ref().map(|it| failures::outliers(check, it, &place.key("outliers")));
        let breaker = pool.breaker.as_ref().map(|it| failures::breaker(check, it, &place.key("breaker")));
        let agent = pool.agent.as_ref().map(|agent| health::agent(check, agent, &place.key("agent")));
        let limits = limits(check, pool, &place.key("queue"));
        contradictions(check, pool, &place);
        if let (Some(name), Some(timeouts), Some(balance), Some(retry), Some(limits)) =
            (name, timeouts, balance, retry, limits)
        {
            checked.push(model::Pool {
                name,
                balance,
                servers,
                servers_file: pool.servers_file.as_ref().map(|path| check.path(path)),
                sticky: sticky.flatten(),
                introduction: pool.proxy_protocol,
                speaks_h2: pool.http == 2,
                tls: tls.flatten(),
                trailers,
                timeouts,
                health,
                agent: agent.flatten(),
                limits,
                retry,
                outliers: outliers.flatten(),
                breaker: breaker.flatten(),
            });
        }
    }
    checked
}

/// What does not go together.
fn contradictions(check: &mut Check<'_>, pool: &Pool, place: &Place) {
    if pool.proxy_protocol.is_some() && pool.http == 2 {
        let fault = Fault::new(&place.key("proxy_protocol"), "many clients share a connection of HTTP/2").at_key();
        check.fault(fault.hint("say `http: 1`, or leave the client's address to `Forwarded`"));
    }
    let sockets = pool.servers.iter().position(|server| server.address.as_deref().is_some_and(is_unix));
    if let (Some(index), true) = (sockets, pool.agent.is_some()) {
        let fault =
            Fault::new(&place.key("servers").index(index).key("address"), "a Unix socket has no agent beside it");
        check.fault(fault.hint("take `agent` out of the pool, or give the server an address with a port"));
    }
}

fn is_unix(address: &str) -> bool {
    address.starts_with("unix:")
}

fn origin_tls(check: &mut Check<'_>, tls: &OriginTls, place: &Place) -> Option<model::OriginTls> {
    // An empty name would switch the verification off, in more than one library.
    let is_name = |name: &str| name.parse::<IpAddr>().is_ok() || host_of(name).is_ok_and(|host| host == name);
    if !is_name(&tls.sni) {
        let fault = Fault::new(&place.key("sni"), format!("`{}` is no host", tls.sni));
        check.fault(fault.hint("the name in the servers' certificate, for example orders.internal"));
        return None;
    }
    let client = match &tls.client {
        Some(client) => {
            let key = check.file_reference(&client.key, &place.key("client").key("key"))?;
            Some((check.path(&client.cert), key))
        }
        None => None,
    };
    Some(model::OriginTls { ca: tls.ca.iter().map(|ca| check.path(ca)).collect(), sni: tls.sni.clone(), client })
}

fn limits(check: &mut Check<'_>, pool: &Pool, queue: &Place) -> Option<model::PoolLimits> {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Some(model::PoolLimits {
        requests_per_server: pool.max_requests.unwrap_or(u32::MAX),
        requests: pool.max_requests_in_all.unwrap_or(u32::MAX),
        connections_per_server: pool.max_connections.unwrap_or(u32::MAX),
        connections: pool.max_connections_in_all.unwrap_or(u32::MAX),
        queue_length: count(pool.queue.length),
        queue_per_workload: count(pool.queue.per_workload),
        queue_timeout: check.duration(&pool.queue.timeout.0, &queue.key("timeout"), 10 * MILLISECOND..=MINUTE)?,
    })
}

fn trailers(check: &mut Check<'_>, names: &[String], place: &Place) -> Arc<[HeaderName]> {
    let mut read = |(index, text): (usize, &String)| {
        let fault = || Fault::new(&place.index(index), format!("`{text}` cannot be a trailer"));
        let name = text.parse::<HeaderName>().ok().filter(|name| !is_framing(name.as_str()) && !is_ours(name.as_str()));
        check.take(name.ok_or_else(|| fault().hint("a header's name that frames no message and is not Belay's own")))
    };
    names.iter().enumerate().filter_map(&mut read).collect()
}

fn timeouts(check: &mut Check<'_>, timeouts: &Timeouts, place: &Place) -> Option<model::Timeouts> {
    let mut read =
        |key: &str, text: &str, range: RangeInclusive<Duration>| check.duration(text, &place.key(key), range);
    let connect = read("connect", &timeouts.connect.0, MILLISECOND..=MINUTE);
    let between_bytes = read("between_bytes", &timeouts.between_bytes.0, MILLISECOND..=HOUR);
    let idle = read("idle", &timeouts.idle.0, SECOND..=HOUR);
    let lifetime = read("lifetime", &timeouts.lifetime.0, SECOND..=24 * HOUR);
    let tunnel = read("tunnel", &timeouts.tunnel.0, SECOND..=24 * HOUR);
    Some(model::Timeouts {
        connect: connect?,
        between_bytes: between_bytes?,
        idle: idle?,
        lifetime: lifetime?,
        tunnel: tunnel?,
    })
}
