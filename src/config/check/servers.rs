//! `pools.*.servers`, `servers_file`, `sticky` and `dns`: where servers are, and how a client finds his own again.

use super::{Check, twice};
use crate::config::document::{Dns, Document, Server, Sticky};
use crate::config::fault::Fault;
use crate::config::model::{self, Location, Question};
use crate::config::node::Place;
use crate::name::{PoolName, ServerName};
use crate::network::{Address, Own, can_be_dialled};
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// RFC 1035 § 3.1.
const HOST_MAX: usize = 253;
/// The longest path of a Unix socket, in bytes.
const SOCKET_PATH_MAX: usize = 107;

/// Checks servers; without a document they stand in a file of their own.
pub(super) fn check(
    check: &mut Check<'_>,
    document: Option<&Document>,
    servers: &[Server],
    place: &Place,
) -> Vec<model::Server> {
    let mut checked = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        let place = place.index(index);
        let name = check.name(ServerName::parse, &server.name, &place.key("name"));
        let location = location(check, server, &place);
        let follows = match &server.follows {
            Some(text) => check.take(followed(document, text).ok_or_else(|| no_server(text, &place.key("follows")))),
            None => None,
        };
        let (weight, is_backup, requests_max) = (server.weight, server.backup, server.max_requests);
        let server = |(name, location)| model::Server { name, location, weight, is_backup, requests_max, follows };
        checked.extend(name.zip(location).map(server));
    }
    let names = servers.iter().enumerate().map(|(index, server)| (&server.name, place.index(index).key("name")));
    twice(names, "name").into_iter().for_each(|fault| check.fault(fault));
    not_a_number_of_another(check, servers, place);
    checked
}

/// `web` with `max` has servers called `web-1` and so on.
fn not_a_number_of_another(check: &mut Check<'_>, servers: &[Server], place: &Place) {
    for (index, server) in servers.iter().enumerate() {
        let numbered = |other: &Server| {
            let rest = server.name.strip_prefix(&other.name).and_then(|rest| rest.strip_prefix('-'));
            let number = rest.and_then(|rest| rest.parse::<u32>().ok());
            number.zip(other.max).is_some_and(|(number, max)| number <= max)
        };
        if let Some(other) = servers.iter().find(|other| numbered(other)) {
            let fault = format!("`{}` with `max` has a server of this name, too", other.name);
            check.fault(Fault::new(&place.index(index).key("name"), fault).hint("give one of them another name"));
        }
    }
}

fn location(check: &mut Check<'_>, server: &Server, place: &Place) -> Option<Location> {
    let located = match (&server.address, &server.srv) {
        (Some(address), None) => location_of(address).map_err(|fault| fault.at(&place.key("address"))),
        (None, Some(srv)) if is_name(srv) => {
            Ok(Location::Found { question: Question::Service(srv.as_str().into()), max: None })
        }
        (None, Some(srv)) => {
            let fault = Fault::new(&place.key("srv"), format!("`{srv}` is no name"));
            Err(fault.hint("for example _http._tcp.orders.internal"))
        }
        (_, _) => {
            let fault = Fault::new(place, "a server has either an `address` or `srv`").at_key();
            Err(fault.hint("for example `address: 10.0.0.1:8080`"))
        }
    };
    let location = check.take(located)?;
    let max = server.max.map(|max| usize::try_from(max).unwrap_or(usize::MAX));
    match location {
        Location::Fixed(_) if max.is_some() => {
            let fault = Fault::new(&place.key("max"), "one address is one server").at_key();
            check.fault(fault.hint("`max` is for names that DNS knows"));
            None
        }
        Location::Fixed(address) => Some(Location::Fixed(address)),
        Location::Found { question, .. } => {
            // The largest number is 100, and a hyphen stands before it.
            if max.is_some() && server.name.len() > crate::name::LENGTH_MAX - 4 {
                let fault = Fault::new(&place.key("name"), "is too long to have a number after it");
                check.fault(fault.hint(format!("at most {} characters with `max`", crate::name::LENGTH_MAX - 4)));
            }
            Some(Location::Found { question, max })
        }
    }
}

/// Why a text is no address.
enum BadAddress {
    Nowhere(String),
    Malformed(String),
    Socket(String),
}

impl BadAddress {
    fn at(self, place: &Place) -> Fault {
        match self {
            Self::Nowhere(text) => Fault::new(place, format!("nothing can be reached at {text}")),
            Self::Malformed(text) => Fault::new(place, format!("`{text}` is no address with a port"))
                .hint("for example 10.0.0.1:8080, orders.internal:8080 or unix:/run/orders.sock"),
            Self::Socket(text) => Fault::new(place, format!("`{text}` is no path of a Unix socket")).hint(format!(
                "an absolute path of at most {SOCKET_PATH_MAX} bytes, for example unix:/run/orders.sock"
            )),
        }
    }
}

fn location_of(text: &str) -> Result<Location, BadAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = Path::new(path);
        let fits = path.is_absolute() && path.as_os_str().len() <= SOCKET_PATH_MAX;
        let address = || Location::Fixed(Address::Unix(path.into()));
        return if fits { Ok(address()) } else { Err(BadAddress::Socket(text.into())) };
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        let dialled = can_be_dialled(address).then_some(Location::Fixed(Address::Socket(address)));
        return dialled.ok_or_else(|| BadAddress::Nowhere(text.into()));
    }
    let malformed = || BadAddress::Malformed(text.into());
    let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(malformed)?;
    // What looks like a broken IP address is one.
    let has_letter = host.bytes().any(|b| b.is_ascii_alphabetic());
    if !has_letter || !is_name(host) {
        return Err(malformed());
    }
    Ok(Location::Found { question: Question::Host(host.into(), port), max: None })
}

/// Whether DNS can be asked for it.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inside)
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    name.len() <= HOST_MAX && name.split('.').all(is_label)
}

/// The server that is meant; none if there is none with an address of its own, or if it follows another itself.
fn followed(document: Option<&Document>, text: &str) -> Option<model::Followed> {
    let (pool, name) = text.split_once('/')?;
    let servers = &document?.pools.get(pool)?.servers;
    let server = servers.iter().find(|server| server.name == name && server.follows.is_none())?;
    let Ok(Location::Fixed(address)) = location_of(server.address.as_deref()?) else { return None };
    Some(model::Followed { pool: PoolName::parse(pool).ok()?, name: ServerName::parse(name).ok()?, address })
}

fn no_server(text: &str, place: &Place) -> Fault {
    let fault = Fault::new(place, format!("there is no server `{text}` to follow"));
    fault.hint("say POOL/SERVER, one with an address of its own in this config, and not one that follows another")
}

/// A request must never be led to ourselves: not to the admin address, and not round and round through a listener.
pub(super) fn not_our_own(check: &mut Check<'_>, document: &Document, admin: &[(SocketAddr, Place)]) {
    let bound: Vec<_> = document.listeners.values().flat_map(|listener| &listener.bind).collect();
    let socket = document.admin.as_ref().and_then(|admin| admin.socket.as_deref());
    let listeners = Own {
        addresses: bound.iter().filter_map(|text| text.parse().ok()).collect(),
        sockets: bound.iter().filter_map(|text| text.strip_prefix("unix:")).map(|path| check.path(path)).collect(),
    };
    let admin = Own {
        addresses: admin.iter().map(|(address, _)| *address).collect(),
        sockets: socket.into_iter().map(|path| check.path(path)).collect(),
    };
    let top = Place::root().key("pools");
    let mut faults = Vec::new();
    for (name, pool) in &document.pools {
        for (index, server) in pool.servers.iter().enumerate() {
            let Some(Ok(Location::Fixed(address))) = server.address.as_deref().map(location_of) else { continue };
            let whose = if admin.has(&address) {
                "admin address"
            } else if listeners.has(&address) {
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

pub(super) fn sticky(check: &mut Check<'_>, sticky: &Sticky, place: &Place) -> Option<model::Sticky> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let cookie = sticky.cookie.as_str();
    if !cookie.bytes().all(is_token) {
        check.fault(Fault::new(&place.key("cookie"), "this is no cookie's name").hint("for example __Host-orders"));
        return None;
    }
    let mut keys = Vec::new();
    for (index, key) in sticky.keys.iter().enumerate() {
        let place = place.key("keys").index(index);
        keys.push(check.key_file((&key.secret, "secret"), key.created.as_deref(), &place)?);
    }
    let lifetime = check.duration(&sticky.lifetime.0, &place.key("lifetime"), MINUTE..=30 * DAY)?;
    Some(model::Sticky { cookie: cookie.into(), keys, lifetime, same_site: sticky.same_site })
}

pub(super) fn dns(check: &mut Check<'_>, dns: &Dns, place: &Place) -> Option<model::Dns> {
    let mut resolvers = Vec::new();
    for (index, text) in dns.resolvers.iter().enumerate() {
        let address = text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
        let address = address.ok().filter(|address| can_be_dialled(*address));
        let fault = || Fault::new(&place.key("resolvers").index(index), format!("`{text}` is no resolver's address"));
        resolvers.push(check.take(address.ok_or_else(|| fault().hint("for example 10.0.0.53 or 10.0.0.53:5353")))?);
    }
    let timeout = check.duration(&dns.timeout.0, &place.key("timeout"), SECOND / 10..=MINUTE)?;
    let ttl_min = check.duration(&dns.ttl_min.0, &place.key("ttl_min"), SECOND..=HOUR)?;
    let ttl_max = check.duration(&dns.ttl_max.0, &place.key("ttl_max"), SECOND..=DAY)?;
    if ttl_min > ttl_max {
        check.fault(Fault::new(&place.key("ttl_min"), "is longer than `ttl_max`"));
        return None;
    }
    Some(model::Dns { resolvers: resolvers.into(), timeout, ttl: ttl_min..=ttl_max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("10.0.0.1:80", Some("10.0.0.1:80"); "v4")]
    #[test_case("[::1]:80", Some("[::1]:80"); "v6")]
    #[test_case("unix:/run/a.sock", Some("unix:/run/a.sock"); "a Unix socket")]
    #[test_case("orders.internal:80", Some("DNS orders.internal"); "a name")]
    #[test_case("orders_1:80", Some("DNS orders_1"); "a name with an underscore")]
    #[test_case("orders.internal.:80", Some("DNS orders.internal."); "a name from the root")]
    #[test_case("10.0.0.1", None; "no port")]
    #[test_case("10.0.0.1:0", None; "port 0")]
    #[test_case("0.0.0.0:80", None; "any address")]
    #[test_case("224.0.0.1:80", None; "a group")]
    #[test_case("10.0.0.256:80", None; "no v4 address")]
    #[test_case("10.0.1:80", None; "a short v4 address")]
    #[test_case("orders..internal:80", None; "an empty label")]
    #[test_case("orders internal:80", None; "a space")]
    #[test_case("http://orders:80", None; "a URL")]
    #[test_case("orders:http", None; "a service for a port")]
    #[test_case(":80", None; "nothing")]
    #[test_case("unix:run/a.sock", None; "a relative path")]
    #[test_case("unix:", None; "no path")]
    fn locations(text: &str, expected: Option<&str>) {
        let read = location_of(text).ok().map(|location| match location {
            Location::Fixed(address) => address.to_string(),
            Location::Found { question, .. } => format!("DNS {question}"),
        });
        assert_eq!(read.as_deref(), expected);
    }
}
