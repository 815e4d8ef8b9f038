//! `people`: whose users there are, and what of their tokens counts.

use super::roles::Roles;
use super::{Check, twice};
use crate::config::document::Document;
use crate::config::fault::Fault;
use crate::config::model::People;
use crate::config::node::Place;
use crate::identity::ClaimPath;
use crate::name::PeopleName;
use crate::request::headers::{is_framing, is_ours};
use http::HeaderName;

pub(super) fn check(check: &mut Check<'_>, document: &Document, roles: &Roles) -> Vec<People> {
    let top = Place::root().key("people");
    let checked = document.people.iter().filter_map(|(name, people)| {
        let place = top.key(name);
        let named = check.key_name(PeopleName::parse, name, &place);
        let memberships = roles.of_people.iter().filter(|(people, _)| people == name);
        let memberships = memberships.map(|(_, membership)| membership.clone()).collect();
        let issuer = issuer(check, &people.issuer, &place.key("issuer"));
        let header = header(check, &people.header, &place.key("header"));
        let jwks = check.file_reference(&people.jwks, &place.key("jwks"));
        let audience_claim = claim(check, &people.audience_claim, &place.key("audience_claim"));
        let subject = subject(check, &people.subject, &place.key("subject"));
        Some(People {
            name: named?,
            issuer: issuer?.into(),
            audience_claim: audience_claim?,
            audiences: people.audience.all().iter().map(|text| text.as_str().into()).collect(),
            header: header?,
            subject,
            memberships,
            is_forwarded: people.forward,
            jwks: jwks?,
        })
    });
    let checked = checked.collect();
    let told_apart = document
        .people
        .iter()
        .map(|(name, people)| ((&people.issuer, people.header.to_ascii_lowercase()), top.key(name).key("issuer")));
    twice(told_apart, "issuer with this header").into_iter().for_each(|fault| check.fault(fault));
    are_there(check, document);
    checked
}

fn issuer<'a>(check: &mut Check<'_>, issuer: &'a str, place: &Place) -> Option<&'a str> {
    let well_formed = issuer.bytes().all(|b| b.is_ascii_graphic() && b != b'|');
    let fault = || Fault::new(place, format!("`{issuer}` is no issuer")).hint("for example https://example.okta.com");
    check.take(well_formed.then_some(issuer).ok_or_else(fault))
}

fn header(check: &mut Check<'_>, name: &str, place: &Place) -> Option<HeaderName> {
    let hint = "for example authorization, or cf-access-jwt-assertion";
    let fault = match HeaderName::try_from(name) {
        Ok(header) if is_ours(header.as_str()) => Fault::new(place, format!("only Belay writes `{name}`")),
        Ok(header) if is_framing(header.as_str()) => Fault::new(place, format!("`{name}` is about the connection")),
        Ok(header) if header == http::header::COOKIE => Fault::new(place, "a token in a cookie is not read"),
        Ok(header) => return Some(header),
        Err(_no_name) => Fault::new(place, format!("`{name}` is no name of a header")),
    };
    check.fault(fault.hint(hint));
    None
}

fn claim(check: &mut Check<'_>, text: &str, place: &Place) -> Option<ClaimPath> {
    let fault = |why: crate::identity::NoClaim| {
        Fault::new(place, format!("`{text}` is no place of a claim")).hint(why.to_string())
    };
    check.take(ClaimPath::parse(text).map_err(fault))
}

fn subject(check: &mut Check<'_>, claims: &[String], place: &Place) -> Box<[ClaimPath]> {
    let named = claims.iter().enumerate().map(|(index, text)| (text, place.index(index)));
    twice(named, "claim").into_iter().for_each(|fault| check.fault(fault));
    let mut read = |(index, text): (usize, &String)| claim(check, text, &place.index(index));
    claims.iter().enumerate().filter_map(&mut read).collect()
}

/// Where a user is demanded there must be people of whom he is one.
fn are_there(check: &mut Check<'_>, document: &Document) {
    if !document.people.is_empty() {
        return;
    }
    let (listeners, routes) = (Place::root().key("listeners"), Place::root().key("routes"));
    let of_listeners = document
        .listeners
        .iter()
        .map(|(name, listener)| (Some(listener.identity), listeners.key(name).key("identity")));
    let of_routes =
        document.routes.iter().enumerate().map(|(index, route)| (route.identity, routes.index(index).key("identity")));
    for (profile, place) in of_listeners.chain(of_routes) {
        if let Some(profile) = profile.map(super::listeners::profile).filter(|profile| profile.needs_user()) {
            let fault = Fault::new(&place, format!("it demands {profile}, but the config knows no `people`"));
            check.fault(fault.hint("add `people: { staff: { issuer: …, audience: …, jwks: … } }`"));
        }
    }
}
