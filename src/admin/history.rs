//! What was live.

use super::reply::Reply;
use crate::generation::Digest;
use crate::keys::{Kind, Read};
use crate::runtime::{Approval, Approved, Entry, Live};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use std::{collections::BTreeSet, path::Path};

/// What was live.
#[derive(Serialize, JsonSchema)]
pub(super) struct History {
    /// The generation that is live.
    live: u64,
    /// The oldest first.
    generations: Vec<Entry>,
}

/// A generation with its files.
#[derive(Serialize, JsonSchema)]
pub(super) struct Shown<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    contents: Vec<Content<'a>>,
}

/// What is live.
#[derive(Serialize, JsonSchema)]
pub(super) struct Current<'a> {
    generation: u64,
    #[schemars(with = "String")]
    digest: Digest,
    contents: Vec<Content<'a>>,
}

/// Whether changes must be approved.
#[derive(Serialize, JsonSchema)]
pub(super) struct Demand {
    /// Whether they must.
    required: bool,
    /// The id of the last approval; none if there was none yet.
    #[schemars(with = "Option<String>")]
    last: Option<Digest>,
    /// Who signed it.
    by: BTreeSet<String>,
}

/// A file that decides.
#[derive(Serialize, JsonSchema)]
struct Content<'a> {
    path: &'a Path,
    kind: Kind,
    sha256: String,
    /// None of a secret.
    text: Option<String>,
}

/// What is live, with the contents of its files but secrets.
pub(super) fn live(live: &Live) -> Reply {
    let snapshot = live.snapshot();
    let text = |read: &Read| (!read.kind.is_secret()).then(|| String::from_utf8_lossy(read.content()).into_owned());
    let contents = snapshot.read.iter().map(|read| Content {
        path: &read.path,
        kind: read.kind,
        sha256: read.digest().to_string(),
        text: text(read),
    });
    let told =
        Current { generation: snapshot.generation.number(), digest: snapshot.digest, contents: contents.collect() };
    Reply::json(&told)
}

/// The generations that are remembered.
pub(super) fn all(live: &Live) -> Reply {
    Reply::json(&History { live: live.snapshot().generation.number(), generations: live.remembered() })
}

/// One of them, with the contents of its files.
pub(super) fn one(live: &Live, generation: &str) -> Reply {
    let Ok(generation) = generation.parse() else {
        return Reply::text(StatusCode::BAD_REQUEST, "a generation is a number");
    };
    let stored = match live.stored(generation) {
        Ok(stored) => stored,
        Err(finding) => return Reply::text(StatusCode::NOT_FOUND, finding.message),
    };
    let text = |content: &[u8]| String::from_utf8_lossy(content).into_owned();
    let contents = stored.files.iter().map(|(file, content)| Content {
        path: &file.path,
        kind: file.kind,
        sha256: file.sha256.clone(),
        text: content.as_deref().map(text),
    });
    Reply::json(&Shown { entry: &stored.entry, contents: contents.collect() })
}

/// Whether changes must be approved, and what was approved last.
pub(super) fn demand(live: &Live) -> Reply {
    let approval = live.state().approval.as_ref();
    let last = approval.and_then(Approval::last);
    let id = last.as_ref().map(Approved::id);
    Reply::json(&Demand { required: approval.is_some(), last: id, by: last.map(|last| last.by).unwrap_or_default() })
}
