//! Bodies, the course of a request, and the plugin's own answers.

use super::{Book, ENV, Fault, Outcome, answer, give, parts, put, slice};
use crate::filter::Answer;
use crate::filter::plugin::host::abi::{Buffer, Status, Way, read_pairs};
use crate::filter::plugin::host::work::{Host, Work, splice};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode};
use wasmtime::Caller;

/// The longest answer of a plugin's own, in bytes.
const ANSWER_MAX: u32 = 1024 * 1024;
/// The most of its headers.
const ANSWER_HEADERS_MAX: u32 = 64 * 1024;

pub(super) fn link(book: &mut Book<'_>) -> wasmtime::Result<()> {
    book.add(
        (ENV, "proxy_get_buffer_bytes"),
        |mut caller: Caller<'_, Host>, buffer: u32, start: u32, max: u32, at: u32, length: u32| {
            answer(get(&mut caller, buffer, (start, max), (at, length)))
        },
    )?;
    book.add(
        (ENV, "proxy_get_buffer_status"),
        |mut caller: Caller<'_, Host>, buffer: u32, length: u32, flags: u32| {
            answer(status(&mut caller, buffer, (length, flags)))
        },
    )?;
    book.add(
        (ENV, "proxy_set_buffer_bytes"),
        |mut caller: Caller<'_, Host>, buffer: u32, start: u32, size: u32, at: u32, length: u32| {
            answer(set(&mut caller, buffer, (start, size), (at, length)))
        },
    )?;
    book.add((ENV, "proxy_continue_stream"), |mut caller: Caller<'_, Host>, way: u32| {
        answer(resume(&mut caller, Way::of(way)))
    })?;
    book.add((ENV, "proxy_continue_request"), |mut caller: Caller<'_, Host>| {
        answer(resume(&mut caller, Some(Way::Request)))
    })?;
    book.add((ENV, "proxy_continue_response"), |mut caller: Caller<'_, Host>| {
        answer(resume(&mut caller, Some(Way::Response)))
    })?;
    book.add((ENV, "proxy_close_stream"), |mut caller: Caller<'_, Host>, way: u32| {
        answer(close(&mut caller, Way::of(way)))
    })?;
    // What the route was looked up by cannot be changed, so that there is nothing to look up anew.
    book.add((ENV, "proxy_clear_route_cache"), |_: Caller<'_, Host>| answer(Ok(())))?;
    book.add(
        (ENV, "proxy_send_local_response"),
        |mut caller: Caller<'_, Host>,
         status: u32,
         _details: u32,
         _details_length: u32,
         body: u32,
         body_length: u32,
         headers: u32,
         headers_length: u32,
         _grpc_status: i32| {
            answer(respond(&mut caller, status, (body, body_length), (headers, headers_length)))
        },
    )?;
    book.add((ENV, "proxy_done"), |mut caller: Caller<'_, Host>| {
        caller.data_mut().is_done = true;
        answer(Ok(()))
    })?;
    book.add((ENV, "proxy_set_effective_context"), |mut caller: Caller<'_, Host>, context: u32| {
        answer(take_context(caller.data_mut(), context))
    })
}

fn work(host: &mut Host) -> Result<&mut Work, Status> {
    let context = host.context;
    host.work.as_mut().filter(|work| work.id == context).ok_or(Status::BadArgument)
}

fn take_context(host: &mut Host, context: u32) -> Outcome {
    let is_known =
        context == crate::filter::plugin::host::work::ROOT || host.work.as_ref().is_some_and(|work| work.id == context);
    if !is_known {
        return Err(Status::BadArgument.into());
    }
    host.context = context;
    Ok(())
}

/// A stretch of a buffer; none if the buffer is not there.
fn read(host: &Host, buffer: Buffer, (start, max): (u32, u32)) -> Option<Bytes> {
    let part = |bytes: &[u8]| {
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(usize::try_from(max).unwrap_or(usize::MAX)).min(bytes.len());
        Bytes::copy_from_slice(bytes.get(start..end).unwrap_or_default())
    };
    let own = || host.work.as_ref().filter(|work| work.id == host.context);
    match buffer {
        Buffer::RequestBody => own().map(|work| part(&work.bodies[Way::Request])),
        Buffer::ResponseBody => own().map(|work| part(&work.bodies[Way::Response])),
        Buffer::CallBody => {
            let reply = host.answer.as_ref()?;
            Some(reply.0.as_ref().map(|reply| part(&reply.body)).unwrap_or_default())
        }
        Buffer::VmConfiguration => Some(part(&host.shared.vm_configuration)),
        Buffer::PluginConfiguration => Some(part(&host.shared.configuration)),
    }
}

fn get(caller: &mut Caller<'_, Host>, buffer: u32, stretch: (u32, u32), to: (u32, u32)) -> Outcome {
    let buffer = Buffer::of(buffer).ok_or(Status::BadArgument)?;
    let bytes = read(caller.data(), buffer, stretch).ok_or(Status::NotFound)?;
    give(caller, &bytes, to)
}

fn status(caller: &mut Caller<'_, Host>, buffer: u32, (length, flags): (u32, u32)) -> Outcome {
    let buffer = Buffer::of(buffer).ok_or(Status::BadArgument)?;
    let bytes = read(caller.data(), buffer, (0, u32::MAX)).ok_or(Status::NotFound)?;
    let size = u32::try_from(bytes.len()).map_err(|_large| Status::InternalFailure)?;
    put(caller, length, &size.to_le_bytes())?;
    put(caller, flags, &0_u32.to_le_bytes())
}

fn set(caller: &mut Caller<'_, Host>, buffer: u32, (start, size): (u32, u32), (at, length): (u32, u32)) -> Outcome {
    let way = match Buffer::of(buffer) {
        Some(Buffer::RequestBody) => Way::Request,
        Some(Buffer::ResponseBody) => Way::Response,
        _ => return Err(Status::BadArgument.into()),
    };
    let (memory, host) = parts(caller)?;
    let bytes = slice(memory, at, length)?;
    let max = host.shared.limits.body;
    let body: &mut BytesMut = &mut work(host)?.bodies[way];
    if body.len().saturating_add(bytes.len()) > max.saturating_mul(2) {
        return Err(Status::InternalFailure.into());
    }
    let [start, size] = [start, size].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    splice(body, start, size, bytes);
    Ok(())
}

fn resume(caller: &mut Caller<'_, Host>, way: Option<Way>) -> Outcome {
    let way = way.ok_or(Status::BadArgument)?;
    work(caller.data_mut())?.is_resumed[way] = true;
    Ok(())
}

fn close(caller: &mut Caller<'_, Host>, way: Option<Way>) -> Outcome {
    let way = way.ok_or(Status::BadArgument)?;
    work(caller.data_mut())?.is_closed[way] = true;
    Ok(())
}

/// The plugin answers itself. What carries identity or framing in its headers is left out.
fn respond(
    caller: &mut Caller<'_, Host>,
    status: u32,
    (body, body_length): (u32, u32),
    (headers, headers_length): (u32, u32),
) -> Outcome {
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.filter(|status| !status.is_informational()).ok_or(Status::BadArgument)?;
    let (memory, host) = parts(caller)?;
    let body = slice(memory, body, body_length)?;
    if body_length > ANSWER_MAX || headers_length > ANSWER_HEADERS_MAX {
        return Err(Status::BadArgument.into());
    }
    let pairs = read_pairs(slice(memory, headers, headers_length)?).ok_or(Status::BadArgument)?;
    let mut answer = Answer::new(&host.shared.name, status);
    for (name, value) in pairs {
        let header = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
        let (Ok(name), Ok(value)) = header else { return Err(Fault::Status(Status::BadArgument)) };
        if !crate::filter::view::is_guarded(name.as_str()) {
            answer.headers.append(name, value);
        }
    }
    answer.body = Bytes::copy_from_slice(body);
    let work = work(host)?;
    // The first answer counts.
    work.answered.get_or_insert(answer);
    Ok(())
}
