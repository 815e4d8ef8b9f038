//! `belay plan`

use super::known::Known;
use super::terminal::Terminal;
use super::{Exit, socket};
use crate::insight;
use serde_json::json;
use std::path::PathBuf;

/// Say what a config would change for whom, before it is live.
///
/// Compared is the running process, asked at `admin.socket`, or what `--against` names. Each change comes with a request
/// that is decided differently; a stranger and each workload are tried at every listener. Ends with 0 if nothing changes,
/// with 2 if something does, and with 77 if something dangerous is not accepted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    belay plan belay.yaml\n  \
    belay plan belay.yaml --against 7\n  \
    belay plan new.yaml --against old.yaml --markdown > plan.md")]
pub(super) struct Args {
    /// The new config.
    new: PathBuf,
    /// What to compare with: `running`, the number of a generation that was live, or another config's file.
    #[arg(long, value_name = "WHAT", default_value = "running")]
    against: String,
    /// The process's socket, if it is not the one that the new config says.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Something dangerous that is meant, by the name that the plan says; `all` for all.
    #[arg(long, value_name = "NAME")]
    accept: Vec<String>,
    /// Print Markdown, for a pull request.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let at = socket::At::of(args.new.clone(), args.socket.clone());
    let compared =
        Known::in_file(&args.new, terminal).and_then(|new| Ok((Known::meant(&args.against, &at, terminal)?, new)));
    let (old, new) = match compared {
        Ok(compared) => compared,
        Err(exit) => return exit,
    };
    let plan = insight::plan(&old.side(), &new.side());
    let unaccepted: Vec<_> = plan.unaccepted(&args.accept).collect();
    if args.json {
        terminal.say_json(&json!({ "plan": plan, "unaccepted": unaccepted }));
    } else {
        terminal.say(&plan.show(args.markdown));
    }
    match (plan.is_empty(), unaccepted.is_empty()) {
        (true, _) => Exit::Ok,
        (false, true) => Exit::Changes,
        (false, false) => Exit::Denied,
    }
}
