//! `belay keys`

mod files;
mod rotate;
mod step;

use super::terminal::{Terminal, table};
use super::{Exit, socket};
use crate::clock::{Clock, System, UnixSeconds};
use serde_json::Value;
use std::time::UNIX_EPOCH;

/// Show keys, certificates and all else that grows old: their ages, how long they last, and when they were used.
///
/// It asks the process at `admin.socket`. Uses are counted since it has started. `belay check` tells ages without a
/// process.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  belay keys -c /etc/belay/belay.yaml
  belay keys --json | jq '.keys[] | select(.warning)'
  belay keys rotate checkout --wait"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    socket: socket::At,
    /// Only what there is to say something of.
    #[arg(long)]
    old: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Rotate(rotate::Args),
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    if let Some(Command::Rotate(args)) = &args.command {
        return rotate::main(args, terminal);
    }
    match args.socket.ask_json("/keys", terminal) {
        Ok(mut told) => {
            if let (true, Some(keys)) = (args.old, told.get_mut("keys").and_then(Value::as_array_mut)) {
                keys.retain(|key| key["warning"].is_string());
            }
            match args.json {
                true => terminal.say_json(&told),
                false => terminal.say(&show(&told, System.now().unix_seconds(), terminal)),
            }
            Exit::Ok
        }
        Err(exit) => exit,
    }
}

fn show(told: &Value, now: UnixSeconds, terminal: &Terminal) -> String {
    let head = ["KIND", "OWNER", "NAME", "STATE", "AGE", "LEFT", "USES", "LAST USED"].map(str::to_owned).to_vec();
    let keys = told["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = table(&std::iter::once(head).chain(keys.iter().map(|key| row(key, now))).collect::<Vec<_>>());
    let (head, rows) = text.split_once('\n').unwrap_or((&text, ""));
    let warnings = keys.iter().filter_map(|key| key["warning"].as_str());
    let warnings: String = warnings.map(|warning| format!("\n{}", terminal.bold(warning))).collect();
    format!("{}\n{rows}{warnings}", terminal.dim(head))
}

fn row(key: &Value, now: UnixSeconds) -> Vec<String> {
    let text = |name: &str| key[name].as_str().unwrap_or("-").to_owned();
    let since = |name: &str| time(&key[name]).map(|then| now.saturating_sub(then));
    let left = match time(&key["ends"]).map(|ends| ends.saturating_sub(now)) {
        Some(left) if left > 0 => roughly(left),
        Some(_) => "over".into(),
        None => "-".into(),
    };
    let uses = key["uses"].as_u64();
    let last_used = match (uses, since("last_used")) {
        (None, _) => "unknown".into(),
        (Some(_), Some(ago)) => format!("{} ago", roughly(ago)),
        (Some(_), None) => "never".into(),
    };
    vec![
        text("kind"),
        text("owner"),
        text("name"),
        text("state"),
        since("created").map_or_else(|| "-".into(), roughly),
        left,
        uses.map_or_else(|| "-".into(), |uses| uses.to_string()),
        last_used,
    ]
}

/// A moment that the process tells.
fn time(told: &Value) -> Option<UnixSeconds> {
    let since = humantime::parse_rfc3339(told.as_str()?).ok()?.duration_since(UNIX_EPOCH).ok()?;
    UnixSeconds::try_from(since.as_secs()).ok()
}

/// In the largest unit of which there are two, or in seconds.
fn roughly(seconds: UnixSeconds) -> String {
    const UNITS: [(&str, UnixSeconds); 3] = [("d", 24 * 60 * 60), ("h", 60 * 60), ("m", 60)];
    let seconds = seconds.max(0);
    let unit = UNITS.into_iter().find(|(_, length)| seconds >= length.saturating_mul(2));
    unit.map_or_else(|| format!("{seconds} s"), |(unit, length)| format!("{} {unit}", seconds / length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_to_read() {
        let now = time(&"2026-11-30T12:00:00Z".into()).unwrap();
        let key = |kind: &str, owner: &str, name: &str, created: &str, ends: Option<&str>, used: Option<&str>| {
            let warning = (name == "checkout-1").then_some("the key `checkout-1` should be replaced: 3 days are left");
            let uses = (kind != "external").then_some(used.map_or(0, |_| 812));
            json!({ "kind": kind, "owner": owner, "name": name, "state": "active", "created": created, "ends": ends,
                "uses": uses, "last_used": used, "warning": warning })
        };
        let workload = "workloads.checkout";
        let told = json!({ "generation": 1, "keys": [
            key("token_key", workload, "checkout-1", "2026-09-01T00:00:00Z", Some("2026-12-03T13:00:00Z"), Some("2026-11-30T11:59:20Z")),
            key("certificate", "listeners.edge", "certs/lb.pem", "2026-11-30T11:00:00Z", Some("2026-11-30T11:30:00Z"), None),
            key("ticket_key", "listeners.edge", "memory", "2026-11-30T09:00:00Z", None, Some("2026-11-30T11:00:00Z")),
            key("external", "external_secrets", "cloudflare-api", "2026-11-01T00:00:00Z", Some("2027-01-30T00:00:00Z"), None),
        ] });
        insta::assert_snapshot!(show(&told, now, &Terminal::plain()));
    }
}
