//! One request's way through a plugin.

use super::abi::Way;
use super::instance::{Cause, Failure, Instance, Vm};
use super::pool::Plugin;
use crate::filter::{About, Answer, Borrowed, Flow, Request, Response, Running, Waited};
use crate::refusal::Refusal;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use tokio::time;

/// One request's way through a plugin.
#[derive(Debug)]
pub(super) struct Stream {
    plugin: Arc<Plugin>,
    /// None once it is not needed any more, or has stopped.
    instance: Option<Arc<Instance>>,
    id: u32,
    holds_head: bool,
    /// How long a body is that may not change its length, and how much of it has gone on.
    lengths: [Option<(u64, u64)>; 2],
    takes: [bool; 2],
    looks: [bool; 2],
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
        let taken = plugin.takes_one().and_then(|instance| {
            let id = instance.vm().takes(about);
            id.map(|id| (Arc::clone(&instance), id)).map_err(|failure| {
                instance.fails(&failure);
                plugin.gives_back(instance);
                Refusal::PluginFailed
            })
        });
        let (instance, id) = match taken {
            Ok(taken) => taken,
            Err(_) if plugin.is_optional => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        let (plugin, instance) = (Arc::clone(plugin), Some(instance));
        Ok(Some(Self {
            plugin,
            instance,
            id,
            holds_head: false,
            lengths: [None; 2],
            takes: [false; 2],
            looks: [false; 2],
        }))
    }

    /// The instance, as long as it works.
    fn working(&mut self) -> Option<Arc<Instance>> {
        let instance = self.instance.clone()?;
        if !instance.has_failed() {
            return Some(instance);
        }
        self.gives_up();
        None
    }

    fn gives_up(&mut self) {
        (self.holds_head, self.takes, self.looks) = (false, [false; 2], [false; 2]);
        if let Some(instance) = self.instance.take() {
            self.plugin.gives_back(instance);
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
        let is_resumed = std::mem::take(&mut work.is_resumed[way as usize]);
        if let Some(answer) = work.answered.take() {
            return Ok(Next::Answered(answer));
        }
        if work.is_closed.contains(&true) {
            return Err(Refusal::FilterFailed);
        }
        Ok(if goes || is_resumed { Next::Goes } else { Next::Paused })
    }

    /// Waits until the plugin lets a message go on, for as long as it may.
    fn waits(&self, instance: Arc<Instance>, way: Way, of: Part) -> Flow {
        let (wait, is_optional) = (self.plugin.shared.limits.wait, self.plugin.is_optional);
        Flow::Waits(Box::pin(async move {
            let waiting = async {
                loop {
                    instance.woken.notified().await;
                    if instance.has_failed() {
                        return Err(Refusal::PluginFailed);
                    }
                    match Self::next(&mut instance.vm(), way, false)? {
                        Next::Paused => {}
                        Next::Goes => return Ok(None),
                        Next::Answered(answer) => return Ok(Some(answer)),
                    }
                }
            };
            let waited = match time::timeout(wait, waiting).await {
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
        let Some((declared, passed)) = &mut self.lengths[way as usize] else { return Ok(()) };
        *passed = passed.saturating_add(bytes as u64);
        if *passed > *declared || (is_last && *passed != *declared) {
            let why = "it has changed the length of a body without taking `content-length` out of its head";
            return Err(Failure::new(Cause::Length, why));
        }
        Ok(())
    }

    /// Notes how the body that follows the head is to be treated which the plugin has.
    fn expects(&mut self, vm: &mut Vm, way: Way, has_body: bool) {
        let looks = match way {
            Way::Request => vm.exports.request_body.is_some(),
            Way::Response => vm.exports.response_body.is_some(),
        };
        let Some(work) = vm.work() else { return };
        let head = if way == Way::Request { work.request.as_ref() } else { work.response.as_ref() };
        let declared = head.and_then(|head| head.all().get(CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok());
        let takes = has_body && work.has_no_length[way as usize];
        self.looks[way as usize] = has_body && looks;
        self.takes[way as usize] = takes;
        self.lengths[way as usize] = declared.filter(|_| !takes).map(|length| (length, 0));
    }

    /// Shows the plugin a piece of a body, and leaves what goes on.
    fn body(&mut self, instance: &Arc<Instance>, way: Way, piece: &mut Bytes, is_last: bool) -> Result<Flow, Refusal> {
        let max = self.plugin.shared.limits.body;
        let mut vm = instance.vm();
        let body = &mut vm.work().ok_or(Refusal::Internal)?.bodies[way as usize];
        body.extend_from_slice(&std::mem::take(piece));
        let length = body.len();
        if length > max {
            return Err(if way == Way::Request { Refusal::BodyTooLargeToFilter } else { Refusal::ResponseTooLarge });
        }
        let goes = match vm.on_body(way == Way::Request, self.id, length, is_last) {
            Ok(goes) => goes,
            Err(failure) => {
                let rest = vm.work().map(|work| work.bodies[way as usize].split().freeze());
                drop(vm);
                self.fails(&failure)?;
                *piece = rest.unwrap_or_default();
                return Ok(Flow::Goes);
            }
        };
        match Self::next(&mut vm, way, goes)? {
            Next::Answered(answer) => Ok(Flow::Answered(answer)),
            Next::Paused if !is_last => Ok(Flow::Goes),
            Next::Paused => Ok(self.waits(Arc::clone(instance), way, Part::Body)),
            Next::Goes => {
                self.holds_head = self.holds_head && way == Way::Response;
                *piece = vm.work().map(|work| work.bodies[way as usize].split().freeze()).unwrap_or_default();
                drop(vm);
                match self.counts(way, piece.len(), is_last) {
                    Ok(()) => Ok(Flow::Goes),
                    Err(failure) => {
                        self.fails(&failure)?;
                        Err(Refusal::PluginFailed)
                    }
                }
            }
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
        let head = match way {
            Way::Request => work.request.take(),
            Way::Response => work.response.take(),
        };
        if let Some(head) = head.as_ref().filter(|_| looks_back && way == Way::Request) {
            work.asked = Some(head.all().clone());
        }
        let body = match self {
            Self::Head => None,
            Self::Body => Some(work.bodies[way as usize].split().freeze()),
        };
        Waited { head, body, answer }
    }
}

impl Running for Stream {
    fn request(&mut self, _: &About<'_>, request: &mut Request<'_>) -> Result<Flow, Refusal> {
        let Some(instance) = self.working() else { return Ok(Flow::Goes) };
        let mut vm = instance.vm();
        let looks = vm.exports.request_headers.is_some();
        let head = request.headers.lend()?;
        let count = head.all().len().saturating_add(4);
        vm.work().ok_or(Refusal::Internal)?.request = Some(head);
        let shown = if looks { vm.on_headers(true, (self.id, count), !request.has_body) } else { Ok(true) };
        let next = shown.map(|goes| Self::next(&mut vm, Way::Request, goes));
        self.expects(&mut vm, Way::Request, request.has_body);
        if matches!(next, Ok(Ok(Next::Paused))) && (vm.is_waiting() || !self.looks[Way::Request as usize]) {
            drop(vm);
            return Ok(self.waits(instance, Way::Request, Part::Head));
        }
        if let Some(head) = Part::Head.take(&mut vm, Way::Request, None).head {
            request.headers.take_back(head);
        }
        drop(vm);
        match next {
            Err(failure) => self.fails(&failure).map(|()| Flow::Goes),
            Ok(Err(refusal)) => Err(refusal),
            Ok(Ok(Next::Goes)) => Ok(Flow::Goes),
            Ok(Ok(Next::Answered(answer))) => Ok(Flow::Answered(answer)),
            Ok(Ok(Next::Paused)) => {
                // The length is set by what the plugin makes of the whole body.
                self.lengths[Way::Request as usize] = None;
                self.holds_head = true;
                Ok(Flow::Goes)
            }
        }
    }

    fn takes_request_body(&self) -> bool {
        self.takes[Way::Request as usize]
    }

    fn looks_at_request_body(&self) -> bool {
        self.looks[Way::Request as usize]
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
        let Some(instance) = self.working() else { return Ok(Flow::Goes) };
        let Some(head) = head.filter(|_| self.holds_head) else {
            return self.body(&instance, Way::Request, piece, is_last);
        };
        let lent = head.lend()?;
        if let Some(work) = instance.vm().work() {
            work.request = Some(lent);
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
        let Some(instance) = self.working() else { return Ok(Flow::Goes) };
        let mut vm = instance.vm();
        let work = vm.work().ok_or(Refusal::Internal)?;
        work.status = Some(response.status);
        if work.asked.is_none() {
            work.asked = Some(response.asked.clone());
        }
        let head = response.headers.lend()?;
        let count = head.all().len().saturating_add(1);
        work.response = Some(head);
        let shown = vm.on_headers(false, (self.id, count), !response.has_body);
        let next = shown.map(|goes| Self::next(&mut vm, Way::Response, goes));
        self.expects(&mut vm, Way::Response, response.has_body);
        if matches!(next, Ok(Ok(Next::Paused))) && (vm.is_waiting() || !response.has_body) {
            drop(vm);
            return Ok(self.waits(instance, Way::Response, Part::Head));
        }
        if let Some(head) = Part::Head.take(&mut vm, Way::Response, None).head {
            response.headers.take_back(head);
        }
        drop(vm);
        match next {
            Err(failure) => self.fails(&failure).map(|()| Flow::Goes),
            Ok(Err(refusal)) => Err(refusal),
            Ok(Ok(Next::Goes)) => Ok(Flow::Goes),
            Ok(Ok(Next::Answered(answer))) => Ok(Flow::Answered(answer)),
            Ok(Ok(Next::Paused)) => {
                let why = "it holds a response's head for its body, and here the head goes first";
                self.fails(&Failure::new(Cause::Wait, why)).map(|()| Flow::Goes)
            }
        }
    }

    fn takes_response_body(&self) -> bool {
        self.takes[Way::Response as usize]
    }

    fn looks_at_response_body(&self) -> bool {
        self.looks[Way::Response as usize]
    }

    fn response_body(&mut self, _: &About<'_>, piece: &mut Bytes, is_last: bool) -> Result<(), Refusal> {
        let Some(instance) = self.working() else { return Ok(()) };
        match self.body(&instance, Way::Response, piece, is_last)? {
            Flow::Goes => Ok(()),
            // The head has gone, so that there is nothing left to answer with.
            Flow::Answered(_) => Err(Refusal::FilterFailed),
            Flow::Waits(_) => {
                let why = "it waits at the end of a response's body, and here that goes on at once";
                self.fails(&Failure::new(Cause::Wait, why))?;
                if let Some(work) = instance.vm().work() {
                    *piece = work.bodies[Way::Response as usize].split().freeze();
                }
                Ok(())
            }
        }
    }

    fn response_trailers(&mut self, _: &About<'_>, trailers: &mut HeaderMap) -> Result<Bytes, Refusal> {
        let Some(instance) = self.working() else { return Ok(Bytes::new()) };
        let mut vm = instance.vm();
        let count = trailers.len();
        vm.work().ok_or(Refusal::Internal)?.trailers = Some(std::mem::take(trailers));
        let shown = vm.on_trailers(self.id, count);
        let work = vm.work().ok_or(Refusal::Internal)?;
        *trailers = work.trailers.take().unwrap_or_default();
        let rest = work.bodies[Way::Response as usize].split().freeze();
        drop(vm);
        match shown {
            Ok(()) => Ok(rest),
            Err(failure) => self.fails(&failure).map(|()| rest),
        }
    }

    fn ended(&mut self, status: Option<StatusCode>) {
        let Some(instance) = self.working() else { return };
        self.instance = None;
        let (plugin, id) = (Arc::clone(&self.plugin), self.id);
        let mut vm = instance.vm();
        if let Some(work) = vm.work() {
            work.status = status.or(work.status);
        }
        let done = vm.on_done(id);
        let is_put_off = matches!(done, Ok(false)) && vm.is_waiting();
        let ended = done.and_then(|_| if is_put_off { Ok(()) } else { vm.forgets(id) });
        drop(vm);
        if let Err(failure) = ended {
            instance.fails(&failure);
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if is_put_off && !instance.has_failed() => {
                runtime.spawn(async move { ends_later(&plugin, instance, id).await });
            }
            _ => plugin.gives_back(instance),
        }
    }
}

/// A plugin that is not done with its request yet has as much time for it as for a pause.
async fn ends_later(plugin: &Plugin, instance: Arc<Instance>, id: u32) {
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
    plugin.gives_back(instance);
}

impl Drop for Stream {
    /// Whoever is cut off ends, too.
    fn drop(&mut self) {
        self.ended(None);
    }
}
