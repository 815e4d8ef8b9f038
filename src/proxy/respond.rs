//! Answers: ours to who is refused, and the last touch to the origin's.

use super::exchange::Exchange;
use super::filtering;
use super::head;
use super::heads::{self, value};
use super::outbound;
use crate::filter;
use crate::refusal::Refusal;
use crate::request::headers::REQUEST_ID;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora_proxy::Session;
use serde::Serialize;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time;

const CHALLENGE: &str = "EdgeIdentity";
/// RFC 6750 § 3.
const USERS_CHALLENGE: &str = "Bearer";

/// For how long an answer of ours may take to be sent.
const ANSWER_FOR: Duration = Duration::from_secs(5);
/// How long it takes at least to be told that there is nothing, where a route is hidden.
const UNSEEN_FOR: Duration = Duration::from_millis(2);
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
    // Who does not read his answer is not waited for.
    let patience = session.as_downstream().get_write_timeout().map_or(ANSWER_FOR, |patience| patience.min(ANSWER_FOR));
    let answering = time::timeout(patience, answer(session, exchange, refusal));
    answering.await.unwrap_or_else(|_elapsed| Err(outbound::error(refusal)))
}

/// Gives a filter's answer.
///
/// # Errors
/// If it cannot be sent.
pub(super) async fn tell(
    session: &mut Session,
    exchange: &mut Exchange,
    answer: filter::Answer,
) -> pingora::Result<()> {
    let (mut head, body) = match filtering::own_answer(session, exchange, answer).await {
        Ok(dressed) => dressed,
        Err(refusal) => {
            exchange.refuse(refusal);
            return refuse(session, exchange, refusal).await;
        }
    };
    heads::change_response(&mut head, |parts| complete(&mut parts.headers, exchange))?;
    let patience = session.as_downstream().get_write_timeout().map_or(ANSWER_FOR, |patience| patience.min(ANSWER_FOR));
    let sending = time::timeout(patience, send(session, exchange, (head, body), true));
    sending.await.unwrap_or_else(|_elapsed| Err(outbound::error(Refusal::ResponseNotTaken)))
}

async fn answer(session: &mut Session, exchange: &mut Exchange, refusal: Refusal) -> pingora::Result<()> {
    if let Some(arrived) = exchange.seems_to_be_nowhere() {
        // Who measures sees no difference between what was looked up and what was judged.
        time::sleep(UNSEEN_FOR.saturating_sub(arrived.elapsed())).await;
    }
    let answer = Answer::new(exchange, refusal);
    let mut response = ResponseHeader::build(answer.status, Some(8))?;
    for (name, value) in &answer.headers {
        response.insert_header(*name, value.as_str())?;
    }
    // Who sends heads like bombs is not waited for: each that waits is held in memory.
    send(session, exchange, (response, answer.body), refusal != Refusal::HeadTooLarge).await
}

/// Sends an answer of ours. The connection closes if the client has not sent its whole body by then.
async fn send(
    session: &mut Session,
    exchange: &mut Exchange,
    (response, body): (ResponseHeader, Bytes),
    discards: bool,
) -> pingora::Result<()> {
    if !session.as_downstream_mut().is_body_done() {
        session.as_downstream_mut().set_keepalive(None);
    }
    let bodiless = session.req_header().method == Method::HEAD;
    let bodiless = bodiless || body.is_empty();
    exchange.responds(response.status.as_u16());
    session.write_response_header(Box::new(response), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(body), true).await?;
    }
    exchange.answered();
    if discards {
        discard_body(session).await;
    }
    Ok(())
}

/// The answer to a refusal.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn new(exchange: &Exchange, refusal: Refusal) -> Self {
        let shown = exchange.shown();
        let refusal = shown.map_or(refusal, |shown| shown.refusal);
        let facts = refusal.facts();
        let request_id = exchange.request_id().as_str();
        // Why is told only to a peer who has proved something.
        let is_told_why = shown.map_or_else(|| exchange.is_proven(), |shown| shown.is_told_why);
        let detail = facts.challenge.filter(|_| is_told_why);
        let problem = Problem { title: facts.text, status: facts.status, detail, request_id };
        // A struct of texts and a number always becomes JSON.
        let problem = || format!("{}\n", serde_json::to_string(&problem).unwrap_or_default());
        let page = StatusCode::from_u16(facts.status).ok().and_then(|status| exchange.page(status));
        let (kind, body) = match page {
            Some(page) => (page.content_type.to_str().unwrap_or_default().to_owned(), page.body.clone()),
            None => ("application/problem+json".to_owned(), problem().into()),
        };
        let mut headers = vec![
            ("content-type", kind),
            ("content-length", body.len().to_string()),
            ("cache-control", "no-store".to_owned()),
            (REQUEST_ID.as_str(), request_id.to_owned()),
        ];
        if refusal.is_challenge() {
            headers.push(("www-authenticate", challenge(refusal, detail)));
        }
        let retry_after = exchange.retry_after().or_else(|| refusal.retry_after());
        headers.extend(retry_after.map(|seconds| ("retry-after", seconds.to_string())));
        headers.extend(exchange.used().headers().into_iter().flatten());
        Self { status: facts.status, headers, body }
    }

    /// The answer to a request that could not be read, after which the connection ends.
    pub(super) fn to_wire(&self) -> Vec<u8> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, status.canonical_reason().unwrap_or_default());
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("connection: close\r\n\r\n");
        [text.as_bytes(), &self.body].concat()
    }
}

/// Reads a little of what comes on a connection that ends, so that the answer arrives before the end does.
pub(super) async fn discard(connection: &mut Stream) {
    let reading = async {
        let (mut space, mut left) = ([0; 4096], DISCARDED_MAX);
        while let Ok(length @ 1..) = connection.read(&mut space).await {
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    time::timeout(DISCARD_FOR, reading).await.ok();
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

fn challenge(refusal: Refusal, detail: Option<&str>) -> String {
    let is_users = refusal.facts().family == "user";
    let realm = format!("{} realm=\"belay\"", if is_users { USERS_CHALLENGE } else { CHALLENGE });
    // RFC 6750 § 3.1: who has shown no user's token at all is told no error.
    match detail.filter(|_| refusal != Refusal::UserTokenMissing) {
        Some(detail) => format!("{realm}, error=\"invalid_token\", error_description=\"{detail}\""),
        None => realm,
    }
}

/// A tunnel is made only by a 101, and a 101 only for who has asked for it.
///
/// # Errors
/// [`Refusal::ResponseBroken`] if nobody did.
pub(super) fn may_tunnel(session: &Session, response: &ResponseHeader, exchange: &mut Exchange) -> pingora::Result<()> {
    if response.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    if session.as_downstream().is_upgrade_req() {
        exchange.link().open_tunnel();
        return Ok(());
    }
    exchange.refuse(Refusal::ResponseBroken);
    Err(outbound::error(Refusal::ResponseBroken))
}

/// Runs the filters on the origin's response, takes out challenges that only we may make (the Worker would sign again
/// for one), and adds the request's id.
///
/// # Errors
/// If a filter refuses or a header cannot be set.
pub(super) async fn dress(
    session: &Session,
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
) -> pingora::Result<()> {
    filtering::response(session, response, exchange).await?;
    if !response.status.is_informational() {
        exchange.server_answered(response.status.as_u16());
        exchange.responds(response.status.as_u16());
    }
    if head::is_grpc(&response.headers) {
        exchange.answers_grpc();
    }
    if head::is_stream(&response.headers) {
        exchange.link().is_streaming();
    }
    heads::change_response(response, |parts| {
        if let Some(cookie) = exchange.cookie().filter(|_| !parts.status.is_informational()) {
            parts.headers.append(SET_COOKIE, value(&cookie)?);
            // A cache that kept it would send everybody to this client's server.
            parts.headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        complete(&mut parts.headers, exchange)
    })
}

/// What every answer but a refusal has of ours, and has not.
fn complete(headers: &mut HeaderMap, exchange: &Exchange) -> pingora::Result<()> {
    without_our_challenge(headers);
    exchange.used().tell_in(headers)?;
    headers.insert(&REQUEST_ID, value(exchange.request_id().as_str())?);
    Ok(())
}

/// Takes out challenges that only we may make.
fn without_our_challenge(headers: &mut HeaderMap) {
    if headers.get_all(WWW_AUTHENTICATE).iter().any(is_like_ours) {
        let others = headers.get_all(WWW_AUTHENTICATE).iter().filter(|value| !is_like_ours(value));
        let others: Vec<_> = others.cloned().collect();
        headers.remove(WWW_AUTHENTICATE);
        others.into_iter().for_each(|other| {
            headers.append(WWW_AUTHENTICATE, other);
        });
    }
}

/// Whether a value holds our scheme anywhere: several challenges may stand in one value.
fn is_like_ours(value: &HeaderValue) -> bool {
    value.as_bytes().windows(CHALLENGE.len()).any(|part| part.eq_ignore_ascii_case(CHALLENGE.as_bytes()))
}
