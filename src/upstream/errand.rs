//! Errands: requests of our own to a pool that the config names, as filters and plugins send them.
//!
//! An errand is made when a config is built and leads to its pool only. It carries what the filter writes, never a
//! client's request, and it counts with the pool's requests: by its balancing, its health and its limits.

use super::picked::Picked;
use super::pool::{Pools, Wish};
use super::way::Purpose;
use crate::name::PoolName;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use once_cell::sync::Lazy;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use std::time::Duration;
use tokio::time;

/// Connections of errands, which are none of the clients'.
static CONNECTOR: Lazy<Connector> = Lazy::new(|| Connector::new(None));

/// For how long a connection is kept for the next errand.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// The right to send requests of our own to a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    pool: PoolName,
}

impl Errand {
    /// An errand to a pool that the config names.
    #[must_use]
    pub const fn to(pool: PoolName) -> Self {
        Self { pool }
    }

    /// Its pool.
    #[must_use]
    pub const fn pool(&self) -> &PoolName {
        &self.pool
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: Box<str>,
    /// The host, perhaps with a port.
    pub host: Box<str>,
    /// Headers, but for those of framing, which are set by the body.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long all of it may take.
    pub timeout: Duration,
    /// The longest answer's body, in bytes.
    pub answer_max: usize,
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// The config has no such pool any more, or nobody in it can be asked.
    #[error("no server of the pool can be asked")]
    NoServer,
    /// It took too long.
    #[error("the answer did not come in time")]
    Slow,
    /// The answer is too long.
    #[error("the answer is too long")]
    TooLong,
    /// There was no connection, or no whole answer.
    #[error("the connection failed")]
    Broken,
    /// What was to be asked is no request.
    #[error("the request is none")]
    NoRequest,
}

impl Pools {
    /// Sends a request of our own. What fails is not tried again: who has sent it knows best.
    ///
    /// # Errors
    /// [`NoReply`].
    pub async fn send(&self, errand: &Errand, call: Call) -> Result<Reply, NoReply> {
        let timeout = call.timeout;
        let mut picked = self.pick_for(errand).ok_or(NoReply::NoServer)?;
        let conversing = Box::pin(converse(&mut picked, call));
        let reply = time::timeout(timeout, conversing).await.unwrap_or(Err(NoReply::Slow));
        match &reply {
            Ok(reply) => picked.responded(reply.status.as_u16()),
            Err(NoReply::Broken | NoReply::Slow) => picked.failed(),
            Err(NoReply::NoServer | NoReply::TooLong | NoReply::NoRequest) => {}
        }
        reply
    }

    /// A server for an errand, if one has room now.
    fn pick_for(&self, errand: &Errand) -> Option<Picked> {
        self.pool(errand.pool())?.take_now(Wish::default())
    }
}

async fn converse(picked: &mut Picked, call: Call) -> Result<Reply, NoReply> {
    let request = head(&call).ok_or(NoReply::NoRequest)?;
    let peer = picked.peer(Purpose::default()).map_err(|_no_address| NoReply::NoServer)?;
    let broken = |_error| NoReply::Broken;
    let (mut session, reused) = Box::pin(CONNECTOR.get_http_session(&peer)).await.map_err(broken)?;
    if !reused {
        picked.connected();
    }
    session.write_request_header(Box::new(request)).await.map_err(broken)?;
    if !call.body.is_empty() {
        session.write_request_body(call.body, true).await.map_err(broken)?;
    }
    session.finish_request_body().await.map_err(broken)?;
    picked.sent();
    let (status, headers) = answer(&mut session).await?;
    let body = read(&mut session, call.answer_max).await;
    match &body {
        Ok(_) => CONNECTOR.release_http_session(session, &peer, Some(KEPT_FOR)).await,
        Err(_) => session.shutdown().await,
    }
    Ok(Reply { status, headers, body: body? })
}

fn head(call: &Call) -> Option<RequestHeader> {
    let mut request = RequestHeader::build(call.method.clone(), call.target.as_bytes(), Some(16)).ok()?;
    for (name, value) in &call.headers {
        request.append_header(name.clone(), value.clone()).ok()?;
    }
    request.remove_header(&TRANSFER_ENCODING);
    request.remove_header(&CONTENT_LENGTH);
    request.insert_header(HOST, &*call.host).ok()?;
    let needs_length = !call.body.is_empty() || matches!(call.method, Method::POST | Method::PUT | Method::PATCH);
    if needs_length {
        request.insert_header(CONTENT_LENGTH, HeaderValue::from(call.body.len())).ok()?;
    }
    Some(request)
}

/// The head of the answer, past what is only informational.
async fn answer(session: &mut HttpSession) -> Result<(StatusCode, HeaderMap), NoReply> {
    loop {
        session.read_response_header().await.map_err(|_error| NoReply::Broken)?;
        let head = session.response_header().ok_or(NoReply::Broken)?;
        if !head.status.is_informational() {
            return Ok((head.status, head.headers.clone()));
        }
    }
}

async fn read(session: &mut HttpSession, max: usize) -> Result<Bytes, NoReply> {
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_response_body().await.map_err(|_error| NoReply::Broken)? {
        if body.len().saturating_add(piece.len()) > max {
            return Err(NoReply::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}
