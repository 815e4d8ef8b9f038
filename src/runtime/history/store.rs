//! The history's folder. What is read from it is compared with its digest.

use super::{Entry, File};
use crate::generation::{Digest, Generation};
use crate::keys::Read;
use crate::pins::{Pin, Pins};
use crate::runtime::files::{replace, replace_for_good};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashSet, VecDeque},
    fmt::Display,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A generation with the contents of its files; secrets have none.
#[derive(Debug)]
pub struct Stored {
    /// What is said of it.
    pub entry: Entry,
    /// Its files, the config first.
    pub files: Vec<(File, Option<Arc<[u8]>>)>,
}

impl Stored {
    /// The config's text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        let (_, content) = self.files.first()?;
        std::str::from_utf8(content.as_deref()?).ok()
    }
}

/// A pin, as it is written.
#[derive(Serialize, Deserialize)]
struct WrittenPin {
    path: PathBuf,
    instead_of: Option<String>,
    sha256: String,
}

/// The folder.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        for inner in ["generations", "objects"] {
            match DirBuilder::new().mode(0o700).create(folder.join(inner)) {
                Err(fault) if fault.kind() != io::ErrorKind::AlreadyExists => return Err(fault),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The number of the last generation.
    pub(super) fn last(&self) -> io::Result<Generation> {
        let path = self.folder.join("generation");
        let Some(text) = present(fs::read_to_string(&path))? else { return Ok(Generation::new(0)) };
        text.trim().parse().map(Generation::new).map_err(|fault| damaged(&path, &fault))
    }

    /// What can be read of the entries: what happened to one of them is no reason not to serve.
    pub(super) fn entries(&self) -> io::Result<VecDeque<Entry>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(self.folder.join("generations"))? {
            let path = file?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match fs::read(&path).and_then(|text| Ok(serde_json::from_slice::<Entry>(&text)?)) {
                Ok(entry) => entries.push(entry),
                Err(fault) => log::warn!("{} cannot be read and does not count: {fault}", path.display()),
            }
        }
        entries.sort_by_key(|entry| entry.generation);
        Ok(entries.into())
    }

    pub(super) fn pins(&self) -> io::Result<Pins> {
        let path = self.folder.join("rolled-back.json");
        let Some(text) = present(fs::read(&path))? else { return Ok(Pins::default()) };
        let written: Vec<WrittenPin> = serde_json::from_slice(&text).map_err(|fault| damaged(&path, &fault))?;
        let mut pins = Pins::default();
        for pin in written {
            let instead_of = pin.instead_of.as_deref().map(digest).transpose()?;
            let gone =
                |fault| damaged(&pin.path, &format!("it was rolled back, and what counts instead is lost: {fault}"));
            let content = self.object(&pin.sha256).map_err(gone)?;
            pins.pin(pin.path, Pin { instead_of, content });
        }
        Ok(pins)
    }

    pub(super) fn pin(&self, pins: &Pins) -> io::Result<()> {
        let written: Vec<_> = pins
            .iter()
            .map(|(path, pin)| WrittenPin {
                path: path.to_owned(),
                instead_of: pin.instead_of.map(|digest| digest.to_string()),
                sha256: Digest::of_content(&pin.content).to_string(),
            })
            .collect();
        for (_, pin) in pins.iter() {
            self.keep(&Digest::of_content(&pin.content), &pin.content)?;
        }
        replace_for_good(&self.folder.join("rolled-back.json"), &serde_json::to_vec_pretty(&written)?)
    }

    pub(super) fn remember(&self, generation: Generation, entry: &Entry, read: &[Read]) -> io::Result<()> {
        for read in read.iter().filter(|read| !read.kind.is_secret()) {
            self.keep(&read.digest(), read.content())?;
        }
        replace(&self.entry_path(entry.generation), &serde_json::to_vec_pretty(entry)?)?;
        replace_for_good(&self.folder.join("generation"), format!("{generation}\n").as_bytes())
    }

    /// Keeps a content. One that was cut off by a power cut is written again.
    fn keep(&self, digest: &Digest, content: &[u8]) -> io::Result<()> {
        let object = self.object_path(&digest.to_string());
        let is_whole = |found: fs::Metadata| usize::try_from(found.len()).is_ok_and(|length| length == content.len());
        if fs::metadata(&object).is_ok_and(is_whole) { Ok(()) } else { replace(&object, content) }
    }

    /// Deletes the entries that are not among these, and the contents that nobody needs any more. What cannot be deleted
    /// is only in the way.
    pub(super) fn forget_all_but(&self, entries: &VecDeque<Entry>, pins: &Pins) {
        let kept = entries.iter().map(|entry| self.entry_path(entry.generation));
        let needed = entries.iter().flat_map(|entry| &entry.files).map(|file| self.object_path(&file.sha256));
        let pinned = pins.iter().map(|(_, pin)| self.object_path(&Digest::of_content(&pin.content).to_string()));
        let needed: HashSet<_> = needed.chain(kept).chain(pinned).collect();
        for inner in ["generations", "objects"] {
            let files = fs::read_dir(self.folder.join(inner)).into_iter().flatten().flatten();
            files.map(|file| file.path()).filter(|path| !needed.contains(path)).for_each(|path| remove(&path));
        }
    }

    pub(super) fn stored(&self, entry: &Entry) -> Result<Stored, (PathBuf, io::Error)> {
        let mut files = Vec::new();
        for file in &entry.files {
            let is_secret = file.kind.is_secret();
            let content = (!is_secret).then(|| self.object(&file.sha256)).transpose();
            files.push((file.clone(), content.map_err(|fault| (file.path.clone(), fault))?));
        }
        Ok(Stored { entry: entry.clone(), files })
    }

    fn object(&self, sha256: &str) -> io::Result<Arc<[u8]>> {
        digest(sha256)?;
        let content = fs::read(self.object_path(sha256))?;
        if Digest::of_content(&content).to_string() != sha256 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what its digest says"));
        }
        Ok(content.into())
    }

    fn object_path(&self, sha256: &str) -> PathBuf {
        self.folder.join("objects").join(sha256)
    }

    fn entry_path(&self, generation: u64) -> PathBuf {
        self.folder.join("generations").join(format!("{generation:010}.json"))
    }
}

fn remove(path: &Path) {
    if let Err(fault) = fs::remove_file(path) {
        log::warn!("{} cannot be removed from the history: {fault}", path.display());
    }
}

fn digest(text: &str) -> io::Result<Digest> {
    Digest::parse(text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no digest"))
}

/// What was read, if it is there.
fn present<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

fn damaged(path: &Path, why: &dyn Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}
