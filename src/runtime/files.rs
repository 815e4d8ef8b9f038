//! Files of our own that must be whole.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
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
