//! Checks that ask in HTTP, by the pool's own version of it and over its own TLS.

use super::Target;
use crate::config::HttpCheck;
use crate::network::Address;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;

/// The most of a body that is read: what a check looks for stands at its beginning.
const BODY_MAX: usize = 64 * 1024;

/// Asks, and compares the answer.
pub(super) async fn look(target: &Target<'_>, check: &HttpCheck, connector: &Connector) -> Result<(), String> {
    let host = check.host.clone().unwrap_or_else(|| host(target));
    let mut request = RequestHeader::build(check.method.clone(), check.path.as_bytes(), None).map_err(said)?;
    request.insert_header(header::HOST, host).map_err(said)?;
    request.insert_header(header::USER_AGENT, "belay-health-check").map_err(said)?;
    if !target.way.speaks_h2 {
        request.insert_header(header::CONNECTION, "close").map_err(said)?;
    }
    for (name, value) in &check.headers {
        request.insert_header(name.clone(), value.clone()).map_err(said)?;
    }
    if !check.body.is_empty() {
        request.insert_header(header::CONTENT_LENGTH, check.body.len()).map_err(said)?;
    }
    let (mut session, _reused) = Box::pin(connector.get_http_session(&target.peer()?)).await.map_err(said)?;
    let answer = converse(&mut session, request, check).await;
    session.shutdown().await;
    answer
}

/// What is asked for unless the check says it.
fn host(target: &Target<'_>) -> String {
    match &target.server.address {
        Address::Socket(address) => address.to_string(),
        Address::Unix(_) => "localhost".into(),
    }
}

async fn converse(session: &mut HttpSession, request: RequestHeader, check: &HttpCheck) -> Result<(), String> {
    session.write_request_header(Box::new(request)).await.map_err(said)?;
    if !check.body.is_empty() {
        session.write_request_body(check.body.clone(), true).await.map_err(said)?;
    }
    session.finish_request_body().await.map_err(said)?;
    session.read_response_header().await.map_err(said)?;
    let status = session.response_header().map_or(0, |head| head.status.as_u16());
    if !check.expect.contains(&status) {
        return Err(format!("status {status}"));
    }
    if check.contains.is_none() && check.matches.is_none() {
        return Ok(());
    }
    let body = read(session).await?;
    let body = String::from_utf8_lossy(&body);
    let contains = check.contains.as_ref().is_none_or(|text| body.contains(text.as_str()));
    let matches = check.matches.as_ref().is_none_or(|pattern| pattern.is_match(&body));
    if contains && matches { Ok(()) } else { Err("its body is not what the check expects".into()) }
}

async fn read(session: &mut HttpSession) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_response_body().await.map_err(said)? {
        let room = BODY_MAX.saturating_sub(body.len());
        body.extend_from_slice(piece.get(..piece.len().min(room)).unwrap_or_default());
        if body.len() >= BODY_MAX {
            break;
        }
    }
    Ok(body.freeze())
}

/// Asks for the health of a service by gRPC's own protocol (`grpc.health.v1`).
pub(super) async fn look_grpc(target: &Target<'_>, service: &str, connector: &Connector) -> Result<(), String> {
    let path = b"/grpc.health.v1.Health/Check";
    let mut request = RequestHeader::build(http::Method::POST, path, None).map_err(said)?;
    request.insert_header(header::HOST, host(target)).map_err(said)?;
    request.insert_header(header::CONTENT_TYPE, "application/grpc").map_err(said)?;
    request.insert_header(header::TE, HeaderValue::from_static("trailers")).map_err(said)?;
    let (mut session, _reused) = Box::pin(connector.get_http_session(&target.peer()?)).await.map_err(said)?;
    let answer = converse_grpc(&mut session, request, service).await;
    session.shutdown().await;
    answer
}

async fn converse_grpc(session: &mut HttpSession, request: RequestHeader, service: &str) -> Result<(), String> {
    session.write_request_header(Box::new(request)).await.map_err(said)?;
    session.write_request_body(grpc_request(service), true).await.map_err(said)?;
    session.finish_request_body().await.map_err(said)?;
    session.read_response_header().await.map_err(said)?;
    let head = session.response_header();
    let status = head.map_or(0, |head| head.status.as_u16());
    if status != 200 {
        return Err(format!("status {status}"));
    }
    // Without a message the status of the call stands in the head.
    let call = head.and_then(|head| head.headers.get("grpc-status")?.to_str().ok().map(str::to_owned));
    if let Some(call) = call.filter(|call| call != "0") {
        return Err(format!("grpc-status {call}"));
    }
    match serving_status(&read(session).await?) {
        Some(1) => Ok(()),
        Some(status) => Err(format!("it says that it is not serving ({status})")),
        None => Err("its answer is no health of gRPC".into()),
    }
}

/// A message of five bytes and `HealthCheckRequest { string service = 1; }`; a name is at most 127 bytes long.
fn grpc_request(service: &str) -> Bytes {
    let length = u8::try_from(service.len()).unwrap_or(0);
    let mut message = Vec::new();
    if length > 0 {
        message.extend([0x0a, length]);
        message.extend_from_slice(service.as_bytes());
    }
    let framed = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap_or(0)][..], &message].concat();
    framed.into()
}

/// The status of `HealthCheckResponse { ServingStatus status = 1; }`; 0, which is unknown, if it is left out.
fn serving_status(body: &[u8]) -> Option<u8> {
    match body {
        [0, 0, 0, 0, 0] => Some(0),
        [0, 0, 0, 0, 2, 0x08, status] => Some(*status),
        _ => None,
    }
}

/// Pingora's error in a word: its text repeats its causes.
#[expect(clippy::boxed_local, clippy::needless_pass_by_value, reason = "what `map_err` gives")]
pub(super) fn said(error: Box<pingora::Error>) -> String {
    error.root_etype().as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("", &[0, 0, 0, 0, 0]; "the server as a whole")]
    #[test_case("ab", &[0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']; "a service")]
    fn a_request_of_grpc(service: &str, expected: &[u8]) {
        assert_eq!(grpc_request(service), expected);
    }

    #[test_case(&[0, 0, 0, 0, 2, 8, 1], Some(1); "serving")]
    #[test_case(&[0, 0, 0, 0, 2, 8, 2], Some(2); "not serving")]
    #[test_case(&[0, 0, 0, 0, 0], Some(0); "unknown")]
    #[test_case(&[1, 0, 0, 0, 2, 8, 1], None; "compressed")]
    #[test_case(b"<html>", None; "something else")]
    #[test_case(b"", None; "nothing")]
    fn an_answer_of_grpc(body: &[u8], status: Option<u8>) {
        assert_eq!(serving_status(body), status);
    }
}
