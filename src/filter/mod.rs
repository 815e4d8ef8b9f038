//! What is done to requests that may pass, and to their responses.
//!
//! A filter is one file: settings, schema, behaviour and tests. It runs after the permit, so it may tighten and never
//! widen, and the headers that carry identity or framing are out of its reach.

mod answer;
mod body_limit;
mod chain;
mod compression;
mod cors;
mod error_pages;
mod ext_authz;
mod headers;
mod kind;
mod maintenance;
mod networks;
mod plugin;
mod redirect;
mod respond;
mod rewrite;
mod view;

pub use answer::{Answer, Page};
pub use chain::{Chain, Passage, Progress};
pub use cors::asked_method;
pub use kind::{Building, KINDS};
pub use plugin::Plugins;
#[cfg(feature = "wasm")]
pub use plugin::{reference as plugin_reference, trial};
pub use view::{About, Borrowed, Head, Headers, Request, Response, Sending};

use crate::refusal::Refusal;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::{fmt, future::Future, pin::Pin};

/// What becomes of a request that a filter has looked at.
pub enum Flow {
    /// It goes on.
    Goes,
    /// The filter answers it; nothing is forwarded.
    Answered(Answer),
    /// The filter has taken the head and knows later what becomes of it.
    Waits(Pin<Box<dyn Future<Output = Result<Waited, Refusal>> + Send>>),
}

/// What has become of a request, and the head that its filter had taken.
#[derive(Debug)]
pub struct Waited {
    /// The head; none if it was not taken.
    pub head: Option<Box<dyn Head>>,
    /// What goes on of the piece of a body that it had taken.
    pub body: Option<Bytes>,
    /// The answer, if it is the filter's.
    pub answer: Option<Answer>,
}

impl Flow {
    /// Waits if need be, and gives back the head and what goes on of a piece of a body; the filter's answer, if it has
    /// one.
    async fn settled(
        self,
        headers: Option<&mut dyn Borrowed>,
        piece: Option<&mut Bytes>,
    ) -> Result<Option<Answer>, Refusal> {
        let waiting = match self {
            Self::Goes => return Ok(None),
            Self::Answered(answer) => return Ok(Some(answer)),
            Self::Waits(waiting) => waiting,
        };
        let waited = waiting.await?;
        if let (Some(headers), Some(head)) = (headers, waited.head) {
            headers.take_back(head);
        }
        if let Some(piece) = piece {
            *piece = waited.body.unwrap_or_default();
        }
        Ok(waited.answer)
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goes => f.write_str("Goes"),
            Self::Answered(answer) => f.debug_tuple("Answered").field(answer).finish(),
            Self::Waits(_) => f.write_str("Waits"),
        }
    }
}

/// A filter, ready to run.
pub trait Filter: fmt::Debug + Send + Sync {
    /// What it is called in records: its kind, or a plugin's name.
    fn name(&self) -> &str;

    /// What it keeps of one request from one step to the next, if it keeps something. That takes the steps then.
    ///
    /// # Errors
    /// The refusal that the client gets.
    fn begin(&self, _about: &About<'_>) -> Result<Option<Box<dyn Running>>, Refusal> {
        Ok(None)
    }

    /// Works on the head of a request that has its permit.
    ///
    /// # Errors
    /// The refusal that the client gets.
    fn request(&self, _about: &About<'_>, _request: &mut Request<'_>) -> Result<Flow, Refusal> {
        Ok(Flow::Goes)
    }

    /// Works on the head of a response.
    ///
    /// # Errors
    /// The refusal that the client gets instead.
    fn response(&self, _about: &About<'_>, _response: &mut Response<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// What the client is shown instead of an answer of ours with such a status.
    fn page(&self, _status: StatusCode) -> Option<&Page> {
        None
    }

    /// The answer to a browser's question that shows nobody's identity, whether a page may ask with that method; none if
    /// it has nothing to say to it.
    fn preflight(&self, _headers: &HeaderMap, _method: &HeaderValue) -> Option<Answer> {
        None
    }
}

/// What a filter keeps of one request, and does with it.
pub trait Running: fmt::Debug + Send + Sync {
    /// See [`Filter::request`].
    ///
    /// # Errors
    /// The refusal that the client gets.
    fn request(&mut self, _about: &About<'_>, _request: &mut Request<'_>) -> Result<Flow, Refusal> {
        Ok(Flow::Goes)
    }

    /// Whether the request's body passes through it, so that its length is not known.
    fn takes_request_body(&self) -> bool {
        false
    }

    /// Whether it has to see something of the body before it lets the head go.
    fn holds_head(&self) -> bool {
        false
    }

    /// Whether it wants to see that body, changed or not.
    fn looks_at_request_body(&self) -> bool {
        self.takes_request_body()
    }

    /// Takes a piece of the request's body and leaves what goes on. The head is there if it has not gone on yet.
    ///
    /// # Errors
    /// The refusal that the client gets.
    fn request_body(
        &mut self,
        _about: &About<'_>,
        _head: Option<&mut dyn Borrowed>,
        _piece: &mut Bytes,
        _is_last: bool,
    ) -> Result<Flow, Refusal> {
        Ok(Flow::Goes)
    }

    /// The head goes on, after all that was waited for.
    fn head_goes(&mut self, _is_request: bool) {}

    /// So much of a body goes on.
    ///
    /// # Errors
    /// The reason for which it may not.
    fn body_goes(&mut self, _is_request: bool, _bytes: usize, _is_last: bool) -> Result<(), Refusal> {
        Ok(())
    }

    /// See [`Filter::response`].
    ///
    /// # Errors
    /// The refusal that the client gets instead.
    fn response(&mut self, _about: &About<'_>, _response: &mut Response<'_>) -> Result<Flow, Refusal> {
        Ok(Flow::Goes)
    }

    /// Whether the response's body passes through it, so that its length is not known.
    fn takes_response_body(&self) -> bool {
        false
    }

    /// Whether it wants to see that body, changed or not.
    fn looks_at_response_body(&self) -> bool {
        self.takes_response_body()
    }

    /// Takes a piece of the response's body and leaves what goes on.
    ///
    /// # Errors
    /// The reason for which the response breaks off.
    fn response_body(&mut self, _about: &About<'_>, _piece: &mut Bytes, _is_last: bool) -> Result<(), Refusal> {
        Ok(())
    }

    /// Works on the response's trailers, and gives what it still has of the body before them.
    ///
    /// # Errors
    /// The reason for which the response breaks off.
    fn response_trailers(&mut self, _about: &About<'_>, _trailers: &mut HeaderMap) -> Result<Bytes, Refusal> {
        Ok(Bytes::new())
    }

    /// Whether the request goes on without it, since it has stopped and may be left out.
    fn is_left_out(&self) -> bool {
        false
    }

    /// All filters have worked on the response's head, and it is about to go.
    ///
    /// # Errors
    /// The refusal that the client gets instead.
    fn dressed(&mut self, _headers: &mut dyn Headers) -> Result<(), Refusal> {
        Ok(())
    }

    /// The request has ended, one way or another.
    fn ended(&mut self, _status: Option<StatusCode>) {}
}
