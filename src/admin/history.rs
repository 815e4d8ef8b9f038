//! What was live.

use super::Reply;
use crate::keys::Kind;
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

#[derive(Serialize)]
struct Content<'a> {
    path: &'a Path,
    kind: Kind,
    /// None of a secret.
    text: Option<String>,
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
