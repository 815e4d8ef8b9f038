//! Responses: a text is kept whole, its long numbers are starred, and then it goes on, as long as it was.

use crate::{declares_more_than, digits, is_encoded, values, Exchange, Headers};
use log::warn;
use proxy_wasm::traits::HttpContext;
use proxy_wasm::types::Action;

/// What the response's headers said about its body, and how much of it is there.
#[derive(Default)]
pub struct Progress {
    redact_digits: Option<usize>,
    size: usize,
    is_broken_off: bool,
}

impl Exchange {
    pub fn response_headers(&mut self, end: bool) -> Action {
        let headers = self.get_http_response_headers_bytes();
        if end || self.config.redact_digits.is_none() || !is_text(&headers) {
            return Action::Continue;
        }
        // What is here in spite of what was asked for cannot be read, and goes nowhere.
        if is_encoded(&headers) || values(&headers, "content-range").next().is_some() {
            warn!("body-inspector: the response is compressed or a part, so its numbers cannot be starred");
            return self.refuse(502, "Bad Gateway", "the response could not be inspected");
        }
        if declares_more_than(&headers, self.config.response_bytes_max) {
            warn!("body-inspector: the response is longer than max_response_bytes");
            return self.refuse(502, "Bad Gateway", "the response is too long to be inspected");
        }
        // The length stays the same, and these would not be true any more.
        for name in ["content-digest", "repr-digest", "digest", "content-md5"] {
            self.set_http_response_header(name, None);
        }
        self.response.redact_digits = self.config.redact_digits;
        Action::Continue
    }

    pub fn response_body(&mut self, size: usize, end: bool) -> Action {
        if self.response.is_broken_off {
            return Action::Pause;
        }
        let Some(digits_min) = self.response.redact_digits else {
            return Action::Continue;
        };
        if size > self.config.response_bytes_max {
            warn!("body-inspector: the response is longer than max_response_bytes, and is broken off");
            return self.break_off();
        }
        self.response.size = size;
        if end {
            self.redact(digits_min)
        } else {
            Action::Pause
        }
    }

    pub fn response_trailers(&mut self) -> Action {
        match self.response.redact_digits {
            _ if self.response.is_broken_off => Action::Pause,
            Some(digits_min) => self.redact(digits_min),
            None => Action::Continue,
        }
    }

    fn redact(&mut self, digits_min: usize) -> Action {
        // Done with it, whatever else the host calls.
        self.response.redact_digits = None;
        let size = self.response.size;
        let mut body = self.get_http_response_body(0, size).unwrap_or_default();
        if body.len() != size {
            warn!("body-inspector: the host does not show the response that it was asked to keep");
            return self.break_off();
        }
        if digits::redact(&mut body, digits_min) {
            self.set_http_response_body(0, size, &body);
        }
        Action::Continue
    }

    // The headers may have gone out already, so that there is no other answer any more.
    fn break_off(&mut self) -> Action {
        self.response.is_broken_off = true;
        self.reset_http_response();
        Action::Pause
    }
}

// A body without a type counts as text, since a browser would have a guess and could read it as one.
fn is_text(headers: &Headers) -> bool {
    let mut types = values(headers, "content-type").peekable();
    types.peek().is_none() || types.any(is_text_type)
}

fn is_text_type(value: &[u8]) -> bool {
    let media_type = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    media_type.is_empty()
        || media_type.starts_with(b"text/")
        || media_type == b"application/json"
        || (media_type.starts_with(b"application/") && media_type.ends_with(b"+json"))
}
