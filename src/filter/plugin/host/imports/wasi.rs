//! What guests need of WASI to start: clocks, randomness, and two outputs that are logged. No files, no environment.

use super::{Book, Fault, parts, put, slice};
use crate::filter::plugin::host::abi::Status;
use crate::filter::plugin::host::work::Host;
use std::time::Instant;
use wasmtime::Caller;

pub(in crate::filter::plugin::host) const MODULE: &str = "wasi_snapshot_preview1";

const SUCCESS: u32 = 0;
/// There is no such file. A guest of Go's asks for those that it is given until it reads this.
const NO_SUCH_FILE: u32 = 8;
const INVALID: u32 = 28;
/// What is answered to all else.
pub(super) const NO_SUCH_CALL: i32 = 52;
/// How much randomness there is at once, in bytes.
const RANDOM_MAX: u32 = 64 * 1024;
/// The most stretches of one output.
const STRETCHES_MAX: u32 = 64;

static START: once_cell::sync::Lazy<Instant> = once_cell::sync::Lazy::new(Instant::now);

type Errno = Result<(), Fault>;

fn errno(done: Errno) -> wasmtime::Result<u32> {
    match done {
        Ok(()) => Ok(SUCCESS),
        Err(Fault::Status(_)) => Ok(INVALID),
        Err(Fault::Trap(trap)) => Err(trap),
    }
}

pub(super) fn link(book: &mut Book<'_>) -> wasmtime::Result<()> {
    for name in ["args_sizes_get", "environ_sizes_get"] {
        book.add((MODULE, name), |mut caller: Caller<'_, Host>, count: u32, size: u32| {
            errno(put(&mut caller, count, &[0; 4]).and_then(|()| put(&mut caller, size, &[0; 4])))
        })?;
    }
    for name in ["args_get", "environ_get"] {
        book.add((MODULE, name), |_: Caller<'_, Host>, _: u32, _: u32| SUCCESS)?;
    }
    book.add((MODULE, "clock_time_get"), |mut caller: Caller<'_, Host>, clock: u32, _precision: u64, at: u32| {
        let time = match clock {
            0 => super::calls::nanoseconds(),
            _ => u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX),
        };
        errno(put(&mut caller, at, &time.to_le_bytes()))
    })?;
    book.add((MODULE, "random_get"), |mut caller: Caller<'_, Host>, at: u32, length: u32| {
        errno(random(&mut caller, at, length))
    })?;
    book.add((MODULE, "fd_write"), |mut caller: Caller<'_, Host>, file: u32, at: u32, count: u32, written: u32| {
        if !matches!(file, 1 | 2) {
            return Ok(NO_SUCH_FILE);
        }
        errno(write(&mut caller, file, (at, count), written))
    })?;
    book.add((MODULE, "fd_prestat_get"), |_: Caller<'_, Host>, _: u32, _: u32| NO_SUCH_FILE)?;
    book.add((MODULE, "fd_prestat_dir_name"), |_: Caller<'_, Host>, _: u32, _: u32, _: u32| NO_SUCH_FILE)?;
    book.add((MODULE, "fd_close"), |_: Caller<'_, Host>, _: u32| NO_SUCH_FILE)?;
    book.add((MODULE, "fd_fdstat_get"), |_: Caller<'_, Host>, _: u32, _: u32| NO_SUCH_FILE)?;
    book.add((MODULE, "fd_read"), |_: Caller<'_, Host>, _: u32, _: u32, _: u32, _: u32| NO_SUCH_FILE)?;
    book.add((MODULE, "fd_seek"), |_: Caller<'_, Host>, _: u32, _: u64, _: u32, _: u32| NO_SUCH_FILE)?;
    book.add((MODULE, "sched_yield"), |_: Caller<'_, Host>| SUCCESS)?;
    book.add((MODULE, "proc_exit"), |_: Caller<'_, Host>, code: u32| -> wasmtime::Result<()> {
        Err(wasmtime::format_err!("it has exited with {code}"))
    })
}

fn random(caller: &mut Caller<'_, Host>, at: u32, length: u32) -> Errno {
    let length = usize::try_from(length.min(RANDOM_MAX.saturating_add(1))).unwrap_or_default();
    if length > usize::try_from(RANDOM_MAX).unwrap_or_default() {
        return Err(Status::BadArgument.into());
    }
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| Status::InternalFailure)?;
    put(caller, at, &bytes)
}

fn write(caller: &mut Caller<'_, Host>, file: u32, (at, count): (u32, u32), written: u32) -> Errno {
    let (memory, host) = parts(caller)?;
    let (mut text, mut total) = (Vec::new(), 0_u32);
    if count > STRETCHES_MAX {
        return Err(Status::BadArgument.into());
    }
    let number = |at: u32| -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(slice(memory, at, 4)?.try_into().map_err(|_length| Status::InvalidMemoryAccess)?))
    };
    for index in 0..count {
        let place = at.checked_add(index.saturating_mul(8)).ok_or(Status::InvalidMemoryAccess)?;
        let (start, length) = (number(place)?, number(place.checked_add(4).ok_or(Status::InvalidMemoryAccess)?)?);
        let part = slice(memory, start, length)?;
        text.extend_from_slice(part.get(..4096).unwrap_or(part));
        text.truncate(4096);
        total = total.saturating_add(length);
    }
    let level = if file == 1 { log::Level::Info } else { log::Level::Error };
    host.shared.log(level, String::from_utf8_lossy(&text).trim_end());
    put(caller, written, &total.to_le_bytes())
}
