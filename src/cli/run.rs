//! `belay run`

use super::terminal::Terminal;
use super::{DEFAULT_CONFIG, Exit, inherited, log};
use crate::clock::{self, Clock};
use crate::config::{self, Config};
use crate::filter;
use crate::identity::ReplayStore;
use crate::runtime::{self, Beginning, Live};
use crate::server::{self, Addresses, Options, Program, Replaced};
use std::{
    io,
    os::fd::AsFd,
    path::{self, Path, PathBuf},
    sync::Arc,
};

/// The argument of a process that replaces the one that has started it.
const SUCCESSOR: &str = "--successor";

/// Serve until TERM, QUIT or INT.
///
/// `belay reload` or HUP reads the config again; a bad one is refused and the old one stays. Keys and certificates that
/// change are read again by themselves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay run -c /etc/belay/belay.yaml")]
pub(super) struct Args {
    /// The config.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Print the addresses that are listened on as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Serve only configs that so many people have signed as this file says: only root may be able to change it. See
    /// `belay approve`.
    #[arg(long, value_name = "FILE")]
    approvers: Option<PathBuf>,
    /// Take over from the process that has started this one.
    #[arg(long, hide = true)]
    successor: bool,
}

pub(super) fn main(args: Args, terminal: &Terminal) -> Exit {
    let replaced = match args.successor.then(meet).transpose() {
        Ok(replaced) => replaced,
        Err(error) => {
            terminal.fail(&error);
            return Exit::Usage;
        }
    };
    let refuse = |why: &str| {
        if let Some(replaced) = &replaced {
            replaced.refuse(why);
        }
    };
    // Whoever asks later may be elsewhere.
    let file = path::absolute(&args.config).unwrap_or(args.config);
    let Some(config) = load(&file, terminal) else {
        refuse("its config is refused, see `belay check`");
        return Exit::Config;
    };
    log::write_as(config.log.format);
    // An earlier process may have seen tokens that were signed up to now, by a clock that is ahead.
    let horizon = clock::System.now().plus(ReplayStore::HORIZON_AFTER_START);
    let predecessor = replaced.as_ref().and_then(Replaced::predecessor);
    let approvers = args.approvers.map(|file| path::absolute(&file).unwrap_or(file));
    let beginning = Beginning { clock: Arc::new(clock::System), horizon, predecessor, approvers };
    let Some(live) = start(config, beginning, terminal) else {
        refuse("what its config names is refused, see `belay check`");
        return Exit::Config;
    };
    let json = args.json;
    let options = Options { config_file: Some(file), inherited: inherited::sockets(), program: program(), replaced };
    serve(&live, options, move |addresses| announce(addresses, json), terminal)
}

/// Reads a config, or says what is wrong with it.
pub(super) fn load(file: &Path, terminal: &Terminal) -> Option<Config> {
    let checked = config::read_file(file, filter::KINDS);
    terminal.show(&checked.findings);
    checked.config
}

/// Meets the process that has started this one, at the standard input.
fn meet() -> io::Result<Replaced> {
    Replaced::meet(io::stdin().as_fd().try_clone_to_owned()?)
}

/// How this process was started, and how another is that replaces it.
fn program() -> Option<Program> {
    let path = std::env::current_exe().ok()?;
    let args = std::env::args_os().skip(1).filter(|arg| arg != SUCCESSOR);
    Some(Program { path, args: args.chain([SUCCESSOR.into()]).collect() })
}

/// Builds the first generation, or says what is wrong.
pub(super) fn start(config: Config, beginning: Beginning, terminal: &Terminal) -> Option<Arc<Live>> {
    match runtime::start(config, beginning) {
        Ok(live) => Some(Arc::new(live)),
        Err(findings) => {
            terminal.show(&findings);
            None
        }
    }
}

pub(super) fn serve(
    live: &Arc<Live>,
    options: Options,
    ready: impl FnOnce(&Addresses) + Send + Sync + 'static,
    terminal: &Terminal,
) -> Exit {
    match server::run(live, options, ready) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            terminal.fail(&error);
            Exit::Unavailable
        }
    }
}

fn announce(addresses: &Addresses, json: bool) {
    addresses.log();
    if json {
        let listeners: Vec<_> = addresses
            .listeners
            .iter()
            .map(|(name, address)| serde_json::json!({ "name": name, "address": address }))
            .collect();
        let line = serde_json::json!({
            "event": "ready",
            "listeners": listeners,
            "admin": addresses.admin,
            "admin_https": addresses.admin_https,
        });
        Terminal::new().say_json(&line);
    }
}
