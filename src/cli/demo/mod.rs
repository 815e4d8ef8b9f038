//! `belay demo`: a load balancer, Workers' keys and two origins, all in a folder of its own.

mod folder;
mod people;
mod pki;
mod steps;

use super::terminal::Terminal;
use super::{Exit, run};
use crate::clock::{self, Timestamp};
use crate::identity::BadKey;
use crate::origin::Echo;
use crate::runtime::{Beginning, Live};
use crate::server::{Addresses, InheritedSockets, Options};
use folder::Folder;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use steps::Demo;

/// How long the origins may take to be healthy.
const HEALTHY_WITHIN: Duration = Duration::from_secs(10);

/// Run a load balancer with Workers' keys and two small origins in a temporary folder, and print curl lines that pass
/// and ones that are refused.
///
/// It needs no file of yours, listens on loopback only, and removes its folder when it is stopped with Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay demo")]
pub(super) struct Args {
    /// Use this new folder and keep it.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Print everything that there is to try as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the folder {0} cannot be made")]
    Folder(PathBuf, #[source] io::Error),
    #[error("{0} cannot be written")]
    Write(PathBuf, #[source] io::Error),
    #[error("certificates cannot be made")]
    Certificates(#[from] rcgen::Error),
    #[error(transparent)]
    Config(#[from] crate::config::Unwritable),
    #[error("users' tokens cannot be made")]
    Token(#[source] BadKey),
    #[error("an origin cannot be started")]
    Origin(#[source] io::Error),
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    match prepare(args) {
        Ok(folder) => serve(args, &folder, terminal),
        Err(error) => {
            terminal.fail(&error);
            Exit::Unavailable
        }
    }
}

fn prepare(args: &Args) -> Result<Folder, Error> {
    let folder = Folder::new(args.dir.as_deref())?;
    let origins = [start_origin("a")?, start_origin("b")?];
    folder.fill(args.port, origins)?;
    Ok(folder)
}

fn serve(args: &Args, folder: &Folder, terminal: &Terminal) -> Exit {
    let Some(config) = run::load(&folder.config(), terminal) else { return Exit::Config };
    // The keys are new: no earlier process can have seen a token of theirs.
    let beginning = Beginning::new(Arc::new(clock::System), Timestamp::from_unix_seconds(0));
    let Some(live) = run::start(config, beginning, terminal) else { return Exit::Config };
    let (json, path, watched) = (args.json, folder.path().to_owned(), Arc::clone(&live));
    let ready = move |addresses: &Addresses| {
        let listener = addresses.listeners.first().and_then(|(_, address)| address.parse().ok());
        let Some(listener) = listener else { return };
        let admin = addresses.admin;
        // The checks of the origins run in the server that calls this, so it must not wait here.
        thread::spawn(move || announce(&Demo::new(&path, listener, admin), &watched, json));
    };
    let options = Options {
        config_file: Some(folder.config()),
        inherited: InheritedSockets::default(),
        // The demo's origins live in this process.
        program: None,
        replaced: None,
    };
    run::serve(&live, options, ready, terminal)
}

fn announce(demo: &Demo, live: &Live, json: bool) {
    let terminal = Terminal::new();
    let deadline = Instant::now() + HEALTHY_WITHIN;
    let all_healthy =
        || live.snapshot().pools.iter().all(|pool| pool.servers.iter().all(|server| server.state.health.is_up()));
    while !all_healthy() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    if let Err(error) = demo.write_files() {
        return terminal.fail(&error);
    }
    if json {
        terminal.say_json(&demo.json());
    } else {
        terminal.say(&demo.text(&terminal));
    }
}

fn start_origin(name: &'static str) -> Result<SocketAddr, Error> {
    let socket = TcpListener::bind("127.0.0.1:0").map_err(Error::Origin)?;
    let address = socket.local_addr().map_err(Error::Origin)?;
    socket.set_nonblocking(true).map_err(Error::Origin)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Origin)?;
    let serve = move || {
        let served =
            runtime.block_on(async { Echo::new(name).serve(tokio::net::TcpListener::from_std(socket)?).await });
        if let Err(fault) = served {
            log::error!("origin {name}: {fault}");
        }
    };
    thread::Builder::new().name(format!("origin-{name}")).spawn(serve).map_err(Error::Origin)?;
    Ok(address)
}
