//! What was live: every generation with the files that decided, so that it can be shown, compared and brought back.
//!
//! A folder holds the last number, an entry of each generation, and contents by their digests. Secrets are never among
//! them: of a file that holds one there is the digest only.

mod store;

pub use store::Stored;

use crate::audit::Cause;
use crate::clock::Timestamp;
use crate::config::{self, Finding};
use crate::generation::{Digest, Generation};
use crate::keys::{Kind, Read, content_up_to};
use crate::pins::{Pin, Pins};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use store::Store;

/// A generation that was live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its number.
    pub generation: u64,
    /// Since when (RFC 3339).
    pub time: String,
    /// Its digest.
    pub digest: String,
    /// How it came to be: `start`, `reload`, `rollback`.
    pub action: String,
    /// What made the process act.
    pub cause: String,
    /// The system's number of the user who wanted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// Why, in his words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The config's file.
    pub config: PathBuf,
    /// All files that decided, the config's first.
    pub files: Vec<File>,
}

/// A file that decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct File {
    /// Which.
    pub path: PathBuf,
    /// SHA-256 of its content.
    pub sha256: String,
    /// What a rollback does with it.
    pub kind: Kind,
}

/// What a new entry says beside the generation itself.
#[derive(Debug)]
pub struct News<'a> {
    /// When.
    pub time: Timestamp,
    /// How.
    pub action: &'static str,
    /// Who, and why.
    pub cause: &'a Cause,
}

/// A folder that remembers. Without one, numbers start at 1 in every process.
#[derive(Debug)]
pub struct History {
    store: Option<Store>,
    keep: usize,
    last: Generation,
    entries: VecDeque<Entry>,
    pins: Arc<Pins>,
    /// The same, as they are on disk.
    pinned: Arc<Pins>,
}

impl History {
    /// Reads what was remembered, and keeps so many generations.
    ///
    /// # Errors
    /// If something in the folder cannot be read: a lower number must never be given again, and what was rolled back
    /// must not count again.
    pub fn open(folder: Option<&Path>, keep: usize) -> io::Result<Self> {
        let Some(folder) = folder else {
            let (entries, pins) = (VecDeque::new(), Arc::<Pins>::default());
            let pinned = Arc::clone(&pins);
            return Ok(Self { store: None, keep, last: Generation::new(0), entries, pins, pinned });
        };
        let store = Store::open(folder)?;
        let (last, entries, pins) = (store.last()?, store.entries()?, Arc::new(store.pins()?));
        let pinned = Arc::clone(&pins);
        Ok(Self { store: Some(store), keep, last, entries, pins, pinned })
    }

    /// Reads again what another process may have written.
    ///
    /// # Errors
    /// As [`History::open`].
    pub fn read_again(&mut self) -> io::Result<()> {
        if let Some(store) = &self.store {
            self.last = self.last.max(store.last()?);
            (self.entries, self.pins) = (store.entries()?, Arc::new(store.pins()?));
            self.pinned = Arc::clone(&self.pins);
        }
        Ok(())
    }

    /// The number of the generation after the last.
    #[must_use]
    pub const fn next(&self) -> Generation {
        self.last.next()
    }

    /// What was rolled back.
    #[must_use]
    pub fn pins(&self) -> Arc<Pins> {
        Arc::clone(&self.pins)
    }

    /// The generations that are remembered, the oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// A generation with its contents.
    ///
    /// # Errors
    /// If it is not remembered, or a content is gone or damaged.
    pub fn stored(&self, generation: u64) -> Result<Stored, Finding> {
        let missing = || {
            let hint = "`belay history` shows which there are".to_owned();
            Finding::of_file("", format!("generation {generation} is not remembered"), Some(hint))
        };
        let entry = self.entries.iter().find(|entry| entry.generation == generation).ok_or_else(missing)?;
        let store = self.store.as_ref().ok_or_else(missing)?;
        store.stored(entry).map_err(|(path, fault)| {
            Finding::of_file(path, format!("its content of generation {generation} cannot be read: {fault}"), None)
        })
    }

    /// Remembers a generation, on disk before it is used, and what is rolled back from then on.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn remember(
        &mut self,
        (generation, digest): (Generation, Digest),
        read: &[Read],
        news: &News<'_>,
        pins: Arc<Pins>,
    ) -> io::Result<()> {
        if let Some(store) = &self.store {
            let entry = entry((generation, digest), read, news);
            store.remember(generation, &entry, read)?;
            self.entries.push_back(entry);
        }
        self.last = generation;
        self.pin(pins, read)
    }

    /// Remembers which of the files that were read do not count as they are on disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn pin(&mut self, mut pins: Arc<Pins>, read: &[Read]) -> io::Result<()> {
        Arc::make_mut(&mut pins).forget_unread(|path| read.iter().any(|read| read.path == path));
        if let Some(store) = &self.store {
            if *pins != *self.pinned {
                store.pin(&pins)?;
                self.pinned = Arc::clone(&pins);
            }
            if self.entries.len() > self.keep {
                self.entries.drain(..self.entries.len().saturating_sub(self.keep));
                store.forget_all_but(&self.entries, &pins);
            }
        }
        self.pins = pins;
        Ok(())
    }
}

fn entry((generation, digest): (Generation, Digest), read: &[Read], news: &News<'_>) -> Entry {
    let file = |read: &Read| File { path: read.path.clone(), sha256: read.digest().to_string(), kind: read.kind };
    let user = news.cause.actor.user();
    Entry {
        generation: generation.number(),
        time: news.time.to_string(),
        digest: digest.to_string(),
        action: news.action.to_owned(),
        cause: news.cause.actor.word().to_owned(),
        user,
        reason: news.cause.reason.as_deref().map(str::to_owned),
        config: read.first().map(|config| config.path.clone()).unwrap_or_default(),
        files: read.iter().map(file).collect(),
    }
}

/// What must count instead of the files on disk, so that a stored generation is live again. Files that say what holds
/// now, like revocation lists and certificates, count as they are.
pub(super) fn pins_of(stored: &Stored) -> Pins {
    let mut pins = Pins::default();
    for (file, content) in &stored.files {
        let (Kind::Decides, Some(content)) = (file.kind, content) else { continue };
        let on_disk = digest_on_disk(&file.path);
        if on_disk.map(|digest| digest.to_string()) != Some(file.sha256.clone()) {
            pins.pin(file.path.clone(), Pin { instead_of: on_disk, content: Arc::clone(content) });
        }
    }
    pins
}

/// SHA-256 of a file; none if it cannot be read.
pub(super) fn digest_on_disk(path: &Path) -> Option<Digest> {
    content_up_to(path, config::TEXT_MAX).ok().flatten().map(|content| Digest::of_content(&content))
}
