//! `belay recent`

use super::terminal::{Terminal, table};
use super::{DEFAULT_CONFIG, Exit, run};
use serde_json::Value;
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long to wait for the process.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Show the last decisions of the running process, from its memory: who was let in or refused, and why.
///
/// It asks the process at `admin.socket`. Up to 10,000 decisions are kept; the audit log has them all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay recent -c /etc/belay/belay.yaml --denied")]
pub(super) struct Args {
    /// The config that names the socket.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The socket, if no config says it.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
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

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the config names no `admin.socket` to ask at")]
    NoSocket,
    #[error("no process answers at {0}")]
    Silent(PathBuf, #[source] io::Error),
    #[error("what answers at {0} is no Belay")]
    Strange(PathBuf),
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let socket = match &args.socket {
        Some(socket) => Some(socket.clone()),
        None => match run::load(&args.config, terminal) {
            Some(config) => config.admin_socket,
            None => return Exit::Config,
        },
    };
    match socket.ok_or(Error::NoSocket).and_then(|socket| ask(&socket, args)) {
        Ok(lines) if args.json => terminal.say(&lines),
        Ok(lines) if lines.trim().is_empty() => terminal.tell("nothing yet"),
        Ok(lines) => terminal.say(&show(&lines, terminal)),
        Err(error) => {
            terminal.fail(&error);
            return Exit::Unavailable;
        }
    }
    Exit::Ok
}

fn ask(socket: &Path, args: &Args) -> Result<String, Error> {
    let silent = |error| Error::Silent(socket.to_owned(), error);
    let mut stream = UnixStream::connect(socket).map_err(silent)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(silent)?;
    let denied = if args.denied { "&denied" } else { "" };
    let request =
        format!("GET /recent?limit={}{denied} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n", args.limit);
    stream.write_all(request.as_bytes()).map_err(silent)?;
    let mut raw = String::new();
    stream.read_to_string(&mut raw).map_err(silent)?;
    let is_good = raw.split(' ').nth(1) == Some("200");
    let body = raw.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).filter(|_| is_good);
    body.ok_or_else(|| Error::Strange(socket.to_owned()))
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
