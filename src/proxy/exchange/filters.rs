//! What filters are to a request, and have made of it.

use super::{Exchange, PATH_MAX, path};
use crate::audit::{Filtered, Sent};
use crate::filter::{Answer, Chain, Page};
use crate::name::ListenerName;
use crate::proxy::PREFLIGHT;
use crate::proxy::filtering::Filtering;
use crate::refusal::Refusal;
use crate::verdict::RuleId;
use http::StatusCode;

impl Exchange {
    /// The filters of its listener and its route, if there are any.
    pub(in crate::proxy) fn chains(&self) -> Option<[Chain; 2]> {
        let entrance = self.snapshot.entrances.get(&self.source.listener)?;
        let route = self.route.as_ref()?;
        let is_empty = entrance.filters.is_empty() && route.filters.is_empty();
        (!is_empty).then(|| [entrance.filters.clone(), route.filters.clone()])
    }

    /// Filters work on it, or have done so.
    pub(in crate::proxy) fn is_filtered(&mut self, filtering: Box<Filtering>) {
        self.filtering = Some(filtering);
    }

    pub(in crate::proxy) fn filtering(&self) -> Option<&Filtering> {
        self.filtering.as_deref()
    }

    /// What filters keep of it, to go on with.
    pub(in crate::proxy) const fn take_filtering(&mut self) -> Option<Box<Filtering>> {
        self.filtering.take()
    }

    /// Records that a browser's question is answered. There is no permit, so nothing can be forwarded.
    ///
    /// # Errors
    /// [`Refusal::AuditUnavailable`] if it cannot be recorded.
    pub(in crate::proxy) async fn allow_preflight(&mut self) -> Result<(), Refusal> {
        let decision = self.decision(Ok(RuleId::new(PREFLIGHT)));
        let (journal, listener) = (&self.live.state().journal, &self.source.listener);
        // Who has proved nothing may fill the log no more than with what is refused.
        if !self.verified && !journal.admits(listener, PREFLIGHT, decision.time) {
            self.recorded = false;
            self.metrics().allowed.inc();
            return Ok(());
        }
        self.is_recorded(decision).await
    }

    /// A filter's answer that takes the place of the origin's.
    pub(in crate::proxy) fn take_answer(&mut self) -> Option<Answer> {
        self.filtering.as_mut()?.take_answer()
    }

    /// The page that is shown instead of an answer of ours with such a status. Where nobody is to know of a route, its
    /// pages do not show either.
    pub(in crate::proxy) fn page(&self, status: StatusCode) -> Option<&Page> {
        let is_seen = self.nowhere_since.is_none() && self.shown.is_none();
        let of_route = self.route.as_ref().filter(|_| is_seen).and_then(|route| route.filters.page(status));
        of_route.or_else(|| self.snapshot.entrances.get(&self.source.listener)?.filters.page(status))
    }

    /// Whether its body was changed while it was sent, so that it cannot be sent again.
    pub(in crate::proxy) fn has_spent_body(&self) -> bool {
        self.filtering().is_some_and(Filtering::has_spent_body)
    }

    pub(in crate::proxy) const fn listener(&self) -> &ListenerName {
        &self.source.listener
    }

    /// What the record of its outcome says of filters.
    pub(super) fn filtered(&mut self, status: Option<u16>) -> Option<Box<Filtered>> {
        let mut filtering = self.filtering.take()?;
        let (by, left_out) = (filtering.by.take(), filtering.left_out());
        filtering.ended(status);
        let sending = std::mem::take(&mut filtering.sending);
        let is_told = by.is_some() || !left_out.is_empty() || sending.is_rewritten();
        let path = |target: Box<str>| {
            let path = target.split('?').next().unwrap_or_default();
            path::recorded(path, PATH_MAX)
        };
        let sent = Sent { path: sending.target.map(path), host: sending.host };
        is_told.then(|| Box::new(Filtered { by, left_out, sent }))
    }
}
