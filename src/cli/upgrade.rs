//! `belay upgrade`

use super::socket::Change;
use super::terminal::Terminal;
use super::{Exit, socket::NoAnswer};
use serde_json::{Value, json};
use std::path::{self, PathBuf};

/// Have a new process take over from the running one, without losing a connection.
///
/// The new process reads the config, of which the running one says first whether it would take it: dangers must be
/// accepted, as with a reload. It takes the listening sockets, and what was learned of servers and used tokens. Only
/// when it accepts connections does the old one stop to, and ends when its requests have. If the new one fails, the old
/// one goes on, and this says why. The program must be root's, and writable by nobody else.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay upgrade -c /etc/belay/belay.yaml --binary /usr/local/bin/belay")]
pub(super) struct Args {
    #[command(flatten)]
    change: Change,
    /// The program of the new process, if it is another file than that of the running one.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let binary = args.binary.as_ref().and_then(|binary| path::absolute(binary).ok());
    let Change { socket, reason, accept, json } = &args.change;
    let wish = json!({ "reason": reason, "binary": binary, "accept": accept });
    let answer = match socket.order("/upgrade", &wish, terminal) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    if *json {
        terminal.say_json(&answer);
    }
    let why = answer.get("reason").and_then(Value::as_str).map(str::to_owned);
    match (answer.get("pid").and_then(Value::as_u64), why) {
        (Some(_), _) if *json => Exit::Ok,
        (Some(pid), _) => {
            terminal.say(&format!("process {pid} has taken over"));
            Exit::Ok
        }
        (None, why) => {
            if !json {
                terminal.fail(&NoAnswer::Refused(why.unwrap_or_else(|| "no reason was told".into())));
            }
            Exit::Unavailable
        }
    }
}
