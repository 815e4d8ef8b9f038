//! `belay recent`

use super::terminal::{Terminal, table};
use super::{Exit, socket};
use serde_json::Value;

/// Show the last decisions of the running process, from its memory: who was let in or refused, and why.
///
/// It asks the process at `admin.socket`. Up to 10,000 decisions are kept; the audit log has them all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay recent -c /etc/belay/belay.yaml --denied")]
pub(super) struct Args {
    #[command(flatten)]
    socket: socket::At,
    /// Only refusals.
    #[arg(long)]
    denied: bool,
    /// How many, the last ones.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print the audit records themselves, one line of JSON each.
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let denied = if args.denied { "&denied" } else { "" };
    match args.socket.ask(&format!("/recent?limit={}{denied}", args.limit), terminal) {
        Ok(lines) if args.json => terminal.say(&lines),
        Ok(lines) if lines.trim().is_empty() => terminal.tell("nothing yet"),
        Ok(lines) => terminal.say(&show(&lines, terminal)),
        Err(exit) => return exit,
    }
    Exit::Ok
}

fn show(lines: &str, terminal: &Terminal) -> String {
    let head = ["TIME", "DECISION", "WHY", "WORKLOAD", "METHOD", "URL", "REQUEST"].map(str::to_owned).to_vec();
    let records = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let text = table(&std::iter::once(head).chain(records.map(|record| row(&record))).collect::<Vec<_>>());
    match text.split_once('\n') {
        Some((head, rows)) => format!("{}\n{rows}", terminal.dim(head)),
        None => text,
    }
}

fn row(record: &Value) -> Vec<String> {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    let time = text("/@timestamp");
    let why = if record.pointer("/belay/rule").is_some() { text("/belay/rule") } else { text("/event/reason") };
    vec![
        time.get(..19).map_or_else(|| time.clone(), |seconds| format!("{seconds}Z")),
        text("/belay/decision"),
        why,
        text("/belay/workload"),
        text("/http/request/method"),
        // A path holds no control bytes, so it cannot move the cursor.
        format!("{}{}", text("/url/domain"), record.pointer("/url/path").and_then(Value::as_str).unwrap_or_default()),
        text("/http/request/id"),
    ]
}
