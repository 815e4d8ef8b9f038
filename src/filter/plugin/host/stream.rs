//! One request's way through a plugin.

use super::abi::{Both, Way};
use super::instance::{Cause, Failure, Instance, Vm};
use super::pool::Plugin;
use crate::filter::view::length;
use crate::filter::{About, Answer, Borrowed, Flow, Request, Response, Running, Waited};
use crate::name::WorkloadName;
use crate::refusal::Refusal;
use crate::room::Room;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use tokio::time;

/// One request's way through a plugin.
#[derive(Debug)]
pub(super) struct Stream {
    plugin: Arc<Plugin>,
    /// None once it is not needed any more, or has stopped.
    instance: Option<Arc<Instance>>,
    who: Option<WorkloadName>,
    id: u32,
    holds_head: bool,
    /// The request goes on without it.
    is_left_out: bool,
    /// Where what is held of bodies is counted, and how much that was at most.
    room: Option<Room>,
    roomed: usize,
    /// How long a body is that may not change its length, and how much of it has gone on.
    lengths: Both<Option<(u64, u64)>>,
    takes: Both<bool>,
    looks: Both<bool>,
    /// What it held of bodies when it was left out.
    rests: Both<Bytes>,
}

/// What the plugin wants to become of a message.
enum Next {
    Goes,
    Answered(Answer),
    Paused,
}

impl Stream {
    /// A request comes to a plugin; none if the plugin may be left out and cannot take it.
    ///
    /// # Errors
    /// The refusal that the client gets.
    pub(super) fn begin(plugin: &Arc<Plugin>, about: &About<'_>) -> Result<Option<Self>, Refusal> {
        if plugin.is_idle {
            return Ok(None);
        }
        let who = about.permit.principal().workload().map(|workload| workload.name.clone());
        let taken = plugin.takes_one(&who).and_then(|instance| {
            let id = instance.vm().takes(about);
            id.map(|id| (Arc::clone(&instance), id)).map_err(|failure| {
                instance.fails(&failure);
                plugin.gives_back(instance, &who);
                Refusal::PluginFailed
            })
        });
        let (instance, id) = match taken {
            Ok((instance, id)) => (Some(instance), id),
            // It is written down that nobody has looked.
            Err(_) if plugin.is_optional => (None, 0),
            Err(refusal) => return Err(refusal),
        };
        let rooms = &plugin.shared.kept.rooms;
        let room = who.clone().or_else(|| WorkloadName::parse("anonymous").ok()).map(|who| rooms.room(who));
        let (plugin, is_left_out) = (Arc::clone(plugin), instance.is_none());
        let (lengths, takes, looks, rests) = (Both::default(), Both::default(), Both::default(), Both::default());
        Ok(Some(Self {
            plugin,
            instance,
            who,
            id,
            holds_head: false,
            is_left_out,
            room,
            roomed: 0,
            lengths,
            takes,
            looks,
            rests,
        }))
    }

    /// The instance, as long as it works; none if it has stopped and may be left out.
    ///
    /// # Errors
    /// [`Refusal::PluginFailed`] if it may not.
    fn working(&mut self) -> Result<Option<Arc<Instance>>, Refusal> {
        if let Some(instance) = self.instance.clone().filter(|instance| !instance.has_failed()) {
            return Ok(Some(instance));
        }
        self.gives_up();
        if self.plugin.is_optional { Ok(None) } else { Err(Refusal::PluginFailed) }
    }

    fn gives_up(&mut self) {
        self.holds_head = false;
        self.is_left_out = self.plugin.is_optional;
        let Some(instance) = self.instance.take() else { return };
        if let Some(work) = instance.vm().work() {
            for way in [Way::Request, Way::Response] {
                self.rests[way] = work.bodies[way].split().freeze();
            }
        }
        self.plugin.gives_back(instance, &self.who);
    }

    /// A piece of a body goes on without it, behind what it has held.
    fn passes_by(&mut self, way: Way, piece: &mut Bytes) {
        let rest = std::mem::take(&mut self.rests[way]);
        if !rest.is_empty() {
            *piece = [rest, std::mem::take(piece)].concat().into();
        }
    }

    /// The plugin has stopped: the request is refused, or goes on without it.
    fn fails(&mut self, failure: &Failure) -> Result<(), Refusal> {
        if let Some(instance) = &self.instance {
            instance.fails(failure);
        }
        self.gives_up();
        if self.plugin.is_optional { Ok(()) } else { Err(Refusal::PluginFailed) }
    }

    /// What the plugin has said of a message.
    fn next(vm: &mut Vm, way: Way, goes: bool) -> Result<Next, Refusal> {
        let work = vm.work().ok_or(Refusal::Internal)?;
        let is_resumed = std::mem::take(&mut work.is_resumed[way]);
        if let Some(answer) = work.answered.take() {
            return Ok(Next::Answered(answer));
        }
        if work.is_closed.any(|is_closed| *is_closed) {
            return Err(Refusal::FilterFailed);
        }
        Ok(if goes || is_resumed { Next::Goes } else { Next::Paused })
    }

    /// Waits until the plugin lets a message go on, for as long as it may.
    fn waits(&self, instance: Arc<Instance>, way: Way, of: Part) -> Flow {
        let (wait, is_optional) = (self.plugin.shared.limits.wait, self.plugin.is_optional);
        Flow::Waits(Box::pin(async move {
            let waited = match time::timeout(wait, until_resumed(&instance, way)).await {
                Ok(waited) => waited,
                Err(_) => {
                    instance.fails(&Failure::new(Cause::Wait, "it has left a request waiting for too long"));
                    Err(Refusal::PluginFailed)
                }
            };
            let answer = match waited {
                Err(Refusal::PluginFailed) if is_optional => None,
                waited => waited?,
            };
            Ok(of.take(&mut instance.vm(), way, answer))
        }))
    }

    /// Whether a body that may not change its length has not.
    fn counts(&mut self, way: Way, bytes: usize, is_last: bool) -> Result<(), Failure> {
        let Some((declared, passed)) = &mut self.lengths[way] else { return Ok(()) };
        *passed = passed.saturating_add(bytes as u64);
        if *passed > *declared || (is_last && *passed != *declared) {
            let why = "it has changed the length of a body without taking `content-length` out of its head";
            return Err(Failure::new(Cause::Length, why));
        }
        Ok(())
    }

    /// Whether so much may be held, beside what all others of the plugin hold.
    fn has_room_for(&mut self, length: usize) -> bool {
        let more = length.saturating_sub(self.roomed);
        self.roomed = self.roomed.max(length);
        more == 0 || self.room.as_mut().is_none_or(|room| room.grow(more))
    }

    /// Notes how the body that follows the head is to be treated which the plugin has.
    fn expects(&mut self, vm: &mut Vm, way: Way, has_body: bool) {
        let looks = match way {
            Way::Request => vm.exports.request_body.is_some(),
            Way::Response => vm.exports.response_body.is_some(),
        };
        let Some(work) = vm.work() else { return };
        let declared = work.heads[way].as_ref().and_then(|head| length(head.all()));
        let takes = has_body && work.has_no_length[way];
        self.looks[way] = has_body && looks;
        self.takes[way] = takes;
        self.lengths[way] = declared.filter(|_| !takes).map(|length| (length, 0));
    }

    /// Shows the plugin a head. It is the plugin's until it lets the head go, or holds it for its body.
    fn head(
        &mut self,
        instance: Arc<Instance>,
        way: Way,
        (headers, has_body): (&mut dyn Borrowed, bool),
    ) -> Result<Flow, Refusal> {
        let mut vm = instance.vm();
        let head = headers.lend()?;
        let work = vm.work().ok_or(Refusal::Internal)?;
        let count = head.all().len().saturating_add(way.pseudo_headers());
        work.heads[way] = Some(head);
        let shown = vm.on_headers(way, (self.id, count), !has_body);
        let next = shown.map(|goes| Self::next(&mut vm, way, goes));
        self.expects(&mut vm, way, has_body);
        let waits_for_body = way == Way::Response && has_body || self.looks[way];
        if matches!(next, Ok(Ok(Next::Paused))) && (vm.is_waiting(self.id) || !waits_for_body) {
            drop(vm);
            return Ok(self.waits(instance, way, Part::Head));
        }
        if let Some(head) = Part::Head.take(&mut vm, way, None).head {
            headers.take_back(head);
        }
        drop(vm);
        match next {
            Err(failure) => self.fails(&failure).map(|()| Flow::Goes),
            Ok(Err(refusal)) => Err(refusal),
            Ok(Ok(Next::Goes)) => Ok(Flow::Goes),
            Ok(Ok(Next::Answered(answer))) => Ok(Flow::Answered(answer)),
            Ok(Ok(Next::Paused)) if way == Way::Request => {
                // The length is set by what the plugin makes of the whole body.
                self.lengths[way] = None;
                self.holds_head = true;
                Ok(Flow::Goes)
            }
            Ok(Ok(Next::Paused)) => {
                let why = "it holds a response's head for its body, and here the head goes first";
                self.fails(&Failure::new(Cause::Wait, why)).map(|()| Flow::Goes)
            }
        }
    }

    /// Shows the plugin a piece of a body, and leaves what goes on.
    fn body(&mut self, instance: &Arc<Instance>, way: Way, piece: &mut Bytes, is_last: bool) -> Result<Flow, Refusal> {
        let max = self.plugin.shared.limits.body;
        let mut vm = instance.vm();
        let body = &mut vm.work().ok_or(Refusal::Internal)?.bodies[way];
        body.extend_from_slice(&std::mem::take(piece));
        let length = body.len();
        let has_room = length <= max && self.has_room_for(length);
        if !has_room {
            return Err(if way == Way::Request { Refusal::BodyTooLargeToFilter } else { Refusal::ResponseTooLarge });
        }
        let goes = match vm.on_body(way, self.id, length, is_last) {
            Ok(goes) => goes,
            Err(failure) => {
                drop(vm);
                self.fails(&failure)?;
                self.passes_by(way, piece);
                return Ok(Flow::Goes);
            }
        };
        match Self::next(&mut vm, way, goes)? {
            Next::Answered(answer) => Ok(Flow::Answered(answer)),
            Next::Paused if !is_last => Ok(Flow::Goes),
            Next::Paused => Ok(self.waits(Arc::clone(instance), way, Part::Body)),
            Next::Goes => {
                self.holds_head = self.holds_head && way == Way::Response;
                *piece = vm.work().map(|work| work.bodies[way].split().freeze()).unwrap_or_default();
                Ok(Flow::Goes)
            }
        }
    }
}

/// Waits until the plugin lets a message go on; its own answer, if it has one.
async fn until_resumed(instance: &Instance, way: Way) -> Result<Option<Answer>, Refusal> {
    loop {
        instance.woken.notified().await;
        if instance.has_failed() {
            return Err(Refusal::PluginFailed);
        }
        match Stream::next(&mut instance.vm(), way, false)? {
            Next::Paused => {}
            Next::Goes => return Ok(None),
            Next::Answered(answer) => return Ok(Some(answer)),
        }
    }
}

/// What a plugin has taken of a message.
#[derive(Debug, Clone, Copy)]
enum Part {
    Head,
    Body,
}

impl Part {
    fn take(self, vm: &mut Vm, way: Way, answer: Option<Answer>) -> Waited {
        let looks_back = vm.exports.looks_back();
        let Some(work) = vm.work() else { return Waited { head: None, body: None, answer } };
        let head = work.heads[way].take();
        if let Some(head) = head.as_ref().filter(|_| looks_back && way == Way::Request) {
            work.asked = Some(head.all().clone());
        }
        let body = match self {
            Self::Head => None,
            Self::Body => Some(work.bodies[way].split().freeze()),
        };
        Waited { head, body, answer }
    }
}

impl Running for Stream {
    fn head_goes(&mut self, is_request: bool) {
        let way = if is_request { Way::Request } else { Way::Response };
        let Some(instance) = &self.instance else { return };
        let is_free = instance.vm().work().is_some_and(|work| work.has_no_length[way]);
        if is_free && self.looks[way] {
            self.takes[way] = true;
            self.lengths[way] = None;
        }
    }

    fn body_goes(&mut self, is_request: bool, bytes: usize, is_last: bool) -> Result<(), Refusal> {
        let way = if is_request { Way::Request } else { Way::Response };
        self.counts(way, bytes, is_last).map_err(|failure| {
            self.fails(&failure).ok();
            Refusal::PluginFailed
        })
    }

    fn request(&mut self, _: &About<'_>, request: &mut Request<'_>) -> Result<Flow, Refusal> {
        let Some(instance) = self.working()? else { return Ok(Flow::Goes) };
        if !instance.vm().exports.looks_at_request() {
            return Ok(Flow::Goes);
        }
        self.head(instance, Way::Request, (request.headers, request.has_body))
    }

    fn takes_request_body(&self) -> bool {
        self.takes[Way::Request]
    }

    fn looks_at_request_body(&self) -> bool {
        self.looks[Way::Request]
    }

    fn holds_head(&self) -> bool {
        self.holds_head
    }

    fn request_body(
        &mut self,
        _: &About<'_>,
        head: Option<&mut dyn Borrowed>,
        piece: &mut Bytes,
        is_last: bool,
    ) -> Result<Flow, Refusal> {
        let Some(instance) = self.working()? else {
            self.passes_by(Way::Request, piece);
            return Ok(Flow::Goes);
        };
        let Some(head) = head.filter(|_| self.holds_head) else {
            return self.body(&instance, Way::Request, piece, is_last);
        };
        let lent = head.lend()?;
        if let Some(work) = instance.vm().work() {
            work.heads[Way::Request] = Some(lent);
        }
        let flow = self.body(&instance, Way::Request, piece, is_last);
        if !matches!(flow, Ok(Flow::Waits(_)))
            && let Some(lent) = Part::Head.take(&mut instance.vm(), Way::Request, None).head
        {
            head.take_back(lent);
        }
        self.holds_head = false;
        flow
    }

    fn response(&mut self, _: &About<'_>, response: &mut Response<'_>) -> Result<Flow, Refusal> {
        let Some(instance) = self.working()? else { return Ok(Flow::Goes) };
        {
            let mut vm = instance.vm();
            let looks = vm.exports.looks_at_response();
            let work = vm.work().ok_or(Refusal::Internal)?;
            work.status = Some(response.status);
            if !looks {
                return Ok(Flow::Goes);
            }
            work.asked.get_or_insert_with(|| response.asked.clone());
        }
        self.head(instance, Way::Response, (response.headers, response.has_body))
    }

    fn takes_response_body(&self) -> bool {
        self.takes[Way::Response]
    }

    fn looks_at_response_body(&self) -> bool {
        self.looks[Way::Response]
    }

    fn response_body(&mut self, _: &About<'_>, piece: &mut Bytes, is_last: bool) -> Result<(), Refusal> {
        let Some(instance) = self.working()? else {
            self.passes_by(Way::Response, piece);
            return Ok(());
        };
        match self.body(&instance, Way::Response, piece, is_last)? {
            Flow::Goes => Ok(()),
            // The head has gone, so that there is nothing left to answer with.
            Flow::Answered(_) => Err(Refusal::FilterFailed),
            Flow::Waits(_) => {
                let why = "it waits at the end of a response's body, and here that goes on at once";
                self.fails(&Failure::new(Cause::Wait, why))?;
                self.passes_by(Way::Response, piece);
                Ok(())
            }
        }
    }

    fn response_trailers(&mut self, _: &About<'_>, trailers: &mut HeaderMap) -> Result<Bytes, Refusal> {
        let Some(instance) = self.working()? else {
            return Ok(std::mem::take(&mut self.rests[Way::Response]));
        };
        let mut vm = instance.vm();
        let count = trailers.len();
        vm.work().ok_or(Refusal::Internal)?.trailers = Some(std::mem::take(trailers));
        let shown = vm.on_trailers(self.id, count);
        let work = vm.work().ok_or(Refusal::Internal)?;
        *trailers = work.trailers.take().unwrap_or_default();
        let next = shown.map(|goes| Self::next(&mut vm, Way::Response, goes));
        let rest = vm.work().map(|work| work.bodies[Way::Response].split().freeze()).unwrap_or_default();
        drop(vm);
        match next {
            Ok(Ok(Next::Goes)) => Ok(rest),
            // There is nothing behind trailers that could let them go on.
            Ok(Ok(Next::Paused | Next::Answered(_))) => Err(Refusal::FilterFailed),
            Ok(Err(refusal)) => Err(refusal),
            Err(failure) => self.fails(&failure).map(|()| rest),
        }
    }

    fn is_left_out(&self) -> bool {
        self.is_left_out
    }

    fn ended(&mut self, status: Option<StatusCode>) {
        let Ok(Some(instance)) = self.working() else { return };
        self.instance = None;
        let (plugin, who, id) = (Arc::clone(&self.plugin), self.who.take(), self.id);
        let mut vm = instance.vm();
        if let Some(work) = vm.work() {
            work.status = status.or(work.status);
        }
        let done = vm.on_done(id);
        let is_put_off = matches!(done, Ok(false)) && vm.is_waiting(id);
        let ended = done.and_then(|_| if is_put_off { Ok(()) } else { vm.forgets(id) });
        drop(vm);
        if let Err(failure) = ended {
            instance.fails(&failure);
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if is_put_off && !instance.has_failed() => {
                runtime.spawn(async move { ends_later(&plugin, instance, (who, id)).await });
            }
            _ => plugin.gives_back(instance, &who),
        }
    }
}

/// A plugin that is not done with its request yet has as much time for it as for a pause.
async fn ends_later(plugin: &Plugin, instance: Arc<Instance>, (who, id): (Option<WorkloadName>, u32)) {
    let done = async {
        while !instance.has_failed() && !instance.vm().store.data().is_done {
            instance.woken.notified().await;
        }
    };
    // Whoever is not done by then is not asked any more.
    time::timeout(plugin.shared.limits.wait, done).await.ok();
    let forgotten = instance.vm().forgets(id);
    if let Err(failure) = forgotten {
        instance.fails(&failure);
    }
    plugin.gives_back(instance, &who);
}

impl Drop for Stream {
    /// Whoever is cut off ends, too.
    fn drop(&mut self) {
        self.ended(None);
    }
}
