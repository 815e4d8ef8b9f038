//! `compression`: responses are compressed for clients that can take it.
//!
//! What is secret and what an attacker chooses must not be compressed together (BREACH), so a response to a user, and
//! one that sets a cookie, is compressed only where the config says so.

mod encoder;

use super::cors::vary_by;
use super::kind::Settings;
use super::view::length;
use super::{About, Filter, Flow, Headers, Request, Response, Running};
use crate::config::document::SizeText;
use crate::config::{Fault, FilterSpec, Reader};
use crate::refusal::Refusal;
use bytes::Bytes;
use encoder::{Algorithm, Encoder};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, SET_COOKIE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Compresses responses. One to a user, and one that sets a cookie, stays as it is unless it is said here: whoever can
/// have something put into it could find out the rest by its length.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Compression {
    /// Algorithms in the order in which they are preferred where the client does not mind.
    #[schemars(length(min = 1))]
    algorithms: Vec<Algorithm>,
    /// Media types; `text/*` means all of a kind.
    #[schemars(length(min = 1))]
    types: Vec<String>,
    /// The shortest body that is worth it, if its length is known: 0B to 1MiB.
    min: SizeText,
    /// Whether responses to users are compressed, too.
    for_users: bool,
    /// Whether those that set a cookie are.
    with_cookies: bool,
}

impl Default for Compression {
    fn default() -> Self {
        let types = [
            "text/html",
            "text/css",
            "text/plain",
            "text/xml",
            "text/csv",
            "text/javascript",
            "application/javascript",
            "application/json",
            "application/problem+json",
            "application/xml",
            "application/wasm",
            "image/svg+xml",
        ];
        Self {
            algorithms: vec![Algorithm::Zstd, Algorithm::Brotli, Algorithm::Gzip],
            types: types.map(Into::into).into(),
            min: SizeText("1KiB".into()),
            for_users: false,
            with_cookies: false,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Compressing {
    algorithms: Arc<[Algorithm]>,
    types: Arc<[Box<str>]>,
    min: u64,
    for_users: bool,
    with_cookies: bool,
}

impl Settings for Compression {
    const NAME: &'static str = "compression";
    type Spec = Compressing;

    fn read(self, reader: &mut Reader<'_>) -> Option<Compressing> {
        let place = reader.place.clone();
        for (index, text) in self.types.iter().enumerate() {
            let is_type = text.split_once('/').is_some_and(|(kind, of)| !kind.is_empty() && !of.is_empty());
            if !is_type || text.contains([' ', ';', ',']) {
                let fault = Fault::new(&place.key("types").index(index), format!("`{text}` is no media type"));
                reader.fault(fault.hint("for example application/json, or text/*"));
            }
        }
        let min = reader.bytes(&self.min.0, &place.key("min"), 0..=1024 * 1024)?;
        let (for_users, with_cookies) = (self.for_users, self.with_cookies);
        let types = self.types.iter().map(|text| text.to_ascii_lowercase().into()).collect();
        Some(Compressing { algorithms: self.algorithms.into(), types, min, for_users, with_cookies })
    }
}

impl FilterSpec for Compressing {}

impl Filter for Compressing {
    fn name(&self) -> &str {
        Compression::NAME
    }

    fn begin(&self, about: &About<'_>) -> Result<Option<Box<dyn Running>>, Refusal> {
        let may = self.for_users || about.permit.principal().user().is_none();
        Ok(may.then(|| {
            Box::new(Stream { settings: self.clone(), encoder: None, etag: None, flushes: false }) as Box<dyn Running>
        }))
    }
}

impl Compressing {
    /// Whether a response may be compressed for somebody.
    fn is_fit(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let is_there = |name| headers.contains_key(name);
        let is_whole = !status.is_informational() && !matches!(status.as_u16(), 204..=206 | 304);
        // A digest of what is sent would be one of something else.
        let is_signed = is_there("content-digest") || is_there("content-md5");
        is_whole
            && !is_signed
            && !headers.contains_key(CONTENT_ENCODING)
            && !headers.contains_key(CONTENT_RANGE)
            && (self.with_cookies || !headers.contains_key(SET_COOKIE))
            && !words(headers, &CACHE_CONTROL).any(|word| word.eq_ignore_ascii_case("no-transform"))
            && length(headers).is_none_or(|length| length >= self.min)
            && headers.get(CONTENT_TYPE).is_some_and(|kind| self.takes(kind))
    }

    fn takes(&self, kind: &HeaderValue) -> bool {
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        self.types.iter().any(|known| match known.strip_suffix('*') {
            Some(start) => kind.starts_with(start),
            None => **known == *kind,
        })
    }

    /// The algorithm that the client likes best; among those that he likes equally, we do (RFC 9110 § 12.5.3).
    fn choose(&self, asked: &HeaderMap) -> Option<Algorithm> {
        let liked: Vec<_> = words(asked, &ACCEPT_ENCODING).map(preference).collect();
        let of = |coding: &str| liked.iter().find(|(known, _)| known.eq_ignore_ascii_case(coding));
        let quality =
            |algorithm: Algorithm| of(algorithm.coding()).or_else(|| of("*")).map_or(0.0, |(_, quality)| *quality);
        let mut best = None;
        for algorithm in self.algorithms.iter().copied() {
            let quality = quality(algorithm);
            if quality > best.map_or(0.0, |(_, best)| best) {
                best = Some((algorithm, quality));
            }
        }
        best.map(|(algorithm, _)| algorithm)
    }
}

/// A coding and how much it is liked: `gzip;q=0.5`.
fn preference(word: &str) -> (&str, f32) {
    let (coding, quality) = word.split_once(';').unwrap_or((word, "q=1"));
    let quality = quality.trim().strip_prefix("q=").and_then(|text| text.trim().parse::<f32>().ok());
    (coding.trim(), quality.filter(|quality| (0.0..=1.0).contains(quality)).unwrap_or(0.0))
}

fn words<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// What is compressed is no longer the same byte for byte.
fn weaken_etag(headers: &mut dyn Headers) -> Result<(), Refusal> {
    let strong = headers.all().get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    let weak = strong.map(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()));
    match weak {
        Some(weak) => headers.set(&ETAG, &weak.map_err(|_unfit| Refusal::FilterFailed)?),
        None => Ok(()),
    }
}

#[derive(Debug)]
struct Stream {
    settings: Compressing,
    encoder: Option<Encoder>,
    /// What the response was called before it was compressed.
    etag: Option<HeaderValue>,
    /// What has no length is being made while it is sent, and nobody waits longer for it than need be.
    flushes: bool,
}

impl Running for Stream {
    fn request(&mut self, about: &About<'_>, request: &mut Request<'_>) -> Result<Flow, Refusal> {
        self.settings.request(about, request)
    }

    fn response(&mut self, _: &About<'_>, response: &mut Response<'_>) -> Result<Flow, Refusal> {
        self.encoder = None;
        if response.gets_cookie && !self.settings.with_cookies {
            return Ok(Flow::Goes);
        }
        if !self.settings.is_fit(response.status, response.headers.all()) {
            return Ok(Flow::Goes);
        }
        vary_by(response.headers, "accept-encoding")?;
        let Some(algorithm) = self.settings.choose(response.asked) else { return Ok(Flow::Goes) };
        if !response.has_body {
            return Ok(Flow::Goes);
        }
        self.flushes = length(response.headers.all()).is_none();
        self.encoder = Some(Encoder::new(algorithm).ok_or(Refusal::FilterFailed)?);
        response.headers.set(&CONTENT_ENCODING, &HeaderValue::from_static(algorithm.coding()))?;
        response.headers.remove(&ACCEPT_RANGES);
        self.etag = response.headers.all().get(ETAG).cloned();
        weaken_etag(response.headers).map(|()| Flow::Goes)
    }

    fn dressed(&mut self, headers: &mut dyn Headers) -> Result<(), Refusal> {
        // A filter after this one has set a cookie.
        let gives_up = self.encoder.is_some() && !self.settings.with_cookies && headers.all().contains_key(SET_COOKIE);
        if !gives_up {
            return Ok(());
        }
        self.encoder = None;
        headers.remove(&CONTENT_ENCODING);
        self.etag.take().map_or(Ok(()), |etag| headers.set(&ETAG, &etag))
    }

    fn takes_response_body(&self) -> bool {
        self.encoder.is_some()
    }

    fn response_body(&mut self, _: &About<'_>, piece: &mut Bytes, is_last: bool) -> Result<(), Refusal> {
        if let Some(encoder) = &mut self.encoder {
            let encoded = encoder.encode(piece, is_last, self.flushes);
            *piece = encoded.ok_or(Refusal::FilterFailed)?;
        }
        Ok(())
    }

    fn response_trailers(&mut self, _: &About<'_>, _: &mut HeaderMap) -> Result<Bytes, Refusal> {
        // Before trailers no piece says that it is the last.
        let Some(mut encoder) = self.encoder.take() else { return Ok(Bytes::new()) };
        encoder.encode(&[], true, false).ok_or(Refusal::FilterFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn compressing() -> Compressing {
        let settings = Compression::default();
        let types = settings.types.iter().map(|text| text.as_str().into()).collect();
        Compressing { algorithms: settings.algorithms.into(), types, min: 1024, for_users: false, with_cookies: false }
    }

    #[test_case("gzip", Some("gzip"); "one")]
    #[test_case("gzip, deflate, br, zstd", Some("zstd"); "a browser's")]
    #[test_case("gzip;q=1, zstd;q=0.5", Some("gzip"); "the client's preference wins")]
    #[test_case("GZIP", Some("gzip"); "in capitals")]
    #[test_case("*", Some("zstd"); "anything")]
    #[test_case("*, zstd;q=0", Some("br"); "anything but one")]
    #[test_case("gzip;q=0", None; "refused")]
    #[test_case("gzip;q=2", None; "no quality")]
    #[test_case("identity", None; "none")]
    #[test_case("", None; "nothing")]
    fn an_algorithm(accepted: &str, expected: Option<&str>) {
        let asked = [(ACCEPT_ENCODING, HeaderValue::from_str(accepted).unwrap())].into_iter().collect();
        assert_eq!(compressing().choose(&asked).map(Algorithm::coding), expected);
    }

    #[test_case(200, &[], true; "plain")]
    #[test_case(200, &[("content-length", "1024")], true; "long enough")]
    #[test_case(404, &[], true; "an error page")]
    #[test_case(200, &[("content-length", "1023")], false; "short")]
    #[test_case(206, &[], false; "a part")]
    #[test_case(304, &[], false; "not modified")]
    #[test_case(200, &[("content-encoding", "br")], false; "compressed already")]
    #[test_case(200, &[("set-cookie", "a=b")], false; "with a cookie")]
    #[test_case(200, &[("cache-control", "public, no-transform")], false; "not to be touched")]
    #[test_case(200, &[("content-digest", "sha-256=:x:")], false; "with its digest")]
    #[test_case(200, &[("content-range", "bytes 0-1/2")], false; "with a range")]
    fn is_fit(status: u16, headers: &[(&'static str, &'static str)], expected: bool) {
        let mut map = HeaderMap::new();
        map.insert(CONTENT_TYPE, HeaderValue::from_static("Application/JSON; charset=utf-8"));
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        assert_eq!(compressing().is_fit(StatusCode::from_u16(status).unwrap(), &map), expected);
    }

    #[test]
    fn only_its_types() {
        let takes = |kind: &'static str| compressing().takes(&HeaderValue::from_static(kind));
        assert!(takes("text/html") && !takes("image/png") && !takes("text/event-stream") && !takes(""));
    }
}
