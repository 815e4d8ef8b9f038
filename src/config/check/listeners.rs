//! `listeners`.

use super::{Check, twice};
use crate::config::document::{Listener, ProfileName, Tls};
use crate::config::fault::Fault;
use crate::config::model::{self, CertificateFiles};
use crate::config::node::Place;
use crate::identity::Profile;
use crate::name::ListenerName;
use std::{collections::BTreeMap, net::SocketAddr};

pub(super) fn check(
    check: &mut Check<'_>,
    listeners: &BTreeMap<String, Listener>,
    admin: Option<SocketAddr>,
) -> Vec<model::Listener> {
    let top = Place::root().key("listeners");
    let mut bound: Vec<(SocketAddr, Place)> = Vec::new();
    let mut checked = Vec::new();
    for (name, listener) in listeners {
        let place = top.key(name);
        let bind = addresses(check, listener, &place.key("bind"));
        bound.extend(bind.iter().filter(|(address, _)| address.port() != 0).cloned());
        demands_fit(check, listener, &place);
        let name = check.key_name(ListenerName::parse, name, &place);
        checked.extend(name.map(|name| model::Listener {
            name,
            bind: bind.into_iter().map(|(address, _)| address).collect(),
            tls: listener.tls.as_ref().map(|tls| tls_config(check, tls, &place.key("tls"))),
            identity: profile(listener.identity),
        }));
    }
    bound.extend(admin.filter(|admin| admin.port() != 0).map(|admin| (admin, Place::root().key("admin").key("http"))));
    twice(bound, "address").into_iter().for_each(|fault| check.fault(fault));
    checked
}

fn addresses(check: &mut Check<'_>, listener: &Listener, place: &Place) -> Vec<(SocketAddr, Place)> {
    let mut read = |(index, text): (usize, &String)| {
        let place = place.index(index);
        check.address(text, &place).map(|address| (address, place))
    };
    listener.bind.iter().enumerate().filter_map(&mut read).collect()
}

fn demands_fit(check: &mut Check<'_>, listener: &Listener, place: &Place) {
    let can_prove = listener.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some());
    if listener.identity != ProfileName::None && !can_prove {
        let asked = profile(listener.identity);
        let fault = Fault::new(place, format!("its identity is {asked}, but it trusts no client certificate"));
        check.fault(fault.at_key().hint("add tls with client_auth, or write `identity: none`"));
    }
}

fn tls_config(check: &mut Check<'_>, tls: &Tls, place: &Place) -> model::Tls {
    let mut certificates = Vec::new();
    for (index, certificate) in tls.certificates.iter().enumerate() {
        let key = check.file_reference(&certificate.key, &place.key("certificates").index(index).key("key"));
        certificates.extend(key.map(|key| CertificateFiles { chain: check.path(&certificate.cert), key }));
    }
    let ca = tls.client_auth.iter().flat_map(|client_auth| &client_auth.ca);
    model::Tls { certificates, client_ca: ca.map(|ca| check.path(ca)).collect() }
}

pub(super) const fn profile(name: ProfileName) -> Profile {
    match name {
        ProfileName::None => Profile::None,
        ProfileName::Mtls => Profile::Mtls,
        ProfileName::MtlsJwt => Profile::MtlsJwt,
    }
}
