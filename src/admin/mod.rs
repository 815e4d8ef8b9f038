//! What operators and their tools read: metrics and health on an address of its own; decisions and servers on a socket,
//! where servers are also changed.

mod servers;

use crate::drain::Trigger;
use crate::runtime::Live;
use async_trait::async_trait;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use std::sync::Arc;

/// Answers `/metrics`, `/livez` and `/readyz`.
#[derive(Debug)]
pub struct Admin {
    live: Arc<Live>,
    drain: Arc<Trigger>,
    /// Who asks may read decisions and change servers, too.
    is_private: bool,
}

impl Admin {
    /// Reads from there; not ready any more once the drain starts.
    #[must_use]
    pub const fn new(live: Arc<Live>, drain: Arc<Trigger>) -> Self {
        Self { live, drain, is_private: false }
    }

    /// The same for a socket that only its owner can open: there `/recent` tells the last decisions, `/status` the state
    /// of servers, and `POST /servers/POOL/SERVER/ACT` changes it.
    #[must_use]
    pub const fn private(live: Arc<Live>, drain: Arc<Trigger>) -> Self {
        Self { live, drain, is_private: true }
    }

    fn answer(&self, method: &Method, path: &str, query: &str) -> (StatusCode, Vec<u8>) {
        if let Some(words) = path.strip_prefix("/servers/").filter(|_| self.is_private && method == Method::POST) {
            let (status, text) = servers::change(&self.live, words);
            return (status, text.into_bytes());
        }
        if method != Method::GET && method != Method::HEAD {
            return (StatusCode::METHOD_NOT_ALLOWED, b"only GET and HEAD\n".to_vec());
        }
        match path {
            "/metrics" => match self.live.state().metrics.render(self.live.state().replay.len()) {
                Ok(text) => (StatusCode::OK, text),
                Err(fault) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{fault}\n").into_bytes()),
            },
            "/livez" => (StatusCode::OK, b"ok\n".to_vec()),
            "/readyz" => self.readiness(),
            "/recent" if self.is_private => (StatusCode::OK, self.recent(query)),
            "/status" if self.is_private => (StatusCode::OK, servers::status(&self.live)),
            _ => (StatusCode::NOT_FOUND, b"here are /metrics, /livez and /readyz\n".to_vec()),
        }
    }

    /// The last decisions, one line of JSON each: `limit=N`, `denied`.
    fn recent(&self, query: &str) -> Vec<u8> {
        let mut words = query.split('&');
        let limit = words.clone().find_map(|word| word.strip_prefix("limit=")?.parse().ok());
        let only_denied = words.any(|word| word == "denied");
        self.live.state().journal.recent().last(limit.unwrap_or(usize::MAX), only_denied)
    }

    /// Unready is what this node alone suffers from; an unhealthy pool is seen by all nodes and shows in the metrics.
    fn readiness(&self) -> (StatusCode, Vec<u8>) {
        let causes = [
            (self.drain.is_started(), "draining\n"),
            (!self.live.state().journal.is_writing(), "the audit log cannot be written\n"),
        ];
        match causes.into_iter().find(|(present, _)| *present) {
            Some((_, cause)) => (StatusCode::SERVICE_UNAVAILABLE, cause.into()),
            None => (StatusCode::OK, b"ok\n".to_vec()),
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        let (status, body) = self.answer(&head.method, head.uri.path(), head.uri.query().unwrap_or_default());
        let bodiless = head.method == Method::HEAD;
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
