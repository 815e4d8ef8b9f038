//! `belay audit query`

use super::filter::{Chosen, Filter};
use super::rows::{Rows, head, shown};
use super::seen::Row;
use super::{Log, Source, join};
use crate::cli::Exit;
use crate::cli::terminal::Terminal;
use crate::clock::{Clock, System};
use crate::config::Finding;
use std::{collections::VecDeque, num::NonZeroUsize, ops::ControlFlow, path::PathBuf};

/// Look for what the audit log says: of a request, of whom, of when.
///
/// The decision and the outcome of a request stand together. Without files all of the config's log are looked through, the
/// oldest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  belay audit query --request 8c1f0a9e4d5b4c1b
  belay audit query --decision deny --since 15m
  belay audit query --workload checkout --status 5xx --json | jq .url.path
  belay audit query --since 2026-11-22 --join worker.jsonl > both.jsonl")]
pub(super) struct Args {
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    filter: Filter,
    /// Only the last ones.
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<NonZeroUsize>,
    /// Print the records themselves, one line of JSON each.
    #[arg(long)]
    json: bool,
    /// Put them together with the log of a Worker, which has a line of JSON with the request's id (`rid`) for each
    /// sending, as the Worker kit writes it; such lines may stand as text within others. Prints a line of JSON for each
    /// request that is in either log, and loses none.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["limit", "json"])]
    join: Option<PathBuf>,
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Result<Exit, Finding> {
    let Some(opened) = args.log.open(terminal)? else { return Ok(Exit::Config) };
    let chosen = args.filter.chosen(System.now(), opened.pseudonyms.as_ref());
    if let Some(worker) = &args.join {
        let mut joined = join::Joined::read(worker)?;
        each(&opened.files, &chosen, |row| joined.add(row))?;
        joined.say(terminal);
        return Ok(Exit::Ok);
    }
    let mut last = args.limit.map(|_| VecDeque::new());
    let mut count = 0_usize;
    let mut said = |row: Row| {
        if count == 0 && !args.json {
            terminal.say(&head(terminal));
        }
        count = count.saturating_add(1);
        say(&row, args.json, terminal);
    };
    each(&opened.files, &chosen, |row| match &mut last {
        Some(last) => {
            last.push_back(row);
            if args.limit.is_some_and(|limit| last.len() > limit.get()) {
                last.pop_front();
            }
        }
        None => said(row),
    })?;
    last.into_iter().flatten().for_each(&mut said);
    if count == 0 {
        terminal.tell("nothing of that is in the log");
    }
    Ok(Exit::Ok)
}

pub(super) fn say(row: &Row, as_json: bool, terminal: &Terminal) {
    if as_json {
        row.lines.iter().for_each(|line| terminal.say(line));
    } else {
        terminal.say(&shown(row));
    }
}

fn each(files: &[PathBuf], chosen: &Chosen<'_>, mut take: impl FnMut(Row)) -> Result<(), Finding> {
    let mut rows = Rows::default();
    for file in files {
        Source::open(file)?.find_line(|line| {
            rows.take(line).filter(|row| chosen.means(row)).into_iter().for_each(&mut take);
            ControlFlow::<()>::Continue(())
        })?;
    }
    rows.rest().filter(|row| chosen.means(row)).for_each(take);
    Ok(())
}
