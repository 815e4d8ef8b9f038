//! A request's way through the filters, and its response's way back.

use super::body;
use super::exchange::Exchange;
use super::heads;
use super::outbound;
use crate::filter::{self, About, Answer, Passage, Progress, Sending};
use crate::refusal::Refusal;
use crate::request::Facts;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::sync::Arc;

/// What filters keep of a request that some work on.
#[derive(Debug)]
pub(super) struct Filtering {
    facts: Arc<Facts>,
    passage: Passage,
    pub(super) sending: Sending,
    /// An answer that takes the place of the origin's.
    answer: Option<Answer>,
    /// Who has answered, or refused.
    pub(super) by: Option<Box<str>>,
    /// Whether a body follows the request's head.
    has_body: bool,
}

impl Filtering {
    /// Whether the request's body was changed while it was sent, so that it cannot be sent again.
    pub(super) const fn has_spent_body(&self) -> bool {
        self.passage.has_spent_body()
    }

    /// The answer that takes the place of the origin's.
    pub(super) const fn take_answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }

    /// The filters that the request has gone on without.
    pub(super) fn left_out(&self) -> Box<[Box<str>]> {
        self.passage.left_out()
    }

    pub(super) fn ended(&mut self, status: Option<u16>) {
        self.passage.ended(status.and_then(|status| StatusCode::from_u16(status).ok()));
    }

    /// Who was at work when it was refused.
    fn note(&mut self, result: &Result<(), Refusal>) {
        if result.is_err() {
            self.by = self.passage.last().map(|filter| filter.name().into());
        }
    }

    fn answered(&mut self, answer: Answer) -> Answer {
        self.by = Some(answer.by.clone());
        answer
    }
}

/// Runs the filters of the listener and of the route on a request that has its permit; the answer, if one of them
/// answers it.
///
/// # Errors
/// The first filter's refusal.
pub(super) async fn request(
    session: &mut Session,
    exchange: &mut Exchange,
    facts: Arc<Facts>,
) -> Result<Option<Answer>, Refusal> {
    let Some(chains) = exchange.chains() else { return Ok(None) };
    let begun = Passage::begin([&chains[0], &chains[1]], &about(exchange, &facts).ok_or(Refusal::Internal)?);
    let (passage, refused) = match begun {
        Ok(passage) => (passage, None),
        Err((refusal, by)) => (Passage::default(), Some((refusal, by))),
    };
    // The library reads from the head how the body is framed when it is first asked for it: before anybody takes the head.
    session.as_downstream_mut().is_body_done();
    let has_body = !session.as_downstream_mut().is_body_empty();
    let mut filtering =
        Box::new(Filtering { facts, passage, sending: Sending::default(), answer: None, by: None, has_body });
    if let Some((refusal, by)) = refused {
        filtering.by = Some(by);
        exchange.is_filtered(filtering);
        return Err(refusal);
    }
    let answer = head(session, exchange, &mut filtering, has_body).await;
    filtering.note(&answer.as_ref().map(|_| ()).map_err(|refusal| *refusal));
    if let Some(max) = filtering.sending.body_max {
        exchange.takes_no_more_than(max);
    }
    let answer = answer.map(|answer| answer.map(|answer| filtering.answered(answer)));
    exchange.is_filtered(filtering);
    answer
}

async fn head(
    session: &mut Session,
    exchange: &mut Exchange,
    filtering: &mut Filtering,
    has_body: bool,
) -> Result<Option<Answer>, Refusal> {
    loop {
        let facts = Arc::clone(&filtering.facts);
        let progress = {
            let about = about(exchange, &facts).ok_or(Refusal::Internal)?;
            let mut headers = heads::Request(session.req_header_mut());
            let mut request = filter::Request { headers: &mut headers, has_body, sending: &mut filtering.sending };
            filtering.passage.request(&about, &mut request).await?
        };
        match progress {
            Progress::Through => return Ok(None),
            Progress::Answered(answer) => return Ok(Some(answer)),
            Progress::WantsBody => {
                let body = body::whole(session, exchange.body()).await?;
                let about = about(exchange, &facts).ok_or(Refusal::Internal)?;
                let mut head = heads::Request(session.req_header_mut());
                if let Some(answer) = filtering.passage.prepare(&about, &mut head, body).await? {
                    return Ok(Some(answer));
                }
            }
        }
    }
}

fn about<'a>(exchange: &'a Exchange, facts: &'a Arc<Facts>) -> Option<About<'a>> {
    Some(About {
        permit: exchange.permit()?,
        facts,
        client: exchange.client(),
        listener: exchange.listener(),
        tls: exchange.tls_version(),
        started: exchange.started(),
        pools: &exchange.snapshot().pools,
    })
}

/// Writes what filters have said that is to be sent instead of what was asked for.
///
/// # Errors
/// If it cannot be written.
pub(super) fn rewrite(request: &mut RequestHeader, filtering: &Filtering) -> pingora::Result<()> {
    if let Some(target) = &filtering.sending.target {
        request.set_raw_path(target.as_bytes())?;
    }
    if let Some(host) = &filtering.sending.host {
        request.insert_header(http::header::HOST, &**host)?;
    }
    if filtering.has_body && filtering.passage.takes_request_body() {
        request.remove_header(&CONTENT_LENGTH);
        request.remove_header(&TRANSFER_ENCODING);
        match filtering.passage.prepared_length() {
            Some(length) => request.insert_header(CONTENT_LENGTH, length)?,
            None if request.version == Version::HTTP_2 => {}
            None => request.insert_header(TRANSFER_ENCODING, "chunked")?,
        }
    }
    Ok(())
}

/// Takes a piece of the request's body through the filters.
///
/// # Errors
/// The first filter's refusal, or its answer, as Pingora's error.
pub(super) async fn request_body(
    exchange: &mut Exchange,
    piece: &mut Option<Bytes>,
    is_last: bool,
) -> pingora::Result<()> {
    if !exchange.filtering().is_some_and(|filtering| filtering.passage.looks_at_request_body()) {
        return Ok(());
    }
    let Some(mut filtering) = exchange.take_filtering() else { return Ok(()) };
    let facts = Arc::clone(&filtering.facts);
    let result = match about(exchange, &facts) {
        Some(about) => filtering.passage.request_body(&about, piece, is_last).await,
        None => Err(Refusal::Internal),
    };
    instead(exchange, filtering, result)
}

/// Puts the filters back, and notes what takes the place of the origin's answer.
fn instead(
    exchange: &mut Exchange,
    mut filtering: Box<Filtering>,
    result: Result<Option<Answer>, Refusal>,
) -> pingora::Result<()> {
    filtering.note(&result.as_ref().map(|_| ()).map_err(|refusal| *refusal));
    let error = match result {
        Ok(None) => None,
        Ok(Some(answer)) => {
            let answer = filtering.answered(answer);
            let error = outbound::answered(answer.status);
            filtering.answer = Some(answer);
            Some(error)
        }
        Err(refusal) => {
            exchange.refuse(refusal);
            Some(outbound::error(refusal))
        }
    };
    exchange.is_filtered(filtering);
    error.map_or(Ok(()), Err)
}

/// Runs the filters on a response.
///
/// # Errors
/// The first filter's refusal, or its answer, as Pingora's error.
pub(super) async fn response(
    session: &Session,
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
) -> pingora::Result<()> {
    // What is said on the way to the response is nobody's to filter.
    if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let Some(mut filtering) = exchange.take_filtering() else { return Ok(()) };
    let facts = Arc::clone(&filtering.facts);
    let asked = session.req_header();
    let is_empty = response.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() == b"0");
    let has_body = may_have_body(&asked.method, response.status) && !is_empty;
    let gets_cookie = exchange.cookie().is_some();
    let result = match about(exchange, &facts) {
        Some(about) => dress(&mut filtering.passage, &about, response, (&asked.headers, has_body, gets_cookie)).await,
        None => Err(Refusal::Internal),
    };
    instead(exchange, filtering, result)
}

fn may_have_body(method: &Method, status: StatusCode) -> bool {
    *method != Method::HEAD && !status.is_informational() && !matches!(status.as_u16(), 204 | 304)
}

async fn dress(
    passage: &mut Passage,
    about: &About<'_>,
    response: &mut ResponseHeader,
    (asked, has_body, gets_cookie): (&HeaderMap, bool, bool),
) -> Result<Option<Answer>, Refusal> {
    let status = response.status;
    let mut headers = heads::Response(response);
    let answer = passage
        .response(about, &mut filter::Response { status, headers: &mut headers, asked, has_body, gets_cookie })
        .await?;
    if has_body && passage.takes_response_body() {
        response.remove_header(&CONTENT_LENGTH);
        response.insert_header(TRANSFER_ENCODING, "chunked").map_err(|_unfit| Refusal::FilterFailed)?;
    }
    Ok(answer)
}

/// Takes a piece of the response's body through the filters.
///
/// # Errors
/// The reason for which the response breaks off, as Pingora's error.
pub(super) fn response_body(exchange: &mut Exchange, piece: &mut Option<Bytes>, is_last: bool) -> pingora::Result<()> {
    if !exchange.filtering().is_some_and(|filtering| filtering.passage.looks_at_response_body()) {
        return Ok(());
    }
    passes(exchange, |passage, about| passage.response_body(about, piece, is_last)).map(|_| ())
}

/// Takes the response's trailers through the filters; what these still have of the body.
///
/// # Errors
/// The reason for which the response breaks off, as Pingora's error.
pub(super) fn response_trailers(exchange: &mut Exchange, trailers: &mut HeaderMap) -> pingora::Result<Option<Bytes>> {
    let rest = passes(exchange, |passage, about| passage.response_trailers(about, trailers))?;
    Ok(rest.filter(|rest| !rest.is_empty()))
}

/// Something passes the filters, if there are some.
fn passes<T>(
    exchange: &mut Exchange,
    pass: impl FnOnce(&mut Passage, &About<'_>) -> Result<T, Refusal>,
) -> pingora::Result<Option<T>> {
    let Some(mut filtering) = exchange.take_filtering() else { return Ok(None) };
    let facts = Arc::clone(&filtering.facts);
    let passed = match about(exchange, &facts) {
        Some(about) => pass(&mut filtering.passage, &about),
        None => Err(Refusal::Internal),
    };
    let (passed, refused) = passed.map_or_else(|refusal| (None, Err(refusal)), |passed| (Some(passed), Ok(None)));
    instead(exchange, filtering, refused)?;
    Ok(passed)
}

/// A filter's answer, dressed by the filters before it: its head and its body.
///
/// # Errors
/// The refusal of one of them.
pub(super) async fn own_answer(
    session: &Session,
    exchange: &mut Exchange,
    answer: Answer,
) -> Result<(ResponseHeader, Bytes), Refusal> {
    let unfit = |_error| Refusal::FilterFailed;
    let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len())).map_err(unfit)?;
    for (name, value) in &answer.headers {
        head.append_header(name.clone(), value.clone()).map_err(unfit)?;
    }
    let has_body = may_have_body(&session.req_header().method, answer.status);
    let mut body = Some(answer.body);
    if let Some(mut filtering) = exchange.take_filtering() {
        let facts = Arc::clone(&filtering.facts);
        let asked = (&session.req_header().headers, has_body, false);
        let dressed = match about(exchange, &facts) {
            Some(about) => match dress(&mut filtering.passage, &about, &mut head, asked).await {
                Ok(Some(_)) => Err(Refusal::FilterFailed),
                Ok(None) if has_body && filtering.passage.looks_at_response_body() => {
                    filtering.passage.response_body(&about, &mut body, true)
                }
                result => result.map(|_| ()),
            },
            None => Err(Refusal::Internal),
        };
        exchange.is_filtered(filtering);
        dressed?;
    }
    let body = body.unwrap_or_default();
    head.remove_header(&TRANSFER_ENCODING);
    if !matches!(head.status.as_u16(), 204 | 304) {
        head.insert_header(CONTENT_LENGTH, body.len()).map_err(unfit)?;
    }
    Ok((head, body))
}
