//! What filters see of a request and its response, free of any HTTP library's session.

use crate::clock::Timestamp;
use crate::name::ListenerName;
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::request::Facts;
use crate::request::headers::{is_framing, is_ours};
use crate::upstream::Pools;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::{any::Any, fmt, net::IpAddr, sync::Arc};

/// What is known of a request and no filter changes.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Who asks, by which route.
    pub permit: &'a Permit,
    /// What for, as it was judged.
    pub facts: &'a Arc<Facts>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Where it came in.
    pub listener: &'a ListenerName,
    /// The TLS version, for example `1.3`.
    pub tls: Option<&'static str>,
    /// When it came.
    pub started: Timestamp,
    /// Where errands go.
    pub pools: &'a Arc<Pools>,
}

/// Headers that are read and written. Names of identity and framing are guarded by whoever lets them be written by name.
pub trait Headers: fmt::Debug + Send + Sync {
    /// All of them.
    fn all(&self) -> &HeaderMap;

    /// Sets a header to one value.
    ///
    /// # Errors
    /// [`Refusal::FilterFailed`] if it cannot be set.
    fn set(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal>;

    /// Adds a value to a header.
    ///
    /// # Errors
    /// [`Refusal::FilterFailed`] if it cannot be added.
    fn add(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal>;

    /// Takes a header out.
    fn remove(&mut self, name: &HeaderName);

    /// Sets the status of a response.
    ///
    /// # Errors
    /// [`Refusal::FilterFailed`] where there is none.
    fn set_status(&mut self, _status: StatusCode) -> Result<(), Refusal> {
        Err(Refusal::FilterFailed)
    }
}

/// A head by itself, which a filter may take and keep for a while.
pub trait Head: Headers + Any {
    /// The same, as what it is to who has given it.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// Headers that belong to a session, which lends their head to a filter.
pub trait Borrowed: Headers {
    /// Gives the head away; an empty one stays.
    ///
    /// # Errors
    /// [`Refusal::FilterFailed`] if there can be no empty one.
    fn lend(&mut self) -> Result<Box<dyn Head>, Refusal>;

    /// Takes the head back.
    fn take_back(&mut self, head: Box<dyn Head>);
}

/// Whether no filter may write a header: it carries identity or framing.
pub(super) fn is_guarded(name: &str) -> bool {
    is_ours(name) || is_framing(name)
}

/// How long a body is, if its head says it, in bytes.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The head of a request, and what will be sent beside it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its headers.
    pub headers: &'a mut dyn Borrowed,
    /// Whether a body follows.
    pub has_body: bool,
    /// What differs from what was asked for.
    pub sending: &'a mut Sending,
}

/// What is sent to the origin instead of what was asked for.
#[derive(Debug, Default, Clone)]
pub struct Sending {
    /// Path and query.
    pub target: Option<Box<str>>,
    /// The host.
    pub host: Option<Box<str>>,
    /// The longest body, in bytes.
    pub body_max: Option<u64>,
}

impl Sending {
    /// Whether something other is sent.
    #[must_use]
    pub const fn is_rewritten(&self) -> bool {
        self.target.is_some() || self.host.is_some()
    }
}

/// The head of a response.
#[derive(Debug)]
pub struct Response<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a mut dyn Borrowed,
    /// The request's headers, as they are sent.
    pub asked: &'a HeaderMap,
    /// Whether a cookie of ours will be set beside it.
    pub gets_cookie: bool,
    /// Whether a body follows.
    pub has_body: bool,
}
