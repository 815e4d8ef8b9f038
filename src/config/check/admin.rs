//! `admin`: where Belay itself is asked.

use super::Check;
use super::listeners::{self, certificates};
use super::routes::allow_list;
use crate::config::document::{self, Document};
use crate::config::fault::Fault;
use crate::config::model::{self, AdminHttps, Bind, ClientAddress, ClientAuth, Operators, Tls};
use crate::config::node::Place;
use crate::identity::Profile;
use crate::name::ListenerName;
use std::{net::SocketAddr, path::PathBuf};

/// Connections of workloads that read metrics and health.
const SCRAPERS_MAX: u32 = 64;

/// Where Belay itself is asked.
pub(super) struct Doors {
    pub(super) http: Option<SocketAddr>,
    pub(super) https: Option<AdminHttps>,
    pub(super) socket: Option<PathBuf>,
    pub(super) operators: Operators,
    /// Its addresses.
    pub(super) addresses: Vec<(SocketAddr, Place)>,
}

pub(super) fn check(check: &mut Check<'_>, document: &Document) -> Doors {
    let place = Place::root().key("admin");
    let admin = document.admin.as_ref();
    let http = admin.and_then(|admin| http(check, admin.http.as_deref()?, &place.key("http")));
    let https = admin.and_then(|admin| https(check, document, admin.https.as_ref()?, &place.key("https")));
    let addresses = [(http, place.key("http")), (https.as_ref().map(|(at, _)| *at), place.key("https").key("bind"))];
    let addresses = addresses.into_iter().filter_map(|(address, place)| Some((address?, place))).collect();
    let socket = admin.and_then(|admin| admin.socket.as_ref()).map(|path| check.path(path));
    let named = |admin: &document::Admin| Operators { read: admin.read.clone(), change: admin.change.clone() };
    let operators = admin.map(named).unwrap_or_default();
    Doors { http, https: https.map(|(_, https)| https), socket, operators, addresses }
}

fn http(check: &mut Check<'_>, text: &str, place: &Place) -> Option<SocketAddr> {
    let address = check.address(text, place)?;
    if !address.ip().is_loopback() {
        let fault = Fault::new(place, "metrics and health are readable without a password");
        check.fault(fault.hint("listen on loopback, for example 127.0.0.1:9900, or use `https`"));
        return None;
    }
    Some(address)
}

fn https(
    check: &mut Check<'_>,
    document: &Document,
    https: &document::AdminHttps,
    place: &Place,
) -> Option<(SocketAddr, AdminHttps)> {
    let certificates = certificates(check, &https.certificates, &place.key("certificates"));
    let paths = |texts: &[String]| texts.iter().map(|text| check.path(text)).collect();
    let client_auth = ClientAuth {
        ca: paths(&https.ca),
        crl: paths(&https.crl),
        expired_crl_counts: false,
        is_strict: true,
        lifetime_max: None,
        trusts_origin_pull: false,
    };
    let allow = allow_list(check, document, &https.allow, ("admin.https", &place.key("allow")));
    let of_people = |name: &&String| document.roles.get(*name).is_some_and(|role| role.people.is_some());
    if let Some(role) = https.allow.iter().find(of_people) {
        let fault =
            Fault::new(&place.key("allow"), format!("`{role}` is a role of people, and no user is asked for here"));
        check.fault(fault.hint("name workloads, or roles of workloads"));
    }
    let limits = document::Limits {
        connections: SCRAPERS_MAX,
        connections_per_address: SCRAPERS_MAX / 4,
        connections_per_workload: SCRAPERS_MAX / 4,
        ..document::Limits::default()
    };
    let limits = listeners::limits(check, &limits, place)?;
    let address = check.address(&https.bind, &place.key("bind"))?;
    let listener = model::Listener {
        name: ListenerName::parse(AdminHttps::NAME).ok()?,
        bind: vec![Bind::Tcp(address)],
        tls: Some(Tls { certificates, client_auth: Some(client_auth) }),
        identity: Profile::Mtls,
        sources: None,
        proxy_protocol: None,
        ports: Vec::new(),
        client_address: ClientAddress::Peer,
        host_from_token: false,
        limits,
        filters: Vec::new(),
    };
    Some((address, AdminHttps { listener, allow }))
}
