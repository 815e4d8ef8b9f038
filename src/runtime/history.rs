//! The number of the last generation, kept over restarts.

use crate::generation::Generation;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A folder that remembers. Without one, numbers start at 1 in every process.
#[derive(Debug)]
pub struct History {
    file: Option<PathBuf>,
    last: Generation,
}

impl History {
    /// Reads what was remembered.
    ///
    /// # Errors
    /// If the folder's file cannot be read, or holds no number: a lower number must never be given again.
    pub fn open(folder: Option<&Path>) -> io::Result<Self> {
        let file = folder.map(|folder| folder.join("generation"));
        let text = match file.as_ref().map(fs::read_to_string) {
            Some(Ok(text)) => text,
            Some(Err(fault)) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
            Some(Err(_)) | None => "0".into(),
        };
        let number = text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Self { file, last: Generation::new(number) })
    }

    /// Reads again what another process may have written.
    ///
    /// # Errors
    /// As [`History::open`].
    pub fn read_again(&mut self) -> io::Result<()> {
        if let Some(folder) = self.file.as_ref().and_then(|file| file.parent()) {
            let other = Self::open(Some(folder))?;
            self.last = self.last.max(other.last);
        }
        Ok(())
    }

    /// The number of the generation after the last.
    #[must_use]
    pub const fn next(&self) -> Generation {
        self.last.next()
    }

    /// Remembers a number, on disk before it is used.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn remember(&mut self, generation: Generation) -> io::Result<()> {
        if let Some(file) = &self.file {
            let new = file.with_extension("new");
            fs::write(&new, format!("{generation}\n"))?;
            fs::rename(&new, file)?;
        }
        self.last = generation;
        Ok(())
    }
}
