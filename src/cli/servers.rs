//! `belay drain`, `ready`, `maint` and `weight`

use super::socket::{self, NoAnswer};
use super::{Exit, terminal::Terminal};

/// A server of the running process.
#[derive(Debug, clap::Args)]
pub(super) struct Server {
    /// The server, by the config's names.
    #[arg(value_name = "POOL/SERVER")]
    server: String,
    #[command(flatten)]
    socket: socket::At,
}

/// Send a server no more requests; what it works on comes to its end. Its checks go on.
///
/// The state outlives reloads, but not the process. `belay ready` ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay drain orders/a && belay status --watch")]
pub(super) struct Drain {
    #[command(flatten)]
    server: Server,
}

/// Send a server requests again, after `drain` or `maint`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay ready orders/a")]
pub(super) struct Ready {
    #[command(flatten)]
    server: Server,
}

/// Send a server neither requests nor checks. After it, it must pass a check first.
///
/// The state outlives reloads, but not the process. `belay ready` ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay maint orders/a")]
pub(super) struct Maint {
    #[command(flatten)]
    server: Server,
}

/// Give a server another share of the requests, without forgetting its health.
///
/// It outlives reloads, but not the process.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay weight orders/a 10")]
pub(super) struct Weight {
    #[command(flatten)]
    server: Server,
    /// 0 (no requests) to 256, or `default` for the config's.
    #[arg(value_name = "WEIGHT", value_parser = weight)]
    weight: String,
}

fn weight(text: &str) -> Result<String, String> {
    let is_weight = text == "default" || text.parse::<u32>().is_ok_and(|weight| weight <= 256);
    if is_weight { Ok(text.to_owned()) } else { Err("a weight is 0 to 256, or `default`".to_owned()) }
}

impl Drain {
    pub(super) fn main(&self, terminal: &Terminal) -> Exit {
        change(&self.server, "drain", terminal)
    }
}

impl Ready {
    pub(super) fn main(&self, terminal: &Terminal) -> Exit {
        change(&self.server, "ready", terminal)
    }
}

impl Maint {
    pub(super) fn main(&self, terminal: &Terminal) -> Exit {
        change(&self.server, "maint", terminal)
    }
}

impl Weight {
    pub(super) fn main(&self, terminal: &Terminal) -> Exit {
        change(&self.server, &format!("weight={}", self.weight), terminal)
    }
}

fn change(server: &Server, act: &str, terminal: &Terminal) -> Exit {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if server.server.split('/').count() != 2 || !server.server.split('/').all(is_name) {
        terminal.fail(&NoAnswer::Refused(format!(
            "`{}` is no server: say POOL/SERVER, for example orders/a",
            server.server
        )));
        return Exit::Usage;
    }
    match server.socket.act(&format!("/servers/{}/{act}", server.server), terminal) {
        Ok(done) => {
            terminal.say(&done);
            Exit::Ok
        }
        Err(exit) => exit,
    }
}
