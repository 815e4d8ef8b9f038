//! The running process, asked at its socket.

use super::terminal::Terminal;
use super::{DEFAULT_CONFIG, Exit};
use crate::config;
use serde_json::Value;
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long to wait for the process.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The same for a change of the config, which waits for others.
const CHANGE_MAX: Duration = Duration::from_secs(60);

/// Where the process is asked.
#[derive(Debug, clap::Args)]
pub(super) struct At {
    /// The config that names the socket.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The socket, if no config says it.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Why there is no answer, or another than was wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("the config names no `admin.socket` to ask at")]
    NoSocket,
    #[error("no process answers at {0}")]
    Silent(PathBuf, #[source] io::Error),
    #[error("what answers at {0} is no Belay")]
    Strange(PathBuf),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Forbidden(String),
}

impl NoAnswer {
    /// How to end.
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::Forbidden(_) => Exit::Denied,
            Self::NoSocket | Self::Silent(..) | Self::Strange(_) | Self::Refused(_) => Exit::Unavailable,
        }
    }
}

/// What goes along with a change of the config.
#[derive(Debug, clap::Args)]
pub(super) struct Change {
    #[command(flatten)]
    pub(super) socket: At,
    /// Why, for the audit log and the history.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Something dangerous that is meant, by the name that `belay plan` says; `all` for all.
    #[arg(long, value_name = "NAME")]
    pub(super) accept: Vec<String>,
    /// Print what came of it as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl At {
    /// At that socket, or at the one that the config names.
    pub(super) const fn of(config: PathBuf, socket: Option<PathBuf>) -> Self {
        Self { config, socket }
    }

    /// The config that names the socket.
    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    /// The socket, where no config says it.
    pub(super) fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Asks for something; what the process answers.
    ///
    /// # Errors
    /// How to end; why was said. So with the others.
    pub(super) fn ask(&self, target: &str, terminal: &Terminal) -> Result<String, Exit> {
        self.exchange("GET", target, "", terminal, |_, status, body| answered(status, body))
    }

    /// Asks for something that is told in JSON.
    pub(super) fn ask_json(&self, target: &str, terminal: &Terminal) -> Result<Value, Exit> {
        self.exchange("GET", target, "", terminal, |socket, status, body| parsed(socket, &answered(status, body)?))
    }

    /// Has the process do something small at once; what it answers.
    pub(super) fn act(&self, target: &str, terminal: &Terminal) -> Result<String, Exit> {
        self.exchange("POST", target, "", terminal, |_, status, body| answered(status, body))
    }

    /// Has the process change something, which may take its time; the answer in JSON, be it done or refused.
    pub(super) fn order(&self, target: &str, wish: &Value, terminal: &Terminal) -> Result<Value, Exit> {
        self.exchange("POST", target, &wish.to_string(), terminal, |socket, status, body| {
            parsed(socket, &if status == 422 { body } else { answered(status, body)? })
        })
    }

    fn exchange<T>(
        &self,
        method: &str,
        target: &str,
        body: &str,
        terminal: &Terminal,
        read: impl FnOnce(&Path, u16, String) -> Result<T, NoAnswer>,
    ) -> Result<T, Exit> {
        let socket = self.path(terminal)?;
        let answer = exchange(&socket, method, target, body).and_then(|(status, body)| read(&socket, status, body));
        answer.map_err(|error| {
            terminal.fail(&error);
            error.exit()
        })
    }

    /// Where to ask.
    fn path(&self, terminal: &Terminal) -> Result<PathBuf, Exit> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        // The process may well run with an older config than this one, which may be broken.
        match config::socket_of(&self.config) {
            Ok(Some(socket)) => Ok(socket),
            Ok(None) => {
                terminal.fail(&NoAnswer::NoSocket);
                Err(Exit::Unavailable)
            }
            Err(findings) => {
                terminal.show(&findings);
                Err(Exit::Config)
            }
        }
    }
}

fn parsed(socket: &Path, body: &str) -> Result<Value, NoAnswer> {
    serde_json::from_str(body).map_err(|_not_json| NoAnswer::Strange(socket.to_owned()))
}

fn answered(status: u16, body: String) -> Result<String, NoAnswer> {
    let why = || body.trim_end().to_owned();
    match status {
        200 => Ok(body),
        403 => Err(NoAnswer::Forbidden(why())),
        _ => Err(NoAnswer::Refused(why())),
    }
}

fn exchange(socket: &Path, method: &str, target: &str, body: &str) -> Result<(u16, String), NoAnswer> {
    let patience = if body.is_empty() { ANSWER_MAX } else { CHANGE_MAX };
    let silent = |error| NoAnswer::Silent(socket.to_owned(), error);
    let mut stream = UnixStream::connect(socket).map_err(silent)?;
    stream.set_read_timeout(Some(patience)).map_err(silent)?;
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).map_err(silent)?;
    let mut raw = String::new();
    stream.read_to_string(&mut raw).map_err(silent)?;
    let status = raw.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split(' ').next()?.parse().ok());
    let body = raw.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| NoAnswer::Strange(socket.to_owned()))
}
