//! Answers that are a filter's own.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// An answer that comes from a filter and not from an origin.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, without the length.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The name of who answers.
    pub by: Box<str>,
}

impl Answer {
    /// An answer without a body.
    #[must_use]
    pub fn new(by: &str, status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new(), by: by.into() }
    }

    /// The same with a header more.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn showing(mut self, page: &Page) -> Self {
        self.headers.insert(header::CONTENT_TYPE, page.content_type.clone());
        self.body = page.body.clone();
        self
    }
}

/// What a client is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its media type.
    pub content_type: HeaderValue,
    /// What.
    pub body: Bytes,
}
