//! What the origin is told: who asks, by which route, under which id. Set last, so that nobody else can.

use super::cookie;
use super::exchange::Exchange;
use super::filtering;
use super::head;
use crate::refusal::Refusal;
use crate::request::headers;
use http::StatusCode;
use http::header::HOST;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, OkOrErr};
use pingora_proxy::Session;
use std::net::IpAddr;

/// Sets the identity headers. Only a request with a permit has any.
///
/// # Errors
/// If one cannot be set; the request then goes nowhere.
pub(super) fn identify(request: &mut RequestHeader, session: &Session, exchange: &Exchange) -> pingora::Result<()> {
    let permit = exchange.permit().or_err(ErrorType::InternalError, "there is no permit")?;
    let principal = permit.principal();
    if let Some(workload) = principal.workload() {
        request.insert_header(headers::WORKLOAD, workload.name.as_str())?;
    }
    if let Some(user) = principal.user() {
        request.insert_header(headers::USER, user.to_string())?;
    }
    if let Some(roles) = principal.role_list() {
        request.insert_header(headers::ROLES, roles)?;
    }
    request.insert_header(headers::ROUTE, permit.route().as_str())?;
    request.insert_header(headers::REQUEST_ID, permit.request_id().as_str())?;
    if let Some(traceparent) = exchange.traceparent() {
        request.insert_header(headers::TRACEPARENT, traceparent)?;
    }
    exchange.snapshot().pools.cookies().try_for_each(|name| cookie::take_out(request, name))?;
    if let Some(host) = exchange.original_host() {
        request.insert_header(HOST, host)?;
    }
    if let Some(filtering) = exchange.filtering() {
        filtering::rewrite(request, filtering)?;
    }
    forwarded(request, session, exchange)
}

fn forwarded(request: &mut RequestHeader, session: &Session, exchange: &Exchange) -> pingora::Result<()> {
    let proto = if head::client(session).is_some() { "https" } else { "http" };
    let (client, authority) = (exchange.client(), exchange.authority());
    let node = client.map_or_else(|| "unknown".to_owned(), node);
    request.insert_header(headers::FORWARDED, format!("for=\"{node}\";host=\"{authority}\";proto={proto}"))?;
    if let Some(client) = client {
        request.insert_header(headers::X_FORWARDED_FOR, client.to_string())?;
    }
    request.insert_header(headers::X_FORWARDED_HOST, authority)?;
    request.insert_header(headers::X_FORWARDED_PROTO, proto)
}

/// RFC 7239 § 6: an IPv6 address stands in brackets.
fn node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// A refusal as Pingora's error.
pub(super) fn error(refusal: Refusal) -> Box<Error> {
    Error::explain(ErrorType::HTTPStatus(refusal.facts().status), refusal.facts().explain)
}

/// That a filter answers instead of the origin, as Pingora's error.
pub(super) fn answered(status: StatusCode) -> Box<Error> {
    Error::explain(ErrorType::HTTPStatus(status.as_u16()), "a filter answers")
}
