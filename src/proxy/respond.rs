//! Answers: ours to who is refused, and the last touch to the origin's.

use super::exchange::Exchange;
use super::outbound;
use crate::refusal::Refusal;
use crate::request::headers::REQUEST_ID;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;
use serde::Serialize;
use std::time::Duration;
use tokio::time;

const CHALLENGE: &str = "EdgeIdentity";

/// How much of a refused request's body is read and thrown away, in bytes.
const DISCARDED_MAX: usize = 64 * 1024;
/// And for how long.
const DISCARD_FOR: Duration = Duration::from_secs(1);

/// RFC 9457.
#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    request_id: &'a str,
}

/// Answers a refusal. The connection closes if the client has not sent its whole body by then, so that the rest is never
/// read as the next request.
///
/// # Errors
/// If the answer cannot be sent.
pub(super) async fn refuse(session: &mut Session, exchange: &mut Exchange, refusal: Refusal) -> pingora::Result<()> {
    let facts = refusal.facts();
    let request_id = exchange.request_id().as_str();
    // Why is told only to a peer who has proved something.
    let detail = facts.challenge.filter(|_| exchange.is_proven());
    let problem = Problem { title: facts.text, status: facts.status, detail, request_id };
    // A struct of texts and a number always becomes JSON.
    let body = Bytes::from(format!("{}\n", serde_json::to_string(&problem).unwrap_or_default()));
    let mut response = ResponseHeader::build(facts.status, Some(8))?;
    response.insert_header(CONTENT_TYPE, "application/problem+json")?;
    response.insert_header(CONTENT_LENGTH, body.len())?;
    response.insert_header(CACHE_CONTROL, "no-store")?;
    response.insert_header(REQUEST_ID, request_id)?;
    if refusal.is_challenge() {
        response.insert_header(WWW_AUTHENTICATE, challenge(detail))?;
    }
    if let Some(seconds) = refusal.retry_after() {
        response.insert_header(RETRY_AFTER, seconds)?;
    }
    if !session.as_downstream_mut().is_body_done() {
        session.as_downstream_mut().set_keepalive(None);
    }
    let bodiless = session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(response), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(body), true).await?;
    }
    exchange.answered();
    discard_body(session).await;
    Ok(())
}

/// Reads a little of what the client still sends: a connection or stream that ends under its hands may take the answer
/// with it (RFC 9112 § 9.6, RFC 9113 § 8.1).
async fn discard_body(session: &mut Session) {
    let reading = async {
        let mut left = DISCARDED_MAX;
        while let Ok(Some(piece)) = session.as_downstream_mut().read_request_body().await {
            match left.checked_sub(piece.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Who sends more, or more slowly, is not waited for.
    time::timeout(DISCARD_FOR, reading).await.ok();
}

fn challenge(detail: Option<&str>) -> String {
    let realm = format!("{CHALLENGE} realm=\"belay\"");
    match detail {
        Some(detail) => format!("{realm}, error=\"invalid_token\", error_description=\"{detail}\""),
        None => realm,
    }
}

/// Runs the filters on the origin's response, takes out challenges that only we may make (the Worker would sign again
/// for one), and adds the request's id.
///
/// # Errors
/// If a filter refuses or a header cannot be set.
pub(super) fn dress(response: &mut ResponseHeader, exchange: &mut Exchange) -> pingora::Result<()> {
    if let Err(refusal) = exchange.filter_response(&mut outbound::Response(response)) {
        exchange.refuse(refusal);
        return Err(outbound::error(refusal));
    }
    let challenges: Vec<_> = response.headers.get_all(WWW_AUTHENTICATE).iter().cloned().collect();
    if challenges.iter().any(is_like_ours) {
        response.remove_header(&WWW_AUTHENTICATE);
        for other in challenges.into_iter().filter(|value| !is_like_ours(value)) {
            response.append_header(WWW_AUTHENTICATE, other)?;
        }
    }
    response.insert_header(REQUEST_ID, exchange.request_id().as_str())
}

/// Whether a value holds our scheme anywhere: several challenges may stand in one value.
fn is_like_ours(value: &HeaderValue) -> bool {
    value.as_bytes().windows(CHALLENGE.len()).any(|part| part.eq_ignore_ascii_case(CHALLENGE.as_bytes()))
}
