//! What a record says, before it is text.

use crate::clock::Timestamp;
use crate::generation::{Digest, Generation};
use crate::hangup::Hangup;
use crate::identity::{Kid, Profile, Sighting, Thumbprint};
use crate::name::{ListenerName, PoolName, RouteName, ServerName, WorkloadName};
use crate::network::Address;
use crate::principal::User;
use crate::refusal::Refusal;
use crate::request::{Id, Protocol};
use crate::secret::Label;
use crate::verdict::{HasRead, RuleId, Shadow};
use http::Method;
use serde::Serialize;
use std::{net::IpAddr, sync::Arc, time::Duration};

/// Where a request came from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The listener.
    pub listener: ListenerName,
    /// The peer's address and port.
    pub address: Option<(IpAddr, u16)>,
    /// The client's address, where it is another than the peer's.
    pub client: Option<IpAddr>,
    /// The TLS version, for example `1.3`.
    pub tls_version: Option<&'static str>,
    /// The client certificate.
    pub certificate: Option<Thumbprint>,
}

/// What a request asked, as far as it could be read. Never its query.
#[derive(Debug)]
pub struct Subject {
    /// The method.
    pub method: Method,
    /// The host as judged.
    pub host: Box<str>,
    /// The path as judged.
    pub path: Box<str>,
    /// The protocol.
    pub protocol: Protocol,
}

/// The config that judged.
#[derive(Debug, Clone, Copy)]
pub struct Judged {
    /// Its number.
    pub generation: Generation,
    /// Its digest.
    pub digest: Digest,
    /// The digest of what of it decides.
    pub policy: Digest,
}

/// A request was allowed or denied.
#[derive(Debug)]
pub struct Decision {
    /// When it was decided.
    pub time: Timestamp,
    /// The request.
    pub request_id: Id,
    /// Where it came from.
    pub source: Source,
    /// What it asked; none if its head could not be read.
    pub subject: Option<Subject>,
    /// Cloudflare's id, as told by whoever connected: to join logs, not to trust.
    pub cf_ray: Option<Box<str>>,
    /// The W3C trace, as forwarded.
    pub traceparent: Option<Box<str>>,
    /// The route.
    pub route: Option<RouteName>,
    /// The profile by which it was judged.
    pub profile: Option<Profile>,
    /// The workload, if it was proved.
    pub workload: Option<WorkloadName>,
    /// The key that signed, or that a refused token named.
    pub kid: Option<Kid>,
    /// The verified token.
    pub token: Option<Arc<Sighting>>,
    /// The user, if he was proved.
    pub user: Option<Arc<User>>,
    /// The rule that allowed it, or why not.
    pub verdict: Result<RuleId, Refusal>,
    /// The rule that denied it, where it is not one that is missing.
    pub denied_by: Option<RuleId>,
    /// Rules that do not allow it, and why.
    pub near: Vec<String>,
    /// What rules read of it beside method, host and path, by the places by which they name it.
    pub read: HasRead,
    /// What rules would change that are only tried out.
    pub shadow: Option<Shadow>,
    /// The config that judged.
    pub judged: Judged,
    /// How long the judging took.
    pub took: Duration,
}

/// What came of a request.
#[derive(Debug)]
pub struct Outcome {
    /// When it ended.
    pub time: Timestamp,
    /// The request.
    pub request_id: Id,
    /// The listener.
    pub listener: ListenerName,
    /// The route.
    pub route: Option<RouteName>,
    /// The workload, if it was proved.
    pub workload: Option<WorkloadName>,
    /// The server that answered, or was asked last.
    pub asked: Option<Asked>,
    /// How many servers were asked.
    pub attempts: usize,
    /// The status that was sent; none if the client had gone.
    pub status: Option<u16>,
    /// Why the answer is ours and not the origin's.
    pub refusal: Option<Refusal>,
    /// What filters have made of it, if there is something to tell.
    pub filtered: Option<Box<Filtered>>,
    /// Whether the response ended as it should.
    pub complete: bool,
    /// Bytes of the request's body.
    pub received: usize,
    /// Bytes of the response's body.
    pub sent: usize,
    /// From the request's head to the end.
    pub took: Duration,
    /// The config that judged.
    pub judged: Judged,
}

/// What filters have made of a request.
#[derive(Debug, Default)]
pub struct Filtered {
    /// The filter that has answered, or refused: its kind, or the plugin's name.
    pub by: Option<Box<str>>,
    /// The filters that the request has gone on without, since they had stopped.
    pub left_out: Box<[Box<str>]>,
    /// What the origin was asked for, if that is something else.
    pub sent: Sent,
}

/// What was sent instead of what was asked for.
#[derive(Debug, Default, Serialize)]
pub struct Sent {
    /// The path, without its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Box<str>>,
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Box<str>>,
}

impl Sent {
    /// Whether there is nothing to tell.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.path.is_none() && self.host.is_none()
    }
}

/// A server that was asked.
#[derive(Debug)]
pub struct Asked {
    /// Its pool.
    pub pool: PoolName,
    /// Its name.
    pub server: ServerName,
    /// Where it is.
    pub address: Address,
    /// How long it took.
    pub times: Times,
}

/// How long the steps of an attempt took. In a record they are nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// In the queue for a server with room; none if there was no need to wait.
    pub queue: Option<Duration>,
    /// Until there was a connection; none if one was used again.
    pub connect: Option<Duration>,
    /// From the request's end (its head's, without a body) to the response's head.
    pub first_byte: Option<Duration>,
}

/// Who has something done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Actor {
    /// The process itself, at its start and its end.
    #[default]
    Itself,
    /// Whoever changed a file that is followed.
    Files,
    /// Whoever sent that signal.
    Signal(&'static str),
    /// That user of the system, at the socket.
    User(u32),
}

impl Actor {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Itself => "itself",
            Self::Files => "files",
            Self::Signal(name) => name,
            Self::User(_) => "operator",
        }
    }

    /// The system's number of the user, if it is one.
    #[must_use]
    pub const fn user(self) -> Option<u32> {
        if let Self::User(user) = self { Some(user) } else { None }
    }
}

/// Who has something done, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cause {
    /// Who.
    pub actor: Actor,
    /// Why, in his words.
    pub reason: Option<Box<str>>,
    /// What he has accepted by name, although it is dangerous.
    pub accepted: Vec<String>,
}

impl Cause {
    /// Somebody, who says no more.
    #[must_use]
    pub const fn of(actor: Actor) -> Self {
        Self { actor, reason: None, accepted: Vec::new() }
    }
}

/// Where the records of the process end that came before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// Its boot.
    pub boot: Box<str>,
    /// The number of its last record; where it has handed over, its own records go on until it stops.
    pub sequence: u64,
    /// The chain there, in hexadecimal digits, where it is known.
    pub chain: Option<Box<str>>,
}

/// A key, a certificate or so that has come, has changed or is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// Which.
    pub label: Label,
    /// What it is now, or was.
    pub fingerprint: Option<Digest>,
    /// The word for its state before; none if it was not there.
    pub before: Option<&'static str>,
    /// The word for its state; none if it is gone.
    pub state: Option<&'static str>,
}

/// The action of an act: somebody has read decisions through the API.
pub const READ_OF_LOG: &str = "audit.read";

/// An administrative act.
#[derive(Debug)]
pub struct Act {
    /// When.
    pub time: Timestamp,
    /// What: `start`, `reload`, `upgrade`, `stop`, of a server `ready`, `drain`, `maint`, `weight`, of a key `key`, and
    /// [`READ_OF_LOG`].
    pub action: &'static str,
    /// The key that it concerns.
    pub key: Option<KeyChange>,
    /// The server that it concerns.
    pub server: Option<(PoolName, ServerName)>,
    /// Who wanted it, and why.
    pub cause: Cause,
    /// At a start: who was there before.
    pub predecessor: Option<Predecessor>,
    /// Why it was not done.
    pub failure: Option<Box<str>>,
    /// Who has approved the config that is live, where that is asked.
    pub approved_by: Vec<String>,
    /// The config that is live after it.
    pub judged: Judged,
}

/// A connection ended before it brought a request.
#[derive(Debug)]
pub struct HungUp {
    /// When.
    pub time: Timestamp,
    /// The listener.
    pub listener: ListenerName,
    /// The peer's address and port.
    pub address: Option<(IpAddr, u16)>,
    /// Why.
    pub hangup: Hangup,
    /// The config that judged.
    pub judged: Judged,
}

/// How often strangers did what was not recorded singly.
#[derive(Debug)]
pub struct Summary {
    /// When it was summed up.
    pub time: Timestamp,
    /// The listener.
    pub listener: ListenerName,
    /// The code of what they did.
    pub reason: &'static str,
    /// How many times.
    pub count: u64,
    /// The config that is live.
    pub judged: Judged,
}

/// What a process has left that ended without saying so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Its boot.
    pub boot: Box<str>,
    /// The number of its last record.
    pub sequence: u64,
    /// The chain there, in hexadecimal digits, where it is known.
    pub chain: Option<Box<str>>,
    /// Bytes of a line that it did not finish.
    pub torn_bytes: usize,
    /// Records that it had written by its last checkpoint, and that are not there.
    pub missing: u64,
}

/// What became of the log itself.
#[derive(Debug)]
pub enum Upkeep {
    /// A new file was begun.
    File {
        /// What the one before is called now.
        before: Option<Box<str>>,
    },
    /// A process has ended without saying so.
    Recovered(Left),
    /// Records found no room.
    Gap {
        /// How many.
        count: u64,
        /// After that moment.
        since: Timestamp,
    },
    /// The clock was set.
    Clock {
        /// What it would say.
        expected: Timestamp,
    },
    /// An old file was removed.
    Removed {
        /// Its name.
        file: Box<str>,
        /// Whether it was too old; otherwise there was no more room for it.
        is_for_age: bool,
    },
}

/// A record.
#[derive(Debug)]
pub enum Record {
    /// Of a decision.
    Decision(Box<Decision>),
    /// Of an outcome.
    Outcome(Box<Outcome>),
    /// Of a connection without a request.
    HungUp(Box<HungUp>),
    /// Of many refusals of strangers.
    Summary(Box<Summary>),
    /// Of an act.
    Act(Arc<Act>),
    /// Of the log itself.
    Upkeep {
        /// When.
        time: Timestamp,
        /// What.
        upkeep: Upkeep,
        /// The config that is live, as far as the writer has heard.
        judged: Option<Judged>,
    },
}
