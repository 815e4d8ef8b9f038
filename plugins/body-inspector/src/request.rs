//! Requests: every new piece is searched when it comes, and none goes on before the last one has been.

use crate::texts::Place;
use crate::{declares_more_than, is_encoded, Exchange};
use log::warn;
use proxy_wasm::traits::HttpContext;
use proxy_wasm::types::Action;

/// How far the body has been read.
#[derive(Default)]
pub struct Progress {
    read: usize,
    place: Place,
}

impl Exchange {
    pub fn request_headers(&mut self, end: bool) -> Action {
        let headers = self.get_http_request_headers_bytes();
        if !end && declares_more_than(&headers, self.config.bytes_max) {
            return self.refuse_length();
        }
        if !end && self.config.searches() && is_encoded(&headers) {
            return self.refuse(415, "Unsupported Media Type", "a body with a content-encoding is not accepted here");
        }
        if self.config.redact_digits.is_some() {
            self.ask_for_plain_text();
        }
        Action::Continue
    }

    pub fn request_body(&mut self, size: usize, end: bool) -> Action {
        if size > self.config.bytes_max {
            return self.refuse_length();
        }
        // A text that lies across the border of two pieces is found because the place in the search is kept.
        let Some(piece) = self.new_piece(size) else {
            warn!("body-inspector: the host does not show the body that it was asked to keep");
            return self.refuse(500, "Internal Server Error", "the body could not be inspected");
        };
        if let Some(text) = self.config.texts.find(&mut self.request.place, &piece) {
            warn!("body-inspector: a request has the denied text {text:?} in its body");
            return self.refuse(403, "Forbidden", "the body has something in it that is not allowed");
        }
        if end {
            Action::Continue
        } else {
            Action::Pause
        }
    }

    // None if the host shows less than it said, or less than before: then something would go on unread.
    fn new_piece(&mut self, size: usize) -> Option<Vec<u8>> {
        let length = size.checked_sub(self.request.read)?;
        if length == 0 {
            return Some(Vec::new());
        }
        let piece = self.get_http_request_body(self.request.read, length)?;
        self.request.read = size;
        (piece.len() == length).then_some(piece)
    }

    fn refuse_length(&mut self) -> Action {
        self.refuse(413, "Content Too Large", &format!("a body has at most {} bytes here", self.config.bytes_max))
    }

    // Numbers can be starred only in a text that is neither compressed nor cut in two: with ranges a client could have
    // the halves of a number one by one. RFC 9110, section 14.2: a server may ignore Range, and so it is not told.
    fn ask_for_plain_text(&self) {
        self.set_http_request_header("accept-encoding", Some("identity"));
        self.set_http_request_header("range", None);
        self.set_http_request_header("if-range", None);
    }
}
