//! `belay audit`

mod filter;
mod follow;
mod join;
mod query;
mod rows;
mod seen;
mod verify;

use super::run::load;
use super::terminal::Terminal;
use super::{DEFAULT_CONFIG, Exit};
use crate::audit::Pseudonyms;
use crate::config::Finding;
use crate::journal::older_files;
use crate::keys::Files;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

/// Look into audit logs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Query(Box<query::Args>),
    Follow(Box<follow::Args>),
    Verify(verify::Args),
}

/// Which log.
#[derive(Debug, clap::Args)]
struct Log {
    /// The files, the oldest first.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The config that names the files, if none are given.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG, conflicts_with = "files")]
    config: PathBuf,
    /// The secret of `audit.pseudonyms`, to look for users who stand there by hashes. The config's is taken by itself.
    #[arg(long, value_name = "FILE")]
    pseudonyms: Option<PathBuf>,
}

/// A log that can be looked through.
struct Opened {
    /// The oldest first.
    files: Vec<PathBuf>,
    pseudonyms: Option<Pseudonyms>,
}

impl Log {
    /// None if the config is broken, which is told then.
    fn open(&self, terminal: &Terminal) -> Result<Option<Opened>, Finding> {
        let hashes = |path: &PathBuf| {
            let secret = Files::new(Path::new("")).own_secret(path);
            secret.map(|secret| Pseudonyms::new(&secret))
        };
        let given = self.pseudonyms.as_ref().map(hashes).transpose()?;
        if !self.files.is_empty() {
            return Ok(Some(Opened { files: self.files.clone(), pseudonyms: given }));
        }
        let Some(config) = load(&self.config, terminal) else { return Ok(None) };
        // Who may not read the secret may look for all else.
        let own = || config.audit.pseudonyms.as_ref().and_then(|key| hashes(&key.path).ok());
        Ok(Some(Opened { files: whole(&config.audit.file)?, pseudonyms: given.or_else(own) }))
    }
}

/// All files of a log, the oldest first.
fn whole(newest: &Path) -> Result<Vec<PathBuf>, Finding> {
    let unreadable = |error: io::Error| Finding::of_file(newest, format!("its older files: {error}"), None);
    Ok(older_files(newest).map_err(unreadable)?.into_iter().chain([newest.to_owned()]).collect())
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let done = match &args.command {
        Command::Query(args) => query::main(args, terminal),
        Command::Follow(args) => follow::main(args, terminal),
        Command::Verify(args) => verify::main(args, terminal),
    };
    done.unwrap_or_else(|finding| {
        terminal.show(&[finding]);
        Exit::Unavailable
    })
}

/// The longest line that is read, in bytes. No record comes near it.
const LINE_MAX: u64 = 1024 * 1024;

/// A line's number, from 1, and what was found there.
type At<T> = Option<(usize, T)>;

/// A file as it was when it was opened: what is written into it later, or put in its place, does not count.
struct Source {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Source {
    fn open(path: &Path) -> Result<Self, Finding> {
        let unreadable = |error: io::Error| Finding::of_file(path, format!("cannot be read: {error}"), None);
        let file = File::open(path).map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?;
        if !found.is_file() {
            return Err(Finding::of_file(path, "is no file", None));
        }
        Ok(Self { path: path.to_owned(), file, length: found.len() })
    }

    /// Reads the whole lines, until something is found. The last one may be in the middle of being written, and of one
    /// that is too long only the beginning is shown.
    fn find_line<T>(&self, mut look: impl FnMut(&[u8]) -> ControlFlow<T>) -> Result<At<T>, Finding> {
        let unreadable = |error: io::Error| Finding::of_file(&self.path, format!("cannot be read: {error}"), None);
        let mut file = &self.file;
        file.rewind().map_err(unreadable)?;
        let mut reader = BufReader::with_capacity(1024 * 1024, file.take(self.length));
        let mut line = Vec::new();
        for number in 1_usize.. {
            line.clear();
            (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).map_err(unreadable)?;
            let whole = match line.strip_suffix(b"\n") {
                Some(whole) => whole,
                None if line.len() as u64 == LINE_MAX => {
                    skip_line(&mut reader).map_err(unreadable)?;
                    &line
                }
                None => break,
            };
            if let ControlFlow::Break(found) = look(whole) {
                return Ok(Some((number, found)));
            }
        }
        Ok(None)
    }
}

/// Reads to the end of a line, and keeps nothing of it.
fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let piece = reader.fill_buf()?;
        let (length, is_end) = match memchr::memchr(b'\n', piece) {
            Some(at) => (at.saturating_add(1), true),
            None => (piece.len(), piece.is_empty()),
        };
        reader.consume(length);
        if is_end {
            return Ok(());
        }
    }
}

/// All files of a log as they are now, the oldest first. One may be rotated while they are opened.
fn opened(newest: &Path) -> Result<Vec<Source>, Finding> {
    let mut last = Err(Finding::of_file(newest, "is rotated all the time", None));
    for _attempt in 0..5 {
        let files = whole(newest)?;
        last = files.iter().map(|path| Source::open(path)).collect::<Result<Vec<_>, _>>();
        if last.is_ok() && whole(newest)? == files {
            return last;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let long = vec![b'x'; 3 * 1024 * 1024];
        std::fs::write(&path, [b"one\n", &long[..], b"\ntwo\nhalf"].concat()).unwrap();
        let source = Source::open(&path).unwrap();
        // What comes later does not count.
        std::fs::write(&path, "other\n").unwrap_or_default();
        std::fs::write(&path, [b"one\n", &long[..], b"\ntwo\nhalf of it\n"].concat()).unwrap();
        let mut lengths = Vec::new();
        let found = source.find_line(|line| {
            lengths.push(line.len());
            ControlFlow::<()>::Continue(())
        });
        assert!(found.unwrap().is_none());
        assert_eq!(lengths, [3, 1024 * 1024, 3]);
        assert!(Source::open(folder.path()).is_err());
    }
}
