//! What operators and their tools read: metrics and health on an address of its own; decisions and servers on a socket,
//! where things are also changed.

mod endpoints;
mod health;
mod history;
mod keys;
mod openapi;
mod orders;
mod pauses;
mod remote;
mod reply;
mod servers;
mod version;

pub use openapi::openapi;
pub use orders::{Answer, NotTaken, Order, Orders, Task, channel};

use crate::audit::{Actor, Cause, READ_OF_LOG};
use crate::drain::Trigger;
use crate::runtime::{Live, Right};
use async_trait::async_trait;
use endpoints::{Does, Endpoint, Unknown};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Response, StatusCode, uri::Authority};
use orders::{Reloading, Replacing, RollingBack, ServerChange};
use pauses::Pauses;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use reply::{Content, Reply};
use serde::de::DeserializeOwned;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

/// Connections at once: of operators, and of whoever comes to the address.
const VISITS_MAX: usize = 256;
/// The same of users without any right, who may hear no more than that.
const STRANGERS_MAX: usize = 16;
/// The longest reason of a change, in characters.
const REASON_MAX: usize = 1_000;
/// The longest body of a request, in bytes.
const BODY_MAX: usize = 64 * 1024;

/// Answers what the table of endpoints says.
#[derive(Debug)]
pub struct Admin {
    live: Arc<Live>,
    drain: Arc<Trigger>,
    orders: Orders,
    places: Places,
}

/// Places for connections, so that none of them takes the descriptors that the service needs.
#[derive(Debug)]
struct Places {
    operators: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    address: Arc<Semaphore>,
}

/// Who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visitor {
    /// A user of this system, by the socket.
    User(u32),
    /// Anybody on this machine, by the address.
    Anybody,
    /// Whose certificate the handshake found good; his workload is judged with every request.
    Workload,
}

/// One connection.
#[derive(Debug)]
pub struct Visit {
    admin: Arc<Admin>,
    visitor: Visitor,
    pauses: Pauses,
    _place: Option<OwnedSemaphorePermit>,
}

impl Admin {
    /// Reads from there; not ready any more once the drain starts; what concerns the process as a whole is ordered.
    #[must_use]
    pub fn new(live: Arc<Live>, drain: Arc<Trigger>, orders: Orders) -> Self {
        let places = |max| Arc::new(Semaphore::new(max));
        let places =
            Places { operators: places(VISITS_MAX), strangers: places(STRANGERS_MAX), address: places(VISITS_MAX) };
        Self { live, drain, orders, places }
    }

    /// A connection; none if there are too many.
    #[must_use]
    pub fn visited_by(self: &Arc<Self>, visitor: Visitor) -> Option<Arc<Visit>> {
        let is_operator = |user| self.live.snapshot().operators.right(user).is_some();
        let places = match visitor {
            Visitor::User(user) if is_operator(user) => Some(&self.places.operators),
            Visitor::User(_) => Some(&self.places.strangers),
            Visitor::Anybody => Some(&self.places.address),
            // The entrance has counted it.
            Visitor::Workload => None,
        };
        let place = match places {
            Some(places) => Some(Arc::clone(places).try_acquire_owned().ok()?),
            None => None,
        };
        Some(Arc::new(Visit { admin: Arc::clone(self), visitor, pauses: Pauses::default(), _place: place }))
    }

    /// What is read.
    async fn read(&self, visitor: Visitor, does: Does, words: &[&str], query: &str) -> Reply {
        match (does, words) {
            (Does::Metrics, _) => match self.live.state().render_metrics() {
                Ok(text) => Reply::ok(Content::Metrics, text),
                Err(fault) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, fault.to_string()),
            },
            (Does::Livez | Does::Startupz, _) => Reply::text(StatusCode::OK, "ok"),
            (Does::Readyz, _) => health::readiness(&self.live, self.drain.is_announced(), query == "verbose"),
            (Does::OpenApi, _) => Reply::json(&openapi()),
            (Does::Recent, _) => {
                // Who reads what others did has it recorded.
                let reason = Some(plain(query)).filter(|query| !query.is_empty());
                let reader = visitor.user().map(|user| Cause { reason, ..Cause::of(Actor::User(user)) });
                reader.iter().for_each(|cause| self.live.record(READ_OF_LOG, cause));
                Reply::ok(Content::Lines, self.recent(query))
            }
            (Does::Keys, _) => keys::all(&self.live),
            (Does::Version, _) => version::told(&self.live),
            (Does::Status, _) => servers::status(&self.live),
            (Does::Approval, _) => history::demand(&self.live),
            (Does::Config, _) => self.look(history::live).await,
            (Does::History, _) => self.look(history::all).await,
            (Does::Generation, [generation]) => {
                let generation = (*generation).to_owned();
                self.look(move |live| history::one(live, &generation)).await
            }
            _ => lost(),
        }
    }

    /// Looks at what is or was live, which reads files or waits until a generation is made.
    async fn look(&self, look: impl FnOnce(&Live) -> Reply + Send + 'static) -> Reply {
        let live = Arc::clone(&self.live);
        spawn_blocking(move || look(&live)).await.unwrap_or_else(|_panicked| lost())
    }

    /// What is changed.
    async fn change(&self, does: Does, words: &[&str], body: &[u8], user: u32) -> Result<Reply, BadBody> {
        let by = |reason: Option<Box<str>>, accepted| {
            let reason = reason.map(|reason| plain(&reason));
            Cause { actor: Actor::User(user), reason, accepted }
        };
        let (task, cause) = match (does, words) {
            (Does::Server, [pool, server, act]) => {
                let cause = by(parsed::<ServerChange>(body)?.reason, Vec::new());
                return Ok(servers::change(&self.live, (pool, server, act), &cause));
            }
            (Does::Reload, _) => {
                let Reloading { reason, accept, again } = parsed(body)?;
                (Task::Reload { again }, by(reason, accept))
            }
            (Does::RollBack, [generation]) => {
                let Ok(generation) = generation.parse() else {
                    return Ok(Reply::text(StatusCode::BAD_REQUEST, "a generation is a number"));
                };
                let RollingBack { reason, accept } = parsed(body)?;
                (Task::RollBack(generation), by(reason, accept))
            }
            (Does::Upgrade, _) => {
                let Replacing { reason, binary, accept } = parsed(body)?;
                (Task::Upgrade(binary), by(reason, accept))
            }
            _ => return Ok(lost()),
        };
        Ok(orders::answer(&self.orders, task, cause, &self.live).await)
    }

    /// The last decisions, one line of JSON each: `limit=N`, `denied`; or all records of a request: `request=ID`.
    fn recent(&self, query: &str) -> Vec<u8> {
        let recent = self.live.state().journal.recent();
        let mut words = query.split('&');
        if let Some(id) = words.clone().find_map(|word| word.strip_prefix("request=")) {
            return recent.of_request(id);
        }
        let limit = words.clone().find_map(|word| word.strip_prefix("limit=")?.parse().ok());
        let only_denied = words.any(|word| word == "denied");
        recent.last(limit.unwrap_or(usize::MAX), only_denied)
    }
}

/// An endpoint of the table that nothing answers, or a word of its path that is not there.
fn lost() -> Reply {
    Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong here")
}

impl Visitor {
    /// The user, of one who came by the socket.
    const fn user(self) -> Option<u32> {
        match self {
            Self::User(user) => Some(user),
            Self::Anybody | Self::Workload => None,
        }
    }
}

impl Visit {
    /// Waits until for so long nothing was asked, and nothing is being answered: neither who sends a head byte by byte nor
    /// who does not read his answer keeps a place.
    pub async fn pause(&self, length: Duration) {
        self.pauses.last(length).await;
    }

    async fn answer(&self, session: &mut ServerSession) -> Reply {
        let head = session.req_header();
        let uri = head.uri.clone();
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
        let method = if head.method == Method::HEAD { Method::GET } else { head.method.clone() };
        let found = self.may_ask(session).and_then(|right| may(self.visitor.user(), right, &method, path));
        match (found, self.visitor.user()) {
            (Err(refused), _) => refused,
            (Ok((endpoint, words)), Some(user)) if method != Method::GET => match body(session).await {
                Ok(body) => {
                    let changed = self.admin.change(endpoint.does, &words, &body, user).await;
                    changed.unwrap_or_else(|bad| Reply::text(StatusCode::BAD_REQUEST, bad.to_string()))
                }
                Err(bad) => Reply::text(StatusCode::BAD_REQUEST, bad.to_string()),
            },
            (Ok((endpoint, words)), _) => self.admin.read(self.visitor, endpoint.does, &words, query).await,
        }
    }

    /// The right of who asks; none at the addresses.
    fn may_ask(&self, session: &ServerSession) -> Result<Option<Right>, Reply> {
        match self.visitor {
            Visitor::User(user) => {
                let refused =
                    || Reply::text(StatusCode::FORBIDDEN, format!("user {user} may not ask here: see admin.read"));
                self.admin.live.snapshot().operators.right(user).map(Some).ok_or_else(refused)
            }
            Visitor::Anybody if names_us(&session.req_header().headers) => Ok(None),
            Visitor::Anybody => {
                let told = "ask for localhost or an IP address: a name could be anybody's who lets it point here";
                Err(Reply::text(StatusCode::MISDIRECTED_REQUEST, told))
            }
            Visitor::Workload => remote::may_read(&self.admin.live, session).map(|()| None),
        }
    }
}

/// Whether a request for `/metrics` or so is meant for us: a browser that was told another name's address is 127.0.0.1
/// (DNS rebinding) still sends that name.
fn names_us(headers: &HeaderMap) -> bool {
    let is_us = |host: &str| {
        let authority = host.parse::<Authority>().ok();
        let name = authority.as_ref().map_or("", Authority::host);
        name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    };
    // HTTP/1.0 has no Host, and no browser speaks it.
    headers.get_all(HOST).iter().all(|host| host.to_str().is_ok_and(is_us))
}

/// What is asked, if whoever asks may.
fn may<'a>(
    user: Option<u32>,
    right: Option<Right>,
    method: &Method,
    path: &'a str,
) -> Result<(&'static Endpoint, Vec<&'a str>), Reply> {
    let (endpoint, words) = match endpoints::find(method, path) {
        Ok(found) => found,
        Err(Unknown::Method) if user.is_some() => {
            return Err(Reply::text(StatusCode::METHOD_NOT_ALLOWED, format!("{path} is not asked with {method}")));
        }
        Err(_) if *method != Method::GET => {
            return Err(Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD"));
        }
        Err(_) => return Err(nothing(right)),
    };
    match (user, endpoint.needs) {
        (_, needed) if needed <= right => Ok((endpoint, words)),
        (Some(user), _) => {
            Err(Reply::text(StatusCode::FORBIDDEN, format!("user {user} may only read: see admin.change")))
        }
        (None, _) if *method != Method::GET => Err(Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD")),
        (None, _) => Err(nothing(right)),
    }
}

fn nothing(right: Option<Right>) -> Reply {
    let here = if right.is_some() {
        "see /openapi.json"
    } else {
        "here are /metrics, /livez, /readyz, /startupz and /version"
    };
    Reply::text(StatusCode::NOT_FOUND, here)
}

/// Words as others may read them on a terminal: of one line, and not without end.
fn plain(words: &str) -> Box<str> {
    words.chars().take(REASON_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
}

/// What goes along with a change is not as it should be.
#[derive(Debug, thiserror::Error)]
enum BadBody {
    #[error("the body is over {BODY_MAX} bytes")]
    TooLong,
    #[error("the body did not come: {0}")]
    Broken(#[from] Box<pingora::Error>),
    #[error("the body is not as expected: {0}")]
    Strange(#[from] serde_json::Error),
}

async fn body(session: &mut ServerSession) -> Result<Vec<u8>, BadBody> {
    let mut body = Vec::new();
    while let Some(piece) = session.read_request_body().await? {
        body.extend_from_slice(&piece);
        if body.len() > BODY_MAX {
            return Err(BadBody::TooLong);
        }
    }
    Ok(body)
}

/// What goes along with a change: nothing, or an object of JSON.
fn parsed<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, BadBody> {
    if body.is_empty() { Ok(T::default()) } else { Ok(serde_json::from_slice(body)?) }
}

#[async_trait]
impl ServeHttp for Visit {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let answering = self.pauses.interrupt();
        let Reply { status, content, body } = self.answer(session).await;
        drop(answering);
        let bodiless = session.req_header().method == Method::HEAD;
        let allow = if self.visitor.user().is_some() { "GET, HEAD, POST" } else { "GET, HEAD" };
        let response = Response::builder()
            .status(status)
            .header(CONTENT_TYPE, content.media_type())
            .header(CONTENT_LENGTH, body.len())
            .header(CACHE_CONTROL, "no-store");
        let response = if status == StatusCode::METHOD_NOT_ALLOWED { response.header(ALLOW, allow) } else { response };
        // The headers are well formed, so the builder has no fault to report.
        response.body(if bodiless { Vec::new() } else { body }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use test_case::test_case;

    #[test_case(&["localhost"], true; "localhost")]
    #[test_case(&["LOCALHOST:9900"], true; "with a port")]
    #[test_case(&["127.0.0.1:9900"], true; "an address")]
    #[test_case(&["[::1]:9900"], true; "a long one")]
    #[test_case(&["10.0.0.7"], true; "whoever says an address was told it by nobody")]
    #[test_case(&[], true; "none")]
    #[test_case(&["evil.example"], false; "a name")]
    #[test_case(&["127.0.0.1.evil.example"], false; "a name like an address")]
    #[test_case(&["localhost.evil.example"], false; "a name like ours")]
    #[test_case(&["localhost", "evil.example"], false; "two")]
    #[test_case(&["evil.example@localhost/"], false; "no host")]
    #[test_case(&[""], false; "empty")]
    fn a_name_could_be_anybodys(hosts: &[&str], expected: bool) {
        let headers: HeaderMap = hosts.iter().map(|host| (HOST, HeaderValue::from_str(host).unwrap())).collect();
        assert_eq!(names_us(&headers), expected);
    }
}
