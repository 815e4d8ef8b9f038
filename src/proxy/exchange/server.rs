//! The server that a request goes to: picked, picked again, and what is said of it.

use super::{AnswerKind, Exchange};
use crate::audit::Asked;
use crate::proxy::cookie;
use crate::proxy::hash_key::{self, Known};
use crate::proxy::head;
use crate::refusal::Refusal;
use crate::upstream::{Choice, Failure, Picked, Place, Pool, Purpose, Ticket, Wish};
use http::{HeaderMap, HeaderName};
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::Session;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

/// What says that a request may be sent twice (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// How often a request is repeated because a kept connection was stale.
const REPETITIONS_MAX: u8 = 3;
/// How often a place for a connection, or on one, is looked for, and how much longer it is waited each time: half a second
/// in all.
const PLACES_MAX: u8 = 12;
const PLACE_WAIT: Duration = Duration::from_millis(6);

impl Exchange {
    /// The next server of the permit's pool, and how to reach it for a request that may be quiet for long, or not.
    ///
    /// # Errors
    /// A [`Refusal`]; none if the client goes away while it waits for a server with room.
    pub(in crate::proxy) async fn pick(&mut self, session: &mut Session) -> Result<HttpPeer, Option<Refusal>> {
        self.body.starts_again();
        let (before, repeats) = (self.picked.take(), std::mem::take(&mut self.repeats));
        if repeats {
            tokio::time::sleep(PLACE_WAIT * u32::from(self.places)).await;
        }
        let permit = self.permit.as_ref().ok_or(Refusal::Internal)?;
        let mut picked = match before {
            Some(same) if repeats => same,
            Some(before) => {
                let (wish, _) = self.wish(before.pool(), session);
                before.another(&self.tried, wish)?
            }
            None => {
                let mut ticket = None;
                let wish = |pool: &Pool| {
                    let (wish, read) = self.wish(pool, session);
                    ticket = read;
                    wish
                };
                let choice = self.snapshot.pools.pick(permit, wish)?;
                self.ticket = ticket;
                match choice {
                    Choice::Picked(picked) => picked,
                    Choice::Queued(place) => {
                        let since = Instant::now();
                        let mut picked = queued(place, session).await?;
                        picked.waited(since.elapsed());
                        picked
                    }
                }
            }
        };
        // Over HTTP/2 the library's patience for the response begins with the request's head, not with its body's end.
        let waits_for_body = !session.as_downstream_mut().is_body_done();
        let is_for_tunnel = head::asks_for_tunnel(session);
        let is_long = is_for_tunnel || picked.speaks_h2() && (waits_for_body || head::calls_grpc(session));
        let ours = session.server_addr().and_then(|address| address.as_inet()).copied();
        let addresses = self.client_socket().map(|client| (client, ours.unwrap_or_else(|| nowhere(client))));
        let peer = picked.peer(Purpose { is_long, is_for_tunnel, addresses, is_look: false });
        self.picked = Some(picked);
        peer.map_err(|_no_address| Some(Refusal::Internal))
    }

    /// Where the request would like to go, and the cookie that says so.
    fn wish(&self, pool: &Pool, session: &Session) -> (Wish, Option<Ticket>) {
        let known = Known { client: self.client(), workload: self.workload.as_ref(), token: self.token.as_deref() };
        let key = pool.hash_key().and_then(|by| hash_key::of(by, session, &known));
        let ticket = pool.sticky().and_then(|sticky| {
            let value = cookie::value(&session.req_header().headers, sticky.name())?;
            sticky.read(value, self.started.unix_seconds())
        });
        let seat = ticket.and_then(|ticket| pool.sticky()?.seat(ticket, &pool.servers));
        (Wish { key, seat }, ticket)
    }

    /// The client's address with his port; without it, where somebody else has told the address.
    fn client_socket(&self) -> Option<SocketAddr> {
        let told = self.source.client.map(|address| SocketAddr::new(address, 0));
        told.or_else(|| self.source.address.map(SocketAddr::from))
    }

    /// There is a new connection to the server.
    pub(in crate::proxy) fn connected(&mut self) {
        if let Some(picked) = &mut self.picked {
            picked.connected();
        }
    }

    /// The cookie by which the client finds his server again, if he is to be given one.
    pub(in crate::proxy) fn cookie(&self) -> Option<String> {
        self.picked.as_ref()?.cookie(self.ticket, self.started.unix_seconds())
    }

    /// Takes out of the trailers what is not to pass.
    pub(in crate::proxy) fn filter_trailers(&self, trailers: &mut HeaderMap) {
        const OF_GRPC: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];
        let passes = |name: &HeaderName| {
            (self.answer == AnswerKind::Grpc && OF_GRPC.contains(&name.as_str()))
                || self.picked.as_ref().is_some_and(|picked| picked.passes_trailer(name))
        };
        let dropped: Vec<_> = trailers.keys().filter(|name| !passes(name)).cloned().collect();
        dropped.iter().for_each(|name| drop(trailers.remove(name)));
    }

    /// Whether the next attempt may be for the same server: so many kept connections may be stale.
    pub(in crate::proxy) const fn repeats(&mut self) -> bool {
        self.repeats = self.repetitions < REPETITIONS_MAX;
        self.repetitions = self.repetitions.saturating_add(1);
        self.repeats
    }

    /// Whether many requests share a connection to the server.
    pub(in crate::proxy) fn shares_connections(&self) -> bool {
        self.picked.as_ref().is_some_and(Picked::speaks_h2)
    }

    /// Whether it is waited for until the server has less than as many connections as may be: an idle one may end, or one
    /// that is being made can be shared.
    pub(in crate::proxy) const fn waits_for_place(&mut self) -> bool {
        self.repeats = self.places < PLACES_MAX;
        self.places = self.places.saturating_add(self.repeats as u8);
        self.repeats
    }

    /// The server has answered, whatever becomes of its answer.
    pub(in crate::proxy) fn server_answered(&mut self, status: u16) {
        if let Some(picked) = &mut self.picked {
            picked.responded(status);
        }
    }

    /// The server has failed.
    pub(in crate::proxy) fn server_failed(&mut self) {
        if let Some(picked) = &mut self.picked {
            picked.failed();
        }
    }

    /// Whether the request goes to another server after that failure of this one.
    pub(in crate::proxy) fn tries_another(&mut self, session: &Session, failure: Failure) -> bool {
        let has_begun = self.status.is_some() || session.response_written().is_some();
        if has_begun || session.as_ref().retry_buffer_truncated() || self.has_spent_body() {
            return false;
        }
        let head = session.req_header();
        let is_repeatable = head.headers.contains_key(IDEMPOTENCY_KEY);
        let picked = self.picked.as_ref();
        let Some(picked) = picked.filter(|it| it.takes_another(failure, &head.method, is_repeatable, &self.tried))
        else {
            return false;
        };
        self.tried.push(picked.index());
        true
    }

    /// The server waits for the body. A gRPC call of somebody whom we know may be silent.
    pub(in crate::proxy) fn awaits_body(&mut self, session: &Session) {
        let Some(picked) = &self.picked else { return };
        if !(self.workload.is_some() && picked.speaks_h2() && head::calls_grpc(session)) {
            self.body.is_awaited(picked.between_bytes());
        }
    }
}

/// Waits for a server, as long as the client does. Whose body was not read yet could say more than that he goes.
async fn queued(place: Place, session: &mut Session) -> Result<Picked, Option<Refusal>> {
    let is_heard = session.is_http2() || session.as_downstream_mut().is_body_done();
    tokio::select! {
        picked = place.wait() => picked.map_err(Some),
        _ = session.as_downstream_mut().read_body_or_idle(true), if is_heard => Err(None),
    }
}

/// What stands for an address of ours that is none, as at a Unix socket.
const fn nowhere(client: SocketAddr) -> SocketAddr {
    match client {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

pub(super) fn asked(picked: &Picked) -> Asked {
    let server = picked.server();
    let (pool, name, address) = (server.pool.clone(), server.name.clone(), server.address.clone());
    Asked { pool, server: name, address, times: picked.times() }
}
