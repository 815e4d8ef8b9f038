//! `belay reload`

use super::Exit;
use super::socket;
use super::terminal::Terminal;
use crate::config::Finding;
use serde_json::{Value, json};

/// Have the running process read its config again, and say what came of it.
///
/// A bad config is refused and the old one stays: then this ends with 78. It asks the process at `admin.socket`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay reload -c /etc/belay/belay.yaml --reason 'OPS-712: invoices for billing'")]
pub(super) struct Args {
    #[command(flatten)]
    socket: socket::At,
    /// Why, for the audit log and the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Something dangerous that is meant, by the name that `belay plan` says; `all` for all.
    #[arg(long, value_name = "NAME")]
    accept: Vec<String>,
    /// Read it also if it was rolled back and has not been changed since.
    #[arg(long)]
    again: bool,
    /// Print what came of it as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let socket = match args.socket.path(terminal) {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    match socket::order(
        &socket,
        "/reload",
        &json!({ "reason": args.reason, "again": args.again, "accept": args.accept }),
    ) {
        Ok(answer) => tell(&answer, args.json, terminal),
        Err(error) => {
            terminal.fail(&error);
            error.exit()
        }
    }
}

/// Says what came of a change.
pub(super) fn tell(answer: &Value, json: bool, terminal: &Terminal) -> Exit {
    if json {
        terminal.say_json(answer);
    } else {
        let findings: Vec<Finding> = serde_json::from_value(answer["findings"].clone()).unwrap_or_default();
        terminal.show(&findings);
        let (generation, digest) = (&answer["generation"], answer["digest"].as_str().unwrap_or_default());
        match answer["result"].as_str() {
            Some("applied") => terminal.say(&format!("generation {generation} is live\ndigest {digest}")),
            Some("unchanged") => terminal.say(&format!("nothing has changed: generation {generation} is live")),
            _ => terminal.tell(&format!("refused: generation {generation} is still live")),
        }
    }
    if answer["result"] == "refused" { Exit::Config } else { Exit::Ok }
}
