//! `belay history`, `show` and `rollback`

use super::reload;
use super::socket::{self, NoAnswer};
use super::terminal::{Terminal, table};
use super::{Exit, users};
use serde_json::{Value, json};

/// Show what was live: each generation, since when, who wanted it and why.
///
/// It asks the process at `admin.socket`; the config needs `history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay history -n 5")]
pub(super) struct History {
    #[command(flatten)]
    socket: socket::At,
    /// How many, the newest first.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    /// Print JSON, with all files that decided and their digests.
    #[arg(long)]
    json: bool,
}

/// Show a generation: the config's text, or another file that decided.
///
/// Secrets are never kept, so of their files there is the digest only.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay show 7 > belay.yaml.7 && diff belay.yaml.7 belay.yaml")]
pub(super) struct Show {
    /// Its number.
    generation: u64,
    #[command(flatten)]
    socket: socket::At,
    /// Which file, by the end of its path; the config if none is named.
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// Print all of it as JSON.
    #[arg(long)]
    json: bool,
}

/// Make an earlier generation live again, as a new one.
///
/// The files that decided then count instead of those on disk, until these are changed; a restart does not change that.
/// Certificates, revocation lists and secrets stay as they are on disk, and a token key that is revoked now stays
/// revoked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay rollback 7 --reason 'OPS-713: orders were open to everybody'")]
pub(super) struct Rollback {
    /// Its number.
    generation: u64,
    #[command(flatten)]
    change: socket::Change,
}

impl History {
    pub(super) fn main(&self, terminal: &Terminal) -> Exit {
        let told = match self.socket.ask_json("/history", terminal) {
            Ok(told) => told,
            Err(exit) => return exit,
        };
        if self.json {
            terminal.say_json(&told);
        } else {
            terminal.say(&list(&told, self.limit, terminal));
        }
        Exit::Ok
    }
}

impl Show {
    pub(super) fn main(&self, terminal: &Terminal) -> Exit {
        let told = match self.socket.ask_json(&format!("/history/{}", self.generation), terminal) {
            Ok(told) => told,
            Err(exit) => return exit,
        };
        if self.json {
            terminal.say_json(&told);
            return Exit::Ok;
        }
        let contents = told.get("contents").and_then(Value::as_array).cloned().unwrap_or_default();
        let wanted = |content: &&Value| match &self.file {
            Some(end) => content["path"].as_str().is_some_and(|path| path.ends_with(end.as_str())),
            None => true,
        };
        match contents.iter().find(wanted).map(|content| content["text"].as_str()) {
            Some(Some(text)) => {
                terminal.say(text);
                Exit::Ok
            }
            Some(None) => fail(terminal, "that file holds a secret, which is never kept"),
            None => fail(terminal, "no file of that generation has a path that ends so"),
        }
    }
}

impl Rollback {
    pub(super) fn main(&self, terminal: &Terminal) -> Exit {
        let wish = json!({ "reason": self.change.reason, "accept": self.change.accept });
        reload::make(&format!("/rollback/{}", self.generation), &wish, &self.change, terminal)
    }
}

fn fail(terminal: &Terminal, why: &str) -> Exit {
    terminal.fail(&NoAnswer::Refused(why.to_owned()));
    Exit::Unavailable
}

fn list(told: &Value, limit: usize, terminal: &Terminal) -> String {
    let head = ["GENERATION", "SINCE", "DIGEST", "HOW", "BY", "WHY"].map(str::to_owned).to_vec();
    let entries = told["generations"].as_array().into_iter().flatten().rev().take(limit);
    let rows = entries.map(|entry| row(entry, entry["generation"] == told["live"]));
    let text = table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    match text.split_once('\n') {
        Some((head, rows)) => format!("{}\n{rows}", terminal.dim(head)),
        None => "no generation is remembered: the config says no `history`".to_owned(),
    }
}

fn row(entry: &Value, is_live: bool) -> Vec<String> {
    let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
    let time = text("time");
    let by = entry["user"].as_u64().and_then(|user| u32::try_from(user).ok()).map(users::name);
    vec![
        format!("{}{}", entry["generation"], if is_live { " live" } else { "" }),
        time.get(..19).map_or_else(|| time.clone(), |seconds| format!("{seconds}Z")),
        text("digest").get(..12).unwrap_or_default().to_owned(),
        text("action"),
        by.unwrap_or_else(|| text("cause")),
        text("reason"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_to_read() {
        let entry = |generation: u64, action: &str, cause: &str, user: Option<u32>, reason: Option<&str>| {
            json!({ "generation": generation, "time": "2026-11-22T19:02:08.000000007Z", "digest": "0123456789abcdef",
                "action": action, "cause": cause, "user": user, "reason": reason, "config": "belay.yaml", "files": [] })
        };
        let generations = [
            entry(6, "start", "itself", None, None),
            entry(7, "reload", "HUP", None, None),
            entry(8, "rollback", "operator", Some(0), Some("OPS-713: orders were open")),
        ];
        let told = json!({ "live": 8, "generations": generations });
        insta::assert_snapshot!(list(&told, 20, &Terminal::plain()));
        assert_eq!(list(&told, 1, &Terminal::plain()).lines().count(), 2);
        assert!(list(&json!({ "generations": [] }), 20, &Terminal::plain()).contains("no `history`"));
    }
}
