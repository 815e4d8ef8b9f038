//! `listeners`.

use super::filters::{self, Around};
use super::{Check, twice};
use crate::config::document::{self, CrlExpired, Document, Handshake, HostFrom, Listener, SharedCa, Tls};
use crate::config::fault::Fault;
use crate::config::model::{self, AdminHttps, Bind, CertificateFiles};
use crate::config::node::{Node, Place};
use crate::identity::Profile;
use crate::name::ListenerName;
use crate::network::Networks;
use std::{net::SocketAddr, time::Duration};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn check(
    check: &mut Check<'_>,
    document: &Document,
    root: &Node,
    admin: &[(SocketAddr, Place)],
) -> Vec<model::Listener> {
    let top = Place::root().key("listeners");
    let mut bound: Vec<(Bind, Place)> = Vec::new();
    let mut checked = Vec::new();
    for (name, listener) in &document.listeners {
        let place = top.key(name);
        if name == AdminHttps::NAME {
            // Connections know their listener by its name alone, also while a reload takes it from one to the other.
            let fault = Fault::new(&place, "in metrics and records `admin` is where workloads read metrics");
            check.fault(fault.at_key().hint("give the listener another name"));
        }
        let bind = binds(check, listener, &place.key("bind"));
        bound.extend(bind.iter().filter(|(bind, _)| bind.tcp().is_none_or(|address| address.port() != 0)).cloned());
        demands_fit(check, listener, &place);
        let sources = networks(check, &listener.sources, &place.key("sources"));
        let proxies = listener.proxy_protocol.as_ref();
        let proxies = proxies.map(|told| {
            let place = place.key("proxy_protocol").key("from");
            let trusted = networks(check, &told.from, &place);
            if trusted.have_everybody() {
                let fault = Fault::new(&place, "everybody could tell any address as his own");
                check.fault(fault.hint("name the load balancers before this one"));
            }
            trusted
        });
        no_address_at_a_path(check, listener, &place);
        let limits = limits(check, &listener.limits, &place.key("limits"));
        let around = Around { root, pools: &document.pools };
        let filters = filters::check(check, around, listener.filters.len(), &place.key("filters"));
        let tls = listener.tls.as_ref().map(|tls| tls_config(check, tls, &place.key("tls")));
        let name = check.key_name(ListenerName::parse, name, &place);
        checked.extend(name.zip(limits).map(|(name, limits)| model::Listener {
            name,
            bind: bind.into_iter().map(|(bind, _)| bind).collect(),
            tls,
            identity: listener.identity,
            sources: (!listener.sources.is_empty()).then_some(sources),
            proxy_protocol: proxies,
            ports: listener.ports.clone(),
            client_address: listener.client_address,
            host_from_token: listener.host_from == HostFrom::Token,
            limits,
            filters,
        }));
    }
    let admin = admin.iter().filter(|(address, _)| address.port() != 0);
    bound.extend(admin.map(|(address, place)| (Bind::Tcp(*address), place.clone())));
    twice(bound, "address").into_iter().for_each(|fault| check.fault(fault));
    checked
}

fn binds(check: &mut Check<'_>, listener: &Listener, place: &Place) -> Vec<(Bind, Place)> {
    let mut read = |(index, text): (usize, &String)| {
        let place = place.index(index);
        let bind = match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Some(Bind::Unix(check.path(path))),
            Some(("fd", name)) if !name.is_empty() => Some(Bind::Inherited(name.to_owned())),
            Some(_) | None => check.address(text, &place).map(Bind::Tcp),
        };
        bind.map(|bind| (bind, place))
    };
    listener.bind.iter().enumerate().filter_map(&mut read).collect()
}

/// A client at a Unix socket has no address, so nothing that is told by addresses would count there.
fn no_address_at_a_path(check: &mut Check<'_>, listener: &Listener, place: &Place) {
    if !listener.bind.iter().any(|bind| bind.starts_with("unix:")) {
        return;
    }
    let told = [(!listener.sources.is_empty(), "sources"), (listener.proxy_protocol.is_some(), "proxy_protocol")];
    for (_, key) in told.into_iter().filter(|(told, _)| *told) {
        let fault =
            Fault::new(&place.key(key), "a client at a Unix socket has no address, so this would not count there");
        check.fault(fault.at_key().hint("give the socket a listener of its own"));
    }
}

pub(super) fn networks(check: &mut Check<'_>, texts: &[String], place: &Place) -> Networks {
    let mut read = |(index, text): (usize, &String)| {
        let fault = |_no_network| {
            let fault = Fault::new(&place.index(index), format!("`{text}` is no network"));
            fault.hint("for example 203.0.113.0/24, 2001:db8::/32 or one address")
        };
        check.take(Networks::parse(text).map_err(fault))
    };
    texts.iter().enumerate().filter_map(&mut read).collect()
}

fn demands_fit(check: &mut Check<'_>, listener: &Listener, place: &Place) {
    let asked = listener.identity;
    let trusts = listener.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some());
    if asked.needs_certificate() && !trusts {
        let fault = Fault::new(place, format!("its identity is {asked}, but it trusts no client certificate"));
        check.fault(fault.at_key().hint("add tls with client_auth, or write `identity: none`"));
    } else if asked != Profile::None && listener.tls.is_none() {
        let fault =
            Fault::new(place, format!("its identity is {asked}, and without tls anybody could read the tokens"));
        check.fault(fault.at_key().hint("add tls, or write `identity: none`"));
    }
    let told = [
        (listener.host_from == HostFrom::Token, "host_from"),
        (listener.client_address == document::ClientAddress::Claim, "client_address"),
    ];
    for (_, key) in told.into_iter().filter(|(told, _)| *told && !asked.needs_token()) {
        let fault = Fault::new(&place.key(key), format!("its identity is {asked}, which knows no token"));
        check.fault(fault.hint("write `identity: mtls+jwt`"));
    }
}

pub(super) fn limits(check: &mut Check<'_>, limits: &document::Limits, place: &Place) -> Option<model::Limits> {
    let time = Duration::from_millis(10)..=MINUTE;
    let handshake_timeout = check.duration(&limits.handshake_timeout.0, &place.key("handshake_timeout"), time.clone());
    let head_timeout = check.duration(&limits.head_timeout.0, &place.key("head_timeout"), time.clone());
    let idle_timeout = check.duration(&limits.idle_timeout.0, &place.key("idle_timeout"), *time.start()..=60 * MINUTE);
    let write_timeout =
        check.duration(&limits.write_timeout.0, &place.key("write_timeout"), *time.start()..=60 * MINUTE);
    let head = check.bytes(&limits.head.0, &place.key("head"), 1024..=256 * 1024);
    let body = check.bytes(&limits.body.0, &place.key("body"), 0..=1 << 40);
    let body_rate_min = check.bytes_per_second(&limits.body_min_rate.0, &place.key("body_min_rate"), 1..=1 << 30);
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    Some(model::Limits {
        connections: count(limits.connections),
        connections_per_address: count(limits.connections_per_address),
        connections_per_workload: count(limits.connections_per_workload),
        streams: limits.streams,
        handshake_timeout: handshake_timeout?,
        head: usize::try_from(head?).unwrap_or(usize::MAX),
        headers: count(limits.headers),
        head_timeout: head_timeout?,
        idle_timeout: idle_timeout?,
        write_timeout: write_timeout?,
        body: body?,
        body_rate_min: body_rate_min?,
    })
}

fn tls_config(check: &mut Check<'_>, tls: &Tls, place: &Place) -> model::Tls {
    let certificates = certificates(check, &tls.certificates, &place.key("certificates"));
    let place = place.key("client_auth");
    let client_auth = tls.client_auth.as_ref().map(|client_auth| client_auth_config(check, client_auth, &place));
    model::Tls { certificates, client_auth }
}

pub(super) fn certificates(
    check: &mut Check<'_>,
    certificates: &[document::Certificate],
    place: &Place,
) -> Vec<CertificateFiles> {
    let files = |(index, certificate)| certificate_files(check, certificate, &place.index(index));
    certificates.iter().enumerate().filter_map(files).collect()
}

fn certificate_files(
    check: &mut Check<'_>,
    certificate: &document::Certificate,
    place: &Place,
) -> Option<CertificateFiles> {
    match (&certificate.cert, &certificate.key, &certificate.folder) {
        (Some(chain), Some(key), None) => {
            let key = check.file_reference(key, &place.key("key"))?;
            Some(CertificateFiles::Pair { chain: check.path(chain), key })
        }
        (None, None, Some(folder)) => Some(CertificateFiles::Folder(check.path(folder))),
        (_, _, _) => {
            let fault = Fault::new(place, "a certificate is `cert` and `key`, or a `folder` of them");
            check.fault(fault.hint("for example { cert: certs/lb.pem, key: \"file:certs/lb.key\" }"));
            None
        }
    }
}

fn client_auth_config(check: &mut Check<'_>, client_auth: &document::ClientAuth, place: &Place) -> model::ClientAuth {
    if client_auth.crl.is_empty() && client_auth.crl_expired != CrlExpired::default() {
        check.fault(Fault::new(&place.key("crl_expired"), "there is no `crl` that could expire").at_key());
    }
    let lifetime = client_auth.max_certificate_lifetime.as_ref();
    let place = place.key("max_certificate_lifetime");
    let lifetime_max = lifetime.and_then(|lifetime| check.duration(&lifetime.0, &place, MINUTE..=3650 * DAY));
    let paths = |texts: &[String]| texts.iter().map(|text| check.path(text)).collect();
    model::ClientAuth {
        ca: paths(&client_auth.ca),
        crl: paths(&client_auth.crl),
        expired_crl_counts: client_auth.crl_expired == CrlExpired::Warn,
        is_strict: client_auth.handshake == Handshake::Strict,
        lifetime_max,
        trusts_origin_pull: client_auth.trust_shared_ca == Some(SharedCa::CloudflareOriginPull),
    }
}
