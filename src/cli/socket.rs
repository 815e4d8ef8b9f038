//! The running process, asked at its socket.

use super::terminal::Terminal;
use super::{DEFAULT_CONFIG, Exit, run};
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long to wait for the process.
const ANSWER_MAX: Duration = Duration::from_secs(5);

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
}

impl At {
    /// Where to ask.
    ///
    /// # Errors
    /// How to end; why was said.
    pub(super) fn path(&self, terminal: &Terminal) -> Result<PathBuf, Exit> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let config = run::load(&self.config, terminal).ok_or(Exit::Config)?;
        config.admin_socket.ok_or_else(|| {
            terminal.fail(&NoAnswer::NoSocket);
            Exit::Unavailable
        })
    }
}

/// Asks for something; what the process answers.
pub(super) fn ask(socket: &Path, method: &str, target: &str) -> Result<String, NoAnswer> {
    let silent = |error| NoAnswer::Silent(socket.to_owned(), error);
    let mut stream = UnixStream::connect(socket).map_err(silent)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(silent)?;
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(silent)?;
    let mut raw = String::new();
    stream.read_to_string(&mut raw).map_err(silent)?;
    let body = raw.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    match (raw.split(' ').nth(1), body) {
        (Some("200"), Some(body)) => Ok(body),
        (Some("400" | "404"), Some(body)) => Err(NoAnswer::Refused(body.trim_end().to_owned())),
        _ => Err(NoAnswer::Strange(socket.to_owned())),
    }
}
