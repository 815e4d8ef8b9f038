//! Records as lines: JSON with the field names of ECS 8 (Elastic Common Schema), ours under `belay`.

use super::chain::Chain;
use super::record::{Act, Decision, HungUp, Judged, Outcome, Record, Summary, Times};
use crate::clock::Timestamp;
use crate::generation::{Digest, Generation};
use crate::identity::{Asserted, Kid, Profile, Thumbprint};
use crate::name::{ListenerName, NodeName, PeopleName, PoolName, RoleName, RouteName, ServerName, WorkloadName};
use crate::network::Address;
use crate::refusal::Refusal;
use crate::request::{Id, Protocol};
use crate::verdict::{HasRead, RuleId, Shadow};
use serde::Serialize;
use std::{borrow::Cow, net::IpAddr, time::Duration};

/// Makes lines of records: numbers them without gaps and names the node and its boot. One writer owns it.
///
/// Each line is chained to the one before it.
#[derive(Debug)]
pub struct Sealer {
    node: NodeName,
    boot: Id,
    next: u64,
    chain: Chain,
}

impl Sealer {
    /// Begins with number 1.
    #[must_use]
    pub fn new(node: NodeName, boot: Id) -> Self {
        Self { node, chain: Chain::of(boot.as_str()), boot, next: 1 }
    }

    /// Whose lines they are.
    #[must_use]
    pub const fn boot(&self) -> &Id {
        &self.boot
    }

    /// The number of the last line; 0 before the first.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Appends a record as one line.
    ///
    /// # Errors
    /// If it cannot be written as JSON; nothing is appended then.
    pub fn seal(&mut self, record: &Record, lines: &mut Vec<u8>) -> serde_json::Result<()> {
        let before = lines.len();
        let written = serde_json::to_writer(&mut *lines, &self.line(record));
        if written.is_err() {
            lines.truncate(before);
        } else {
            self.chain.seal(lines, before);
            lines.push(b'\n');
            self.next = self.next.saturating_add(1);
        }
        written
    }

    fn line<'a>(&'a self, record: &'a Record) -> Line<'a> {
        let mut line = match record {
            Record::Decision(decision) => Line::of_decision(decision),
            Record::Outcome(outcome) => Line::of_outcome(outcome),
            Record::HungUp(hung_up) => Line::of_hung_up(hung_up),
            Record::Summary(summary) => Line::of_summary(summary),
            Record::Act(act) => Line::of_act(act),
        };
        line.event.id = format!("{}-{}", self.boot, self.next);
        line.event.sequence = self.next;
        line.belay.node = Some(&self.node);
        line.belay.boot = Some(&self.boot);
        line
    }
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
    event: Event<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Client>,
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
    belay: Belay<'a>,
}

/// <https://www.elastic.co/guide/en/ecs/current/ecs-user.html>
#[derive(Serialize)]
struct User<'a> {
    /// Issuer and subject; of an operator the system's number.
    id: String,
    #[serde(skip_serializing_if = "<[RoleName]>::is_empty")]
    roles: &'a [RoleName],
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
struct Event<'a> {
    id: String,
    sequence: u64,
    kind: &'static str,
    category: [&'static str; 1],
    #[serde(rename = "type")]
    types: [&'static str; 1],
    action: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
}

impl<'a> Event<'a> {
    /// An event that the sealer has not numbered yet.
    fn new(action: &'a str, [category, kind]: [&'static str; 2], reason: Option<Cow<'a, str>>) -> Self {
        Self {
            id: String::new(),
            sequence: 0,
            kind: "event",
            category: [category],
            types: [kind],
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

#[derive(Serialize)]
struct Source {
    ip: IpAddr,
    port: u16,
}

#[derive(Serialize)]
struct Client {
    ip: IpAddr,
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
struct Belay<'a> {
    node: Option<&'a NodeName>,
    boot: Option<&'a Id>,
    generation: Option<Generation>,
    digest: Option<Digest>,
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
    read: Option<&'a HasRead>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<Before<'a>>,
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

/// The process that was replaced.
#[derive(Serialize)]
struct Before<'a> {
    boot: &'a str,
    sequence: u64,
}

impl<'a> Belay<'a> {
    fn judged(judged: Judged) -> Self {
        Self { generation: Some(judged.generation), digest: Some(judged.digest), ..Self::default() }
    }
}

fn code(refusal: Refusal) -> Cow<'static, str> {
    refusal.facts().code.into()
}

impl<'a> Line<'a> {
    fn of_decision(record: &'a Decision) -> Self {
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
            event,
            source: record.source.address.map(|(ip, port)| Source { ip, port }),
            client: record.source.client.map(|ip| Client { ip }),
            http: Some(Http { version: subject.map(|subject| subject.protocol), request, response: None }),
            url: subject.map(|subject| Url { domain: &subject.host, path: &subject.path }),
            tls: record.source.tls_version.map(|version| Tls { version, version_protocol: "tls" }),
            server: None,
            user: record.user.as_ref().map(|user| User { id: user.to_string(), roles: &user.roles }),
            belay: Belay {
                listener: Some(&record.source.listener),
                route: record.route.as_ref(),
                people: record.user.as_ref().map(|user| &user.people),
                decision: Some(decision),
                rule,
                near: &record.near,
                read: Some(&record.read).filter(|read| !read.0.is_empty()),
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

    fn of_outcome(record: &'a Outcome) -> Self {
        let failed = record.refusal.is_some() || !record.complete;
        let request =
            HttpRequest { id: Some(&record.request_id), method: None, body: Some(Body { bytes: record.received }) };
        let response = HttpResponse { status_code: record.status, body: Body { bytes: record.sent } };
        let asked = record.asked.as_ref();
        let event = Event::new("outcome", ["web", "end"], record.refusal.map(code));
        Self {
            timestamp: record.time,
            event: Event { outcome: if failed { "failure" } else { "success" }, ..event.took(record.took) },
            source: None,
            client: None,
            http: Some(Http { version: None, request, response: Some(response) }),
            url: None,
            tls: None,
            server: asked.map(|asked| Server { address: &asked.address }),
            user: None,
            belay: Belay {
                listener: Some(&record.listener),
                route: record.route.as_ref(),
                workload: record.workload.as_ref(),
                pool: asked.map(|asked| &asked.pool),
                server: asked.map(|asked| &asked.server),
                attempts: Some(record.attempts).filter(|attempts| *attempts > 0),
                times: asked.and_then(|asked| Spans::of(&asked.times)),
                complete: Some(record.complete),
                ..Belay::judged(record.judged)
            },
        }
    }

    fn of_hung_up(record: &'a HungUp) -> Self {
        Self {
            source: record.address.map(|(ip, port)| Source { ip, port }),
            belay: Belay { listener: Some(&record.listener), ..Belay::judged(record.judged) },
            ..Self::plain(
                record.time,
                Event::new("connection", ["network", "denied"], Some(record.hangup.code().into())),
            )
        }
    }

    fn of_summary(record: &'a Summary) -> Self {
        let listener = Some(&record.listener);
        Self {
            belay: Belay { listener, count: Some(record.count), ..Belay::judged(record.judged) },
            ..Self::plain(record.time, Event::new("summary", ["network", "denied"], Some(record.reason.into())))
        }
    }

    fn plain(timestamp: Timestamp, event: Event<'a>) -> Self {
        Self {
            timestamp,
            event,
            source: None,
            client: None,
            http: None,
            url: None,
            tls: None,
            server: None,
            user: None,
            belay: Belay::default(),
        }
    }

    fn of_act(record: &'a Act) -> Self {
        let failure = record.failure.as_deref().map(Into::into);
        let event = Event::new(record.action, ["configuration", "change"], failure);
        let server = record.server.as_ref();
        let belay = Belay {
            pool: server.map(|(pool, _)| pool),
            server: server.map(|(_, server)| server),
            predecessor: record.predecessor.as_ref().map(|it| Before { boot: &it.boot, sequence: it.sequence }),
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
    let (kind, decision, rule, reason) = match &record.verdict {
        Ok(rule) => ("allowed", "allow", Some(rule), None),
        Err(refusal) => ("denied", "deny", record.denied_by.as_ref(), Some(code(*refusal))),
    };
    (Event::new("decision", ["web", kind], reason).took(record.took), decision, rule)
}
