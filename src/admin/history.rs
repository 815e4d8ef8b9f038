//! What was live.

use super::Reply;
use crate::generation::Digest;
use crate::keys::{Kind, Read};
use crate::runtime::{Entry, Live};
use http::StatusCode;
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct History {
    /// The generation that is live.
    live: u64,
    /// The oldest first.
    generations: Vec<Entry>,
}

/// A generation with its files.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    contents: Vec<Content<'a>>,
}

/// What is live.
#[derive(Serialize)]
struct Current<'a> {
    generation: u64,
    digest: Digest,
    contents: Vec<Content<'a>>,
}

#[derive(Serialize)]
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
    let text = |read: &Read| (read.kind != Kind::Secret).then(|| String::from_utf8_lossy(read.content()).into_owned());
    let contents = snapshot.read.iter().map(|read| Content {
        path: &read.path,
        kind: read.kind,
        sha256: read.digest().to_string(),
        text: text(read),
    });
    let told =
        Current { generation: snapshot.generation.number(), digest: snapshot.digest, contents: contents.collect() };
    (StatusCode::OK, serde_json::to_vec(&told).unwrap_or_default())
}

/// Answers `/history`, and `/history/N` with the contents of that generation's files.
pub(super) fn answer(live: &Live, path: &str) -> Reply {
    let generation = path.strip_prefix("/history/").map(str::parse::<u64>);
    let told = match generation {
        None => {
            let generations = live.remembered();
            serde_json::to_vec(&History { live: live.snapshot().generation.number(), generations })
        }
        Some(Ok(generation)) => match live.stored(generation) {
            Ok(stored) => {
                let text = |content: &[u8]| String::from_utf8_lossy(content).into_owned();
                let files = stored.files.iter();
                let contents = files.map(|(file, content)| Content {
                    path: &file.path,
                    kind: file.kind,
                    sha256: file.sha256.clone(),
                    text: content.as_deref().map(text),
                });
                serde_json::to_vec(&Shown { entry: &stored.entry, contents: contents.collect() })
            }
            Err(finding) => return (StatusCode::NOT_FOUND, format!("{}\n", finding.message).into_bytes()),
        },
        Some(Err(_)) => return (StatusCode::NOT_FOUND, b"a generation is a number\n".to_vec()),
    };
    (StatusCode::OK, told.unwrap_or_default())
}
