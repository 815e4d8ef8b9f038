//! `belay audit`

use super::Exit;
use super::terminal::Terminal;
use crate::audit::{Broken, Last, Verifier};
use crate::config::Finding;
use serde_json::json;
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
};

/// Look into audit logs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Verify(Verify),
}

/// Prove that no record of an audit log was altered, removed, added or moved.
///
/// Each record is chained to the one before it (`belay.chain`). Several files are taken as one log in that order. What was
/// cut off at the end leaves no trace in the files, and who can write them can make new ones: keep copies elsewhere.
/// Ends with 0 if all is proven, with 1 at a record that was altered, and with 2 where records are missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay audit verify /var/log/belay/audit.jsonl.1 /var/log/belay/audit.jsonl")]
struct Verify {
    /// The files, the oldest first.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// After so many records it is said how far it is.
const TOLD_EVERY: u64 = 5_000_000;

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    match &args.command {
        Command::Verify(args) => verify(args, terminal),
    }
}

fn verify(args: &Verify, terminal: &Terminal) -> Exit {
    let mut verifier = Verifier::default();
    let broken = args.files.iter().find_map(|file| match read(file, &mut verifier, terminal) {
        Ok(None) => None,
        Ok(Some((line, broken))) => Some(Ok((file, line, broken))),
        Err(error) => Some(Err(Finding::of_file(file, format!("cannot be read: {error}"), None))),
    });
    let broken = match broken.transpose() {
        Ok(broken) => broken,
        Err(finding) => {
            terminal.show(&[finding]);
            return Exit::Unavailable;
        }
    };
    let proven = verifier.proven();
    if args.json {
        let broken =
            broken.as_ref().map(|(file, line, why)| json!({ "file": file, "line": line, "why": why.to_string() }));
        terminal.say_json(&json!({ "records": verifier.records(), "proven": proven, "broken": broken }));
    } else {
        terminal.say(&told(verifier.records(), &proven));
        if let Some((file, line, why)) = &broken {
            terminal.show(&[Finding::at(file.as_path(), (*line, 1), "", why.to_string())]);
        }
    }
    match broken {
        None => Exit::Ok,
        Some((_, _, Broken::Missing { .. })) => Exit::Changes,
        Some((_, _, Broken::NoRecord | Broken::Unchained { .. } | Broken::Altered { .. })) => Exit::Failed,
    }
}

fn told(records: u64, proven: &[Last<'_>]) -> String {
    let lasts: Vec<_> = proven.iter().map(|last| format!("  {last}")).collect();
    let plural = if records == 1 { "record is" } else { "records are" };
    format!("{records} {plural} proven\n{}", lasts.join("\n")).trim_end().to_owned()
}

/// A line's number and what is wrong with it; none if nothing is.
type Found = Option<(usize, Broken)>;

fn read(file: &PathBuf, verifier: &mut Verifier, terminal: &Terminal) -> std::io::Result<Found> {
    let mut reader = BufReader::with_capacity(1024 * 1024, File::open(file)?);
    let mut line = Vec::new();
    for number in 1_usize.. {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        // The last one may be in the middle of being written.
        let Some(whole) = line.strip_suffix(b"\n") else { break };
        if let Err(broken) = verifier.take(whole) {
            return Ok(Some((number, broken)));
        }
        if verifier.records().is_multiple_of(TOLD_EVERY) {
            terminal.tell(&format!("{} records so far", verifier.records()));
        }
    }
    Ok(None)
}
