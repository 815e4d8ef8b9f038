//! When keys were first seen: a new name or date does not make an old key young.

use super::files::replace_for_good;
use crate::clock::{Timestamp, UnixSeconds};
use crate::generation::Digest;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The first sight of every key, over restarts where there is a history.
#[derive(Debug, Default)]
pub struct Sights {
    file: Option<PathBuf>,
    first: Mutex<BTreeMap<String, UnixSeconds>>,
}

impl Sights {
    /// Reads what was remembered.
    ///
    /// # Errors
    /// If the folder's file is there and cannot be read: without it old keys would be young again.
    pub fn open(folder: Option<&Path>) -> io::Result<Self> {
        let file = folder.map(|folder| folder.join("keys.json"));
        let first = match file.as_ref().map(fs::read) {
            Some(Ok(text)) => {
                serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            }
            Some(Err(fault)) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
            Some(Err(_)) | None => BTreeMap::new(),
        };
        Ok(Self { file, first: Mutex::new(first) })
    }

    /// When a key was first seen; now, if it never was.
    ///
    /// # Errors
    /// If a new sight cannot be remembered.
    pub fn first(&self, fingerprint: Digest, now: Timestamp) -> io::Result<UnixSeconds> {
        let mut first = self.first.lock();
        let name = fingerprint.to_string();
        if let Some(known) = first.get(&name) {
            return Ok(*known);
        }
        let mut with_it = first.clone();
        with_it.insert(name, now.unix_seconds());
        if let Some(file) = &self.file {
            replace_for_good(file, &serde_json::to_vec_pretty(&with_it).map_err(io::Error::other)?)?;
        }
        // What could not be written is not known, so that it is tried again.
        *first = with_it;
        Ok(now.unix_seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sight_outlives_the_process() {
        let folder = std::env::temp_dir().join(format!("belay-sights-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let at = |seconds| Timestamp::from_unix_seconds(seconds);
        let (one, other) = (Digest::of(&[("key", b"one")]), Digest::of(&[("key", b"other")]));
        let sights = Sights::open(Some(&folder)).unwrap();
        assert_eq!(sights.first(one, at(100)).unwrap(), 100);
        assert_eq!(sights.first(one, at(200)).unwrap(), 100);
        let again = Sights::open(Some(&folder)).unwrap();
        assert_eq!(again.first(one, at(300)).unwrap(), 100);
        assert_eq!(again.first(other, at(300)).unwrap(), 300);
        let third = Digest::of(&[("key", b"third")]);
        fs::create_dir(folder.join("keys.new")).unwrap();
        assert!(again.first(third, at(400)).is_err() && again.first(third, at(500)).is_err(), "not known by half");
        fs::remove_dir(folder.join("keys.new")).unwrap();
        assert_eq!(again.first(third, at(600)).unwrap(), 600);
        fs::write(folder.join("keys.json"), "garbage").unwrap();
        assert!(Sights::open(Some(&folder)).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
