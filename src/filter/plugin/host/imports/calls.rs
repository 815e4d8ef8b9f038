//! Calls to pools that the config names, data that instances share, metrics, logs and time.

use super::{Book, ENV, Outcome, answer, give, parts, put, slice};
use crate::clock::{Clock, System};
use crate::filter::plugin::host::abi::{Status, read_pairs};
use crate::filter::plugin::host::instance;
use crate::filter::plugin::host::shared::NotSet;
use crate::filter::plugin::host::work::{Host, Pending, ROOT};
use crate::filter::view::is_guarded;
use crate::metrics::PluginMetric;
use crate::upstream::Call;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::time::Duration;
use wasmtime::Caller;

/// The most calls of an instance that wait for their answers.
const CALLS_MAX: usize = 8;
/// The most of one request.
const CALLS_OF_REQUEST_MAX: u32 = 32;
/// The longest that one may take.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// The longest answer to one, in bytes.
const REPLY_MAX: usize = 1024 * 1024;
/// The shortest time between two ticks.
const TICK_MIN: Duration = Duration::from_millis(10);

pub(super) fn link(book: &mut Book<'_>) -> wasmtime::Result<()> {
    book.add(
        (ENV, "proxy_http_call"),
        |mut caller: Caller<'_, Host>,
         pool: u32,
         pool_length: u32,
         headers: u32,
         headers_length: u32,
         body: u32,
         body_length: u32,
         _trailers: u32,
         _trailers_length: u32,
         timeout: u32,
         at: u32| {
            let [pool, headers, body] = [(pool, pool_length), (headers, headers_length), (body, body_length)];
            answer(http_call(&mut caller, [pool, headers, body], timeout, at))
        },
    )?;
    book.add(
        (ENV, "proxy_get_shared_data"),
        |mut caller: Caller<'_, Host>, key: u32, size: u32, at: u32, length: u32, cas: u32| {
            answer(shared(&mut caller, (key, size), (at, length), cas))
        },
    )?;
    book.add(
        (ENV, "proxy_set_shared_data"),
        |mut caller: Caller<'_, Host>, key: u32, size: u32, at: u32, length: u32, cas: u32| {
            answer(set_shared(&mut caller, (key, size), (at, length), cas))
        },
    )?;
    book.add(
        (ENV, "proxy_define_metric"),
        |mut caller: Caller<'_, Host>, kind: u32, name: u32, length: u32, at: u32| {
            answer(define_metric(&mut caller, kind, (name, length), at))
        },
    )?;
    book.add((ENV, "proxy_increment_metric"), |caller: Caller<'_, Host>, metric: u32, by: i64| {
        answer(with_metric(&caller, metric, |metric| metric.add(by)))
    })?;
    book.add((ENV, "proxy_record_metric"), |caller: Caller<'_, Host>, metric: u32, value: u64| {
        answer(with_metric(&caller, metric, |metric| metric.record(value)))
    })?;
    book.add((ENV, "proxy_get_metric"), |mut caller: Caller<'_, Host>, metric: u32, at: u32| {
        answer(get_metric(&mut caller, metric, at))
    })?;
    book.add((ENV, "proxy_log"), |mut caller: Caller<'_, Host>, level: u32, at: u32, length: u32| {
        answer(log(&mut caller, level, (at, length)))
    })?;
    book.add((ENV, "proxy_get_log_level"), |mut caller: Caller<'_, Host>, at: u32| {
        answer(put(&mut caller, at, &level_now().to_le_bytes()))
    })?;
    book.add((ENV, "proxy_get_current_time_nanoseconds"), |mut caller: Caller<'_, Host>, at: u32| {
        answer(put(&mut caller, at, &nanoseconds().to_le_bytes()))
    })?;
    book.add((ENV, "proxy_set_tick_period_milliseconds"), |mut caller: Caller<'_, Host>, period: u32| {
        let period = Duration::from_millis(period.into());
        caller.data_mut().tick = (!period.is_zero()).then(|| period.max(TICK_MIN));
        answer(Ok(()))
    })
}

/// The time since 1970.
pub(super) fn nanoseconds() -> u64 {
    System.now().unix_nanoseconds()
}

const fn level_of(number: u32) -> log::Level {
    match number {
        0 => log::Level::Trace,
        1 => log::Level::Debug,
        2 => log::Level::Info,
        3 => log::Level::Warn,
        _ => log::Level::Error,
    }
}

fn level_now() -> u32 {
    match log::max_level() {
        log::LevelFilter::Trace => 0,
        log::LevelFilter::Debug => 1,
        log::LevelFilter::Info => 2,
        log::LevelFilter::Warn => 3,
        log::LevelFilter::Error => 4,
        log::LevelFilter::Off => 5,
    }
}

fn log(caller: &mut Caller<'_, Host>, level: u32, (at, length): (u32, u32)) -> Outcome {
    let (memory, host) = parts(caller)?;
    let text = slice(memory, at, length)?;
    // The end of a long line is not looked at.
    let text = String::from_utf8_lossy(text.get(..4096).unwrap_or(text));
    host.shared.log(level_of(level), &text);
    Ok(())
}

fn shared(caller: &mut Caller<'_, Host>, (key, size): (u32, u32), to: (u32, u32), cas: u32) -> Outcome {
    let (memory, host) = parts(caller)?;
    let found = host.shared.kept.data(slice(memory, key, size)?);
    let (value, number) = found.ok_or(Status::NotFound)?;
    give(caller, &value, to)?;
    put(caller, cas, &number.to_le_bytes())
}

fn set_shared(caller: &mut Caller<'_, Host>, (key, size): (u32, u32), (at, length): (u32, u32), cas: u32) -> Outcome {
    let (memory, host) = parts(caller)?;
    let set = host.shared.kept.set_data(slice(memory, key, size)?, slice(memory, at, length)?, cas);
    set.map_err(|not_set| {
        let status = match not_set {
            NotSet::Mismatch => Status::CasMismatch,
            NotSet::Full => Status::InternalFailure,
        };
        status.into()
    })
}

fn define_metric(caller: &mut Caller<'_, Host>, kind: u32, (name, length): (u32, u32), at: u32) -> Outcome {
    let (memory, host) = parts(caller)?;
    let name = std::str::from_utf8(slice(memory, name, length)?).map_err(|_no_text| Status::BadArgument)?;
    let number = host.shared.metric(kind, name).ok_or(Status::BadArgument)?;
    put(caller, at, &number.to_le_bytes())
}

fn with_metric(caller: &Caller<'_, Host>, metric: u32, act: impl FnOnce(&PluginMetric) -> Option<()>) -> Outcome {
    let kept = &caller.data().shared.kept;
    let found = kept.with_metric(metric, |metric| Some(act(metric))).ok_or(Status::NotFound)?;
    found.ok_or_else(|| Status::BadArgument.into())
}

fn get_metric(caller: &mut Caller<'_, Host>, metric: u32, at: u32) -> Outcome {
    let kept = &caller.data().shared.kept;
    let value = kept.with_metric(metric, |metric| Some(metric.value())).ok_or(Status::NotFound)?;
    put(caller, at, &value.to_le_bytes())
}

/// Sends a request of the plugin's own to a pool that the config has named for it.
fn http_call(caller: &mut Caller<'_, Host>, [pool, headers, body]: [(u32, u32); 3], timeout: u32, at: u32) -> Outcome {
    let (memory, host) = parts(caller)?;
    let name = std::str::from_utf8(slice(memory, pool.0, pool.1)?).map_err(|_no_text| Status::BadArgument)?;
    let Some(errand) = host.shared.errands.get(name).cloned() else {
        let why = format!("it may not call `{}`: the config does not name it in `pools`", name.escape_debug());
        host.shared.log(log::Level::Warn, &why);
        return Err(Status::BadArgument.into());
    };
    let pairs = read_pairs(slice(memory, headers.0, headers.1)?).ok_or(Status::BadArgument)?;
    let body = slice(memory, body.0, body.1)?;
    if body.len() > host.shared.limits.body {
        return Err(Status::BadArgument.into());
    }
    let body = Bytes::copy_from_slice(body);
    let call = call(&pairs, body, Duration::from_millis(timeout.into())).ok_or(Status::BadArgument)?;
    let context = host.context;
    let pools = match host.work.as_mut().filter(|work| work.id == context) {
        Some(work) => {
            work.calls = work.calls.saturating_add(1);
            (work.calls <= CALLS_OF_REQUEST_MAX).then(|| work.pools.clone())
        }
        None if context == ROOT => host.shared.pools.load_full(),
        None => None,
    };
    let runtime = tokio::runtime::Handle::try_current().ok().or_else(|| host.shared.runtime.get().cloned());
    let (Some(pools), Some(runtime), true) = (pools, runtime, host.calls.len() < CALLS_MAX) else {
        return Err(Status::InternalFailure.into());
    };
    host.last_call = host.last_call.wrapping_add(1);
    let number = host.last_call;
    let mailbox = host.mailbox.clone();
    let task = runtime.spawn(async move {
        let reply = pools.send(&errand, call).await;
        instance::deliver(&mailbox, number, reply.ok());
    });
    host.calls.insert(number, Pending { context, task: task.abort_handle() });
    put(caller, at, &number.to_le_bytes())
}

/// A request of a plugin's own: it says where to, and nothing that would make it pass for somebody.
fn call(pairs: &[(&[u8], &[u8])], body: Bytes, timeout: Duration) -> Option<Call> {
    let (mut method, mut target, mut host, mut headers) = (None, None, None, HeaderMap::new());
    for (name, value) in pairs {
        match *name {
            b":method" => method = Method::from_bytes(value).ok().filter(|method| *method != Method::CONNECT),
            b":path" => target = std::str::from_utf8(value).ok().filter(|path| path.starts_with('/')),
            b":authority" | b"host" => host = std::str::from_utf8(value).ok(),
            b":scheme" => {}
            name => {
                let name = HeaderName::from_bytes(name).ok()?;
                if !is_guarded(name.as_str()) {
                    headers.append(name, HeaderValue::from_bytes(value).ok()?);
                }
            }
        }
    }
    let is_plain = |text: &&str| text.bytes().all(|b| b.is_ascii_graphic());
    Some(Call {
        method: method?,
        target: target.filter(is_plain)?.into(),
        host: host.filter(is_plain)?.into(),
        headers,
        body,
        timeout: timeout.min(CALL_TIME_MAX),
        answer_max: REPLY_MAX,
    })
}
