//! `belay reload`

use super::Exit;
use super::socket::Change;
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
    change: Change,
    /// Read it also if it was rolled back and has not been changed since.
    #[arg(long)]
    again: bool,
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let Change { reason, accept, .. } = &args.change;
    let wish = json!({ "reason": reason, "accept": accept, "again": args.again });
    make("/reload", &wish, &args.change, terminal)
}

/// Has the process change its config, and says what came of it.
pub(super) fn make(target: &str, wish: &Value, change: &Change, terminal: &Terminal) -> Exit {
    match change.socket.order(target, wish, terminal) {
        Ok(answer) => tell(&answer, change.json, terminal),
        Err(exit) => exit,
    }
}

fn tell(answer: &Value, json: bool, terminal: &Terminal) -> Exit {
    if json {
        terminal.say_json(answer);
    } else {
        let findings: Vec<Finding> = serde_json::from_value(answer["findings"].clone()).unwrap_or_default();
        terminal.show(&findings);
        let (generation, digest) = (&answer["generation"], answer["digest"].as_str().unwrap_or_default());
        match answer["result"].as_str() {
            Some("applied") => terminal.say(&format!("generation {generation} is live\ndigest {digest}")),
            Some("unchanged") => terminal.say(&format!("nothing has changed: generation {generation} is live")),
            Some("failed") => terminal.tell(&format!("not done: {}", answer["reason"].as_str().unwrap_or_default())),
            _ => terminal.tell(&format!("refused: generation {generation} is still live")),
        }
    }
    match answer["result"].as_str() {
        Some("applied" | "unchanged") => Exit::Ok,
        Some("failed") => Exit::Unavailable,
        _ => Exit::Config,
    }
}
