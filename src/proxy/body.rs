//! A request's body: how much of it comes and how fast, and, where the token names its digest, held in bounds until it
//! is known to be the one that was signed.

use super::connection::Link;
use super::exchange::Exchange;
use crate::identity::BodyDigest;
use crate::refusal::Refusal;
use crate::room::Room;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora_proxy::Session;
use std::{sync::Arc, time::Duration};

/// The longest body that can be read before a server is picked, and be sent all the same, in bytes: Pingora's own buffer.
const BEFORE_PICK_MAX: usize = 64 * 1024;
const CONTENT_DIGEST: &str = "content-digest";

/// The body of one request.
#[derive(Debug)]
pub(super) struct Body {
    link: Arc<Link>,
    /// Bytes that have come, of the present attempt.
    received: u64,
    /// The most that may.
    pub(super) max: u64,
    /// Its pace is ours to watch: the connection itself does not know when it waits.
    is_paced: bool,
    /// What the token says that its digest must be.
    pub(super) digest: Option<BodyDigest>,
    /// The room that it holds, until the request ends.
    pub(super) room: Option<Room>,
    withheld: Option<Withheld>,
}

/// A body that is withheld while it comes.
#[derive(Debug)]
struct Withheld {
    expected: BodyDigest,
    /// In bytes.
    max: usize,
    bytes: BytesMut,
}

impl Body {
    pub(super) const fn new(link: Arc<Link>) -> Self {
        Self { link, received: 0, max: u64::MAX, is_paced: false, digest: None, room: None, withheld: None }
    }

    /// Bytes that have come.
    pub(super) fn received(&self) -> usize {
        usize::try_from(self.received).unwrap_or(usize::MAX)
    }

    /// From here on it is waited for, by a server that may itself be as slow as its timeout lets it.
    pub(super) fn is_awaited(&mut self, server: Duration) {
        self.is_paced = true;
        self.link.wait_also_for_server(server);
        self.link.wait_for_body();
    }

    /// Another server is asked, and it comes again from its start.
    pub(super) fn starts_again(&mut self) {
        self.received = 0;
        self.withheld.iter_mut().for_each(|withheld| withheld.bytes.clear());
    }

    /// Takes a piece on its way to the server. What is withheld goes with the last.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`], [`Refusal::BodyTooLargeToHold`], [`Refusal::HeldBodiesFull`], and
    /// [`Refusal::TokenBody`] if it is not what was signed.
    pub(super) fn came(&mut self, piece: &mut Option<Bytes>, is_last: bool) -> Result<(), Refusal> {
        // A tunnel's bytes are no body.
        if self.link.is_tunnel() {
            return Ok(());
        }
        let bytes = piece.as_ref().map_or(0, Bytes::len);
        if self.is_paced {
            self.link.body_came(bytes);
        }
        self.received = self.received.saturating_add(bytes as u64);
        if self.received > self.max {
            return Err(Refusal::BodyTooLarge);
        }
        if self.withheld.is_some() {
            self.hold(bytes)?;
        }
        if let Some(withheld) = &mut self.withheld {
            withheld.take(piece, is_last)?;
        }
        if is_last {
            // An empty last piece is an end in HTTP/1.1, and the end that follows would be a second one.
            *piece = piece.take().filter(|bytes| !bytes.is_empty());
        } else if self.is_paced {
            self.link.wait_for_body();
        }
        Ok(())
    }

    /// Who has proved nothing has no room of his own, and holds no more than what is kept before a server is picked.
    fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        let Some(room) = self.room.as_mut() else { return Ok(()) };
        if room.grow(bytes) { Ok(()) } else { Err(Refusal::HeldBodiesFull) }
    }
}

impl Withheld {
    fn take(&mut self, piece: &mut Option<Bytes>, is_last: bool) -> Result<(), Refusal> {
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
    let max = exchange.snapshot().digest_body_max;
    let body = exchange.body();
    let Some(expected) = body.digest else { return Ok(()) };
    let headers = &session.req_header().headers;
    let mut told = headers.get_all(CONTENT_DIGEST).iter();
    if told.any(|value| value.to_str().ok().and_then(BodyDigest::parse) != Some(expected)) {
        return Err(Refusal::TokenBody);
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > max) {
        return Err(Refusal::BodyTooLargeToHold);
    }
    let needed = length.unwrap_or(max);
    if needed > BEFORE_PICK_MAX {
        body.withheld = Some(Withheld { expected, max: needed, bytes: BytesMut::new() });
        return Ok(());
    }
    let came = read(session, body, needed).await?;
    if BodyDigest::of(&came) == expected { Ok(()) } else { Err(Refusal::TokenBody) }
}

/// The whole body, before the head goes on; Pingora keeps it for the server.
///
/// # Errors
/// [`Refusal::BodyTooLargeToFilter`] if it is longer than what can be kept, [`Refusal::MalformedRequest`] if it cannot be
/// read.
pub(super) async fn whole(session: &mut Session, body: &mut Body) -> Result<Bytes, Refusal> {
    let length = session.req_header().headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if body.withheld.is_some() || length.is_some_and(|length| length > BEFORE_PICK_MAX) {
        return Err(Refusal::BodyTooLargeToFilter);
    }
    if session.as_downstream_mut().is_body_done() {
        return session.as_downstream().get_retry_buffer().ok_or(Refusal::Internal);
    }
    let too_large =
        |refusal| if refusal == Refusal::BodyTooLargeToHold { Refusal::BodyTooLargeToFilter } else { refusal };
    read(session, body, BEFORE_PICK_MAX).await.map(BytesMut::freeze).map_err(too_large)
}

/// Reads a whole body, which Pingora keeps for the server.
async fn read(session: &mut Session, body: &mut Body, max: usize) -> Result<BytesMut, Refusal> {
    if session.req_header().headers.contains_key(EXPECT) {
        session.req_header_mut().remove_header(&EXPECT);
        session.as_downstream_mut().write_continue_response().await.map_err(|_gone| Refusal::MalformedRequest)?;
    }
    let downstream = session.as_downstream_mut();
    downstream.enable_retry_buffering();
    let mut whole = BytesMut::new();
    body.link.wait_for_body();
    while let Some(piece) = downstream.read_request_body().await.map_err(|_broken| Refusal::MalformedRequest)? {
        body.link.body_came(piece.len());
        if whole.len().saturating_add(piece.len()) > max {
            return Err(Refusal::BodyTooLargeToHold);
        }
        body.hold(piece.len())?;
        whole.extend_from_slice(&piece);
        body.link.wait_for_body();
    }
    body.link.body_came(0);
    Ok(whole)
}
