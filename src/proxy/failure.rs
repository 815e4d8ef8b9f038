//! When the way to the origin fails: what is tried again, and what the client is told.

use super::exchange::Exchange;
use super::respond;
use crate::refusal::Refusal;
use crate::upstream::{FULL, Failure};
use pingora::{Error, ErrorSource, ErrorType, RetryType};
use pingora_proxy::{FailToProxy, Session};

/// There is no connection to the server.
pub(super) fn connecting(session: &Session, mut error: Box<Error>, exchange: &mut Exchange) -> Box<Error> {
    let retry = if is_full(&error) {
        // Somebody else is making a connection that both can share. Over HTTP/1.1 another server comes first.
        exchange.shares_connections() && exchange.waits_for_place()
            || exchange.tries_another(session, Failure::Connect)
            || exchange.waits_for_place()
    } else {
        exchange.server_failed();
        exchange.tries_another(session, Failure::Connect)
    };
    error.set_retry(retry);
    error
}

/// There are as many connections to the server as may be, which is our own doing.
fn is_full(error: &Error) -> bool {
    *error.root_etype() == FULL
}

/// Something has failed while the request or the response was on its way.
pub(super) fn proxying(
    session: &mut Session,
    mut error: Box<Error>,
    exchange: &mut Exchange,
    reused: bool,
) -> Box<Error> {
    if matches!(error.etype(), ErrorType::HTTPStatus(_)) {
        // Our own, and decided.
        return error;
    }
    let (is_stale, is_unprocessed) = match error.retry {
        RetryType::ReusedOnly => (reused, false),
        // The library would send the request once more, whatever of its body is left and however often.
        RetryType::Decided(retry) => (false, retry),
    };
    error.set_retry(false);
    if *error.esource() != ErrorSource::Upstream {
        return error;
    }
    // A kept connection that the server has closed meanwhile says nothing about the server: the request goes once more
    // on a new one, if doing it twice does no harm and its body is still there.
    let is_there = !session.as_ref().retry_buffer_truncated() && !exchange.has_spent_body();
    let harmless = session.req_header().method.is_idempotent() && is_there;
    if is_stale && harmless && exchange.repeats() {
        error.set_retry(true);
        return error;
    }
    let is_timeout = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
    if is_timeout && !session.as_downstream_mut().is_body_done() {
        // The server waits for the client.
        return error;
    }
    let failure = match (is_unprocessed, is_timeout) {
        (true, _) => Failure::Connect,
        (false, true) => Failure::Timeout,
        (false, false) => Failure::NoResponse,
    };
    if !is_unprocessed {
        exchange.server_failed();
    }
    error.set_retry(exchange.tries_another(session, failure));
    error
}

/// The response has a status after which another server is to be asked, as an error; none if it is as good as any.
pub(super) fn unwanted(session: &Session, status: u16, exchange: &mut Exchange) -> Option<Box<Error>> {
    if !exchange.tries_another(session, Failure::Status(status)) {
        return None;
    }
    exchange.server_answered(status);
    let mut error = Error::new_up(ErrorType::HTTPStatus(status));
    error.set_retry(true);
    Some(error)
}

/// Answers, if there is still somebody to answer and nothing was answered yet.
pub(super) async fn answer(session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
    if matches!((error.esource(), error.etype()), (ErrorSource::Downstream, ErrorType::WriteTimedout)) {
        // Who does not read is not told, but the outcome is.
        exchange.refuse(Refusal::ResponseNotTaken);
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    }
    let unanswered = session.response_written().is_none();
    if let Some(answer) = exchange.take_answer().filter(|_| unanswered) {
        session.as_downstream_mut().set_keepalive(None);
        let status = answer.status.as_u16();
        let told = respond::tell(session, exchange, answer).await;
        return FailToProxy { error_code: if told.is_ok() { status } else { 0 }, can_reuse_downstream: false };
    }
    let refusal = exchange.refusal().or_else(|| refusal_of(error));
    let Some(refusal) = refusal.filter(|_| session.response_written().is_none()) else {
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    exchange.refuse(refusal);
    // Pingora ends the connection after a failure; the answer must not promise anything else.
    session.as_downstream_mut().set_keepalive(None);
    // Who cannot be answered has gone; the outcome says so.
    if respond::refuse(session, exchange, refusal).await.is_err() {
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    }
    FailToProxy { error_code: refusal.facts().status, can_reuse_downstream: false }
}

/// The refusal that a failure stands for; none if the client has gone.
fn refusal_of(error: &Error) -> Option<Refusal> {
    match (error.esource(), error.etype()) {
        (_, _) if is_full(error) => Some(Refusal::ConnectionsFull),
        (_, ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout) => Some(Refusal::ConnectTimeout),
        (_, ErrorType::ConnectRefused | ErrorType::ConnectNoRoute | ErrorType::ConnectError) => {
            Some(Refusal::ConnectFailed)
        }
        (_, ErrorType::ConnectProxyFailure | ErrorType::SocketError | ErrorType::BindError) => {
            Some(Refusal::ConnectFailed)
        }
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => Some(Refusal::ResponseTimeout),
        (ErrorSource::Upstream, _) => Some(Refusal::ResponseBroken),
        (ErrorSource::Downstream, ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed) => None,
        (ErrorSource::Downstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => None,
        // A stream that the client has reset.
        (ErrorSource::Downstream, ErrorType::H2Error) => None,
        (ErrorSource::Downstream, _) => Some(Refusal::MalformedRequest),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Refusal::Internal),
    }
}
