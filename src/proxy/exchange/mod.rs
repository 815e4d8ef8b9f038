//! One request and its response, from the head to the record of its outcome.

mod filters;
mod path;
mod server;
mod trace;

use super::body::Body;
use super::connection::Link;
use super::filtering::Filtering;
use super::limits::{self, Used};
use super::respond::Answer;
use super::standing::Standing;
use crate::audit::{Decision, Outcome, Record, Source, Subject};
use crate::clock::Timestamp;
use crate::config::ClientAddress;
use crate::identity::{Denied, Profile, Shown, Sighting, Verified};
use crate::metrics;
use crate::name::{ListenerName, WorkloadName};
use crate::policy::Permit;
use crate::principal::User;
use crate::refusal::Refusal;
use crate::request::headers::TRACEPARENT;
use crate::request::{Facts, Id};
use crate::runtime::{Live, Route, Snapshot};
use crate::tls::Client;
use crate::upstream::{Picked, Ticket};
use crate::verdict::{HasRead, RuleId, Shadow};
use bytes::Bytes;
use http::HeaderName;
use http::header::AsHeaderName;
use once_cell::sync::OnceCell;
use pingora::http::RequestHeader;
use pingora::protocols::SocketDigest;
use pingora::protocols::tls::SslDigest;
use pingora_proxy::Session;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The longest path that is taken into a record, in bytes.
const PATH_MAX: usize = 2048;
/// And into that of who has proved nothing.
const STRANGERS_PATH_MAX: usize = 256;
/// The longest header that is taken into a record, in bytes.
const NOTED_MAX: usize = 256;

/// What is known of a request so far. It holds its [`Snapshot`] to the end, and when it is dropped without having
/// ended (the client has gone, the task was cut) it still writes its outcome.
#[derive(Debug)]
pub struct Exchange {
    live: Arc<Live>,
    link: Arc<Link>,
    snapshot: Arc<Snapshot>,
    started: Timestamp,
    /// The same, to measure by, where a route is hidden.
    arrived: Option<Instant>,
    /// The same, once the answer says that there is nothing, be that true or not.
    nowhere_since: Option<Instant>,
    source: Source,
    request_id: OnceCell<Id>,
    subject: Option<Subject>,
    authority: Box<str>,
    cf_ray: Option<Box<str>>,
    traceparent: Option<Box<str>>,
    profile: Option<Profile>,
    /// What rules read.
    read: HasRead,
    route: Option<Arc<Route>>,
    workload: Option<WorkloadName>,
    token: Option<Arc<Sighting>>,
    user: Option<Arc<User>>,
    permit: Option<Permit>,
    picked: Option<Picked>,
    /// Whom the client had before, as his cookie says.
    ticket: Option<Ticket>,
    /// The servers that were asked before this one.
    tried: Vec<usize>,
    /// The server is asked once more: only the connection to it was stale.
    repeats: bool,
    /// How often that was so.
    repetitions: u8,
    /// How often a place on a connection was waited for.
    places: u8,
    body: Body,
    /// What filters keep of it.
    filtering: Option<Box<Filtering>>,
    used: Used,
    /// When another request may pass, where a limit says it.
    wait: Option<Duration>,
    status: Option<u16>,
    sent: usize,
    original_host: Option<Box<str>>,
    refusal: Option<Refusal>,
    /// What the client is told instead.
    shown: Option<Shown>,
    answer: AnswerKind,
    stage: Stage,
    /// Who asks is proved, as far as was demanded.
    verified: bool,
    /// The decision is recorded singly, and so is the outcome.
    recorded: bool,
}

/// What kind of answer there is, as far as it matters later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnswerKind {
    Plain,
    /// The origin's, in gRPC.
    Grpc,
    /// Ours, and it was sent, whole.
    Own,
}

/// How far the records of a request are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begun,
    Decided,
    Ended,
}

impl Exchange {
    pub(in crate::proxy) fn begin(live: &Arc<Live>, listener: ListenerName, link: Arc<Link>) -> Self {
        let snapshot = live.snapshot_at(&listener);
        Self {
            arrived: snapshot.hides.then(Instant::now),
            body: Body::new(Arc::clone(&link)),
            link,
            snapshot,
            started: live.state().clock.now(),
            live: Arc::clone(live),
            source: Source { listener, address: None, client: None, tls_version: None, certificate: None },
            request_id: OnceCell::new(),
            subject: None,
            authority: Box::default(),
            cf_ray: None,
            traceparent: None,
            profile: None,
            read: HasRead::default(),
            route: None,
            nowhere_since: None,
            workload: None,
            token: None,
            user: None,
            permit: None,
            picked: None,
            ticket: None,
            tried: Vec::new(),
            repeats: false,
            repetitions: 0,
            places: 0,
            filtering: None,
            used: Used::default(),
            wait: None,
            status: None,
            sent: 0,
            original_host: None,
            refusal: None,
            shown: None,
            answer: AnswerKind::Plain,
            stage: Stage::Begun,
            verified: false,
            recorded: true,
        }
    }

    pub(in crate::proxy) fn came_from(&mut self, tls: Option<&SslDigest>, socket: Option<&SocketDigest>) {
        let client = tls.and_then(|tls| tls.extension.get::<Client>());
        let address = socket.and_then(|socket| socket.peer_addr()).and_then(|address| address.as_inet());
        self.source.address = address.map(|address| (address.ip(), address.port()));
        self.source.tls_version = client.map(|client| client.version);
        self.source.certificate = client.and_then(|client| client.peer.as_ref()).map(crate::identity::Peer::thumbprint);
    }

    pub(in crate::proxy) fn concerns(&mut self, facts: &Facts, head: &RequestHeader) {
        self.authority = facts.authority.clone();
        self.subject = Some(Subject {
            method: facts.method.clone(),
            host: facts.host.clone(),
            path: facts.path.as_str().into(),
            protocol: facts.protocol,
        });
        self.cf_ray = noted(head, "cf-ray").map(Into::into);
        self.traceparent = noted(head, &TRACEPARENT).filter(|text| trace::is_one(text)).map(Into::into);
    }

    pub(in crate::proxy) fn belongs_to(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
    }

    /// No route takes it.
    pub(in crate::proxy) const fn belongs_nowhere(&mut self) {
        self.nowhere_since = self.arrived;
    }

    /// Whether its route is hidden.
    pub(in crate::proxy) fn is_unseen(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.door.is_hidden)
    }

    pub(in crate::proxy) const fn judged_by(&mut self, profile: Profile) {
        self.profile = Some(profile);
    }

    /// Rules read that of it.
    pub(in crate::proxy) fn reads(&mut self, read: HasRead) {
        self.read = read;
    }

    /// From here on the edge's own request id counts.
    pub(in crate::proxy) fn knows(&mut self, verified: &Verified) {
        self.verified = true;
        self.workload = verified.principal().workload().map(|workload| workload.name.clone());
        (self.body.digest, self.body.room) = (None, None);
        if let Some(token) = verified.token() {
            if let Some(offset) = &self.snapshot.clock_offset {
                offset.set(self.started.unix_seconds().saturating_sub(token.iat));
            }
            let held = &self.live.state().held;
            self.body.digest = token.body;
            self.body.room = self.workload.clone().map(|workload| held.room(workload));
        }
        self.token = verified.token().cloned();
        if let Some(rid) = self.edges_id() {
            self.is_called(Some(rid));
        }
    }

    /// The user is proved, too.
    pub(in crate::proxy) fn knows_user(&mut self, user: Option<&Arc<User>>) {
        self.user = user.map(Arc::clone);
    }

    /// The header of the user's token, unless that goes on.
    pub(in crate::proxy) fn users_header(&self) -> Option<&HeaderName> {
        let user = self.user.as_ref()?;
        let people = self.snapshot.trust.people.iter().find(|people| people.name == user.people)?;
        (!people.is_forwarded).then_some(&people.header)
    }

    /// It is within its limits so far.
    pub(in crate::proxy) fn uses(&mut self, used: Used) {
        self.used = used;
    }

    /// It uses nothing of them after all.
    pub(in crate::proxy) fn unuse(&mut self) {
        self.used.undo();
    }

    /// What it uses of its limits.
    pub(in crate::proxy) const fn used(&self) -> &Used {
        &self.used
    }

    /// From here on a body may not be longer.
    pub(in crate::proxy) fn takes_no_more_than(&mut self, bytes: u64) {
        self.body.max = self.body.max.min(bytes);
    }

    /// When another request may pass.
    pub(in crate::proxy) const fn may_come_again(&mut self, wait: Option<Duration>) {
        self.wait = wait;
    }

    /// In how many seconds another request may pass, where that is known better than the refusal does.
    pub(in crate::proxy) fn retry_after(&self) -> Option<u64> {
        self.wait.map(limits::seconds)
    }

    /// The verified token.
    pub(in crate::proxy) fn token(&self) -> Option<&Sighting> {
        self.token.as_deref()
    }

    /// Records the denial and says which it is.
    pub(in crate::proxy) fn deny(&mut self, denied: &Denied) -> Refusal {
        self.workload = self.workload.take().or_else(|| denied.workload.clone());
        let mut decision = self.decision(Err(denied.refusal));
        decision.kid.clone_from(&denied.kid);
        decision.denied_by.clone_from(&denied.rule);
        decision.near.clone_from(&denied.near);
        self.would_change(&mut decision, denied.shadow.clone());
        let (journal, listener) = (&self.live.state().journal, &self.source.listener);
        if !self.verified {
            self.link.is_unproven();
        }
        self.recorded = self.verified || journal.admits(listener, denied.refusal.facts().code, decision.time);
        if self.recorded {
            self.note(Record::Decision(decision));
        }
        self.metrics().denied.inc();
        (self.refusal, self.shown) = (Some(denied.refusal), denied.shown);
        if denied.shown.is_some() {
            self.nowhere_since = self.arrived;
        }
        denied.refusal
    }

    /// Notes what it rests on, by which it is judged anew while it is served.
    ///
    /// # Errors
    /// If a generation that has become live meanwhile does not let it in.
    pub(in crate::proxy) fn rests_on(&self, standing: Standing) -> Result<(), Refusal> {
        // Whatever becomes live from here on is noticed by who serves the request.
        let standing = self.link.rests_on(standing);
        if self.live.snapshot().generation == self.snapshot.generation {
            return standing.is_unrevoked();
        }
        standing.lost(false).map_or(Ok(()), Err)
    }

    /// Records the permit, before anything is forwarded by it.
    ///
    /// # Errors
    /// [`Refusal::AuditUnavailable`] if it cannot be recorded.
    pub(in crate::proxy) async fn allow(&mut self, permit: Permit) -> Result<(), Refusal> {
        // A trace that a stranger names is not ours to go on with.
        let known = permit.principal().workload().is_some();
        self.traceparent = self.traceparent.take().filter(|_| known).or_else(|| Some(trace::new()));
        let mut decision = self.decision(Ok(permit.rule().clone()));
        self.would_change(&mut decision, permit.shadow().cloned());
        self.permit = Some(permit);
        self.is_recorded(decision).await
    }

    /// The decision is recorded, before anything is done by it.
    async fn is_recorded(&self, decision: Box<Decision>) -> Result<(), Refusal> {
        let recorded = match self.live.state().journal.decision(decision) {
            Ok(recorded) => recorded.safely().await,
            Err(refusal) => Err(refusal),
        };
        if recorded.is_ok() { &self.metrics().allowed } else { &self.metrics().denied }.inc();
        recorded
    }

    /// A rule that is only tried out would decide otherwise.
    fn would_change(&self, decision: &mut Decision, shadow: Option<Shadow>) {
        for rule in shadow.iter().flat_map(|shadow| &shadow.rules) {
            let would_allow = shadow.as_ref().is_some_and(|shadow| shadow.would_allow);
            self.live.state().metrics.shadow(rule.as_str(), would_allow).inc();
        }
        decision.shadow = shadow;
    }

    fn decision(&mut self, verdict: Result<RuleId, Refusal>) -> Box<Decision> {
        self.stage = Stage::Decided;
        // Of who has proved nothing the start is enough to tell what he looks for.
        let path_max = if self.verified || verdict.is_ok() { PATH_MAX } else { STRANGERS_PATH_MAX };
        if let Some(subject) = &mut self.subject {
            subject.path = path::recorded(&subject.path, path_max);
        }
        let now = self.live.state().clock.now();
        Box::new(Decision {
            time: now,
            request_id: self.request_id().clone(),
            source: self.source.clone(),
            subject: self.subject.take(),
            cf_ray: self.cf_ray.take(),
            traceparent: self.traceparent.clone(),
            route: self.route.as_ref().map(|route| route.door.route.clone()),
            profile: self.profile,
            workload: self.workload.clone(),
            kid: None,
            token: self.token.clone(),
            user: self.user.clone(),
            verdict,
            denied_by: None,
            near: Vec::new(),
            read: std::mem::take(&mut self.read),
            shadow: None,
            judged: self.snapshot.judged(),
            took: now.since(self.started),
        })
    }

    /// Notes that the answer is ours, and why.
    pub(in crate::proxy) fn refuse(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    /// Takes a piece of the body on its way to the server.
    ///
    /// # Errors
    /// What [`Body::came`] refuses.
    pub(in crate::proxy) fn body_came(&mut self, piece: &mut Option<Bytes>, is_last: bool) -> Result<(), Refusal> {
        if let Some(picked) = self.picked.as_mut().filter(|_| is_last) {
            picked.sent();
        }
        self.body.came(piece, is_last).inspect_err(|refusal| self.refusal = Some(*refusal))
    }

    pub(in crate::proxy) const fn body(&mut self) -> &mut Body {
        &mut self.body
    }

    /// A response has begun, the server's or our own.
    pub(in crate::proxy) fn responds(&mut self, status: u16) {
        self.status = Some(status);
        self.link.stop_counting();
    }

    /// A piece of the response's body goes.
    pub(in crate::proxy) const fn sends(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes);
    }

    /// A route that asks nobody who he is knows nobody, whatever a token says.
    pub(in crate::proxy) fn forgets_who_asks(&mut self) {
        (self.workload, self.token, self.user, self.body.digest, self.source.client) = (None, None, None, None, None);
        (self.verified, self.profile, self.request_id) = (false, None, OnceCell::new());
    }

    /// From here on that is the host that was asked for: what the token says.
    pub(in crate::proxy) fn asks_for(&mut self, authority: &str, host: &str) {
        self.authority = authority.into();
        self.original_host = Some(authority.into());
        if let Some(subject) = &mut self.subject {
            subject.host = host.into();
        }
    }

    /// The host that the token says was asked for.
    pub(in crate::proxy) fn original_host(&self) -> Option<&str> {
        self.original_host.as_deref()
    }

    /// From here on that is the client's address.
    pub(in crate::proxy) const fn is_client(&mut self, client: Option<IpAddr>) {
        self.source.client = client;
    }

    /// The client's address, as far as it is known.
    pub(in crate::proxy) const fn tls_version(&self) -> Option<&'static str> {
        self.source.tls_version
    }

    /// The client's address, if he tells it who is to tell it: rules are not to take the edge for a client.
    pub(in crate::proxy) fn client_told(&self, by: ClientAddress) -> Option<IpAddr> {
        if by == ClientAddress::Peer { self.client() } else { self.source.client }
    }

    pub(in crate::proxy) fn client(&self) -> Option<IpAddr> {
        self.source.client.or_else(|| self.source.address.map(|(address, _)| address))
    }

    /// The response is gRPC's.
    pub(in crate::proxy) const fn answers_grpc(&mut self) {
        self.answer = AnswerKind::Grpc;
    }

    /// Records the outcome.
    pub(in crate::proxy) fn end(&mut self, session: &Session, complete: bool) {
        let status = session.response_written().map(|response| response.status.as_u16());
        let bytes = (session.body_bytes_read(), session.body_bytes_sent());
        self.record_outcome(status, bytes, complete || self.answer == AnswerKind::Own);
    }

    pub(in crate::proxy) const fn answered(&mut self) {
        self.answer = AnswerKind::Own;
    }

    /// Records the outcome of a request that was answered before it could be read.
    pub(in crate::proxy) fn answered_unread(&mut self, answer: &Answer) {
        self.record_outcome(Some(answer.status), (0, answer.body.len()), true);
    }

    /// Records the outcome of a request that the library has answered in its own way.
    pub(in crate::proxy) fn answered_by_library(&mut self) {
        self.record_outcome(Some(400), (0, 0), true);
    }

    /// The connection that it came by.
    pub(in crate::proxy) fn link(&self) -> &Link {
        &self.link
    }

    fn record_outcome(&mut self, status: Option<u16>, (received, sent): (usize, usize), complete: bool) {
        self.stage = Stage::Ended;
        let filtered = self.filtered(status);
        let now = self.live.state().clock.now();
        let took = now.since(self.started);
        self.metrics().duration.observe(took.as_secs_f64());
        self.metrics().responded(status.unwrap_or_default());
        if let (Some(refusal), Some(entrance)) = (self.refusal, self.snapshot.entrances.get(&self.source.listener)) {
            entrance.metrics.refused(refusal);
        }
        if !self.recorded {
            return;
        }
        self.note(Record::Outcome(Box::new(Outcome {
            time: now,
            request_id: self.request_id().clone(),
            listener: self.source.listener.clone(),
            route: self.route.as_ref().map(|route| route.door.route.clone()),
            workload: self.workload.clone(),
            asked: self.picked.as_ref().map(server::asked),
            attempts: self.tried.len().saturating_add(usize::from(self.picked.is_some())),
            status,
            refusal: self.refusal,
            filtered,
            complete,
            received,
            sent,
            took,
            judged: self.snapshot.judged(),
        })));
    }

    /// Records what has happened. Who has proved nothing may fill only a part of the queue.
    fn note(&self, record: Record) {
        let journal = &self.live.state().journal;
        if self.is_proven() || self.permit.is_some() { journal.note(record) } else { journal.note_of_stranger(record) }
    }

    fn metrics(&self) -> &metrics::Route {
        self.route.as_ref().map_or(&self.snapshot.nowhere, |route| &route.metrics)
    }

    pub(in crate::proxy) const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(in crate::proxy) const fn started(&self) -> Timestamp {
        self.started
    }

    /// The id that the edge has signed, as far as that was verified.
    pub(in crate::proxy) fn edges_id(&self) -> Option<Id> {
        self.token.as_ref().and_then(|token| token.rid.clone())
    }

    /// Whether who asks is proved, as far as was demanded.
    pub(in crate::proxy) const fn is_verified(&self) -> bool {
        self.verified
    }

    /// It counts as what it was before a proof.
    pub(in crate::proxy) fn goes_back_to(&mut self, id: Option<Id>, verified: bool) {
        self.is_called(id);
        self.verified = verified;
    }

    /// From here on that is its id; without one it is ours.
    pub(in crate::proxy) fn is_called(&mut self, id: Option<Id>) {
        self.request_id = id.map_or_else(OnceCell::new, OnceCell::with_value);
    }

    /// The edge's id for the request; where it signed none, one of ours, made when it is first asked for.
    pub(in crate::proxy) fn request_id(&self) -> &Id {
        self.request_id.get_or_init(Id::random)
    }

    pub(in crate::proxy) fn authority(&self) -> &str {
        &self.authority
    }

    pub(in crate::proxy) fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    pub(in crate::proxy) const fn permit(&self) -> Option<&Permit> {
        self.permit.as_ref()
    }

    /// What the client is told instead of the reason.
    pub(in crate::proxy) const fn shown(&self) -> Option<Shown> {
        self.shown
    }

    /// When it came, if the answer says that there is nothing, be that true or not, and it must not be seen which.
    pub(in crate::proxy) const fn seems_to_be_nowhere(&self) -> Option<Instant> {
        self.nowhere_since
    }

    pub(in crate::proxy) const fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Whether the peer has proved who he is, at least by his certificate.
    pub(in crate::proxy) const fn is_proven(&self) -> bool {
        self.workload.is_some()
    }
}

/// A header that goes into a record, if it fits.
fn noted(head: &RequestHeader, name: impl AsHeaderName) -> Option<&str> {
    head.headers.get(name)?.to_str().ok().filter(|text| text.len() <= NOTED_MAX)
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.stage == Stage::Decided {
            self.refusal = self.link.cut_for().or(self.refusal);
            self.record_outcome(self.status, (self.body.received(), self.sent), false);
        }
    }
}
