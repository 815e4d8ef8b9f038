//! Bodies whose digest the token names: held, in bounds, until it is known to be theirs.

use super::exchange::Exchange;
use crate::identity::BodyDigest;
use crate::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora_proxy::Session;

/// The longest body that can be read before a server is picked, and be sent all the same, in bytes: Pingora's own buffer.
const BEFORE_PICK_MAX: usize = 64 * 1024;
const CONTENT_DIGEST: &str = "content-digest";

/// A body that is withheld while it comes.
#[derive(Debug)]
pub(super) struct Withheld {
    expected: BodyDigest,
    /// In bytes; so much room there is.
    max: usize,
    bytes: BytesMut,
}

impl Withheld {
    /// Another server is asked, and the body comes again.
    pub(super) fn start_again(&mut self) {
        self.bytes.clear();
    }

    /// Takes a piece, and gives all of them back with the last.
    ///
    /// # Errors
    /// [`Refusal::TokenBody`] if they are not what was signed, [`Refusal::BodyTooLargeToHold`] if they are too many.
    pub(super) fn take(&mut self, piece: &mut Option<Bytes>, is_last: bool) -> Result<(), Refusal> {
        // Nothing at all would tell the server that this is the end.
        let came = piece.replace(Bytes::new()).unwrap_or_default();
        if self.bytes.len().saturating_add(came.len()) > self.max {
            return Err(Refusal::BodyTooLargeToHold);
        }
        self.bytes.extend_from_slice(&came);
        if !is_last {
            return Ok(());
        }
        if BodyDigest::of(&self.bytes) != self.expected {
            return Err(Refusal::TokenBody);
        }
        *piece = Some(self.bytes.split().freeze());
        Ok(())
    }
}

/// Checks a body against the digest that the token names, if it names one. A longer one is only withheld, and checked as
/// it comes.
///
/// # Errors
/// [`Refusal::TokenBody`] if it is another, [`Refusal::BodyTooLargeToHold`] and [`Refusal::HeldBodiesFull`] if there is
/// no room, [`Refusal::MalformedRequest`] if it cannot be read.
pub(super) async fn check(session: &mut Session, exchange: &mut Exchange) -> Result<(), Refusal> {
    let Some(expected) = exchange.body_digest() else { return Ok(()) };
    let headers = &session.req_header().headers;
    let mut told = headers.get_all(CONTENT_DIGEST).iter();
    if told.any(|value| value.to_str().ok().and_then(BodyDigest::parse) != Some(expected)) {
        return Err(Refusal::TokenBody);
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let max = exchange.snapshot().digest_body_max;
    if length.is_some_and(|length| length > max) {
        return Err(Refusal::BodyTooLargeToHold);
    }
    let needed = length.unwrap_or(max);
    if needed > BEFORE_PICK_MAX {
        exchange.withhold(Withheld { expected, max: needed, bytes: BytesMut::new() });
        return Ok(());
    }
    let body = read(session, exchange, needed).await?;
    if BodyDigest::of(&body) == expected { Ok(()) } else { Err(Refusal::TokenBody) }
}

/// Reads a whole body, which Pingora keeps for the server.
async fn read(session: &mut Session, exchange: &mut Exchange, max: usize) -> Result<BytesMut, Refusal> {
    if session.req_header().headers.contains_key(EXPECT) {
        session.req_header_mut().remove_header(&EXPECT);
        session.as_downstream_mut().write_continue_response().await.map_err(|_gone| Refusal::MalformedRequest)?;
    }
    let downstream = session.as_downstream_mut();
    downstream.enable_retry_buffering();
    exchange.link().wait_for_body();
    let mut body = BytesMut::new();
    while let Some(piece) = downstream.read_request_body().await.map_err(|_broken| Refusal::MalformedRequest)? {
        exchange.link().body_came(piece.len());
        exchange.hold(piece.len())?;
        if body.len().saturating_add(piece.len()) > max {
            return Err(Refusal::BodyTooLargeToHold);
        }
        body.extend_from_slice(&piece);
        exchange.link().wait_for_body();
    }
    exchange.link().body_came(0);
    Ok(body)
}
