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
    io::{self, BufRead, BufReader},
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

/// A line's number, from 1, and what was found there.
type At<T> = Option<(usize, T)>;

/// Reads the whole lines of a file, until something is found. The last one may be in the middle of being written.
fn find_line<T>(file: &Path, mut look: impl FnMut(&[u8]) -> ControlFlow<T>) -> Result<At<T>, Finding> {
    let unreadable = |error: io::Error| Finding::of_file(file, format!("cannot be read: {error}"), None);
    let mut reader = BufReader::with_capacity(1024 * 1024, File::open(file).map_err(unreadable)?);
    let mut line = Vec::new();
    for number in 1_usize.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(unreadable)?;
        let Some(whole) = line.strip_suffix(b"\n") else { break };
        if let ControlFlow::Break(found) = look(whole) {
            return Ok(Some((number, found)));
        }
    }
    Ok(None)
}
