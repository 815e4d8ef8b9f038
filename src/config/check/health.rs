//! `pools.*.health`.

use super::Check;
use crate::config::document::{Agent, Document, Health, HttpCheck, Pool};
use crate::config::fault::Fault;
use crate::config::model::{self, AgentCheck, CheckKind, Expression, HealthCheck};
use crate::config::node::Place;
use crate::config::value;
use crate::request::Path;
use crate::request::headers::is_framing;
use http::{HeaderName, HeaderValue};
use std::{ops::RangeInclusive, time::Duration};

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);

const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The check of a pool: its own, or the one that it names.
pub(super) fn of_pool(check: &mut Check<'_>, document: &Document, pool: &Pool, place: &Place) -> Option<HealthCheck> {
    let Some(name) = &pool.check else {
        return self::check(check, pool.health.as_ref()?, pool, &place.key("health"));
    };
    if pool.health.is_some() {
        check.fault(
            Fault::new(&place.key("check"), "the pool has a check of its own, too").at_key().hint("take `health` out"),
        );
        return None;
    }
    let Some(health) = document.checks.get(name) else {
        let fault = Fault::new(&place.key("check"), format!("there is no check `{name}`"));
        check.fault(fault.did_you_mean(name, document.checks.keys().map(String::as_str)));
        return None;
    };
    self::check(check, health, pool, &Place::root().key("checks").key(name))
}

fn check(check: &mut Check<'_>, health: &Health, pool: &Pool, place: &Place) -> Option<HealthCheck> {
    let interval = check.duration(&health.interval.0, &place.key("interval"), INTERVALS);
    let mut other = |key: &str, text: Option<&String>| match text {
        Some(text) => check.duration(text, &place.key(key), INTERVALS),
        None => interval,
    };
    let fast_interval = other("fast_interval", health.fast_interval.as_ref().map(|text| &text.0));
    let down_interval = other("down_interval", health.down_interval.as_ref().map(|text| &text.0));
    let timeout = check.duration(&health.timeout.0, &place.key("timeout"), MILLISECOND..=MINUTE);
    let certificate_ends_in = match &health.certificate_ends_in {
        Some(_) if pool.tls.is_none() => {
            let fault = Fault::new(&place.key("certificate_ends_in"), "the pool's servers have no TLS").at_key();
            check.fault(fault.hint("give the pool `tls`"));
            None
        }
        Some(text) => check.duration(&text.0, &place.key("certificate_ends_in"), HOUR..=YEAR),
        None => Some(Duration::ZERO),
    };
    Some(HealthCheck {
        kind: kind(check, health, pool.http == 2, place)?,
        certificate_ends_in: certificate_ends_in?,
        interval: interval?,
        fast_interval: fast_interval?,
        down_interval: down_interval?,
        starts_healthy: health.starts_healthy,
        timeout: timeout?,
        rise: health.rise,
        fall: health.fall,
    })
}

pub(super) fn agent(check: &mut Check<'_>, agent: &Agent, place: &Place) -> Option<AgentCheck> {
    let interval = check.duration(&agent.interval.0, &place.key("interval"), INTERVALS);
    let timeout = check.duration(&agent.timeout.0, &place.key("timeout"), MILLISECOND..=MINUTE);
    Some(AgentCheck { port: agent.port, send: agent.send.clone(), interval: interval?, timeout: timeout? })
}

fn kind(check: &mut Check<'_>, health: &Health, speaks_h2: bool, place: &Place) -> Option<CheckKind> {
    match (&health.http, &health.tcp, &health.grpc) {
        (Some(asked), None, None) => http(check, asked, &place.key("http")).map(Box::new).map(CheckKind::Http),
        (None, Some(tcp), None) => {
            Some(CheckKind::Tcp(model::TcpCheck { send: tcp.send.clone(), expect: tcp.expect.clone() }))
        }
        (None, None, Some(grpc)) if speaks_h2 => Some(CheckKind::Grpc { service: grpc.service.clone() }),
        (None, None, Some(_)) => {
            check.fault(Fault::new(&place.key("grpc"), "gRPC needs HTTP/2").at_key().hint("say `http: 2` in the pool"));
            None
        }
        _ => {
            let fault = Fault::new(place, "a check is one of `http`, `tcp` and `grpc`").at_key();
            check.fault(fault.hint("for example `health: { http: { path: /healthz } }`"));
            None
        }
    }
}

fn http(check: &mut Check<'_>, asked: &HttpCheck, http: &Place) -> Option<model::HttpCheck> {
    let path = asked.path.split('?').next().and_then(|path| Path::read(path).ok());
    let path = path.filter(|_| asked.path.bytes().all(|b| b.is_ascii_graphic()));
    let bad_path =
        || Fault::new(&http.key("path"), format!("`{}` is no path", asked.path)).hint("for example /healthz");
    let path = check.take(path.ok_or_else(bad_path));
    let is_host =
        |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
    if asked.host.as_deref().is_some_and(|host| !is_host(host)) {
        check.fault(Fault::new(&http.key("host"), "this is no host"));
    }
    let bad_statuses = || {
        Fault::new(&http.key("expect"), format!("`{}` is no range of statuses", asked.expect))
            .hint("for example 200 or 200-299")
    };
    let expect = check.take(value::statuses(&asked.expect).ok_or_else(bad_statuses));
    let bad_method =
        || Fault::new(&http.key("method"), format!("`{}` is no method", asked.method)).hint("for example HEAD");
    let method = check.take(value::method(&asked.method).ok_or_else(bad_method));
    let headers = headers(check, asked, &http.key("headers"));
    let matches = match &asked.matches {
        Some(text) => {
            let bad = |error: regex::Error| {
                Fault::new(&http.key("matches"), "this is no regular expression").hint(brief(&error.to_string()))
            };
            Some(check.take(Expression::parse(text).map_err(bad))?)
        }
        None => None,
    };
    path?;
    Some(model::HttpCheck {
        method: method?,
        path: asked.path.clone(),
        host: asked.host.clone(),
        headers,
        body: asked.body.clone().into(),
        expect: expect?,
        contains: asked.contains.clone(),
        matches,
    })
}

/// The last line says what is wrong; those before it draw it.
fn brief(error: &str) -> String {
    error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn headers(check: &mut Check<'_>, asked: &HttpCheck, place: &Place) -> Vec<(HeaderName, HeaderValue)> {
    let mut read = |(name, text): (&String, &String)| {
        let parsed =
            name.parse::<HeaderName>().ok().filter(|name| !is_framing(name.as_str()) && *name != http::header::HOST);
        let bad_name = || Fault::new(&place.key(name), format!("`{name}` cannot be a check's header")).at_key();
        let bad_value = |_not_one| Fault::new(&place.key(name), "this cannot be a header's value");
        let value = check.take(HeaderValue::from_str(text).map_err(bad_value));
        Some((check.take(parsed.ok_or_else(bad_name))?, value?))
    };
    asked.headers.iter().filter_map(&mut read).collect()
}
