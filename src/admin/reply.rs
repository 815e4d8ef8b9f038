//! What is answered.

use http::StatusCode;
use serde::Serialize;

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content: Content,
    pub(super) body: Vec<u8>,
}

/// What an answer is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Text,
    /// The text format of Prometheus.
    Metrics,
    Json,
    /// One object of JSON a line.
    Lines,
}

impl Content {
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
        }
    }
}

impl Reply {
    /// A line of text; faults are told so, too.
    pub(super) fn text(status: StatusCode, line: impl Into<String>) -> Self {
        Self { status, content: Content::Text, body: (line.into() + "\n").into_bytes() }
    }

    /// Nothing is wrong.
    pub(super) const fn ok(content: Content, body: Vec<u8>) -> Self {
        Self { status: StatusCode::OK, content, body }
    }

    pub(super) fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Self::ok(Content::Json, body)
            }
            Err(fault) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, fault.to_string()),
        }
    }

    pub(super) fn with(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}
