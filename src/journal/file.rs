//! A file that lines are appended to, and the older ones beside it.

use crate::clock::Timestamp;
use crate::config::Span;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

/// Lines could not be appended.
#[derive(Debug)]
pub(super) struct Failed {
    /// How many bytes of them are there all the same.
    pub(super) done: usize,
    pub(super) fault: io::Error,
}

/// A new file was begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Renewed {
    /// What the one before is called now, if that is known.
    pub(super) before: Option<Box<str>>,
}

/// Where lines are appended.
pub(super) trait Log: Send {
    /// Appends lines: all of them, or none where that can be helped.
    fn append(&mut self, lines: &[u8]) -> Result<(), Failed>;

    /// Waits until the disk has them.
    fn sync(&mut self) -> io::Result<()>;

    /// Begins a new file if the present one was moved away, or is too large or too old.
    fn renew(&mut self, rotate: Span, now: Timestamp) -> io::Result<Option<Renewed>>;
}

/// A file on a disk; also a pipe or the like, which is neither rotated nor cut.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    is_regular: bool,
    began: Timestamp,
    /// Where our last line ends.
    ends_at: u64,
    /// Renaming it has failed since then: it is not tried all the time.
    stuck: Option<Timestamp>,
}

/// How long a file that cannot be renamed is left alone.
const STUCK_FOR: Duration = Duration::from_secs(60);

impl LogFile {
    /// Opens it, readable by its owner and group only.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
        let found = file.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            file,
            is_regular: found.is_file(),
            began: began(&found),
            // So that its end is looked at.
            ends_at: u64::MAX,
            stuck: None,
        })
    }

    /// Where the next line begins. What a crash has torn stays, on a line of its own.
    fn end(&mut self) -> io::Result<u64> {
        let length = self.file.metadata()?.len();
        if length == self.ends_at || length == 0 {
            return Ok(length);
        }
        let mut last = [0];
        self.file.read_exact_at(&mut last, length.saturating_sub(1))?;
        if last == *b"\n" {
            return Ok(length);
        }
        self.file.write_all(b"\n")?;
        Ok(length.saturating_add(1))
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), Failed> {
        let mut done = 0_usize;
        while let Some(rest) = lines.get(done..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(Failed { done, fault: io::ErrorKind::WriteZero.into() }),
                Ok(count) => done = done.saturating_add(count),
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(Failed { done, fault }),
            }
        }
        Ok(())
    }

    /// Takes back what was written of lines, unless another process has written behind it.
    fn take_back(&mut self, end: u64, Failed { done, fault }: Failed) -> Failed {
        let is_last = self.file.metadata().is_ok_and(|found| found.len() == end.saturating_add(done as u64));
        let is_gone = done > 0 && is_last && self.file.set_len(end).is_ok();
        if is_gone {
            return Failed { done: 0, fault };
        }
        // What stays there goes on where it ends, if nobody else has written behind it.
        self.ends_at = if is_last { end.saturating_add(done as u64) } else { u64::MAX };
        Failed { done, fault }
    }

    fn begin(&mut self, before: Option<Box<str>>, now: Timestamp) -> io::Result<Option<Renewed>> {
        *self = Self { began: now, ..Self::open(&self.path)? };
        Ok(Some(Renewed { before }))
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<Option<Renewed>> {
        let newest = older_files(&self.path)?.pop().and_then(|older| stamp_of(&self.path, &older));
        let old = older_name(&self.path, now, newest.as_deref());
        // Nothing is there that could be lost: two processes may do it at once.
        if let Err(fault) = renameat_with(CWD, &self.path, CWD, &old, RenameFlags::NOREPLACE) {
            if self.stuck.is_none() {
                log::error!("audit: {} cannot be renamed, and goes on to grow: {fault}", self.path.display());
            }
            self.stuck = Some(now);
            return Ok(None);
        }
        let name = old.file_name().map(|name| name.to_string_lossy().into());
        self.begin(name, now)
    }
}

impl Log for LogFile {
    fn append(&mut self, lines: &[u8]) -> Result<(), Failed> {
        if !self.is_regular {
            return self.write(lines);
        }
        let end = self.end().map_err(|fault| Failed { done: 0, fault })?;
        let written = self.write(lines);
        written.map_err(|failed| self.take_back(end, failed))?;
        self.ends_at = end.saturating_add(lines.len() as u64);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.is_regular { self.file.sync_data() } else { Ok(()) }
    }

    fn renew(&mut self, rotate: Span, now: Timestamp) -> io::Result<Option<Renewed>> {
        if !self.is_regular {
            return Ok(None);
        }
        let ours = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {}
            Ok(_) => return self.begin(None, now),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return self.begin(None, now),
            Err(fault) => return Err(fault),
        }
        let is_stuck = self.stuck.is_some_and(|since| now < since.plus(STUCK_FOR));
        let is_due = ours.len() >= rotate.size || now.since(self.began) >= rotate.age;
        if is_due && ours.len() > 0 && !is_stuck { self.rotate(now) } else { Ok(None) }
    }
}

fn began(found: &Metadata) -> Timestamp {
    let time = found.created().or_else(|_unknown| found.modified()).ok();
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(Timestamp::EPOCH, |since| Timestamp::EPOCH.plus(since))
}

/// The time in the name of an older file.
fn stamp_of(path: &Path, older: &Path) -> Option<String> {
    let (name, older) = (path.file_name()?.to_str()?, older.file_name()?.to_str()?);
    Some(older.strip_prefix(name)?.strip_prefix('.')?.split_once('Z')?.0.to_owned())
}

/// What a file is called once there is a newer one: its name and the time, to the millisecond. Where the clock was set
/// back that is the time of the newest one that there is, so that their order stays.
fn older_name(path: &Path, now: Timestamp, newest: Option<&str>) -> PathBuf {
    let stamp: String =
        now.to_string().chars().filter(|c| !"-:".contains(*c)).take("20261122T130000.000".len()).collect();
    let stamp = newest.filter(|newest| **newest > *stamp).unwrap_or(&stamp);
    let name = |more: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{stamp}Z{more}"));
        PathBuf::from(name)
    };
    // Of the same length, so that they are in their order by name.
    let mut all = std::iter::once(name("")).chain((1..).map(|number| name(&format!("-{number:04}"))));
    all.find(|name| !name.exists()).unwrap_or_else(|| name(""))
}

/// Whether that is how an older file is called, after the name of the newest.
fn is_stamp(rest: &str) -> bool {
    let (stamp, number) = rest.split_once("Z").unwrap_or((rest, "none"));
    let is_pattern = |(have, want): (u8, u8)| if want == b'0' { have.is_ascii_digit() } else { have == want };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    stamp.len() == "20261122T130000.000".len()
        && stamp.bytes().zip("00000000T000000.000".bytes()).all(is_pattern)
        && (number.is_empty() || number.strip_prefix('-').is_some_and(digits))
}

/// The older files of a log, the oldest first.
///
/// # Errors
/// If its folder cannot be read.
pub fn older_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let mut older = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_older =
            entry.file_name().to_str().and_then(|it| it.strip_prefix(name)?.strip_prefix('.')).is_some_and(is_stamp);
        older.extend(is_older.then(|| entry.path()));
    }
    older.sort();
    Ok(older)
}

/// What was done about older files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pruned {
    /// Those that are removed, and whether they were too old; otherwise there was no more room for them.
    pub(super) removed: Vec<(PathBuf, bool)>,
    /// What is left, in bytes, with the newest.
    pub(super) bytes: u64,
}

/// Removes older files beyond what is to be kept. One that cannot be removed keeps none of the others.
pub(super) fn prune(path: &Path, keep: Span, now: Timestamp) -> io::Result<Pruned> {
    let mut pruned = Pruned::default();
    // What somebody has removed meanwhile is gone.
    let found = older_files(path)?.into_iter().filter_map(|path| Some((fs::symlink_metadata(&path).ok()?, path)));
    let older: Vec<_> = found.filter(|(found, _)| found.is_file()).collect();
    let newest = fs::metadata(path).map_or(0, |found| found.len());
    pruned.bytes = older.iter().fold(newest, |sum, (found, _)| sum.saturating_add(found.len()));
    let last_change = older.last().map(|(found, _)| changed(found));
    for (found, path) in older {
        let is_old = plausible(now, last_change, keep).since(changed(&found)) >= keep.age;
        if !is_old && pruned.bytes <= keep.size {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => {
                pruned.bytes = pruned.bytes.saturating_sub(found.len());
                pruned.removed.push((path, is_old));
            }
            Err(fault) => log::error!("audit: {} cannot be removed: {fault}", path.display()),
        }
    }
    Ok(pruned)
}

fn changed(found: &Metadata) -> Timestamp {
    let since = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Timestamp::EPOCH.plus(since)
}

/// The time by which files are old. A clock that suddenly says that all of them are is not believed: until there is a
/// file of that time, too, none is removed for its age.
fn plausible(now: Timestamp, last_change: Option<Timestamp>, keep: Span) -> Timestamp {
    let last_change = last_change.unwrap_or(now);
    if now.since(last_change) >= keep.age { last_change } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    const LARGE: Span = Span { size: u64::MAX, age: Duration::MAX };
    const NOW: Timestamp = Timestamp::EPOCH;

    fn log() -> (tempfile::TempDir, PathBuf, LogFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let log = LogFile::open(&path).unwrap();
        (folder, path, log)
    }

    #[test_case("20261122T130000.000Z", true)]
    #[test_case("20261122T130000.000Z-12", true)]
    #[test_case("20261122T130000.000Z-", false)]
    #[test_case("20261122T130000.000Z-x", false)]
    #[test_case("20261122T130000.000", false)]
    #[test_case("1", false)]
    #[test_case("gz", false)]
    #[test_case("20261122T130000.000Z.gz", false)]
    #[test_case("2026-1122T130000.00Z", false)]
    fn only_our_own_names_are_ours(rest: &str, expected: bool) {
        assert_eq!(is_stamp(rest), expected);
    }

    #[test]
    fn a_file_that_is_moved_away_is_begun_anew() {
        let (folder, path, mut log) = log();
        log.append(b"one\n").unwrap();
        assert_eq!(log.renew(LARGE, NOW).unwrap(), None);
        fs::rename(&path, folder.path().join("moved")).unwrap();
        assert_eq!(log.renew(LARGE, NOW).unwrap(), Some(Renewed { before: None }));
        log.append(b"two\n").unwrap();
        fs::remove_file(&path).unwrap();
        assert!(log.renew(LARGE, NOW).unwrap().is_some(), "and so is one that is removed");
        log.append(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("moved")).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_large_or_old_file_is_rotated() {
        let (_folder, path, mut log) = log();
        let small = Span { size: 4, age: Duration::MAX };
        let now = Timestamp::from_unix_seconds(1_795_352_400);
        assert_eq!(log.renew(small, now).unwrap(), None, "nothing is in it");
        log.append(b"one\n").unwrap();
        for (number, name) in ["20261122T130000.000Z", "20261122T130000.000Z-0001"].iter().enumerate() {
            let name = format!("audit.jsonl.{name}");
            let renewed = log.renew(small, now).unwrap();
            assert_eq!(renewed, Some(Renewed { before: Some(name.clone().into()) }), "{number}");
            log.append(b"more\n").unwrap();
        }
        let young = Span { size: u64::MAX, age: Duration::from_secs(60) };
        assert_eq!(log.renew(young, now.plus(Duration::from_secs(59))).unwrap(), None);
        assert!(log.renew(young, now.plus(Duration::from_secs(60))).unwrap().is_some());
        assert_eq!(older_files(&path).unwrap().len(), 3);
        // A clock that is set back does not change their order.
        log.append(b"more\n").unwrap();
        let renewed = log.renew(small, NOW).unwrap().unwrap().before.unwrap();
        assert_eq!(&*renewed, "audit.jsonl.20261122T130100.000Z-0001");
        assert_eq!(older_files(&path).unwrap().last().unwrap().file_name().unwrap().to_str().unwrap(), &*renewed);
    }

    #[test]
    fn a_clock_that_says_that_all_are_old_is_not_believed() {
        let (folder, path, _log) = log();
        let name = folder.path().join("audit.jsonl.20261122T130000.000Z");
        fs::write(&name, "x").unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        File::options().write(true).open(&name).unwrap().set_modified(now).unwrap();
        fs::create_dir(folder.path().join("audit.jsonl.20261122T130000.001Z")).unwrap();
        let keep = Span { size: u64::MAX, age: Duration::from_secs(500) };
        let far = Timestamp::from_unix_seconds(9_000_000);
        assert_eq!(prune(&path, keep, far).unwrap().removed, []);
        let later = folder.path().join("audit.jsonl.20261122T130000.002Z");
        fs::write(&later, "x").unwrap();
        let far = UNIX_EPOCH + Duration::from_secs(9_000_000);
        File::options().write(true).open(&later).unwrap().set_modified(far).unwrap();
        let removed = prune(&path, keep, Timestamp::from_unix_seconds(9_000_000)).unwrap().removed;
        assert_eq!(removed, [(name, true)], "a folder of such a name is nobody's file");
    }

    #[test]
    fn what_another_has_torn_stays_on_its_own_line() {
        let (_folder, path, mut log) = log();
        log.append(b"one\n").unwrap();
        let mut other = OpenOptions::new().append(true).open(&path).unwrap();
        other.write_all(b"tor").unwrap();
        log.append(b"two\n").unwrap();
        other.write_all(b"three\n").unwrap();
        log.append(b"four\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntor\ntwo\nthree\nfour\n");
    }

    #[test]
    fn what_is_too_old_or_too_much_is_removed() {
        let (folder, path, mut log) = log();
        log.append(&[b'x'; 10]).unwrap();
        let old = |second: u64, age: u64| {
            let name = folder.path().join(format!("audit.jsonl.20261122T1300{second:02}.000Z"));
            fs::write(&name, [b'x'; 100]).unwrap();
            let time = UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
            File::options().write(true).open(&name).unwrap().set_modified(time).unwrap();
            name
        };
        let all = [old(1, 500), old(2, 100), old(3, 50), old(4, 10)];
        fs::write(folder.path().join("audit.jsonl.1"), "of somebody else").unwrap();
        let keep = Span { size: 250, age: Duration::from_secs(500) };
        let pruned = prune(&path, keep, Timestamp::from_unix_seconds(1_000_000)).unwrap();
        let removed = vec![(all[0].clone(), true), (all[1].clone(), false)];
        assert_eq!(pruned, Pruned { removed, bytes: 210 });
        assert_eq!(older_files(&path).unwrap(), all[2..]);
        assert!(folder.path().join("audit.jsonl.1").exists());
    }

    #[test]
    fn a_pipe_is_written_and_left_alone() {
        let mut log = LogFile::open(Path::new("/dev/null")).unwrap();
        log.append(b"one\n").unwrap();
        log.sync().unwrap();
        assert_eq!(log.renew(Span { size: 0, age: Duration::ZERO }, NOW).unwrap(), None);
    }
}
