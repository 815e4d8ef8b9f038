//! `belay run`

use super::terminal::Terminal;
use super::{DEFAULT_CONFIG, Exit, inherited, log};
use crate::clock::{self, Clock, Timestamp};
use crate::config::{self, Config};
use crate::filter;
use crate::identity::ReplayStore;
use crate::runtime::{self, Live};
use crate::server::{self, Addresses, Options};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How long requests in flight may take to end after a stop was asked for.
pub(super) const GRACE: Duration = Duration::from_secs(30);

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
}

pub(super) fn main(args: Args, terminal: &Terminal) -> Exit {
    let Some(config) = load(&args.config, terminal) else { return Exit::Config };
    log::write_as(config.log.format);
    // An earlier process may have seen tokens that were signed up to now, by a clock that is ahead.
    let horizon = clock::System.now().plus(ReplayStore::HORIZON_AFTER_START);
    let Some(live) = start(config, horizon, terminal) else { return Exit::Config };
    let json = args.json;
    let options = Options { config_file: Some(args.config), inherited: inherited::sockets(), grace: GRACE };
    serve(&live, options, move |addresses| announce(addresses, json), terminal)
}

/// Reads a config, or says what is wrong with it.
pub(super) fn load(file: &Path, terminal: &Terminal) -> Option<Config> {
    let checked = config::read_file(file, &filter::KINDS);
    terminal.show(&checked.findings);
    checked.config
}

/// Builds the first generation, or says what is wrong.
pub(super) fn start(config: Config, horizon: Timestamp, terminal: &Terminal) -> Option<Arc<Live>> {
    match runtime::start(config, Arc::new(clock::System), horizon) {
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
    for (name, address) in &addresses.listeners {
        ::log::info!("listener {name} on {address}");
    }
    if let Some(address) = addresses.admin {
        ::log::info!("metrics and health on http://{address}");
    }
    if json {
        let listeners: Vec<_> = addresses
            .listeners
            .iter()
            .map(|(name, address)| serde_json::json!({ "name": name, "address": address }))
            .collect();
        let line = serde_json::json!({ "event": "ready", "listeners": listeners, "admin": addresses.admin });
        Terminal::new().say_json(&line);
    }
}
