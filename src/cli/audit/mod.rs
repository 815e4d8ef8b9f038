//! `belay audit`

mod verify;

use super::Exit;
use super::terminal::Terminal;
use crate::config::Finding;
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    ops::ControlFlow,
    path::Path,
};

/// Look into audit logs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Verify(verify::Args),
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let done = match &args.command {
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
