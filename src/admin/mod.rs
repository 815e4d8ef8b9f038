//! What operators and their tools read: metrics and health on an address of its own; decisions and servers on a socket,
//! where things are also changed.

mod history;
mod orders;
mod servers;

pub use orders::{Answer, NotTaken, Order, Orders, Task, channel};

use crate::audit::{Actor, Cause};
use crate::drain::Trigger;
use crate::runtime::{Change, Live, Right};
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde::Deserialize;
use serde_json::json;
use std::{path::PathBuf, sync::Arc};
use tokio::task::spawn_blocking;

/// The longest body of a request, in bytes.
const BODY_MAX: usize = 64 * 1024;

/// Answers `/metrics`, `/livez` and `/readyz`; at the socket also `/recent`, `/status`, and what changes things.
#[derive(Debug)]
pub struct Admin {
    live: Arc<Live>,
    drain: Arc<Trigger>,
    orders: Orders,
}

/// One connection.
#[derive(Debug)]
pub struct Visit {
    admin: Arc<Admin>,
    /// Who came by the socket.
    user: Option<u32>,
}

/// What goes along with an order.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wish {
    /// Why it is given.
    reason: Option<Box<str>>,
    /// What is accepted by name, although it is dangerous.
    accept: Vec<String>,
    /// The program that takes over.
    binary: Option<PathBuf>,
    /// Whether a rollback counts no more.
    again: bool,
}

type Reply = (StatusCode, Vec<u8>);

impl Admin {
    /// Reads from there; not ready any more once the drain starts; what concerns the process as a whole is ordered.
    #[must_use]
    pub const fn new(live: Arc<Live>, drain: Arc<Trigger>, orders: Orders) -> Self {
        Self { live, drain, orders }
    }

    /// A connection: by that user at the socket, or by nobody known at the address.
    #[must_use]
    pub fn visited_by(self: &Arc<Self>, user: Option<u32>) -> Arc<Visit> {
        Arc::new(Visit { admin: Arc::clone(self), user })
    }

    /// What everybody may read.
    fn read_by_all(&self, path: &str) -> Reply {
        match path {
            "/metrics" => match self.live.state().metrics.render(self.live.state().replay.len()) {
                Ok(text) => (StatusCode::OK, text),
                Err(fault) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{fault}\n").into_bytes()),
            },
            "/livez" => (StatusCode::OK, b"ok\n".to_vec()),
            "/readyz" => self.readiness(),
            _ => (StatusCode::NOT_FOUND, b"here are /metrics, /livez and /readyz\n".to_vec()),
        }
    }

    /// What operators may read.
    async fn read(&self, path: &str, query: &str) -> Reply {
        if path.starts_with("/history") {
            let (live, path) = (Arc::clone(&self.live), path.to_owned());
            let looking = spawn_blocking(move || history::answer(&live, &path));
            return looking.await.unwrap_or((StatusCode::INTERNAL_SERVER_ERROR, Vec::new()));
        }
        match path {
            "/recent" => (StatusCode::OK, self.recent(query)),
            "/config" => history::live(&self.live),
            "/status" => (StatusCode::OK, servers::status(&self.live)),
            _ => self.read_by_all(path),
        }
    }

    /// What changes something.
    async fn change(&self, path: &str, wish: Wish, user: u32) -> Reply {
        let (binary, cause) =
            (wish.binary, Cause { actor: Actor::User(user), reason: wish.reason, accepted: wish.accept });
        if let Some(words) = path.strip_prefix("/servers/") {
            let (status, text) = servers::change(&self.live, words, &cause);
            return (status, text.into_bytes());
        }
        match path {
            "/reload" => self.order(Task::Reload { again: wish.again }, cause).await,
            "/upgrade" => self.order(Task::Upgrade(binary), cause).await,
            _ => match path.strip_prefix("/rollback/").and_then(|generation| generation.parse().ok()) {
                Some(generation) => self.order(Task::RollBack(generation), cause).await,
                None => (StatusCode::NOT_FOUND, b"nothing can be changed there\n".to_vec()),
            },
        }
    }

    async fn order(&self, task: Task, cause: Cause) -> Reply {
        let answer = match self.orders.give(task, cause).await {
            Ok(answer) => answer,
            Err(fault) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n").into_bytes()),
        };
        let judged = self.live.snapshot().judged();
        let (status, answer) = match answer {
            Answer::Config(change, findings) => {
                let word = match change {
                    Some(Change::Applied(_)) => "applied",
                    Some(Change::Nothing) => "unchanged",
                    None => "refused",
                };
                let (generation, digest) = (judged.generation, judged.digest);
                let told = json!({ "result": word, "generation": generation, "digest": digest, "findings": findings });
                (change.map_or(StatusCode::UNPROCESSABLE_ENTITY, |_| StatusCode::OK), told)
            }
            Answer::Replaced { pid } => (StatusCode::OK, json!({ "result": "replaced", "pid": pid })),
            Answer::Failed(why) => (StatusCode::UNPROCESSABLE_ENTITY, json!({ "result": "failed", "reason": why })),
        };
        (status, format!("{answer}\n").into_bytes())
    }

    /// The last decisions, one line of JSON each: `limit=N`, `denied`.
    fn recent(&self, query: &str) -> Vec<u8> {
        let mut words = query.split('&');
        let limit = words.clone().find_map(|word| word.strip_prefix("limit=")?.parse().ok());
        let only_denied = words.any(|word| word == "denied");
        self.live.state().journal.recent().last(limit.unwrap_or(usize::MAX), only_denied)
    }

    /// Unready is what this node alone suffers from; an unhealthy pool is seen by all nodes and shows in the metrics.
    fn readiness(&self) -> Reply {
        let causes = [
            (self.drain.is_announced(), "draining\n"),
            (!self.live.state().journal.is_writing(), "the audit log cannot be written\n"),
        ];
        match causes.into_iter().find(|(present, _)| *present) {
            Some((_, cause)) => (StatusCode::SERVICE_UNAVAILABLE, cause.into()),
            None => (StatusCode::OK, b"ok\n".to_vec()),
        }
    }
}

impl Visit {
    async fn answer(&self, session: &mut ServerSession) -> Reply {
        let head = session.req_header();
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
        let reads = method == Method::GET || method == Method::HEAD;
        let Some(user) = self.user else {
            let refused = || (StatusCode::METHOD_NOT_ALLOWED, b"only GET and HEAD\n".to_vec());
            return if reads { self.admin.read_by_all(path) } else { refused() };
        };
        let right = self.admin.live.snapshot().operators.right(user);
        match (right, reads) {
            (None, _) => (StatusCode::FORBIDDEN, format!("user {user} may not ask here: see admin.read\n").into()),
            (Some(_), true) => self.admin.read(path, query).await,
            (Some(Right::Read), false) => {
                (StatusCode::FORBIDDEN, format!("user {user} may only read: see admin.change\n").into())
            }
            (Some(Right::Change), false) if method == Method::POST => match wish(session).await {
                Ok(wish) => self.admin.change(path, wish, user).await,
                Err(why) => (StatusCode::BAD_REQUEST, why.into_bytes()),
            },
            (Some(Right::Change), false) => (StatusCode::METHOD_NOT_ALLOWED, b"only GET, HEAD and POST\n".to_vec()),
        }
    }
}

/// What goes along with an order: nothing, or an object of JSON.
async fn wish(session: &mut ServerSession) -> Result<Wish, String> {
    let mut body = Vec::new();
    while let Some(piece) = session.read_request_body().await.map_err(|fault| format!("{fault}\n"))? {
        body.extend_from_slice(&piece);
        if body.len() > BODY_MAX {
            return Err(format!("the body is over {BODY_MAX} bytes\n"));
        }
    }
    let body: Bytes = body.into();
    if body.is_empty() {
        return Ok(Wish::default());
    }
    serde_json::from_slice(&body).map_err(|fault| format!("the body is not as expected: {fault}\n"))
}

#[async_trait]
impl ServeHttp for Visit {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let (status, body) = self.answer(session).await;
        let bodiless = session.req_header().method == Method::HEAD;
        let response = Response::builder()
            .status(status)
            .header(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
            .header(CONTENT_LENGTH, body.len())
            .header(CACHE_CONTROL, "no-store");
        let response =
            if status == StatusCode::METHOD_NOT_ALLOWED { response.header(ALLOW, "GET, HEAD") } else { response };
        // The headers are well formed, so the builder has no fault to report.
        response.body(if bodiless { Vec::new() } else { body }).unwrap_or_default()
    }
}
