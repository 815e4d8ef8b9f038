//! `pools`.

use super::{Check, balance, failures, health, twice};
use crate::config::document::{Document, OriginTls, Pool, Timeouts};
use crate::config::fault::Fault;
use crate::config::model;
use crate::config::node::Place;
use crate::name::{PoolName, ServerName};
use crate::request::headers::{is_framing, is_ours};
use crate::request::host_of;
use http::HeaderName;
use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn check(check: &mut Check<'_>, document: &Document) -> Vec<model::Pool> {
    let top = Place::root().key("pools");
    let facts = document.workloads.values().flat_map(|workload| &workload.may_assert).map(String::as_str).collect();
    let mut checked = Vec::new();
    for (name, pool) in &document.pools {
        let place = top.key(name);
        let balance = balance::check(check, pool, &place, &facts);
        let name = check.key_name(PoolName::parse, name, &place);
        let servers = servers(check, document, pool, &place.key("servers"));
        let timeouts = timeouts(check, &pool.timeouts, &place.key("timeouts"));
        let health =
            pool.health.as_ref().map(|health| health::check(check, health, pool.http == 2, &place.key("health")));
        let tls = pool.tls.as_ref().map(|tls| origin_tls(check, tls, &place.key("tls")));
        let trailers = trailers(check, &pool.trailers, &place.key("trailers"));
        let retry = failures::retry(check, &pool.retry, &place.key("retry"));
        let outliers = pool.outliers.as_ref().map(|it| failures::outliers(check, it, &place.key("outliers")));
        let breaker = pool.breaker.as_ref().map(|it| failures::breaker(check, it, &place.key("breaker")));
        let agent = pool.agent.as_ref().map(|agent| health::agent(check, agent, &place.key("agent")));
        let limits = limits(check, pool, &place.key("queue"));
        if let (Some(name), Some(timeouts), Some(balance), Some(retry), Some(limits)) =
            (name, timeouts, balance, retry, limits)
        {
            checked.push(model::Pool {
                name,
                balance,
                servers,
                speaks_h2: pool.http == 2,
                tls: tls.flatten(),
                trailers,
                timeouts,
                health: health.flatten(),
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

fn servers(check: &mut Check<'_>, document: &Document, pool: &Pool, place: &Place) -> Vec<model::Server> {
    let mut checked = Vec::new();
    for (index, server) in pool.servers.iter().enumerate() {
        let place = place.index(index);
        let name = check.name(ServerName::parse, &server.name, &place.key("name"));
        let address = dialled(check, &server.address, &place.key("address"));
        let (weight, is_backup) = (server.weight, server.backup);
        let follows = match &server.follows {
            Some(text) => check.take(followed(document, text).ok_or_else(|| no_server(text, &place.key("follows")))),
            None => None,
        };
        let server = |(name, address)| model::Server { name, address, weight, is_backup, follows };
        checked.extend(name.zip(address).map(server));
    }
    let names = pool.servers.iter().enumerate().map(|(index, server)| (&server.name, place.index(index).key("name")));
    twice(names, "name").into_iter().for_each(|fault| check.fault(fault));
    checked
}

/// The server that is meant; none if there is none, or if it follows another itself.
fn followed(document: &Document, text: &str) -> Option<model::Followed> {
    let (pool, name) = text.split_once('/')?;
    let servers = &document.pools.get(pool)?.servers;
    let server = servers.iter().find(|server| server.name == name && server.follows.is_none())?;
    Some(model::Followed {
        pool: PoolName::parse(pool).ok()?,
        name: ServerName::parse(name).ok()?,
        address: server.address.parse().ok()?,
    })
}

fn no_server(text: &str, place: &Place) -> Fault {
    let fault = Fault::new(place, format!("there is no server `{text}` to follow"));
    fault.hint("say POOL/SERVER, and not one that follows another itself")
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

/// An address to connect to: with a port, and not "any address".
fn dialled(check: &mut Check<'_>, text: &str, place: &Place) -> Option<SocketAddr> {
    let address = check.address(text, place)?;
    let host = address.ip().to_canonical();
    if address.port() == 0 || host.is_unspecified() || host.is_multicast() {
        check.fault(Fault::new(place, format!("nothing can be reached at {text}")));
        return None;
    }
    Some(address)
}

fn timeouts(check: &mut Check<'_>, timeouts: &Timeouts, place: &Place) -> Option<model::Timeouts> {
    let mut read =
        |key: &str, text: &str, range: RangeInclusive<Duration>| check.duration(text, &place.key(key), range);
    let connect = read("connect", &timeouts.connect.0, MILLISECOND..=MINUTE);
    let between_bytes = read("between_bytes", &timeouts.between_bytes.0, MILLISECOND..=HOUR);
    let idle = read("idle", &timeouts.idle.0, SECOND..=HOUR);
    let tunnel = read("tunnel", &timeouts.tunnel.0, SECOND..=24 * HOUR);
    Some(model::Timeouts { connect: connect?, between_bytes: between_bytes?, idle: idle?, tunnel: tunnel? })
}

/// A request must never be led to ourselves: not to the admin address, and not round and round through a listener.
pub(super) fn not_our_own(check: &mut Check<'_>, document: &Document, admin: Option<SocketAddr>) {
    let bound = document.listeners.values().flat_map(|listener| &listener.bind);
    let listeners: Vec<_> = bound.filter_map(|text| text.parse::<SocketAddr>().ok()).collect();
    let top = Place::root().key("pools");
    let mut faults = Vec::new();
    for (name, pool) in &document.pools {
        for (index, server) in pool.servers.iter().enumerate() {
            let Ok(address) = server.address.parse() else { continue };
            let whose = if admin.is_some_and(|admin| leads_to(address, admin)) {
                "admin address"
            } else if listeners.iter().any(|listener| leads_to(address, *listener)) {
                "listener"
            } else {
                continue;
            };
            let place = top.key(name).key("servers").index(index).key("address");
            faults.push(Fault::new(&place, format!("this is Belay's own {whose}")));
        }
    }
    faults.into_iter().for_each(|fault| check.fault(fault));
}

/// Whether who dials the one reaches the other: the same port, and the same host or any of this machine's.
fn leads_to(dialled: SocketAddr, bound: SocketAddr) -> bool {
    let (to, at) = (dialled.ip().to_canonical(), bound.ip().to_canonical());
    dialled.port() == bound.port() && (to == at || at.is_unspecified() && to.is_loopback())
}
