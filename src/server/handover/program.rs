//! The program that replaces this process: which file, and whether it may.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// How a process was started, so that it can be started again.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// Its arguments, with the one that makes it replace whoever has started it.
    pub args: Vec<OsString>,
}

/// Why a program is not started.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum Untrusted {
    #[error("{0} cannot be looked at")]
    Unseen(PathBuf, #[source] io::Error),
    #[error("{0} is no program")]
    NoProgram(PathBuf),
    #[error("{0} is not root's: whoever owns it could become the load balancer (chown root:root {0})")]
    Strangers(PathBuf),
    #[error("{0} can be written by others: they could become the load balancer (chmod go-w {0})")]
    Writable(PathBuf),
}

/// Group and others may write.
const WRITABLE: u32 = 0o022;
/// In such a folder only the owner can replace a file.
const STICKY: u32 = 0o1000;

/// The file, without links, if only root can change it, or replace it in its folder.
pub(super) fn trusted(path: &Path) -> Result<PathBuf, Untrusted> {
    let unseen = |error| Untrusted::Unseen(path.to_owned(), error);
    let path = path.canonicalize().map_err(unseen)?;
    for (depth, part) in path.ancestors().enumerate() {
        let found = fs::symlink_metadata(part).map_err(unseen)?;
        let mode = found.permissions().mode();
        if depth == 0 && (!found.is_file() || mode & 0o111 == 0) {
            return Err(Untrusted::NoProgram(path));
        }
        if found.uid() != 0 {
            return Err(Untrusted::Strangers(part.to_owned()));
        }
        if mode & WRITABLE != 0 && (depth == 0 || mode & STICKY == 0) {
            return Err(Untrusted::Writable(part.to_owned()));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;
    use test_case::test_case;

    #[test_case(0o755, 0o755, None, ""; "root's")]
    #[test_case(0o755, 0o1777, None, ""; "in a folder for all, where only the owner can replace it")]
    #[test_case(0o775, 0o755, None, "can be written by others"; "the group's")]
    #[test_case(0o757, 0o755, None, "can be written by others"; "everybody's")]
    #[test_case(0o755, 0o777, None, "can be written by others"; "in a folder for all")]
    #[test_case(0o755, 0o755, Some(65534), "is not root's"; "somebody's")]
    #[test_case(0o644, 0o755, None, "is no program"; "no program")]
    fn only_roots(mode: u32, folder_mode: u32, owner: Option<u32>, expected: &str) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let path = folder.path().join("belay");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(folder_mode)).unwrap();
        chown(&path, owner, None).unwrap();
        let said = trusted(&path).map_or_else(|error| error.to_string(), |_| String::new());
        assert!(said.contains(expected) && (said.is_empty() == expected.is_empty()), "{said}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert!(trusted(Path::new("/nowhere/belay")).unwrap_err().to_string().contains("/nowhere/belay"));
    }
}
