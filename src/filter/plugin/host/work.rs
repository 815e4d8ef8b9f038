//! What an instance works on: one request, its response, and what the plugin has said about them.

use super::abi::{Both, Map, Way};
use super::shared::Shared;
use crate::filter::view::is_guarded;
use crate::filter::{About, Answer, Head};
use crate::name::{ListenerName, RouteName, WorkloadName};
use crate::principal::Principal;
use crate::request::{Facts, Id};
use crate::upstream::{Pools, Reply};
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::task::AbortHandle;
use wasmtime::{Memory, StoreLimits, TypedFunc};

/// The context of a plugin itself; those of requests have higher numbers.
pub(super) const ROOT: u32 = 1;
/// How much a plugin may write into heads and trailers of one request, in bytes.
const WRITTEN_MAX: usize = 256 * 1024;

/// The state of an instance that host functions work on.
pub(super) struct Host {
    pub(super) limiter: StoreLimits,
    pub(super) shared: Arc<Shared>,
    /// Where answers to calls go.
    pub(super) mailbox: Weak<super::instance::Instance>,
    pub(super) memory: Option<Memory>,
    pub(super) allocate: Option<TypedFunc<u32, u32>>,
    /// The context whose request is meant.
    pub(super) context: u32,
    pub(super) work: Option<Work>,
    /// The calls that wait for answers, by their numbers.
    pub(super) calls: HashMap<u32, Pending>,
    pub(super) last_call: u32,
    /// The answer that is being delivered.
    pub(super) answer: Option<Delivered>,
    /// How often the plugin wants to be woken.
    pub(super) tick: Option<Duration>,
    /// The request whose end was put off has ended.
    pub(super) is_done: bool,
}

/// A call that waits for its answer.
pub(super) struct Pending {
    /// The context that has made it.
    pub(super) context: u32,
    pub(super) task: AbortHandle,
}

/// An answer to a call; none if there was none.
pub(super) struct Delivered(pub(super) Option<Reply>);

/// A request that an instance works on.
pub(super) struct Work {
    pub(super) id: u32,
    pub(super) known: Known,
    pub(super) pools: Arc<Pools>,
    /// The heads, while they have not gone on.
    pub(super) heads: Both<Option<Box<dyn Head>>>,
    /// A copy of the request's, once it has.
    pub(super) asked: Option<HeaderMap>,
    pub(super) status: Option<StatusCode>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) bodies: Both<BytesMut>,
    /// The plugin's own answer.
    pub(super) answered: Option<Answer>,
    pub(super) is_resumed: Both<bool>,
    pub(super) is_closed: Both<bool>,
    /// The plugin has taken the length out, so that it may change.
    pub(super) has_no_length: Both<bool>,
    /// What the plugin has noted.
    pub(super) notes: HashMap<Box<[u8]>, Box<[u8]>>,
    pub(super) noted: usize,
    pub(super) calls: u32,
    /// Bytes of headers that the plugin has written.
    pub(super) written: usize,
}

/// What is known of a request and nobody changes.
pub(super) struct Known {
    pub(super) principal: Principal,
    pub(super) route: RouteName,
    pub(super) listener: ListenerName,
    pub(super) request_id: Id,
    pub(super) facts: Arc<Facts>,
    pub(super) client: Option<IpAddr>,
    pub(super) tls: Option<&'static str>,
    pub(super) started: crate::clock::Timestamp,
}

impl Known {
    /// The workload that asks, if it is one.
    pub(super) fn who(&self) -> Option<WorkloadName> {
        self.principal.workload().map(|workload| workload.name.clone())
    }

    fn of(about: &About<'_>) -> Self {
        Self {
            principal: about.permit.principal().clone(),
            route: about.permit.route().clone(),
            listener: about.listener.clone(),
            request_id: about.permit.request_id().clone(),
            facts: Arc::clone(about.facts),
            client: about.client,
            tls: about.tls,
            started: about.started,
        }
    }
}

/// What became of the change of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is as it was wanted.
    Done,
    /// It frames the message, which is ours to do.
    IsFraming,
    /// It carries identity, or is the request line.
    IsGuarded,
    /// There is no such list now, or it has gone on.
    IsGone,
    /// It is no header.
    IsNone,
}

/// How a header is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<'a> {
    Add(&'a [u8]),
    Replace(&'a [u8]),
    Remove,
}

impl Work {
    pub(super) fn new(id: u32, about: &About<'_>) -> Self {
        Self {
            id,
            known: Known::of(about),
            pools: Arc::clone(about.pools),
            heads: Both::default(),
            asked: None,
            status: None,
            trailers: None,
            bodies: Both::default(),
            answered: None,
            is_resumed: Both::default(),
            is_closed: Both::default(),
            has_no_length: Both::default(),
            notes: HashMap::new(),
            noted: 0,
            calls: 0,
            written: 0,
        }
    }

    /// The headers of a list, if it is there.
    pub(super) fn headers(&self, map: Map) -> Option<&HeaderMap> {
        match map {
            Map::RequestHeaders => self.heads[Way::Request].as_ref().map(|head| head.all()).or(self.asked.as_ref()),
            Map::ResponseHeaders => self.heads[Way::Response].as_ref().map(|head| head.all()),
            Map::ResponseTrailers => self.trailers.as_ref(),
            Map::CallHeaders | Map::Nothing => None,
        }
    }

    /// What stands for the request line, or the status line.
    pub(super) fn pseudo(&self, map: Map) -> Vec<(&'static str, String)> {
        let facts = &self.known.facts;
        match map {
            Map::RequestHeaders => vec![
                (":authority", facts.authority.to_string()),
                (":path", facts.target.to_string()),
                (":method", facts.method.to_string()),
                (":scheme", if self.known.tls.is_some() { "https" } else { "http" }.to_owned()),
            ],
            Map::ResponseHeaders => {
                self.status.map(|status| (":status", status.as_str().to_owned())).into_iter().collect()
            }
            Map::ResponseTrailers | Map::CallHeaders | Map::Nothing => Vec::new(),
        }
    }

    /// Changes a header.
    pub(super) fn write(&mut self, map: Map, name: &[u8], change: Change<'_>) -> Written {
        if name.first() == Some(&b':') {
            return self.write_pseudo(map, name, change);
        }
        let Ok(name) = HeaderName::from_bytes(name) else { return Written::IsNone };
        if matches!(name, http::header::CONTENT_LENGTH | http::header::TRANSFER_ENCODING) {
            if let (true, Some(way)) = (name == http::header::CONTENT_LENGTH, way_of(map)) {
                self.has_no_length[way] |= change == Change::Remove;
            }
            return Written::IsFraming;
        }
        if is_guarded(name.as_str()) {
            return Written::IsGuarded;
        }
        if let Change::Add(value) | Change::Replace(value) = change {
            self.written = self.written.saturating_add(value.len()).saturating_add(64);
            if self.written > WRITTEN_MAX {
                return Written::IsNone;
            }
        }
        if map == Map::ResponseTrailers {
            return write_trailer(self.trailers.as_mut(), &name, change);
        }
        let Some(head) = way_of(map).and_then(|way| self.heads[way].as_mut()) else { return Written::IsGone };
        let done = match change {
            Change::Remove => {
                head.remove(&name);
                Some(())
            }
            Change::Add(value) => HeaderValue::from_bytes(value).ok().and_then(|value| head.add(&name, &value).ok()),
            Change::Replace(value) => {
                HeaderValue::from_bytes(value).ok().and_then(|value| head.set(&name, &value).ok())
            }
        };
        done.map_or(Written::IsNone, |()| Written::Done)
    }

    /// Only the status of a response may be another.
    fn write_pseudo(&mut self, map: Map, name: &[u8], change: Change<'_>) -> Written {
        let (Map::ResponseHeaders, b":status", Change::Add(value) | Change::Replace(value)) = (map, name, change)
        else {
            return Written::IsGuarded;
        };
        let status = StatusCode::from_bytes(value).ok().filter(|status| !status.is_informational());
        let is_final = self.status.is_some_and(|status| !status.is_informational());
        let (Some(status), Some(head), true) = (status, self.heads[Way::Response].as_mut(), is_final) else {
            return Written::IsNone;
        };
        self.status = Some(status);
        head.set_status(status).map_or(Written::IsNone, |()| Written::Done)
    }
}

const fn way_of(map: Map) -> Option<Way> {
    match map {
        Map::RequestHeaders => Some(Way::Request),
        Map::ResponseHeaders => Some(Way::Response),
        Map::ResponseTrailers | Map::CallHeaders | Map::Nothing => None,
    }
}

fn write_trailer(trailers: Option<&mut HeaderMap>, name: &HeaderName, change: Change<'_>) -> Written {
    let Some(trailers) = trailers else { return Written::IsGone };
    let value = match change {
        Change::Remove => {
            trailers.remove(name);
            return Written::Done;
        }
        Change::Add(value) | Change::Replace(value) => HeaderValue::from_bytes(value),
    };
    let Ok(value) = value else { return Written::IsNone };
    let written = match change {
        Change::Replace(_) => trailers.try_insert(name, value).is_ok(),
        Change::Add(_) | Change::Remove => trailers.try_append(name, value).is_ok(),
    };
    if written { Written::Done } else { Written::IsNone }
}

/// Takes the place of a stretch of a buffer: in front of it, behind it, or of all or a part of it.
pub(super) fn splice(buffer: &mut BytesMut, start: usize, length: usize, with: &[u8]) {
    let start = start.min(buffer.len());
    let end = start.saturating_add(length).min(buffer.len());
    let behind = buffer.split_off(end);
    buffer.truncate(start);
    buffer.extend_from_slice(with);
    buffer.unsplit(behind);
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case(0, 0, b"--", b"--body"; "in front")]
    #[test_case(4, 0, b"--", b"body--"; "behind")]
    #[test_case(99, 7, b"--", b"body--"; "behind, however far")]
    #[test_case(0, usize::MAX, b"--", b"--"; "all")]
    #[test_case(0, 4, b"", b""; "taken out")]
    #[test_case(1, 2, b"--", b"b--y"; "the middle")]
    #[test_case(3, 9, b"s", b"bods"; "beyond the end")]
    fn a_stretch(start: usize, length: usize, with: &[u8], expected: &[u8]) {
        let mut buffer = BytesMut::from(&b"body"[..]);
        splice(&mut buffer, start, length, with);
        assert_eq!(&buffer[..], expected);
    }
}
