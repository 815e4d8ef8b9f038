//! The history's folder. What is read from it is compared with its digest.

use super::{Entry, File};
use crate::generation::{Digest, Generation};
use crate::keys::{Kind, Read};
use crate::pins::{Pin, Pins};
use crate::runtime::files::replace;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashSet, VecDeque},
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
        let text = or_default(fs::read_to_string(self.folder.join("generation")))?;
        let text = text.trim();
        let number = if text.is_empty() { Ok(0) } else { text.parse() };
        number.map(Generation::new).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))
    }

    pub(super) fn entries(&self) -> io::Result<VecDeque<Entry>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(self.folder.join("generations"))? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                entries.push(serde_json::from_slice::<Entry>(&fs::read(path)?)?);
            }
        }
        entries.sort_by_key(|entry| entry.generation);
        Ok(entries.into())
    }

    pub(super) fn pins(&self) -> io::Result<Pins> {
        let text = or_default(fs::read(self.folder.join("rolled-back.json")))?;
        let written: Vec<WrittenPin> = if text.is_empty() { Vec::new() } else { serde_json::from_slice(&text)? };
        let mut pins = Pins::default();
        for pin in written {
            let instead_of = pin.instead_of.as_deref().map(digest).transpose()?;
            pins.pin(pin.path, Pin { instead_of, content: self.object(&pin.sha256)? });
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
        replace(&self.folder.join("rolled-back.json"), &serde_json::to_vec_pretty(&written)?)
    }

    pub(super) fn remember(&self, generation: Generation, entry: &Entry, read: &[Read]) -> io::Result<()> {
        for read in read.iter().filter(|read| read.kind != Kind::Secret) {
            let object = self.object_path(&read.digest().to_string());
            if !object.exists() {
                replace(&object, read.content())?;
            }
        }
        replace(&self.entry_path(entry.generation), &serde_json::to_vec_pretty(entry)?)?;
        replace(&self.folder.join("generation"), format!("{generation}\n").as_bytes())
    }

    /// Deletes the entries that are not among these, and the contents that nobody needs any more. What cannot be deleted
    /// is only in the way.
    pub(super) fn forget_all_but(&self, entries: &VecDeque<Entry>) {
        let kept: HashSet<_> = entries.iter().map(|entry| self.entry_path(entry.generation)).collect();
        let needed = entries.iter().flat_map(|entry| &entry.files).map(|file| self.object_path(&file.sha256));
        let needed: HashSet<_> = needed.chain(kept).collect();
        for inner in ["generations", "objects"] {
            let files = fs::read_dir(self.folder.join(inner)).into_iter().flatten().flatten();
            files.map(|file| file.path()).filter(|path| !needed.contains(path)).for_each(|path| remove(&path));
        }
    }

    pub(super) fn stored(&self, entry: &Entry) -> Result<Stored, (PathBuf, io::Error)> {
        let mut files = Vec::new();
        for file in &entry.files {
            let is_secret = file.kind == Kind::Secret;
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

/// What is not there is empty.
fn or_default<T: Default>(read: io::Result<T>) -> io::Result<T> {
    match read {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        read => read,
    }
}
