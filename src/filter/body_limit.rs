//! `body_limit`: how long bodies may be here.

use super::kind::Settings;
use super::view::length;
use super::{About, Filter, Flow, Request, Response, Running};
use crate::config::document::SizeText;
use crate::config::{Fault, FilterSpec, Reader};
use crate::refusal::Refusal;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

/// Limits bodies, whoever asks. What callers may send each is said by `limits` of the route.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BodyLimit {
    /// The longest body of a request; a longer one is a 413.
    #[serde(default)]
    request: Option<SizeText>,
    /// The longest body of a response; one that says that it is longer is a 502, and one that turns out to be breaks
    /// off.
    #[serde(default)]
    response: Option<SizeText>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limiting {
    request: Option<u64>,
    response: Option<u64>,
}

impl Settings for BodyLimit {
    const NAME: &'static str = "body_limit";
    type Spec = Limiting;

    fn read(self, reader: &mut Reader<'_>) -> Option<Limiting> {
        let place = reader.place.clone();
        if self.request.is_none() && self.response.is_none() {
            let fault = Fault::new(&place, "nothing is limited here").at_key();
            reader.fault(fault.hint("write `request` or `response`"));
        }
        let mut read = |key: &str, text: Option<SizeText>| {
            text.and_then(|text| reader.bytes(&text.0, &place.key(key), 0..=1024 * 1024 * 1024 * 1024))
        };
        Some(Limiting { request: read("request", self.request), response: read("response", self.response) })
    }
}

impl FilterSpec for Limiting {}

impl Filter for Limiting {
    fn name(&self) -> &str {
        BodyLimit::NAME
    }

    fn begin(&self, _: &About<'_>) -> Result<Option<Box<dyn Running>>, Refusal> {
        let limited = self.response.map(|left| Box::new(Counting { limits: *self, left }) as Box<dyn Running>);
        Ok(limited)
    }

    fn request(&self, _: &About<'_>, request: &mut Request<'_>) -> Result<Flow, Refusal> {
        let Some(max) = self.request else { return Ok(Flow::Goes) };
        if length(request.headers.all()).is_some_and(|length| length > max) {
            return Err(Refusal::BodyTooLarge);
        }
        let sending = &mut *request.sending;
        sending.body_max = Some(sending.body_max.map_or(max, |before| before.min(max)));
        Ok(Flow::Goes)
    }
}

#[derive(Debug)]
struct Counting {
    limits: Limiting,
    left: u64,
}

impl Running for Counting {
    fn request(&mut self, about: &About<'_>, request: &mut Request<'_>) -> Result<Flow, Refusal> {
        self.limits.request(about, request)
    }

    fn response(&mut self, _: &About<'_>, response: &mut Response<'_>) -> Result<Flow, Refusal> {
        let is_longer = response.has_body && length(response.headers.all()).is_some_and(|length| length > self.left);
        if is_longer { Err(Refusal::ResponseTooLarge) } else { Ok(Flow::Goes) }
    }

    fn looks_at_response_body(&self) -> bool {
        true
    }

    fn response_body(&mut self, _: &About<'_>, piece: &mut Bytes, _: bool) -> Result<(), Refusal> {
        self.left = self.left.checked_sub(piece.len() as u64).ok_or(Refusal::ResponseTooLarge)?;
        Ok(())
    }
}
