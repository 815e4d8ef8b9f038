//! `belay status`

use super::Exit;
use super::against::{self, Credentials};
use super::socket;
use super::terminal::{Terminal, table};
use serde_json::Value;
use std::{thread, time::Duration};

const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Show the servers of the running process: their state, health and load.
///
/// It asks the process at `admin.socket`. With --against it asks other nodes, too, and says which of them decide by another
/// policy: then it ends with 2. Certificates, addresses and the node's name may differ.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  belay status -c /etc/belay/belay.yaml --watch
  belay status --against https://lb-2.internal:9901 --ca lb-ca.pem --cert ops.pem --key ops.key")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) socket: socket::At,
    /// Other nodes: the URL of their `admin.https` or `admin.http`, or `unix:` and the path of a socket.
    #[arg(long, value_name = "URL", num_args = 1.., conflicts_with = "watch")]
    pub(super) against: Vec<String>,
    #[command(flatten)]
    pub(super) credentials: Credentials,
    /// Show it again each second.
    #[arg(short, long)]
    watch: bool,
    /// Print JSON, with `--watch` one line each second.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    if !args.against.is_empty() {
        return against::main(args, terminal);
    }
    loop {
        match look(args, terminal) {
            Ok(text) => terminal.say(&text),
            Err(exit) => return exit,
        }
        if !args.watch {
            return Exit::Ok;
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

fn look(args: &Args, terminal: &Terminal) -> Result<String, Exit> {
    let status = args.socket.ask_json("/status", terminal)?;
    if args.json {
        return Ok(status.to_string());
    }
    let clear = if args.watch { terminal.clear() } else { "" };
    Ok(format!("{clear}{}", show(&status, terminal)))
}

fn show(status: &Value, terminal: &Terminal) -> String {
    let heads = ["POOL", "SERVER", "ADDRESS", "STATE", "HEALTH", "WEIGHT", "ACTIVE", "LATENCY"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let mut notes = Vec::new();
    for pool in status["pools"].as_array().into_iter().flatten() {
        let name = pool["name"].as_str().unwrap_or_default();
        rows.extend(pool["servers"].as_array().into_iter().flatten().map(|server| row(name, server)));
        match pool["queued"].as_i64() {
            Some(1) => notes.push(format!("{name}: 1 request waits for a server with room")),
            Some(queued) if queued > 1 => notes.push(format!("{name}: {queued} requests wait for a server with room")),
            Some(_) | None => {}
        }
        for unknown in pool["unknown"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            notes.push(format!("{name}: DNS tells no servers for {unknown}"));
        }
        if pool["circuit_open"] == true {
            notes.push(format!("{name}: left alone, because too many of its requests have failed"));
        }
    }
    let text = table(&rows);
    let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let notes: String = notes.iter().map(|note| format!("\n{}", terminal.bold(note))).collect();
    format!("{}\n{rest}{notes}", terminal.dim(head))
}

fn row(pool: &str, server: &Value) -> Vec<String> {
    let text = |key: &str| server[key].as_str().unwrap_or("-").to_owned();
    let latency = server["latency_seconds"].as_f64();
    let (weight, configured) = (&server["weight"], &server["configured_weight"]);
    let backup = if server["backup"] == true { " backup" } else { "" };
    vec![
        pool.to_owned(),
        text("name"),
        text("address"),
        format!("{}{backup}", text("state")),
        text("health"),
        if weight == configured { weight.to_string() } else { format!("{weight} (config: {configured})") },
        server["active"].to_string(),
        latency.map_or_else(|| "-".to_owned(), |seconds| format!("{:.1} ms", seconds * 1000.0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_to_read() {
        let server = |name: &str, state: &str, health: &str, weight: u32| {
            json!({ "name": name, "address": "10.0.0.1:80", "state": state, "health": health, "weight": weight,
                "configured_weight": 100, "backup": name == "spare", "active": 3, "latency_seconds": 0.01234 })
        };
        let servers = [server("a", "ready", "up", 100), server("spare", "draining", "down", 10)];
        let status = json!({ "generation": 1, "pools": [
            { "name": "orders", "queued": 2, "circuit_open": true, "unknown": ["web.internal"], "servers": servers },
        ] });
        insta::assert_snapshot!(show(&status, &Terminal::plain()));
    }
}
