//! `belay audit follow`

use super::filter::Filter;
use super::query::say;
use super::rows::{Rows, head};
use super::{Log, Opened};
use crate::cli::Exit;
use crate::cli::terminal::Terminal;
use crate::clock::{Clock, System};
use crate::config::Finding;
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Show what the audit log says as it is written, until Ctrl-C. A request shows once it has ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay audit follow -c /etc/belay/belay.yaml --decision deny")]
pub(super) struct Args {
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    filter: Filter,
    /// Print the records themselves, one line of JSON each.
    #[arg(long)]
    json: bool,
}

/// How often the file is looked at.
const EVERY: Duration = Duration::from_millis(200);

pub(super) fn main(args: &Args, terminal: &Terminal) -> Result<Exit, Finding> {
    let Some(Opened { files, pseudonyms }) = args.log.open(terminal)? else { return Ok(Exit::Config) };
    let Some(newest) = files.last() else { return Ok(Exit::Ok) };
    let unreadable = |error: io::Error| Finding::of_file(newest, format!("cannot be read: {error}"), None);
    let chosen = args.filter.chosen(System.now(), pseudonyms.as_ref());
    let mut tail = Tail::at_end(newest).map_err(unreadable)?;
    let mut rows = Rows::default();
    if !args.json {
        terminal.say(&head(terminal));
    }
    loop {
        let is_over = tail.read(|line| {
            let row = rows.take(line).filter(|row| chosen.means(row));
            row.iter().for_each(|row| say(row, args.json, terminal));
        });
        is_over.map_err(unreadable)?;
        std::thread::sleep(EVERY);
    }
}

/// The end of a file that grows, and may be moved away.
struct Tail {
    path: PathBuf,
    reader: BufReader<File>,
    /// A line that is not whole yet.
    line: Vec<u8>,
}

impl Tail {
    fn at_end(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { path: path.to_owned(), reader: BufReader::new(file), line: Vec::new() })
    }

    /// Reads what there is; of a file that was moved away its rest, and then the one in its place.
    fn read(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let ours = self.reader.get_ref().metadata()?;
        let there = fs::metadata(&self.path);
        let is_moved = there.is_ok_and(|there| (there.dev(), there.ino()) != (ours.dev(), ours.ino()));
        self.rest(&mut take)?;
        if is_moved {
            *self = Self { path: self.path.clone(), reader: BufReader::new(File::open(&self.path)?), line: Vec::new() };
            self.rest(&mut take)?;
        }
        Ok(())
    }

    fn rest(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while self.reader.read_until(b'\n', &mut self.line)? > 0 {
            let Some(whole) = self.line.strip_suffix(b"\n") else { break };
            take(whole);
            self.line.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_tail_follows_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let mut tail = Tail::at_end(&path).unwrap();
        let mut read = || {
            let mut lines = Vec::new();
            tail.read(|line| lines.push(String::from_utf8(line.to_vec()).unwrap())).unwrap();
            lines.join(" ")
        };
        let append = |text: &str| {
            let mut file = File::options().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        assert_eq!(read(), "");
        append("one\ntw");
        assert_eq!(read(), "one");
        append("o\n");
        assert_eq!(read(), "two", "whole now");
        append("three\n");
        fs::rename(&path, folder.path().join("old")).unwrap();
        append("four\n");
        assert_eq!(read(), "three four");
        fs::remove_file(&path).unwrap();
        assert_eq!(read(), "");
        append("five\n");
        assert_eq!(read(), "five");
    }
}
