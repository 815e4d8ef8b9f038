//! What a plugin can call: the functions of proxy-wasm that work here, what is answered for the rest, and a little WASI.

mod calls;
mod headers;
mod properties;
mod streams;
mod wasi;

pub(super) use properties::NAMES as PROPERTIES;
pub(super) use wasi::MODULE as WASI;

use super::abi::Status;
use super::work::Host;
use std::collections::BTreeSet;
use wasmtime::{Caller, Engine, ExternType, FuncType, IntoFunc, Linker, Module, Val, ValType};

/// Where the functions of proxy-wasm are.
const ENV: &str = "env";

/// Functions of proxy-wasm that answer that there are none: nothing here has queues, gRPC calls or foreign functions.
pub(super) const UNIMPLEMENTED: &[&str] = &[
    "proxy_call_foreign_function",
    "proxy_dequeue_shared_queue",
    "proxy_enqueue_shared_queue",
    "proxy_get_status",
    "proxy_grpc_call",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_grpc_send",
    "proxy_grpc_stream",
    "proxy_register_shared_queue",
    "proxy_resolve_shared_queue",
];

/// Why a host function does not do what it was asked.
#[derive(Debug)]
pub(super) enum Fault {
    /// The plugin is told.
    Status(Status),
    /// The plugin has crashed while it was asked for memory.
    Trap(wasmtime::Error),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

pub(super) type Outcome = Result<(), Fault>;

/// What the plugin reads.
pub(super) fn answer(outcome: Outcome) -> wasmtime::Result<u32> {
    match outcome {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Fault::Status(status)) => Ok(status as u32),
        Err(Fault::Trap(trap)) => Err(trap),
    }
}

/// The plugin's memory, and the state of its instance.
pub(super) fn parts<'a>(caller: &'a mut Caller<'_, Host>) -> Result<(&'a mut [u8], &'a mut Host), Fault> {
    let memory = caller.data().memory.ok_or(Status::InternalFailure)?;
    Ok(memory.data_and_store_mut(caller))
}

/// A stretch of the plugin's memory.
pub(super) fn slice(memory: &[u8], at: u32, length: u32) -> Result<&[u8], Fault> {
    let start = usize::try_from(at).map_err(|_large| Status::InvalidMemoryAccess)?;
    let length = usize::try_from(length).map_err(|_large| Status::InvalidMemoryAccess)?;
    let end = start.checked_add(length).ok_or(Status::InvalidMemoryAccess)?;
    memory.get(start..end).ok_or(Fault::Status(Status::InvalidMemoryAccess))
}

/// Writes bytes into the plugin's memory.
pub(super) fn put(caller: &mut Caller<'_, Host>, at: u32, bytes: &[u8]) -> Outcome {
    let (memory, _) = parts(caller)?;
    let start = usize::try_from(at).map_err(|_large| Status::InvalidMemoryAccess)?;
    let end = start.checked_add(bytes.len()).ok_or(Status::InvalidMemoryAccess)?;
    memory.get_mut(start..end).ok_or(Status::InvalidMemoryAccess)?.copy_from_slice(bytes);
    Ok(())
}

/// Gives the plugin bytes in memory that it has set aside for them, and says where.
pub(super) fn give(caller: &mut Caller<'_, Host>, bytes: &[u8], (at, length): (u32, u32)) -> Outcome {
    let size = u32::try_from(bytes.len()).map_err(|_large| Status::InternalFailure)?;
    let mut place = 0;
    if size > 0 {
        let allocate = caller.data().allocate.clone().ok_or(Status::InternalFailure)?;
        place = allocate.call(&mut *caller, size).map_err(Fault::Trap)?;
        if place == 0 {
            return Err(Status::InternalFailure.into());
        }
        put(caller, place, bytes)?;
    }
    put(caller, at, &place.to_le_bytes())?;
    put(caller, length, &size.to_le_bytes())
}

/// What a module would find, and what it would not.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::filter::plugin) struct Imports {
    /// What works.
    pub(in crate::filter::plugin) known: Vec<String>,
    /// What is answered that it is not there.
    pub(in crate::filter::plugin) unimplemented: Vec<String>,
    /// What nobody provides, so that it cannot run.
    pub(in crate::filter::plugin) unknown: Vec<String>,
}

/// The functions that there are, by module and name.
pub(super) struct Book<'a> {
    linker: &'a mut Linker<Host>,
    names: BTreeSet<(&'static str, &'static str)>,
}

impl Book<'_> {
    /// All functions.
    fn new(linker: &mut Linker<Host>) -> wasmtime::Result<Book<'_>> {
        let mut book = Book { linker, names: BTreeSet::new() };
        headers::link(&mut book)?;
        streams::link(&mut book)?;
        calls::link(&mut book)?;
        properties::link(&mut book)?;
        wasi::link(&mut book)?;
        Ok(book)
    }

    /// Adds a function.
    fn add<Params, Args>(
        &mut self,
        (module, name): (&'static str, &'static str),
        function: impl IntoFunc<Host, Params, Args>,
    ) -> wasmtime::Result<()> {
        self.names.insert((module, name));
        self.linker.func_wrap(module, name, function).map(|_| ())
    }

    fn has(&self, module: &str, name: &str) -> bool {
        self.names.iter().any(|known| *known == (module, name))
    }
}

/// The names of the functions of a module, in order.
pub(super) fn names(module: &str) -> Vec<String> {
    let mut linker = Linker::new(&Engine::default());
    let names = Book::new(&mut linker).map(|book| book.names).unwrap_or_default();
    names.into_iter().filter(|(of, _)| *of == module).map(|(_, name)| name.to_owned()).collect()
}

/// All functions for a module.
///
/// # Errors
/// If one cannot be linked.
pub(super) fn link(linker: &mut Linker<Host>, module: &Module) -> wasmtime::Result<Imports> {
    let book = Book::new(linker)?;
    let mut imports = Imports::default();
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let shown = format!("{from}.{name}");
        // The same by its former name.
        let own = if from == "wasi_unstable" { wasi::MODULE } else { from };
        match import.ty() {
            ExternType::Func(_) if book.has(own, name) => {
                if own != from {
                    book.linker.alias(own, name, from, name)?;
                }
                imports.known.push(shown);
            }
            ExternType::Func(ty) if returns_a_number(&ty) && from == ENV && UNIMPLEMENTED.contains(&name) => {
                stub(book.linker, (from, name), ty, Status::Unimplemented as i32)?;
                imports.unimplemented.push(shown);
            }
            ExternType::Func(ty) if returns_a_number(&ty) && own == wasi::MODULE => {
                stub(book.linker, (from, name), ty, wasi::NO_SUCH_CALL)?;
                imports.unimplemented.push(shown);
            }
            ExternType::Func(_)
            | ExternType::Global(_)
            | ExternType::Table(_)
            | ExternType::Memory(_)
            | ExternType::Tag(_) => imports.unknown.push(shown),
        }
    }
    Ok(imports)
}

fn returns_a_number(ty: &FuncType) -> bool {
    let mut results = ty.results();
    matches!((results.next(), results.next()), (Some(ValType::I32), None))
}

/// A function that always answers the same.
fn stub(linker: &mut Linker<Host>, (module, name): (&str, &str), ty: FuncType, answer: i32) -> wasmtime::Result<()> {
    let answering = move |_: Caller<'_, Host>, _: &[Val], results: &mut [Val]| {
        results.iter_mut().for_each(|result| *result = Val::I32(answer));
        Ok(())
    };
    linker.func_new(module, name, ty, answering).map(|_| ())
}
