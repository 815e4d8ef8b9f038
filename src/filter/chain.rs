//! Filters in order, and one request's way through them.

use super::kind::{self, Building};
use super::{About, Answer, Borrowed, Filter, Flow, Page, Request, Response, Running};
use crate::config::{FilterSpec, Finding};
use crate::refusal::Refusal;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::sync::Arc;

/// Filters in order. A copy is the same chain.
#[derive(Debug, Clone, Default)]
pub struct Chain(Arc<[Arc<dyn Filter>]>);

/// How far a request has come.
#[derive(Debug)]
pub enum Progress {
    /// Through all filters.
    Through,
    /// As far as a filter that answers it.
    Answered(Answer),
    /// As far as a filter that wants to see the body first: see [`Passage::prepare`].
    WantsBody,
}

/// One request's way through the filters of its listener and then of its route; its response goes through them in
/// reverse.
#[derive(Debug, Default)]
pub struct Passage {
    chains: [Chain; 2],
    /// What filters keep of the request, by their number; empty if none keeps anything.
    running: Vec<Option<Box<dyn Running>>>,
    /// How many filters have seen the head.
    entered: usize,
    /// The one that has worked last.
    at: usize,
    /// Whether the last of those holds it still.
    is_held: bool,
    /// The body, where it was read before the head went on, and how many filters it has passed.
    prepared: Option<(Bytes, usize)>,
    /// A filter has worked on the body while it was sent, which cannot be done twice.
    has_spent_body: bool,
}

impl Chain {
    /// Builds filters from their settings.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn build(
        specs: &[(&'static str, Box<dyn FilterSpec>)],
        building: &mut Building<'_>,
    ) -> Result<Self, Vec<Finding>> {
        let (mut filters, mut findings) = (Vec::new(), Vec::new());
        for (kind, spec) in specs {
            match kind::build((kind, &**spec), building) {
                Ok(filter) => filters.push(filter),
                Err(found) => findings.extend(found),
            }
        }
        if findings.is_empty() { Ok(Self(filters.into())) } else { Err(findings) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the client is shown instead of an answer of ours with such a status: by the last filter that says it.
    #[must_use]
    pub fn page(&self, status: StatusCode) -> Option<&Page> {
        self.0.iter().rev().find_map(|filter| filter.page(status))
    }

    /// The answer to a browser's question that shows nobody's identity: by the first filter that has one.
    #[must_use]
    pub fn preflight(&self, headers: &HeaderMap, method: &HeaderValue) -> Option<Answer> {
        self.0.iter().find_map(|filter| filter.preflight(headers, method))
    }
}

impl Passage {
    /// The way of a request through the filters of its listener and its route.
    ///
    /// # Errors
    /// The refusal of a filter that cannot take it, and the filter's name.
    pub fn begin(chains: [&Chain; 2], about: &About<'_>) -> Result<Self, (Refusal, Box<str>)> {
        let mut passage = Self { chains: chains.map(Clone::clone), ..Self::default() };
        let count = passage.filters().count();
        for (number, filter) in chains.into_iter().flat_map(|chain| chain.0.iter()).enumerate() {
            let begun = filter.begin(about).map_err(|refusal| (refusal, filter.name().into()))?;
            let Some(running) = begun else { continue };
            passage.running.resize_with(count, || None);
            if let Some(place) = passage.running.get_mut(number) {
                *place = Some(running);
            }
        }
        Ok(passage)
    }

    fn filters(&self) -> impl DoubleEndedIterator<Item = &Arc<dyn Filter>> {
        let [first, second] = &self.chains;
        first.0.iter().chain(second.0.iter())
    }

    fn running(&mut self, number: usize) -> Option<&mut Box<dyn Running>> {
        running_of(&mut self.running, number)
    }

    /// Goes on with the head of a request.
    ///
    /// # Errors
    /// The first filter's refusal.
    pub async fn request(&mut self, about: &About<'_>, request: &mut Request<'_>) -> Result<Progress, Refusal> {
        if std::mem::take(&mut self.is_held) && self.holds_head() {
            return Err(Refusal::FilterFailed);
        }
        while let Some(filter) = filter_of(&self.chains, self.entered) {
            let number = self.entered;
            (self.entered, self.at) = (number.saturating_add(1), number);
            let flow = match running_of(&mut self.running, number) {
                Some(running) => running.request(about, request)?,
                None => filter.request(about, request)?,
            };
            if let Some(answer) = flow.settled(Some(request.headers), None).await? {
                // It goes back through the filters before this one.
                self.entered = number;
                return Ok(Progress::Answered(answer));
            }
            self.running(number).into_iter().for_each(|running| running.head_goes(true));
            // Nobody knows how long it will be, and those who come now are not to think that they do.
            if self.running(number).is_some_and(|running| running.takes_request_body()) {
                request.headers.remove(&CONTENT_LENGTH);
            }
            if request.has_body && self.holds_head() {
                self.is_held = true;
                return Ok(Progress::WantsBody);
            }
        }
        Ok(Progress::Through)
    }

    fn holds_head(&mut self) -> bool {
        let last = self.entered.checked_sub(1);
        last.and_then(|last| self.running(last)).is_some_and(|running| running.holds_head())
    }

    /// Takes the whole body before the head goes on, through the filters that have seen the head.
    ///
    /// # Errors
    /// The first filter's refusal.
    pub async fn prepare(
        &mut self,
        about: &About<'_>,
        head: &mut dyn Borrowed,
        body: Bytes,
    ) -> Result<Option<Answer>, Refusal> {
        let (mut body, passed) = self.prepared.take().unwrap_or((body, 0));
        let answer = self.through_body((about, Some(head)), &mut body, true, passed..self.entered).await?;
        self.prepared = Some((body, self.entered));
        Ok(answer)
    }

    /// The length of the body, where it is known although filters have worked on it.
    #[must_use]
    pub fn prepared_length(&self) -> Option<usize> {
        let (body, passed) = self.prepared.as_ref()?;
        (!self.takes_body_from(*passed)).then_some(body.len())
    }

    fn looks_from(&self, number: usize) -> bool {
        self.running.iter().skip(number).flatten().any(|running| running.looks_at_request_body())
    }

    fn takes_body_from(&self, number: usize) -> bool {
        self.running.iter().skip(number).flatten().any(|running| running.takes_request_body())
    }

    /// Whether filters want to see the request's body.
    #[must_use]
    pub fn looks_at_request_body(&self) -> bool {
        self.prepared.is_some() || self.looks_from(0)
    }

    /// Whether a body of the request does not go on as it comes, so that its length is another.
    #[must_use]
    pub fn takes_request_body(&self) -> bool {
        self.prepared.is_some() || self.takes_body_from(0)
    }

    /// Whether filters have worked on the body while it was sent, so that it cannot be sent again.
    #[must_use]
    pub const fn has_spent_body(&self) -> bool {
        self.has_spent_body
    }

    /// Takes a piece of the request's body on its way to the server and leaves what goes on.
    ///
    /// # Errors
    /// The first filter's refusal.
    pub async fn request_body(
        &mut self,
        about: &About<'_>,
        piece: &mut Option<Bytes>,
        is_last: bool,
    ) -> Result<Option<Answer>, Refusal> {
        let mut passed = 0;
        let mut bytes = piece.take().unwrap_or_default();
        if let Some((prepared, already)) = &self.prepared {
            // What comes once more was taken before.
            bytes = if is_last { prepared.clone() } else { Bytes::new() };
            passed = *already;
        }
        if self.looks_from(passed) {
            self.has_spent_body = true;
            let count = self.running.len();
            let answer = self.through_body((about, None), &mut bytes, is_last, passed..count).await?;
            if answer.is_some() {
                return Ok(answer);
            }
        }
        // Nothing at all would tell the server that this is the end, and an empty last piece would be a second one.
        *piece = Some(bytes).filter(|bytes| !(is_last && bytes.is_empty()));
        Ok(None)
    }

    async fn through_body(
        &mut self,
        (about, mut head): (&About<'_>, Option<&mut dyn Borrowed>),
        bytes: &mut Bytes,
        is_last: bool,
        numbers: std::ops::Range<usize>,
    ) -> Result<Option<Answer>, Refusal> {
        for number in numbers {
            self.at = number;
            let Some(running) = self.running(number).filter(|running| running.looks_at_request_body()) else {
                continue;
            };
            let flow = running.request_body(about, again(&mut head), bytes, is_last)?;
            let answer = flow.settled(again(&mut head), Some(bytes)).await?;
            if answer.is_some() {
                self.entered = self.entered.min(number);
                return Ok(answer);
            }
            let length = bytes.len();
            if let Some(running) = self.running(number) {
                running.body_goes(true, length, is_last)?;
            }
        }
        Ok(None)
    }

    /// Works on the head of a response, through the filters that its request has seen, in reverse.
    ///
    /// # Errors
    /// The first filter's refusal.
    pub async fn response(
        &mut self,
        about: &About<'_>,
        response: &mut Response<'_>,
    ) -> Result<Option<Answer>, Refusal> {
        for number in (0..self.entered).rev() {
            let Some(filter) = filter_of(&self.chains, number) else { continue };
            self.at = number;
            let flow = match running_of(&mut self.running, number) {
                Some(running) => running.response(about, response)?,
                None => filter.response(about, response).map(|()| Flow::Goes)?,
            };
            let answer = flow.settled(Some(response.headers), None).await?;
            if answer.is_some() {
                // It goes back through the filters that have not seen the response yet.
                self.entered = number;
                return Ok(answer);
            }
            self.running(number).into_iter().for_each(|running| running.head_goes(false));
            if self.running(number).is_some_and(|running| running.takes_response_body()) {
                response.headers.remove(&CONTENT_LENGTH);
            }
        }
        for running in self.running.iter_mut().take(self.entered).flatten() {
            running.dressed(response.headers)?;
        }
        Ok(None)
    }

    /// Whether the response's body does not go on as it comes, so that its length is another.
    #[must_use]
    pub fn takes_response_body(&self) -> bool {
        self.running.iter().take(self.entered).flatten().any(|running| running.takes_response_body())
    }

    /// Whether filters want to see that body.
    #[must_use]
    pub fn looks_at_response_body(&self) -> bool {
        self.running.iter().take(self.entered).flatten().any(|running| running.looks_at_response_body())
    }

    /// Takes a piece of the response's body and leaves what goes on.
    ///
    /// # Errors
    /// The reason for which the response breaks off.
    pub fn response_body(
        &mut self,
        about: &About<'_>,
        piece: &mut Option<Bytes>,
        is_last: bool,
    ) -> Result<(), Refusal> {
        let mut bytes = piece.take().unwrap_or_default();
        for number in (0..self.entered).rev() {
            let Some(running) = self.running(number).filter(|running| running.looks_at_response_body()) else {
                continue;
            };
            let passed = running
                .response_body(about, &mut bytes, is_last)
                .and_then(|()| running.body_goes(false, bytes.len(), is_last));
            if passed.is_err() {
                self.at = number;
            }
            passed?;
        }
        *piece = Some(bytes).filter(|bytes| !(is_last && bytes.is_empty()));
        Ok(())
    }

    /// Works on the response's trailers; what filters still have of the body goes before them.
    ///
    /// # Errors
    /// The reason for which the response breaks off.
    pub fn response_trailers(&mut self, about: &About<'_>, trailers: &mut HeaderMap) -> Result<Bytes, Refusal> {
        let mut rest = Bytes::new();
        for running in self.running.iter_mut().take(self.entered).rev().flatten() {
            if !rest.is_empty() && running.looks_at_response_body() {
                running.response_body(about, &mut rest, false)?;
            }
            let own = running.response_trailers(about, trailers)?;
            rest = if rest.is_empty() { own } else { [rest, own].concat().into() };
        }
        Ok(rest)
    }

    /// The filter that has worked last, by name.
    #[must_use]
    pub fn last(&self) -> Option<&dyn Filter> {
        filter_of(&self.chains, self.at).map(AsRef::as_ref)
    }

    /// The filters that the request has gone on without, by name.
    #[must_use]
    pub fn left_out(&self) -> Box<[Box<str>]> {
        let left_out = self
            .filters()
            .zip(&self.running)
            .filter(|(_, running)| running.as_ref().is_some_and(|running| running.is_left_out()));
        left_out.map(|(filter, _)| filter.name().into()).collect()
    }

    /// The request has ended, one way or another.
    pub fn ended(&mut self, status: Option<StatusCode>) {
        for mut running in std::mem::take(&mut self.running).into_iter().flatten() {
            running.ended(status);
        }
    }
}

fn filter_of(chains: &[Chain; 2], number: usize) -> Option<&Arc<dyn Filter>> {
    let [first, second] = chains;
    first.0.get(number).or_else(|| second.0.get(number.checked_sub(first.0.len())?))
}

fn running_of(running: &mut [Option<Box<dyn Running>>], number: usize) -> Option<&mut Box<dyn Running>> {
    running.get_mut(number)?.as_mut()
}

/// The same head once more, for a while.
fn again<'a>(head: &'a mut Option<&mut dyn Borrowed>) -> Option<&'a mut dyn Borrowed> {
    match head {
        Some(head) => Some(&mut **head as &mut dyn Borrowed),
        None => None,
    }
}
