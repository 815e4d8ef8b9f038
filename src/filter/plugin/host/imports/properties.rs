//! Properties: what a plugin can ask about a request, by Envoy's usual names and ours, and what it notes itself.

use super::{Book, ENV, Outcome, answer, give, parts, slice};
use crate::filter::plugin::host::abi::{Map, Status};
use crate::filter::plugin::host::work::{Host, Work};
use crate::request::Protocol;
use wasmtime::Caller;

/// How much a plugin may note of one request, in bytes.
const NOTES_MAX: usize = 16 * 1024;

/// The names that are known, for the documentation; `*` is the name of a header.
pub(in crate::filter::plugin::host) const NAMES: &[(&str, &str)] = &[
    ("request.path", "path and query, as they came"),
    ("request.url_path", "the path"),
    ("request.query", "the query, without its `?`"),
    ("request.host", "the host, with its port if it came with one"),
    ("request.scheme", "`https` or `http`"),
    ("request.method", "the method"),
    ("request.headers.*", "a header of the request"),
    ("request.referer", "the header `referer`"),
    ("request.useragent", "the header `user-agent`"),
    ("request.id", "the request's id"),
    ("request.protocol", "`HTTP/1.1` or `HTTP/2`"),
    ("request.time", "when it came: 8 bytes, nanoseconds since 1970, the lowest first"),
    ("response.code", "the status: 8 bytes, the lowest first"),
    ("response.headers.*", "a header of the response"),
    ("source.address", "the client's address"),
    ("connection.mtls", "1 byte: whether the workload has shown a certificate"),
    ("connection.tls_version", "`TLSv1.3` or `TLSv1.2`"),
    ("plugin_name", "the plugin's name"),
    ("plugin_root_id", "its `root_id`"),
    ("route_name", "the route"),
    ("listener_name", "the listener"),
    ("belay.workload", "the workload, if there is one"),
    ("belay.user", "the user: issuer and subject, with `|` between them"),
    ("belay.roles", "the roles of both, with commas between them"),
    ("belay.route", "the route"),
    ("belay.listener", "the listener"),
];

pub(super) fn link(book: &mut Book<'_>) -> wasmtime::Result<()> {
    book.add(
        (ENV, "proxy_get_property"),
        |mut caller: Caller<'_, Host>, path: u32, size: u32, at: u32, length: u32| {
            answer(get(&mut caller, (path, size), (at, length)))
        },
    )?;
    book.add((ENV, "proxy_set_property"), |mut caller: Caller<'_, Host>, path: u32, size: u32, at: u32, length: u32| {
        answer(set(&mut caller, (path, size), (at, length)))
    })
}

fn get(caller: &mut Caller<'_, Host>, (path, size): (u32, u32), to: (u32, u32)) -> Outcome {
    let (memory, host) = parts(caller)?;
    let path = slice(memory, path, size)?;
    let work = host.work.as_ref().filter(|work| work.id == host.context);
    let noted = work.and_then(|work| work.notes.get(path).map(|note| note.to_vec()));
    let found = match noted {
        Some(noted) => Some(noted),
        None => {
            let steps: Vec<_> = path.split(|b| *b == 0).filter(|step| !step.is_empty()).collect();
            let steps: Option<Vec<_>> = steps.into_iter().map(|step| std::str::from_utf8(step).ok()).collect();
            steps.and_then(|steps| of_plugin(host, &steps).or_else(|| of_request(work?, &steps)))
        }
    };
    give(caller, &found.ok_or(Status::NotFound)?, to)
}

fn set(caller: &mut Caller<'_, Host>, (path, size): (u32, u32), (at, length): (u32, u32)) -> Outcome {
    let (memory, host) = parts(caller)?;
    let (path, value) = (slice(memory, path, size)?, slice(memory, at, length)?);
    let context = host.context;
    let work = host.work.as_mut().filter(|work| work.id == context).ok_or(Status::BadArgument)?;
    let noted = work.noted.saturating_add(path.len()).saturating_add(value.len()).saturating_add(64);
    if noted > NOTES_MAX {
        return Err(Status::InternalFailure.into());
    }
    work.noted = noted;
    work.notes.insert(path.into(), value.into());
    Ok(())
}

fn of_plugin(host: &Host, steps: &[&str]) -> Option<Vec<u8>> {
    match steps {
        ["plugin_name"] => Some(host.shared.name.as_bytes().to_vec()),
        ["plugin_root_id"] => Some(host.shared.root_id.as_bytes().to_vec()),
        _ => None,
    }
}

fn of_request(work: &Work, steps: &[&str]) -> Option<Vec<u8>> {
    let known = &work.known;
    let facts = &known.facts;
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let header = |map: Map, name: &str| {
        let value = work.headers(map)?.get(name.to_ascii_lowercase())?;
        Some(value.as_bytes().to_vec())
    };
    match steps {
        ["request", "path"] => text(&facts.target),
        ["request", "url_path"] => text(facts.target.split('?').next().unwrap_or_default()),
        ["request", "query"] => text(facts.target.split_once('?').map_or("", |(_, query)| query)),
        ["request", "host"] => text(&facts.authority),
        ["request", "scheme"] => text(if known.tls.is_some() { "https" } else { "http" }),
        ["request", "method"] => text(facts.method.as_str()),
        ["request", "headers", name] => header(Map::RequestHeaders, name),
        ["request", "referer"] => header(Map::RequestHeaders, "referer"),
        ["request", "useragent"] => header(Map::RequestHeaders, "user-agent"),
        ["request", "id"] => text(known.request_id.as_str()),
        ["request", "protocol"] => text(match facts.protocol {
            Protocol::Http1 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }),
        ["request", "time"] => Some(known.started.unix_nanoseconds().to_le_bytes().to_vec()),
        ["response", "code"] => work.status.map(|status| u64::from(status.as_u16()).to_le_bytes().to_vec()),
        ["response", "headers", name] => header(Map::ResponseHeaders, name),
        ["source", "address"] => text(&known.client?.to_string()),
        ["connection", "mtls"] => Some(vec![u8::from(known.tls.is_some() && known.principal.workload().is_some())]),
        ["connection", "tls_version"] => text(&format!("TLSv{}", known.tls?)),
        ["route_name"] | ["belay", "route"] => text(known.route.as_str()),
        ["listener_name"] | ["belay", "listener"] => text(known.listener.as_str()),
        ["belay", "workload"] => text(known.principal.workload()?.name.as_str()),
        ["belay", "user"] => text(&known.principal.user()?.to_string()),
        ["belay", "roles"] => text(&known.principal.role_list().unwrap_or_default()),
        _ => None,
    }
}
