//! `people`: whose users there are, and what of their tokens counts.

use super::roles::Roles;
use super::{Check, twice};
use crate::config::document::{self, Document};
use crate::config::fault::Fault;
use crate::config::model::{KeysPlace, People, ProviderKeys};
use crate::config::node::Place;
use crate::config::value;
use crate::identity::{self, Addressed, ClaimPath};
use crate::name::PeopleName;
use crate::request::headers::{is_framing, is_ours};
use http::HeaderName;
use std::sync::Arc;

pub(super) fn check(check: &mut Check<'_>, document: &Document, roles: &Roles) -> Vec<People> {
    let top = Place::root().key("people");
    let checked = document.people.iter().filter_map(|(name, people)| {
        let place = top.key(name);
        let named = check.key_name(PeopleName::parse, name, &place);
        let memberships = roles.of_people.iter().filter(|(people, _)| people == name);
        let memberships = memberships.map(|(_, membership)| membership.clone()).collect();
        let issuer = issuer(check, &people.issuer, &place.key("issuer"));
        let header = header(check, people.brought_by(), &place.key("header"));
        let keys = keys(check, people, &place);
        let addressed = addressed(check, people, &place);
        let subject = subject(check, &people.subject, &place.key("subject"));
        let terms = identity::People {
            name: named?,
            issuer: issuer?.into(),
            addressed: addressed?,
            header: header?,
            subject,
            memberships,
            is_forwarded: people.forward,
            keys: Arc::default(),
        };
        Some(People { terms, mapping: people.mapping.as_ref().map(|mapping| check.path(&mapping.file)), keys: keys? })
    });
    let checked = checked.collect();
    let told_apart = document.people.iter().map(|(name, people)| {
        ((&people.issuer, people.brought_by().to_ascii_lowercase()), top.key(name).key("issuer"))
    });
    twice(told_apart, "issuer with this header").into_iter().for_each(|fault| check.fault(fault));
    are_there(check, document);
    checked
}

fn issuer<'a>(check: &mut Check<'_>, issuer: &'a str, place: &Place) -> Option<&'a str> {
    let well_formed = issuer.bytes().all(|b| b.is_ascii_graphic() && b != b'|');
    let fault = || Fault::new(place, format!("`{issuer}` is no issuer")).hint("for example https://example.okta.com");
    check.take(well_formed.then_some(issuer).ok_or_else(fault))
}

/// For whom their tokens must be, or by whom.
fn addressed(check: &mut Check<'_>, people: &document::People, place: &Place) -> Option<Addressed> {
    let texts = |texts: &document::Texts| texts.all().iter().map(|text| text.as_str().into()).collect();
    let claim = claim(check, &people.audience_claim, &place.key("audience_claim"));
    match (&people.audience, &people.signer) {
        (Some(audience), None) => Some(Addressed::To { claim: claim?, audiences: texts(audience) }),
        (None, Some(signer)) => {
            let is_arn = |text: &String| region(text).is_some();
            if let Some(other) = signer.all().iter().find(|text| !is_arn(text)) {
                let fault =
                    Fault::new(&place.key("signer"), format!("`{other}` is no ARN of an Application Load Balancer"));
                check.fault(fault.hint("arn:aws:elasticloadbalancing:REGION:ACCOUNT:loadbalancer/app/NAME/ID"));
            }
            let mut regions = signer.all().iter().filter_map(|arn| region(arn));
            let first = regions.next();
            if people.jwks.is_none() && regions.any(|region| Some(region) != first) {
                let fault = Fault::new(&place.key("signer"), "their keys are in several regions");
                check.fault(fault.hint("name other `people` for each region"));
            }
            Some(Addressed::By { signers: texts(signer) })
        }
        (Some(_), Some(_)) => {
            let fault = Fault::new(&place.key("signer"), "tokens of a load balancer name no audience").at_key();
            check.fault(fault.hint("name other `people` for tokens that do"));
            None
        }
        (None, None) => {
            let fault = Fault::new(place, "nothing says for whom their tokens are, so that one for anybody would do");
            check.fault(fault.hint("add `audience: …`, or for tokens of an AWS load balancer `signer: ARN`"));
            None
        }
    }
}

/// The region of an Application Load Balancer, with the partition before it.
fn region(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.split(':');
    let (Some("arn"), Some(partition), Some("elasticloadbalancing"), Some(region)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_plain = |text: &str| !text.is_empty() && text.bytes().all(inside);
    let is_app = parts.nth(1).is_some_and(|what| what.starts_with("loadbalancer/app/"));
    (is_plain(partition) && is_plain(region) && is_app).then_some((partition, region))
}

/// Where AWS publishes the keys of its load balancers.
fn below(signers: &document::Texts) -> Option<String> {
    let (partition, region) = region(signers.all().first()?)?;
    Some(match partition {
        "aws-us-gov" => format!("https://s3-{region}.amazonaws.com/aws-elb-public-keys-prod-{region}/"),
        "aws-cn" => format!("https://public-keys.auth.elb.{region}.amazonaws.com.cn/"),
        _ => format!("https://public-keys.auth.elb.{region}.amazonaws.com/"),
    })
}

/// Where the provider's keys are, and what is needed to fetch them.
fn keys(check: &mut Check<'_>, people: &document::People, place: &Place) -> Option<ProviderKeys> {
    if let Some(file) = people.jwks.as_ref().filter(|jwks| !jwks.starts_with("http")) {
        let fetched = [(!people.ca.is_empty(), "ca"), (!people.allow_networks.is_empty(), "allow_networks")];
        for (_, key) in fetched.into_iter().filter(|(told, _)| *told) {
            check.fault(Fault::new(&place.key(key), "nothing is fetched where the keys are in a file").at_key());
        }
        return check.file_reference(file, &place.key("jwks")).map(ProviderKeys::File);
    }
    let published = people.signer.as_ref().filter(|_| people.jwks.is_none()).and_then(below);
    let (url, key) = match people.jwks.as_ref().or(published.as_ref()) {
        Some(url) => (url, "jwks"),
        None => (&people.issuer, "issuer"),
    };
    if !value::is_https_url(url) {
        let fault =
            Fault::new(&place.key(key), format!("`{url}` is no https URL, so that no keys can be fetched there"));
        check.fault(fault.hint("say where they are: `jwks: https://…`, or `jwks: file:PATH`"));
        return None;
    }
    Some(ProviderKeys::Fetched {
        place: match (&people.jwks, &published, &people.signer) {
            (Some(url), _, Some(_)) | (_, Some(url), _) => KeysPlace::Below(url.as_str().into()),
            (Some(url), None, None) => KeysPlace::Set(url.as_str().into()),
            (None, None, _) => KeysPlace::Metadata,
        },
        ca: people.ca.iter().map(|text| check.path(text)).collect(),
        allowed: super::listeners::networks(check, &people.allow_networks, &place.key("allow_networks")),
    })
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
    let fault =
        |why: identity::NoClaim| Fault::new(place, format!("`{text}` is no place of a claim")).hint(why.to_string());
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
        if let Some(profile) = profile.filter(|profile| profile.needs_user()) {
            let fault = Fault::new(&place, format!("it demands {profile}, but the config knows no `people`"));
            check.fault(fault.hint("add `people: { staff: { issuer: …, audience: … } }`"));
        }
    }
}
