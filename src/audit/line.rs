//! Records as lines: JSON with the field names of ECS 8 (Elastic Common Schema), ours under `belay`.

use super::READ_OF_LOG;
use super::pseudonym::Pseudonyms;
use super::record::{
    Act, Decision, HungUp, Judged, KeyChange, Left, Outcome, Predecessor, Sent, Summary, Times, Upkeep,
};
use super::verify;
use crate::clock::Timestamp;
use crate::generation::{Digest, Generation};
use crate::identity::{Asserted, Kid, Profile, Thumbprint};
use crate::name::{ListenerName, NodeName, PeopleName, PoolName, RoleName, RouteName, ServerName, WorkloadName};
use crate::network::Address;
use crate::principal;
use crate::refusal::Refusal;
use crate::request::{Id, Protocol};
use crate::verdict::{HasRead, RuleId, Shadow};
use serde::Serialize;
use std::{borrow::Cow, net::IpAddr, time::Duration};

/// The version of ECS whose field names these are.
const ECS: Ecs = Ecs { version: "8.17.0" };

/// <https://www.elastic.co/guide/en/ecs/current/ecs-ecs.html>
#[derive(Serialize)]
struct Ecs {
    version: &'static str,
}

#[derive(Serialize)]
pub(super) struct Line<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
    ecs: Ecs,
    pub(super) event: Event<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<Http<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Url<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Server<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File<'a>>,
    pub(super) belay: Belay<'a>,
}

/// <https://www.elastic.co/guide/en/ecs/current/ecs-file.html>
#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
}

/// <https://www.elastic.co/guide/en/ecs/current/ecs-user.html>
#[derive(Serialize)]
struct User<'a> {
    /// Issuer and subject; of an operator the system's number.
    id: String,
    #[serde(skip_serializing_if = "<[RoleName]>::is_empty")]
    roles: &'a [RoleName],
}

impl<'a> User<'a> {
    fn of(user: &'a principal::User, pseudonyms: Option<&Pseudonyms>) -> Self {
        let id = user.to_string();
        let id = pseudonyms.map_or_else(|| id.clone(), |pseudonyms| pseudonyms.of_user(&id));
        Self { id, roles: &user.roles }
    }
}

/// <https://www.elastic.co/guide/en/ecs/current/ecs-server.html>
#[derive(Serialize)]
struct Server<'a> {
    address: &'a Address,
}

/// Nanoseconds.
#[derive(Serialize)]
struct Spans {
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte: Option<u64>,
}

impl Spans {
    fn of(times: &Times) -> Option<Self> {
        let nanos = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let spans =
            || Self { queue: nanos(times.queue), connect: nanos(times.connect), first_byte: nanos(times.first_byte) };
        (*times != Times::default()).then(spans)
    }
}

/// <https://www.elastic.co/guide/en/ecs/current/ecs-event.html>
#[derive(Serialize)]
pub(super) struct Event<'a> {
    pub(super) id: String,
    pub(super) sequence: u64,
    kind: &'static str,
    category: &'static [&'static str],
    #[serde(rename = "type")]
    types: &'static [&'static str],
    action: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
}

/// The categories of an event, and its types: of each category one that ECS expects there.
type Sort = (&'static [&'static str], &'static [&'static str]);

const ALLOWED: Sort = (&["network", "web"], &["access", "allowed"]);
const DENIED: Sort = (&["network", "web"], &["access", "denied"]);
const ENDED: Sort = (&["network", "web"], &["access", "end"]);
const HUNG_UP: Sort = (&["network"], &["connection", "denied"]);
const CHANGED: Sort = (&["configuration"], &["change"]);
const READ: Sort = (&["configuration"], &["access"]);
const FILE_CHANGED: Sort = (&["file"], &["change"]);
const FILE_REMOVED: Sort = (&["file"], &["deletion"]);
const FILE_LACKS: Sort = (&["file"], &["info"]);

impl<'a> Event<'a> {
    /// An event that the sealer has not numbered yet.
    fn new(action: &'a str, (category, types): Sort, reason: Option<Cow<'a, str>>) -> Self {
        Self {
            id: String::new(),
            sequence: 0,
            kind: "event",
            category,
            types,
            action,
            outcome: if reason.is_some() { "failure" } else { "success" },
            reason,
            duration: None,
        }
    }

    fn took(self, duration: Duration) -> Self {
        Self { duration: Some(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)), ..self }
    }
}

/// <https://www.elastic.co/guide/en/ecs/current/ecs-source.html> and the same for a client.
#[derive(Serialize)]
struct Source {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    /// Its hash, where it is not to be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

impl Source {
    fn of(ip: IpAddr, port: Option<u16>, pseudonyms: Option<&Pseudonyms>) -> Self {
        let address = pseudonyms.map(|pseudonyms| pseudonyms.of_address(ip));
        Self { ip: Some(ip).filter(|_| address.is_none()), address, port }
    }
}

#[derive(Default, Serialize)]
struct Http<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Protocol>,
    request: HttpRequest<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<HttpResponse>,
}

#[derive(Default, Serialize)]
struct HttpRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
}

#[derive(Serialize)]
struct HttpResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    body: Body,
}

#[derive(Serialize)]
struct Body {
    bytes: usize,
}

#[derive(Serialize)]
struct Url<'a> {
    domain: &'a str,
    path: &'a str,
}

#[derive(Serialize)]
struct Tls {
    version: &'static str,
    version_protocol: &'static str,
}

#[derive(Default, Serialize)]
pub(super) struct Belay<'a> {
    pub(super) node: Option<&'a NodeName>,
    pub(super) boot: Option<&'a Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<Generation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<&'a ListenerName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a RouteName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a RuleId>,
    /// Rules that do not allow it, and why.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    near: &'a [String],
    /// What rules read, as it was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<Cow<'a, HasRead>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<Tried<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a WorkloadName>,
    /// Whose user it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    people: Option<&'a PeopleName>,
    /// base64url of SHA-256 of the client certificate, as tokens carry it.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a Kid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti_sha256: Option<String>,
    /// What the edge asserted.
    #[serde(skip_serializing_if = "Option::is_none")]
    asserted: Option<&'a Asserted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cf_ray: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a PoolName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a ServerName>,
    /// How many servers were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<Spans>,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    /// The filter that has answered, or refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<&'a Sent>,
    /// The filters that it has gone on without.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<&'a [Box<str>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<Before<'a>>,
    /// The end of the file before.
    #[serde(skip_serializing_if = "Option::is_none")]
    continues: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<Recovered<'a>>,
    /// What is missing came after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// What the clock would say had it not been set.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Key<'a>>,
    /// What made the process act.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// Why, in the words of whoever wanted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// What he has accepted by name, although it is dangerous.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    accepted: &'a [String],
    /// Who has approved the config.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    approved_by: &'a [String],
}

/// A key or so that is another now.
#[derive(Serialize)]
struct Key<'a> {
    kind: &'static str,
    owner: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'static str>,
    state: &'static str,
}

impl<'a> Key<'a> {
    fn of(change: &'a KeyChange) -> Self {
        let KeyChange { label, fingerprint, before, state } = change;
        let (owner, name) = (&label.owner, &label.name);
        let state = state.unwrap_or("removed");
        Self { kind: label.kind.word(), owner, name, fingerprint: *fingerprint, before: *before, state }
    }
}

/// What a rule would change that is only tried out.
#[derive(Serialize)]
struct Tried<'a> {
    rules: &'a [RuleId],
    decision: &'static str,
}

impl<'a> Tried<'a> {
    fn of(shadow: &'a Shadow) -> Self {
        Self { rules: &shadow.rules, decision: if shadow.would_allow { "allow" } else { "deny" } }
    }
}

/// The process that was there before.
#[derive(Serialize)]
struct Before<'a> {
    boot: &'a str,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<&'a str>,
}

impl<'a> Before<'a> {
    fn of(predecessor: &'a Predecessor) -> Self {
        let Predecessor { boot, sequence, chain } = predecessor;
        Self { boot, sequence: *sequence, chain: chain.as_deref() }
    }
}

/// A place in the chain.
#[derive(Serialize)]
struct Position {
    sequence: u64,
    chain: Option<Box<str>>,
}

/// The process that ended without saying so.
#[derive(Serialize)]
struct Recovered<'a> {
    boot: &'a str,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<&'a str>,
    torn_bytes: usize,
    missing: u64,
}

impl<'a> Recovered<'a> {
    fn of(left: &'a Left) -> Self {
        let Left { boot, sequence, chain, torn_bytes, missing } = left;
        Self { boot, sequence: *sequence, chain: chain.as_deref(), torn_bytes: *torn_bytes, missing: *missing }
    }
}

impl<'a> Belay<'a> {
    fn judged(judged: Judged) -> Self {
        let Judged { generation, digest, policy } = judged;
        Self { generation: Some(generation), digest: Some(digest), policy: Some(policy), ..Self::default() }
    }
}

fn hidden<'a>(read: &'a HasRead, pseudonyms: Option<&Pseudonyms>) -> Cow<'a, HasRead> {
    pseudonyms.map_or(Cow::Borrowed(read), |pseudonyms| Cow::Owned(pseudonyms.of_read(read)))
}

fn code(refusal: Refusal) -> Cow<'static, str> {
    refusal.facts().code.into()
}

impl<'a> Line<'a> {
    pub(super) fn of_decision(record: &'a Decision, pseudonyms: Option<&Pseudonyms>) -> Self {
        let (event, decision, rule) = decided(record);
        let subject = record.subject.as_ref();
        let request = HttpRequest {
            id: Some(&record.request_id),
            method: subject.map(|subject| subject.method.as_str()),
            body: None,
        };
        let token = record.token.as_ref();
        Self {
            timestamp: record.time,
            ecs: ECS,
            event,
            source: record.source.address.map(|(ip, port)| Source::of(ip, Some(port), pseudonyms)),
            client: record.source.client.map(|ip| Source::of(ip, None, pseudonyms)),
            http: Some(Http { version: subject.map(|subject| subject.protocol), request, response: None }),
            url: subject.map(|subject| Url { domain: &subject.host, path: &subject.path }),
            tls: record.source.tls_version.map(|version| Tls { version, version_protocol: "tls" }),
            server: None,
            user: record.user.as_ref().map(|user| User::of(user, pseudonyms)),
            file: None,
            belay: Belay {
                listener: Some(&record.source.listener),
                route: record.route.as_ref(),
                people: record.user.as_ref().map(|user| &user.people),
                decision: Some(decision),
                rule,
                near: &record.near,
                read: Some(&record.read).filter(|read| !read.0.is_empty()).map(|read| hidden(read, pseudonyms)),
                shadow: record.shadow.as_ref().map(Tried::of),
                profile: record.profile,
                workload: record.workload.as_ref(),
                certificate: record.source.certificate.as_ref().map(Thumbprint::to_string),
                kid: token.map(|token| &token.kid).or(record.kid.as_ref()),
                asserted: token.map(|token| &token.asserted).filter(|asserted| !asserted.is_empty()),
                jti_sha256: token.map(|token| token.jti_digest()),
                cf_ray: record.cf_ray.as_deref(),
                traceparent: record.traceparent.as_deref(),
                ..Belay::judged(record.judged)
            },
        }
    }

    pub(super) fn of_outcome(record: &'a Outcome) -> Self {
        let failed = record.refusal.is_some() || !record.complete;
        let request =
            HttpRequest { id: Some(&record.request_id), method: None, body: Some(Body { bytes: record.received }) };
        let response = HttpResponse { status_code: record.status, body: Body { bytes: record.sent } };
        let asked = record.asked.as_ref();
        let event = Event::new("outcome", ENDED, record.refusal.map(code));
        Self {
            timestamp: record.time,
            ecs: ECS,
            event: Event { outcome: if failed { "failure" } else { "success" }, ..event.took(record.took) },
            source: None,
            client: None,
            http: Some(Http { version: None, request, response: Some(response) }),
            url: None,
            tls: None,
            server: asked.map(|asked| Server { address: &asked.address }),
            user: None,
            file: None,
            belay: Belay {
                listener: Some(&record.listener),
                route: record.route.as_ref(),
                workload: record.workload.as_ref(),
                pool: asked.map(|asked| &asked.pool),
                server: asked.map(|asked| &asked.server),
                attempts: Some(record.attempts).filter(|attempts| *attempts > 0),
                times: asked.and_then(|asked| Spans::of(&asked.times)),
                filter: record.filtered.as_ref().and_then(|filtered| filtered.by.as_deref()),
                sent: record.filtered.as_ref().map(|filtered| &filtered.sent).filter(|sent| !sent.is_empty()),
                left_out: record.filtered.as_ref().map(|filtered| &*filtered.left_out).filter(|left| !left.is_empty()),
                complete: Some(record.complete),
                ..Belay::judged(record.judged)
            },
        }
    }

    pub(super) fn of_hung_up(record: &'a HungUp, pseudonyms: Option<&Pseudonyms>) -> Self {
        Self {
            source: record.address.map(|(ip, port)| Source::of(ip, Some(port), pseudonyms)),
            belay: Belay { listener: Some(&record.listener), ..Belay::judged(record.judged) },
            ..Self::plain(record.time, Event::new("connection", HUNG_UP, Some(record.hangup.code().into())))
        }
    }

    pub(super) fn of_summary(record: &'a Summary) -> Self {
        let listener = Some(&record.listener);
        Self {
            belay: Belay { listener, count: Some(record.count), ..Belay::judged(record.judged) },
            ..Self::plain(record.time, Event::new("summary", HUNG_UP, Some(record.reason.into())))
        }
    }

    fn plain(timestamp: Timestamp, event: Event<'a>) -> Self {
        Self {
            timestamp,
            ecs: ECS,
            event,
            source: None,
            client: None,
            http: None,
            url: None,
            tls: None,
            server: None,
            user: None,
            file: None,
            belay: Belay::default(),
        }
    }

    pub(super) fn of_upkeep(
        time: Timestamp,
        upkeep: &'a Upkeep,
        judged: Option<Judged>,
        position: &Predecessor,
    ) -> Self {
        let mut belay = judged.map_or_else(Belay::default, Belay::judged);
        let mut file = None;
        let (action, sort) = match upkeep {
            Upkeep::File { before } => {
                belay.continues = Some(Position { sequence: position.sequence, chain: position.chain.clone() });
                file = before.as_ref();
                (verify::FILE, FILE_CHANGED)
            }
            Upkeep::Recovered(left) => {
                belay.recovered = Some(Recovered::of(left));
                ("audit.recovered", FILE_LACKS)
            }
            Upkeep::Gap { count, since } => {
                (belay.count, belay.since) = (Some(*count), Some(*since));
                (verify::GAP, FILE_LACKS)
            }
            Upkeep::Clock { expected } => {
                belay.expected = Some(*expected);
                ("audit.clock", FILE_CHANGED)
            }
            Upkeep::Removed { file: name, is_for_age } => {
                belay.reason = Some(if *is_for_age { "too old" } else { "no more room" });
                file = Some(name);
                (verify::REMOVED, FILE_REMOVED)
            }
        };
        let file = file.map(|name| File { name });
        let event = Event::new(action, sort, None);
        let outcome = if sort == FILE_LACKS { "failure" } else { event.outcome };
        Self { belay, file, ..Self::plain(time, Event { outcome, ..event }) }
    }

    pub(super) fn of_act(record: &'a Act) -> Self {
        let failure = record.failure.as_deref().map(Into::into);
        let sort = if record.action == READ_OF_LOG { READ } else { CHANGED };
        let event = Event::new(record.action, sort, failure);
        let server = record.server.as_ref();
        let belay = Belay {
            pool: server.map(|(pool, _)| pool),
            server: server.map(|(_, server)| server),
            predecessor: record.predecessor.as_ref().map(Before::of),
            key: record.key.as_ref().map(Key::of),
            cause: Some(record.cause.actor.word()),
            reason: record.cause.reason.as_deref(),
            accepted: &record.cause.accepted,
            approved_by: &record.approved_by,
            ..Belay::judged(record.judged)
        };
        let user = record.cause.actor.user().map(|id| User { id: id.to_string(), roles: &[] });
        Self { user, belay, ..Self::plain(record.time, event) }
    }
}

fn decided(record: &Decision) -> (Event<'_>, &'static str, Option<&RuleId>) {
    let (sort, decision, rule, reason) = match &record.verdict {
        Ok(rule) => (ALLOWED, "allow", Some(rule), None),
        Err(refusal) => (DENIED, "deny", record.denied_by.as_ref(), Some(code(*refusal))),
    };
    (Event::new("decision", sort, reason).took(record.took), decision, rule)
}
