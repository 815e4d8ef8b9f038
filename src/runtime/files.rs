//! Files of our own that must be whole, and files that only root can change.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Puts a file in the place of another, readable by its owner only: after a crash one of the two is there, whole.
///
/// # Errors
/// If it cannot be written.
pub(super) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let new = file.with_extension("new");
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?.write_all(content)?;
    fs::rename(&new, file)
}

/// The same, also after a power cut. It waits for the disk.
///
/// # Errors
/// If it cannot be written.
pub(super) fn replace_for_good(file: &Path, content: &[u8]) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    written.write_all(content)?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    file.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

/// Why a file is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// It cannot be looked at.
    #[error("{0} cannot be looked at")]
    Unseen(PathBuf, #[source] io::Error),
    /// Somebody else owns it, or a folder above it.
    #[error("{0} is not root's (chown root:root {0})")]
    Strangers(PathBuf),
    /// Somebody else may write it, or put another in its place.
    #[error("{0} can be written by others (chmod go-w {0})")]
    Writable(PathBuf),
}

/// Group and others may write.
const WRITABLE: u32 = 0o022;
/// In such a folder only the owner can replace a file.
const STICKY: u32 = 0o1000;

/// The file, without links, if only root can change it, or replace it in its folder.
///
/// # Errors
/// [`Untrusted`].
pub fn only_roots(path: &Path) -> Result<PathBuf, Untrusted> {
    let unseen = |error| Untrusted::Unseen(path.to_owned(), error);
    let path = path.canonicalize().map_err(unseen)?;
    for (depth, part) in path.ancestors().enumerate() {
        let found = fs::symlink_metadata(part).map_err(unseen)?;
        let mode = found.permissions().mode();
        if found.uid() != 0 {
            return Err(Untrusted::Strangers(part.to_owned()));
        }
        if mode & WRITABLE != 0 && (depth == 0 || mode & STICKY == 0) {
            return Err(Untrusted::Writable(part.to_owned()));
        }
    }
    Ok(path)
}
