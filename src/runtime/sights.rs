//! When keys were first seen: a new name or date does not make an old key young.

use super::files::replace_for_good;
use crate::clock::{Timestamp, UnixSeconds};
use crate::generation::Digest;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// In seconds.
const DAY: UnixSeconds = 24 * 60 * 60;
/// What was not seen for so long is forgotten.
const REMEMBERED_FOR: UnixSeconds = 400 * DAY;
/// So many are remembered at most: those that were seen last.
const SIGHTS_MAX: usize = 65_536;

/// The first sight of every key, over restarts where there is a history.
#[derive(Debug, Default)]
pub struct Sights {
    file: Option<PathBuf>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    sights: BTreeMap<String, Sight>,
    /// Whether the file lacks something of it.
    is_news: bool,
}

/// When something was seen.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(from = "Written")]
struct Sight {
    first: UnixSeconds,
    last: UnixSeconds,
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Both { first: UnixSeconds, last: UnixSeconds },
    First(UnixSeconds),
}

impl From<Written> for Sight {
    fn from(written: Written) -> Self {
        match written {
            Written::Both { first, last } => Self { first, last },
            Written::First(first) => Self { first, last: first },
        }
    }
}

impl Sights {
    /// Reads what was remembered.
    ///
    /// # Errors
    /// If the folder's file is there and cannot be read: without it old keys would be young again.
    pub fn open(folder: Option<&Path>) -> io::Result<Self> {
        let file = folder.map(|folder| folder.join("keys.json"));
        let sights = match file.as_ref().map(fs::read) {
            Some(Ok(text)) => {
                serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            }
            Some(Err(fault)) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
            Some(Err(_)) | None => BTreeMap::new(),
        };
        Ok(Self { file, seen: Mutex::new(Seen { sights, is_news: false }) })
    }

    /// The same for who only looks: nothing is written.
    ///
    /// # Errors
    /// As [`Sights::open`].
    pub fn look(folder: Option<&Path>) -> io::Result<Self> {
        Ok(Self { file: None, ..Self::open(folder)? })
    }

    /// When a key was first seen; now, if it never was.
    pub fn first(&self, fingerprint: Digest, now: Timestamp) -> UnixSeconds {
        let now = now.unix_seconds();
        let mut seen = self.seen.lock();
        let Seen { sights, is_news } = &mut *seen;
        let known = sights.entry(fingerprint.to_string()).or_insert(Sight { first: now, last: UnixSeconds::MIN });
        if now.saturating_sub(known.last) >= DAY {
            (known.last, *is_news) = (now, true);
        }
        known.first
    }

    /// Writes down what is new. What could not be written is tried again the next time.
    ///
    /// # Errors
    /// If it cannot be written: then an old key could become young.
    pub fn remember(&self, now: Timestamp) -> io::Result<()> {
        let mut seen = self.seen.lock();
        let Seen { sights, is_news } = &mut *seen;
        if !*is_news {
            return Ok(());
        }
        sights.retain(|_, sight| now.unix_seconds().saturating_sub(sight.last) < REMEMBERED_FOR);
        while sights.len() > SIGHTS_MAX {
            // Whoever was not seen for longest.
            let oldest = sights.iter().min_by_key(|(_, sight)| sight.last).map(|(name, _)| name.clone());
            sights.retain(|name, _| Some(name) != oldest.as_ref());
        }
        if let Some(file) = &self.file {
            replace_for_good(file, &serde_json::to_vec_pretty(&sights).map_err(io::Error::other)?)?;
        }
        *is_news = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: UnixSeconds) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn the_first_sight_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (one, other) = (Digest::of(&[("key", b"one")]), Digest::of(&[("key", b"other")]));
        let sights = Sights::open(Some(folder)).unwrap();
        assert_eq!(sights.first(one, at(100)), 100);
        assert_eq!(sights.first(one, at(200)), 100);
        sights.remember(at(200)).unwrap();
        let again = Sights::open(Some(folder)).unwrap();
        assert_eq!((again.first(one, at(300)), again.first(other, at(300))), (100, 300));
        fs::create_dir(folder.join("keys.new")).unwrap();
        assert!(again.remember(at(400)).is_err() && again.remember(at(500)).is_err(), "not known by half");
        fs::remove_dir(folder.join("keys.new")).unwrap();
        again.remember(at(600)).unwrap();
        assert_eq!(Sights::look(Some(folder)).unwrap().first(other, at(700)), 300);
        fs::write(folder.join("keys.json"), "garbage").unwrap();
        assert!(Sights::open(Some(folder)).is_err());
    }

    #[test]
    fn who_only_looks_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let one = Digest::of(&[("key", b"one")]);
        // As it was written before there was a last sight.
        fs::write(folder.path().join("keys.json"), format!("{{\"{one}\": 100}}")).unwrap();
        let sights = Sights::look(Some(folder.path())).unwrap();
        assert_eq!(sights.first(one, at(900_000)), 100);
        sights.remember(at(900_000)).unwrap();
        assert!(!fs::read_to_string(folder.path().join("keys.json")).unwrap().contains("last"));
    }

    #[test]
    fn what_is_long_gone_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Digest::of(&[("key", b"one")]), Digest::of(&[("key", b"other")]));
        let sights = Sights::open(Some(folder.path())).unwrap();
        sights.first(one, at(0));
        sights.first(other, at(399 * DAY));
        sights.remember(at(399 * DAY)).unwrap();
        assert_eq!(sights.first(one, at(399 * DAY)), 0, "not yet");
        sights.first(other, at(1000 * DAY));
        sights.remember(at(1000 * DAY)).unwrap();
        assert_eq!((sights.first(one, at(1001 * DAY)), sights.first(other, at(1001 * DAY))), (1001 * DAY, 399 * DAY));
    }
}
