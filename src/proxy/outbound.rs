//! What the origin is told: who asks, by which route, under which id. Set last, so that nobody else can.

use super::cookie;
use super::exchange::Exchange;
use super::filtering;
use super::head;
use super::heads::{self, value};
use crate::refusal::Refusal;
use crate::request::headers;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, OkOrErr};
use pingora_proxy::Session;
use std::net::IpAddr;

/// So many headers are set at most.
const TOLD_MAX: usize = 10;

/// Sets the identity headers, last of all. Only a request with a permit has any.
///
/// # Errors
/// If one cannot be set; the request then goes nowhere.
pub(super) fn identify(request: &mut RequestHeader, session: &Session, exchange: &Exchange) -> pingora::Result<()> {
    exchange.snapshot().pools.cookies().try_for_each(|name| cookie::take_out(request, name))?;
    if let Some(host) = exchange.original_host() {
        request.insert_header(HOST, host)?;
    }
    if let Some(filtering) = exchange.filtering() {
        filtering::rewrite(request, filtering)?;
    }
    heads::change_request(request, |parts| tell(&mut parts.headers, session, exchange))
}

fn tell(told: &mut HeaderMap, session: &Session, exchange: &Exchange) -> pingora::Result<()> {
    let permit = exchange.permit().or_err(ErrorType::InternalError, "there is no permit")?;
    let principal = permit.principal();
    told.reserve(TOLD_MAX);
    if let Some(workload) = principal.workload() {
        told.insert(&headers::WORKLOAD, value(workload.name.as_str())?);
    }
    if let Some(user) = principal.user() {
        told.insert(&headers::USER, value(&user.to_string())?);
    }
    if let Some(roles) = principal.role_list() {
        told.insert(&headers::ROLES, value(&roles)?);
    }
    told.insert(&headers::ROUTE, value(permit.route().as_str())?);
    told.insert(&headers::REQUEST_ID, value(permit.request_id().as_str())?);
    if let Some(traceparent) = exchange.traceparent() {
        told.insert(&headers::TRACEPARENT, value(traceparent)?);
    }
    let proto = if head::client(session).is_some() { "https" } else { "http" };
    let (client, authority) = (exchange.client(), exchange.authority());
    let address = client.map(|client| client.to_string());
    told.insert(&headers::FORWARDED, value(&forwarded(client.zip(address.as_deref()), authority, proto))?);
    if let Some(address) = address {
        told.insert(&headers::X_FORWARDED_FOR, value(&address)?);
    }
    told.insert(&headers::X_FORWARDED_HOST, value(authority)?);
    told.insert(&headers::X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    Ok(())
}

/// RFC 7239 § 4; by § 6 an IPv6 address stands in brackets.
fn forwarded(client: Option<(IpAddr, &str)>, authority: &str, proto: &str) -> String {
    let [before, node, behind] = match client {
        Some((IpAddr::V4(_), address)) => ["", address, ""],
        Some((IpAddr::V6(_), address)) => ["[", address, "]"],
        None => ["", "unknown", ""],
    };
    ["for=\"", before, node, behind, "\";host=\"", authority, "\";proto=", proto].concat()
}

/// A refusal as Pingora's error.
pub(super) fn error(refusal: Refusal) -> Box<Error> {
    Error::explain(ErrorType::HTTPStatus(refusal.facts().status), refusal.facts().explain)
}

/// That a filter answers instead of the origin, as Pingora's error.
pub(super) fn answered(status: StatusCode) -> Box<Error> {
    Error::explain(ErrorType::HTTPStatus(status.as_u16()), "a filter answers")
}
