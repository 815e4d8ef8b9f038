//! One instance of a plugin: its memory, its functions, and the calls into it, each within its limits.

use super::abi::{Both, Way};
use super::engine;
use super::pool::Plugin;
use super::shared::Shared;
use super::work::{Delivered, Host, ROOT, Work};
use crate::filter::About;
use crate::upstream::Reply;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tokio::sync::Notify;
use wasmtime::{
    AsContextMut, InstancePre, Memory, Store, StoreLimitsBuilder, Trap, TypedFunc, WasmParams, WasmResults,
};

/// A start as a whole may take so many times what a call may.
const START_FACTOR: u32 = 10;
/// The most entries of a table, which holds functions.
const TABLE_MAX: usize = 100_000;

/// One instance of a plugin. It works on one request at a time, so that its end is nobody else's.
pub(super) struct Instance {
    vm: Mutex<Vm>,
    /// Something has come for it.
    pub(super) woken: Notify,
    failed: AtomicBool,
    plugin: Weak<Plugin>,
}

/// Its memory and its functions.
pub(super) struct Vm {
    pub(super) store: Store<Host>,
    pub(super) exports: Exports,
    last_context: u32,
    pub(super) ticked: Instant,
}

/// Why a plugin has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Time,
    Fuel,
    Crash,
    Wait,
    Length,
}

impl Cause {
    /// For metrics.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Fuel => "fuel",
            Self::Crash => "crash",
            Self::Wait => "wait",
            Self::Length => "length",
        }
    }
}

/// That a plugin has stopped, and what is known of it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self { cause, text: text.into() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
    fn of(error: wasmtime::Error) -> Self {
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Self::new(Cause::Fuel, "it has used up its `fuel`"),
            Some(Trap::Interrupt) => Self::new(Cause::Time, "it has used up its `time`"),
            Some(trap) => Self::new(Cause::Crash, format!("it has crashed: {trap}")),
            None => Self::new(Cause::Crash, format!("it has crashed: {error:#}")),
        }
    }
}

/// The functions that a plugin exports to do something with requests.
pub(super) const OF_REQUESTS: &[&str] = &[
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_done",
    "proxy_on_log",
];

type Numbers3 = (u32, u32, u32);
type Numbers5 = (u32, u32, u32, u32, u32);

/// The functions of a plugin that there are.
#[derive(Default)]
pub(super) struct Exports {
    context_create: Option<TypedFunc<(u32, u32), ()>>,
    vm_start: Option<TypedFunc<(u32, u32), u32>>,
    configure: Option<TypedFunc<(u32, u32), u32>>,
    pub(super) request_headers: Option<OnHeaders>,
    pub(super) request_body: Option<TypedFunc<Numbers3, u32>>,
    pub(super) response_headers: Option<OnHeaders>,
    pub(super) response_body: Option<TypedFunc<Numbers3, u32>>,
    pub(super) response_trailers: Option<TypedFunc<(u32, u32), u32>>,
    done: Option<TypedFunc<u32, u32>>,
    log: Option<TypedFunc<u32, ()>>,
    delete: Option<TypedFunc<u32, ()>>,
    tick: Option<TypedFunc<u32, ()>>,
    call_answered: Option<TypedFunc<Numbers5, ()>>,
}

/// In the first version a plugin was not told whether a head is all that there is.
pub(super) enum OnHeaders {
    Now(TypedFunc<Numbers3, u32>),
    Once(TypedFunc<(u32, u32), u32>),
}

impl Exports {
    fn find(instance: &wasmtime::Instance, store: &mut Store<Host>) -> wasmtime::Result<Self> {
        let mut find = Finder { instance, store };
        let is_first = find.has("proxy_abi_version_0_1_0");
        Ok(Self {
            context_create: find.function("proxy_on_context_create")?,
            vm_start: find.function("proxy_on_vm_start")?,
            configure: find.function("proxy_on_configure")?,
            request_headers: find.on_headers("proxy_on_request_headers", is_first)?,
            request_body: find.function("proxy_on_request_body")?,
            response_headers: find.on_headers("proxy_on_response_headers", is_first)?,
            response_body: find.function("proxy_on_response_body")?,
            response_trailers: find.function("proxy_on_response_trailers")?,
            done: find.function("proxy_on_done")?,
            log: find.function("proxy_on_log")?,
            delete: find.function("proxy_on_delete")?,
            tick: find.function("proxy_on_tick")?,
            call_answered: find.function("proxy_on_http_call_response")?,
        })
    }

    /// Whether it looks at a request while it comes.
    pub(super) const fn looks_at_request(&self) -> bool {
        self.request_headers.is_some() || self.request_body.is_some()
    }

    /// Whether it looks at a response.
    pub(super) const fn looks_at_response(&self) -> bool {
        self.response_headers.is_some() || self.response_body.is_some()
    }

    /// Whether it looks at a request once its head has gone on.
    pub(super) const fn looks_back(&self) -> bool {
        self.request_body.is_some() || self.response_headers.is_some() || self.log.is_some()
    }
}

struct Finder<'a> {
    instance: &'a wasmtime::Instance,
    store: &'a mut Store<Host>,
}

impl Finder<'_> {
    fn has(&mut self, name: &str) -> bool {
        self.instance.get_func(&mut *self.store, name).is_some()
    }

    /// A function; none if there is none.
    fn function<P: WasmParams, R: WasmResults>(&mut self, name: &str) -> wasmtime::Result<Option<TypedFunc<P, R>>> {
        if !self.has(name) {
            return Ok(None);
        }
        self.instance.get_typed_func(&mut *self.store, name).map(Some)
    }

    fn on_headers(&mut self, name: &str, is_first: bool) -> wasmtime::Result<Option<OnHeaders>> {
        if is_first {
            return Ok(self.function(name)?.map(OnHeaders::Once));
        }
        Ok(self.function(name)?.map(OnHeaders::Now))
    }
}

/// Calls a function of the plugin within its limits.
fn run<P: WasmParams, R: WasmResults>(
    store: &mut Store<Host>,
    function: &TypedFunc<P, R>,
    params: P,
) -> Result<R, Failure> {
    let limits = store.data().shared.limits;
    store.set_fuel(limits.fuel).map_err(Failure::of)?;
    store.set_epoch_deadline(engine::beats(limits.time));
    run_on(store, function, params)
}

/// The same within what is left of them.
fn run_on<P: WasmParams, R: WasmResults>(
    store: &mut Store<Host>,
    function: &TypedFunc<P, R>,
    params: P,
) -> Result<R, Failure> {
    function.call(store.as_context_mut(), params).map_err(Failure::of)
}

impl Instance {
    /// Makes an instance and configures it.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) fn start(
        pre: &InstancePre<Host>,
        shared: &Arc<Shared>,
        plugin: Weak<Plugin>,
    ) -> Result<Arc<Self>, Failure> {
        let limits = shared.limits;
        let limiter = StoreLimitsBuilder::new().memory_size(limits.memory).table_elements(TABLE_MAX).memories(1);
        let host = Host {
            limiter: limiter.instances(1).build(),
            shared: Arc::clone(shared),
            mailbox: Weak::new(),
            memory: None,
            allocate: None,
            context: ROOT,
            work: None,
            calls: HashMap::new(),
            last_call: 0,
            answer: None,
            tick: None,
            is_done: false,
        };
        let mut store = Store::new(pre.module().engine(), host);
        store.limiter(|host| &mut host.limiter);
        store.epoch_deadline_trap();
        // A module may have a start function of its own.
        store.set_fuel(limits.fuel.saturating_mul(START_FACTOR.into())).map_err(Failure::of)?;
        store.set_epoch_deadline(engine::beats(limits.time.saturating_mul(START_FACTOR)));
        let found = pre.instantiate(&mut store).map_err(Failure::of)?;
        let exports = Exports::find(&found, &mut store).map_err(Failure::of)?;
        let (memory, allocate) = memory_of(&found, &mut store)?;
        store.data_mut().memory = Some(memory);
        store.data_mut().allocate = allocate;
        let vm = Vm { store, exports, last_context: ROOT, ticked: Instant::now() };
        let instance =
            Arc::new(Self { vm: Mutex::new(vm), woken: Notify::new(), failed: AtomicBool::new(false), plugin });
        let mut vm = instance.vm.lock();
        vm.store.data_mut().mailbox = Arc::downgrade(&instance);
        vm.begin(&found)?;
        drop(vm);
        Ok(instance)
    }

    pub(super) fn vm(&self) -> MutexGuard<'_, Vm> {
        self.vm.lock()
    }

    /// The same, unless somebody works with it.
    pub(super) fn vm_if_free(&self) -> Option<MutexGuard<'_, Vm>> {
        self.vm.try_lock()
    }

    /// Whether it has stopped, and works on nothing any more.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// It has stopped. Nobody who calls this works with its memory.
    pub(super) fn fails(&self, failure: &Failure) {
        if !self.failed.swap(true, Ordering::AcqRel)
            && let Some(plugin) = self.plugin.upgrade()
        {
            let who = self.vm.lock().work().and_then(|work| work.known.who());
            plugin.failed(failure, who);
        }
        self.woken.notify_one();
    }
}

/// The memory and what sets a part of it aside.
fn memory_of(
    instance: &wasmtime::Instance,
    store: &mut Store<Host>,
) -> Result<(Memory, Option<TypedFunc<u32, u32>>), Failure> {
    let none = || Failure::new(Cause::Crash, "it exports no `memory`");
    let memory = instance.get_memory(&mut *store, "memory").ok_or_else(none)?;
    let names = ["proxy_on_memory_allocate", "malloc"];
    let allocate = names.into_iter().find_map(|name| instance.get_typed_func::<u32, u32>(&mut *store, name).ok());
    Ok((memory, allocate))
}

impl Vm {
    /// Starts the plugin in this instance: its own beginning, its context, and its configuration.
    fn begin(&mut self, instance: &wasmtime::Instance) -> Result<(), Failure> {
        for name in ["_initialize", "_start"] {
            if let Ok(start) = instance.get_typed_func::<(), ()>(&mut self.store, name) {
                run_on(&mut self.store, &start, ())?;
                break;
            }
        }
        if let Some(create) = &self.exports.context_create {
            run_on(&mut self.store, create, (ROOT, 0))?;
        }
        let shared = Arc::clone(&self.store.data().shared);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let refused = |what: &str| Failure::new(Cause::Crash, format!("it refuses its {what}"));
        if let Some(start) = &self.exports.vm_start
            && run_on(&mut self.store, start, (ROOT, length(&shared.vm_configuration)))? == 0
        {
            return Err(refused("`vm_config`"));
        }
        if let Some(configure) = &self.exports.configure
            && run_on(&mut self.store, configure, (ROOT, length(&shared.configuration)))? == 0
        {
            return Err(refused("`config`"));
        }
        Ok(())
    }

    /// Takes a request; its context.
    pub(super) fn takes(&mut self, about: &About<'_>) -> Result<u32, Failure> {
        // Numbers begin anew before they could be those of the plugin itself.
        self.last_context = self.last_context.checked_add(1).unwrap_or(ROOT.saturating_add(1));
        let id = self.last_context;
        let host = self.store.data_mut();
        (host.work, host.context, host.is_done) = (Some(Work::new(id, about)), id, false);
        if let Some(create) = &self.exports.context_create {
            run(&mut self.store, create, (id, ROOT))?;
        }
        Ok(id)
    }

    pub(super) fn work(&mut self) -> Option<&mut Work> {
        self.store.data_mut().work.as_mut()
    }

    /// Whether a call of a request waits for its answer.
    pub(super) fn is_waiting(&self, id: u32) -> bool {
        self.store.data().calls.values().any(|call| call.context == id)
    }

    /// From here on that context's request is meant. What was said before does not count for what is shown now.
    fn means(&mut self, context: u32) {
        let host = self.store.data_mut();
        host.context = context;
        if let Some(work) = &mut host.work {
            work.is_resumed = Both::default();
        }
    }

    /// Shows the plugin a head; whether it may go on.
    pub(super) fn on_headers(&mut self, way: Way, (id, count): (u32, usize), is_all: bool) -> Result<bool, Failure> {
        self.means(id);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let function = match way {
            Way::Request => &self.exports.request_headers,
            Way::Response => &self.exports.response_headers,
        };
        let action = match function {
            None => 0,
            Some(OnHeaders::Now(function)) => run(&mut self.store, function, (id, count, is_all.into()))?,
            Some(OnHeaders::Once(function)) => run(&mut self.store, function, (id, count))?,
        };
        Ok(action == 0)
    }

    /// Shows the plugin a piece of a body, with what it holds of it already; whether it may go on.
    pub(super) fn on_body(&mut self, way: Way, id: u32, length: usize, is_last: bool) -> Result<bool, Failure> {
        self.means(id);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let function = match way {
            Way::Request => &self.exports.request_body,
            Way::Response => &self.exports.response_body,
        };
        let Some(function) = function else { return Ok(true) };
        Ok(run(&mut self.store, function, (id, length, is_last.into()))? == 0)
    }

    /// Shows the plugin trailers; whether they may go on.
    pub(super) fn on_trailers(&mut self, id: u32, count: usize) -> Result<bool, Failure> {
        self.means(id);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let Some(function) = &self.exports.response_trailers else { return Ok(true) };
        Ok(run(&mut self.store, function, (id, count))? == 0)
    }

    /// Tells the plugin that its request has ended; whether it is done with it.
    pub(super) fn on_done(&mut self, id: u32) -> Result<bool, Failure> {
        self.means(id);
        let Some(done) = &self.exports.done else { return Ok(true) };
        let is_done = run(&mut self.store, done, id)? != 0;
        Ok(is_done || self.store.data().is_done)
    }

    /// Lets the plugin log its request, and forget it.
    pub(super) fn forgets(&mut self, id: u32) -> Result<(), Failure> {
        self.means(id);
        for function in [&self.exports.log, &self.exports.delete].into_iter().flatten() {
            run(&mut self.store, function, id)?;
        }
        let host = self.store.data_mut();
        // Nobody is left to hear the answers.
        let gone = host.calls.extract_if(|_, call| call.context != ROOT);
        gone.for_each(|(_, call)| call.task.abort());
        (host.work, host.context) = (None, ROOT);
        Ok(())
    }

    /// Wakes the plugin, if it wants to be; whether it has been.
    pub(super) fn ticks(&mut self) -> Result<bool, Failure> {
        let is_due = self.store.data().tick.is_some_and(|period| self.ticked.elapsed() >= period);
        let Some(tick) = self.exports.tick.as_ref().filter(|_| is_due) else { return Ok(false) };
        self.ticked = Instant::now();
        let before = self.store.data().context;
        self.store.data_mut().context = ROOT;
        let ticked = run(&mut self.store, tick, ROOT);
        self.store.data_mut().context = before;
        ticked.map(|()| true)
    }

    /// Gives the plugin the answer to a call of its own, if it still waits for it.
    fn answers(&mut self, number: u32, reply: Option<Reply>) -> Result<(), Failure> {
        let host = self.store.data_mut();
        let Some(context) = host.calls.remove(&number).map(|call| call.context) else { return Ok(()) };
        let is_there = context == ROOT || host.work.as_ref().is_some_and(|work| work.id == context);
        let Some(answered) = self.exports.call_answered.as_ref().filter(|_| is_there) else { return Ok(()) };
        let size = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let headers = reply.as_ref().map_or(0, |reply| size(reply.headers.len().saturating_add(1)));
        let body = reply.as_ref().map_or(0, |reply| size(reply.body.len()));
        (host.answer, host.context) = (Some(Delivered(reply)), context);
        let answered = run(&mut self.store, answered, (context, number, headers, body, 0));
        self.store.data_mut().answer = None;
        answered
    }
}

/// Brings an answer to whom it is for, if he is still there.
pub(super) fn deliver(mailbox: &Weak<Instance>, number: u32, reply: Option<Reply>) {
    let Some(instance) = mailbox.upgrade().filter(|instance| !instance.has_failed()) else { return };
    let delivered = instance.vm().answers(number, reply);
    match delivered {
        Ok(()) => instance.woken.notify_one(),
        Err(failure) => instance.fails(&failure),
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instance")
    }
}
