//! What a request that was let in rests on, and whether that still holds while it is served.

use crate::clock::{Timestamp, UnixSeconds};
use crate::identity::{Authorities, Peer, Verified};
use crate::name::ListenerName;
use crate::policy::{self, Case};
use crate::refusal::Refusal;
use crate::request::{Facts, Id};
use crate::runtime::{Live, Route};
use crate::tls::Client;
use pingora::protocols::tls::SslDigest;
use std::{net::IpAddr, sync::Arc, time::Duration};

/// How long what is no stream may still take when it began in time: nobody loses a request because his certificate or
/// his user's token ended while it was answered.
const GRACE: Duration = Duration::from_secs(60);

/// Who was let in, where, and by what.
#[derive(Debug)]
pub(in crate::proxy) struct Standing {
    pub(super) live: Arc<Live>,
    pub(super) listener: ListenerName,
    pub(super) tls: Option<Arc<SslDigest>>,
    pub(super) facts: Arc<Facts>,
    /// Who vouched for clients then.
    pub(super) authorities: Option<Arc<Authorities>>,
    /// The client's address.
    pub(super) client: Option<IpAddr>,
    /// None where nobody was asked.
    pub(super) verified: Option<Verified>,
    pub(super) route: Arc<Route>,
    pub(super) started: Timestamp,
}

impl Standing {
    /// Why it would not be let in by the generation that is live, if that is so. What a listener began that is no more is
    /// drained, and what a route began that is no more is finished, unless it is a stream, which could last for ever; but
    /// nothing goes on that rests on what was revoked.
    pub(in crate::proxy) fn lost(&self, is_stream: bool) -> Option<Refusal> {
        let snapshot = self.live.snapshot();
        let entrance = snapshot.entrances.get(&self.listener);
        let authorities = entrance.map_or(&self.authorities, |entrance| &entrance.authorities);
        let now = self.live.state().clock.now();
        let still = |verified: &Verified| verified.still(self.peer(), authorities.as_deref(), &snapshot.trust, now);
        let verified = match self.verified.as_ref().map(still).transpose() {
            Ok(verified) => verified,
            // That has its time: `ended` says when.
            Err(Refusal::CertificateExpired) => return None,
            Err(refusal) => return Some(refusal),
        };
        let entrance = entrance?;
        let Some(route) = snapshot.routes.find(&self.facts) else {
            return is_stream.then_some(Refusal::NoRoute);
        };
        let case = Case {
            id: &Id::random(),
            facts: &self.facts,
            client: self.client,
            tls: self.shown().map(|client| client.version),
            listener: entrance.identity,
            generation: snapshot.generation,
            now,
        };
        policy::still_allows(verified.as_ref(), &route.door, &case).err()
    }

    /// Whether nothing that it rests on was revoked by now. Without a new generation there is nothing else to ask.
    ///
    /// # Errors
    /// What was.
    pub(in crate::proxy) fn is_unrevoked(&self) -> Result<(), Refusal> {
        let snapshot = self.live.snapshot();
        self.verified.as_ref().map_or(Ok(()), |verified| verified.is_unrevoked(self.peer(), &snapshot.trust))
    }

    /// Why its time is over, if it is.
    pub(in crate::proxy) fn ended(&self, is_stream: bool) -> Option<Refusal> {
        let now = self.live.state().clock.now();
        let term = self.route.door.term;
        if term.max_age.is_some_and(|max| now.since(self.started) >= max) {
            return Some(Refusal::MaxAge);
        }
        if !is_stream && now.since(self.started) < GRACE {
            return None;
        }
        let verified = self.verified.as_ref()?;
        let certificate = self.peer().filter(|_| verified.profile().needs_certificate()).map(Peer::ends);
        let user = verified.principal().user().filter(|_| !term.outlives_token).map(|user| user.expires);
        let is_over = |end: Option<UnixSeconds>| end.is_some_and(|end| now.unix_seconds() > end);
        if is_over(certificate) {
            Some(Refusal::CertificateExpired)
        } else if is_over(user) {
            Some(Refusal::UserTokenExpired)
        } else {
            None
        }
    }

    fn shown(&self) -> Option<&Client> {
        self.tls.as_ref()?.extension.get::<Client>()
    }

    fn peer(&self) -> Option<&Peer> {
        self.shown()?.peer.as_ref()
    }
}
