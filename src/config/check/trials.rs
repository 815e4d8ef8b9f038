//! Files of tests of the policy.

use super::{Check, Context};
use crate::clock::Timestamp;
use crate::config::document::PolicyTest;
use crate::config::fault::Fault;
use crate::config::model::Trial;
use crate::config::node::{Node, Place};
use crate::name::{ListenerName, PeopleName, WorkloadName};
use crate::request;
use http::Method;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Checks tests.
pub(in crate::config) fn trials(
    tests: &[PolicyTest],
    root: &Node,
    context: &Context<'_>,
    faults: &mut Vec<Fault>,
) -> Vec<Trial> {
    let mut check = Check { context: *context, faults };
    let line = |place: &Place| root.span(place, false).map_or(0, |span| span.line);
    let tests = tests.iter().enumerate().map(|(index, test)| (test, Place::root().index(index)));
    tests.filter_map(|(test, place)| trial(&mut check, test, line(&place), &place)).collect()
}

fn trial(check: &mut Check<'_>, test: &PolicyTest, line: usize, place: &Place) -> Option<Trial> {
    let who = test.who.as_ref().map(|name| check.name(WorkloadName::parse, name, &place.key("who")));
    let user = test.user.as_ref().map(|user| {
        let people = check.name(PeopleName::parse, &user.people, &place.key("user").key("people"));
        people.map(|people| (people, user.claims.clone()))
    });
    if test.user.is_some() && test.who.is_none() {
        let fault = Fault::new(&place.key("user"), "a user comes through a workload").at_key();
        check.fault(fault.hint("say which: `who: …`"));
    }
    let listener = test.listener.as_ref().map(|name| check.name(ListenerName::parse, name, &place.key("listener")));
    let client = test.client.as_ref().map(|text| {
        let fault = |_no_address| Fault::new(&place.key("client"), format!("`{text}` is no address"));
        check.take(text.parse().map_err(fault))
    });
    let at = test.at.as_ref().map(|text| {
        let fault = |_no_time| Fault::new(&place.key("at"), format!("`{text}` is no time"));
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(fault);
        let time = check.take(time.map_err(|fault| fault.hint("for example 2026-11-24T10:00:00Z")));
        time.map(|time| Timestamp::from_unix_seconds(time.unix_timestamp()))
    });
    let what = asked(&test.what)
        .map_err(|why| Fault::new(&place.key("what"), why).hint("for example `GET https://shop.example.com/orders/7`"));
    let (method, (host, path)) = check.take(what)?;
    Some(Trial {
        file: check.context.file.to_owned(),
        line,
        who: sound(who)?,
        user: sound(user)?,
        facts: test.facts.iter().map(|(name, value)| (name.as_str().into(), value.clone())).collect(),
        client: sound(client)?,
        at: sound(at)?,
        listener: sound(listener)?,
        method,
        host,
        path,
        expects: test.expect,
        rule: test.rule.clone(),
        because: test.because.clone(),
    })
}

/// What was not said, or is good; none if it is not.
fn sound<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}

fn asked(text: &str) -> Result<(Method, (String, String)), String> {
    let (method, url) = text.split_once(' ').ok_or_else(|| format!("`{text}` is no method and URL"))?;
    let method = method.parse().map_err(|_no_method| format!("`{method}` is no method"))?;
    Ok((method, request::place_of(url.trim())?))
}
