//! Lists of headers. Those of identity, the request line and framing can be read and not be written.

use super::{Book, ENV, Fault, Outcome, answer, give, parts, slice};
use crate::filter::plugin::host::abi::{Map, Status, read_pairs, write_pairs};
use crate::filter::plugin::host::work::{Change, Host, Written};
use http::HeaderMap;
use wasmtime::Caller;

/// The longest list that a plugin can read or write, in bytes.
const LIST_MAX: usize = 512 * 1024;

pub(super) fn link(book: &mut Book<'_>) -> wasmtime::Result<()> {
    book.add((ENV, "proxy_get_header_map_size"), |mut caller: Caller<'_, Host>, map: u32, at: u32| {
        answer(size(&mut caller, map, at))
    })?;
    book.add((ENV, "proxy_get_header_map_pairs"), |mut caller: Caller<'_, Host>, map: u32, at: u32, length: u32| {
        answer(pairs(&mut caller, map, (at, length)))
    })?;
    book.add((ENV, "proxy_set_header_map_pairs"), |mut caller: Caller<'_, Host>, map: u32, at: u32, length: u32| {
        answer(set_pairs(&mut caller, map, (at, length)))
    })?;
    book.add(
        (ENV, "proxy_get_header_map_value"),
        |mut caller: Caller<'_, Host>, map: u32, key: u32, size: u32, at: u32, length: u32| {
            answer(value(&mut caller, map, (key, size), (at, length)))
        },
    )?;
    book.add(
        (ENV, "proxy_add_header_map_value"),
        |mut caller: Caller<'_, Host>, map: u32, key: u32, size: u32, at: u32, length: u32| {
            answer(change(&mut caller, map, (key, size), |memory| slice(memory, at, length).map(Change::Add)))
        },
    )?;
    book.add(
        (ENV, "proxy_replace_header_map_value"),
        |mut caller: Caller<'_, Host>, map: u32, key: u32, size: u32, at: u32, length: u32| {
            answer(change(&mut caller, map, (key, size), |memory| slice(memory, at, length).map(Change::Replace)))
        },
    )?;
    book.add((ENV, "proxy_remove_header_map_value"), |mut caller: Caller<'_, Host>, map: u32, key: u32, size: u32| {
        answer(change(&mut caller, map, (key, size), |_| Ok(Change::Remove)))
    })
}

/// The headers of a list; none if it is empty.
fn headers_of(host: &Host, map: Map) -> Result<Option<&HeaderMap>, Status> {
    match map {
        Map::Nothing => Ok(None),
        Map::CallHeaders => {
            let delivered = host.answer.as_ref().ok_or(Status::BadArgument)?;
            Ok(delivered.0.as_ref().map(|reply| &reply.headers))
        }
        Map::RequestHeaders | Map::ResponseHeaders | Map::ResponseTrailers => {
            let work = host.work.as_ref().filter(|work| work.id == host.context).ok_or(Status::BadArgument)?;
            work.headers(map).map(Some).ok_or(Status::BadArgument)
        }
    }
}

/// Does something with a list that is there.
fn with_list<T>(host: &Host, map: Map, act: impl FnOnce(&[(&[u8], &[u8])], &HeaderMap) -> T) -> Result<T, Status> {
    let Some(headers) = headers_of(host, map)? else { return Ok(act(&[], &HeaderMap::new())) };
    if let (Map::CallHeaders, Some(reply)) = (map, host.answer.as_ref().and_then(|delivered| delivered.0.as_ref())) {
        return Ok(act(&[(b":status", reply.status.as_str().as_bytes())], headers));
    }
    let work = host.work.as_ref().ok_or(Status::BadArgument)?;
    let pseudo = work.pseudo(map);
    let pseudo: Vec<_> = pseudo.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    Ok(act(&pseudo, headers))
}

fn map_of(number: u32) -> Result<Map, Status> {
    Map::of(number).ok_or(Status::BadArgument)
}

fn written(host: &Host, map: u32) -> Result<Vec<u8>, Fault> {
    let list = with_list(host, map_of(map)?, |pseudo, headers| {
        let own = headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        write_pairs(&pseudo.iter().copied().chain(own).collect::<Vec<_>>())
    })?;
    list.filter(|list| list.len() <= LIST_MAX).ok_or(Fault::Status(Status::InternalFailure))
}

fn size(caller: &mut Caller<'_, Host>, map: u32, at: u32) -> Outcome {
    let length = written(caller.data(), map)?.len();
    let length = u32::try_from(length).map_err(|_large| Status::InternalFailure)?;
    super::put(caller, at, &length.to_le_bytes())
}

fn pairs(caller: &mut Caller<'_, Host>, map: u32, to: (u32, u32)) -> Outcome {
    let list = written(caller.data(), map)?;
    give(caller, &list, to)
}

fn value(caller: &mut Caller<'_, Host>, map: u32, (key, size): (u32, u32), to: (u32, u32)) -> Outcome {
    let map = map_of(map)?;
    let (memory, host) = parts(caller)?;
    let name = slice(memory, key, size)?;
    let found = if name.first() == Some(&b':') {
        with_list(host, map, |pseudo, _| {
            pseudo.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_vec())
        })?
    } else {
        headers_of(host, map)?.and_then(|headers| joined(headers, name))
    };
    give(caller, &found.ok_or(Status::NotFound)?, to)
}

/// The values of a header as one (RFC 9110 § 5.2).
fn joined(headers: &HeaderMap, name: &[u8]) -> Option<Vec<u8>> {
    let name = http::HeaderName::from_bytes(name).ok()?;
    let mut values = headers.get_all(name).iter();
    let mut joined = values.next()?.as_bytes().to_vec();
    for value in values {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(value.as_bytes());
    }
    Some(joined)
}

fn change(
    caller: &mut Caller<'_, Host>,
    map: u32,
    (key, size): (u32, u32),
    read: impl FnOnce(&[u8]) -> Result<Change<'_>, Fault>,
) -> Outcome {
    let map = map_of(map)?;
    let (memory, host) = parts(caller)?;
    let memory: &[u8] = memory;
    let (name, change) = (slice(memory, key, size)?, read(memory)?);
    write(host, map, name, change).map_err(Fault::Status)
}

/// Changes a header. Framing is ours, so what a plugin wants of it is taken as a wish; who wants to be somebody else, or
/// to be sent elsewhere, is told that he cannot.
fn write(host: &mut Host, map: Map, name: &[u8], change: Change<'_>) -> Result<(), Status> {
    let context = host.context;
    let work = host.work.as_mut().filter(|work| work.id == context).ok_or(Status::BadArgument)?;
    let shown = || String::from_utf8_lossy(name).into_owned();
    match work.write(map, name, change) {
        Written::Done | Written::IsFraming => Ok(()),
        Written::IsGone => {
            host.shared.log(log::Level::Warn, &format!("`{}` cannot be changed: the head has gone on", shown()));
            Ok(())
        }
        Written::IsGuarded => {
            let why = format!("`{}` carries identity or the request line, which no plugin may change", shown());
            host.shared.log(log::Level::Warn, &why);
            Err(Status::BadArgument)
        }
        Written::IsNone => Err(Status::BadArgument),
    }
}

/// Sets a whole list: what is not in it goes, but for what no plugin may change.
fn set_pairs(caller: &mut Caller<'_, Host>, map: u32, (at, length): (u32, u32)) -> Outcome {
    let map = map_of(map)?;
    let (memory, host) = parts(caller)?;
    let memory: &[u8] = memory;
    let bytes = slice(memory, at, length)?;
    let pairs = read_pairs(bytes).filter(|_| bytes.len() <= LIST_MAX).ok_or(Status::BadArgument)?;
    let context = host.context;
    let work = host.work.as_mut().filter(|work| work.id == context).ok_or(Status::BadArgument)?;
    let before: Vec<_> = work.headers(map).ok_or(Status::BadArgument)?.keys().cloned().collect();
    let pseudo: Vec<_> = work.pseudo(map);
    let wanted = |name: &str| pairs.iter().any(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
    let guarded = |name: &str| crate::filter::view::is_guarded(name);
    let stays = |name: &[u8], value: &[u8]| {
        let is_same = pseudo.iter().any(|(known, own)| known.as_bytes() == name && own.as_bytes() == value);
        let is_ours = std::str::from_utf8(name).is_ok_and(|name| {
            before.iter().any(|known| known.as_str().eq_ignore_ascii_case(name)) && guarded(&name.to_ascii_lowercase())
        });
        is_same || is_ours
    };
    // All of it can be set, or nothing is.
    let can_be = |(name, value): &(&[u8], &[u8])| {
        let is_header = http::HeaderName::from_bytes(name).is_ok_and(|name| !guarded(name.as_str()));
        stays(name, value) || (is_header && http::HeaderValue::from_bytes(value).is_ok())
    };
    if !pairs.iter().all(can_be) {
        return Err(Status::BadArgument.into());
    }
    for name in before.iter().filter(|name| !guarded(name.as_str())) {
        work.write(map, name.as_str().as_bytes(), Change::Remove);
    }
    if let Some(length) = before.iter().find(|name| **name == http::header::CONTENT_LENGTH && !wanted(name.as_str())) {
        work.write(map, length.as_str().as_bytes(), Change::Remove);
    }
    let added: Vec<_> = pairs.into_iter().filter(|(name, value)| !stays(name, value)).collect();
    for (name, value) in added {
        write(host, map, name, Change::Add(value))?;
    }
    Ok(())
}
