//! Files that do not count as they are on disk, because they were rolled back: an earlier content counts instead, until
//! somebody changes them.

use crate::generation::Digest;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What counts instead of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// What stands on disk and does not count; none if there is no file.
    pub instead_of: Option<Digest>,
    /// What counts.
    pub content: Arc<[u8]>,
}

/// Files that were rolled back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins(BTreeMap<PathBuf, Pin>);

impl Pins {
    /// What counts of a file in which that was found; none if it could not be read.
    #[must_use]
    pub fn correct<'a>(&'a self, path: &Path, found: Option<Cow<'a, [u8]>>) -> Option<Cow<'a, [u8]>> {
        let digest = found.as_deref().map(Digest::of_content);
        match self.0.get(path).filter(|pin| pin.instead_of == digest) {
            Some(pin) => Some(Cow::Borrowed(&*pin.content)),
            None => found,
        }
    }

    /// Whether something else counts than what stands on disk.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Whether every file counts as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets another content count.
    pub fn pin(&mut self, path: PathBuf, pin: Pin) {
        self.0.insert(path, pin);
    }

    /// The files.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Pin)> {
        self.0.iter().map(|(path, pin)| (path.as_path(), pin))
    }

    /// Forgets the files that nobody reads.
    pub fn forget_unread(&mut self, is_read: impl Fn(&Path) -> bool) {
        self.0.retain(|path, _| is_read(path));
    }

    /// Forgets the files that are changed since; whether there were any.
    pub fn forget_changed(&mut self, digest_on_disk: impl Fn(&Path) -> Option<Digest>) -> bool {
        let before = self.0.len();
        self.0.retain(|path, pin| digest_on_disk(path) == pin.instead_of);
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_again_when_it_is_changed() {
        let mut pins = Pins::default();
        let path = Path::new("a.yaml");
        let pin = Pin { instead_of: Some(Digest::of_content(b"bad")), content: Arc::from(*b"good") };
        pins.pin(path.to_owned(), pin);
        let counts = |pins: &Pins, found: &'static [u8]| pins.correct(path, Some(found.into())).unwrap().into_owned();
        assert_eq!((counts(&pins, b"bad"), counts(&pins, b"better")), (b"good".to_vec(), b"better".to_vec()));
        assert_eq!(pins.correct(path, None), None, "it was there when it was rolled back");
        assert_eq!(pins.correct(Path::new("b.yaml"), Some(b"bad"[..].into())).unwrap(), &b"bad"[..]);
        assert!(!pins.forget_changed(|_| Some(Digest::of_content(b"bad"))));
        assert!(pins.forget_changed(|_| Some(Digest::of_content(b"better"))) && pins.is_empty());
    }

    #[test]
    fn a_file_that_is_gone_is_there_again() {
        let mut pins = Pins::default();
        pins.pin("ca.pem".into(), Pin { instead_of: None, content: Arc::from(*b"ca") });
        assert_eq!(pins.correct(Path::new("ca.pem"), None).unwrap(), &b"ca"[..]);
        assert_eq!(pins.correct(Path::new("ca.pem"), Some(b"new"[..].into())).unwrap(), &b"new"[..]);
    }
}
