//! The program that replaces this process: which file, and whether it may.

use crate::runtime::{Untrusted, only_roots};
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
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
pub(in crate::server) enum NotStarted {
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    #[error("{0} is no program")]
    NoProgram(PathBuf),
}

/// The file, without links, if only root can change it: whoever else could would become the load balancer.
pub(super) fn trusted(path: &Path) -> Result<PathBuf, NotStarted> {
    let path = only_roots(path)?;
    let is_program = fs::metadata(&path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    if is_program { Ok(path) } else { Err(NotStarted::NoProgram(path)) }
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
