//! What a line says of its place, which nothing proves yet.

use crate::audit::chain::parts;
use crate::audit::record::Predecessor;
use serde::Deserialize;
use std::borrow::Cow;

/// What a line says of its place.
#[derive(Deserialize)]
pub(super) struct Placed<'a> {
    #[serde(rename = "@timestamp", borrow)]
    pub(super) timestamp: &'a str,
    #[serde(borrow)]
    pub(super) event: Numbered<'a>,
    #[serde(default, borrow)]
    pub(super) file: Option<Named<'a>>,
    #[serde(borrow)]
    pub(super) belay: Booted<'a>,
}

#[derive(Deserialize)]
pub(super) struct Named<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct Numbered<'a> {
    pub(super) sequence: u64,
    #[serde(default)]
    pub(super) action: &'a str,
}

#[derive(Deserialize)]
pub(super) struct Booted<'a> {
    pub(super) boot: &'a str,
    #[serde(default, borrow)]
    pub(super) continues: Option<Position<'a>>,
    #[serde(default, borrow)]
    pub(super) predecessor: Option<Other<'a>>,
    #[serde(default, borrow)]
    pub(super) recovered: Option<Left<'a>>,
    #[serde(default)]
    pub(super) count: u64,
}

/// What the first record of a file says of the file before.
#[derive(Deserialize)]
pub(super) struct Position<'a> {
    pub(super) sequence: u64,
    pub(super) chain: &'a str,
}

#[derive(Deserialize)]
pub(super) struct Other<'a> {
    pub(super) boot: &'a str,
    pub(super) sequence: u64,
    #[serde(default)]
    pub(super) chain: Option<&'a str>,
}

#[derive(Deserialize)]
pub(super) struct Left<'a> {
    pub(super) boot: &'a str,
    #[serde(default)]
    pub(super) sequence: u64,
    #[serde(default)]
    pub(super) chain: Option<&'a str>,
    #[serde(default)]
    pub(super) torn_bytes: usize,
    #[serde(default)]
    pub(super) missing: u64,
}

/// Where a record stands, as it says itself.
#[derive(Debug)]
pub struct Place {
    /// The process, the number and the chain.
    pub at: Predecessor,
    /// What it is of.
    pub action: Box<str>,
    /// The process that it says has ended without a word.
    pub recovered: Option<Box<str>>,
}

/// Where a record stands; none, if the line is no record. Nothing is proven by that.
#[must_use]
pub fn place_of(line: &[u8]) -> Option<Place> {
    let Placed { event, belay, .. } = serde_json::from_slice(line).ok()?;
    let chain = parts(line).and_then(|(_, digits)| std::str::from_utf8(digits).ok());
    let at = Predecessor { boot: belay.boot.into(), sequence: event.sequence, chain: chain.map(Into::into) };
    Some(Place { at, action: event.action.into(), recovered: belay.recovered.map(|left| left.boot.into()) })
}
