//! The process: binds every address first, then runs the parts in Pingora's server until a signal ends it.

mod bind;
mod listen;
mod signals;
mod watch;

use crate::admin::Admin;
use crate::drain;
use crate::name::ListenerName;
use crate::proxy::Front;
use crate::runtime::Live;
use crate::upstream::{Lookups, Probes};
use async_trait::async_trait;
use bind::Bound;
pub use bind::{Inherited, InheritedSockets};
use listen::Accepting;
use pingora::apps::http_app::HttpServer;
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, RunArgs, Server, ShutdownWatch};
use pingora::services::Service;
use signals::{Received, Stopped};
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio::time;
use watch::Followers;

/// How long the first answers of DNS are waited for.
const NAMES_WITHIN: Duration = Duration::from_secs(2);

/// An address is taken, not ours, or forbidden.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot listen on {place}")]
pub struct CannotBind {
    /// Who wanted it.
    what: String,
    /// The address, path or name.
    place: String,
    /// Why not.
    source: io::Error,
}

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// The config's file, read again on SIGHUP; none if there is nothing to read again.
    pub config_file: Option<PathBuf>,
    /// Sockets that the service manager has opened.
    pub inherited: InheritedSockets,
    /// How long requests in flight may take to end after a stop was asked for.
    pub grace: Duration,
}

/// The addresses that are listened on.
#[derive(Debug)]
pub struct Addresses {
    /// Of each listener, in the config's order: addresses with ports, and paths.
    pub listeners: Vec<(ListenerName, String)>,
    /// Of metrics and health.
    pub admin: Option<SocketAddr>,
}

/// Serves until a signal ends it. `ready` is told the addresses once all of them are bound.
///
/// # Errors
/// If an address cannot be bound; nothing is served then.
pub fn run(
    live: &Arc<Live>,
    mut options: Options,
    ready: impl FnOnce(&Addresses) + Send + Sync + 'static,
) -> Result<(), CannotBind> {
    // Pingora's connections to servers take the process's cryptography; it is ours. Somebody may have said so before.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let config = live.config();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let conf = Arc::new(ServerConf { threads, ..ServerConf::default() });
    let (trigger, drain) = drain::channel();
    let trigger = Arc::new(trigger);
    let stopped = Arc::new(Notify::new());
    let mut accepting = Vec::new();
    let mut addresses = Addresses { listeners: Vec::new(), admin: None };
    for listener in &config.listeners {
        let front = Front::new(&conf, listener.name.clone(), Arc::clone(live));
        for bind in &listener.bind {
            let bound = Bound::all(bind, &mut options.inherited)
                .map_err(|source| bind_error(format!("listener {}", listener.name), bind, source))?;
            for bound in bound {
                addresses.listeners.push((listener.name.clone(), bound.to_string()));
                accepting.push(Accepting::edge(bound, front.clone(), listener.name.clone(), Arc::clone(live)));
            }
        }
    }
    for name in options.inherited.keys() {
        log::warn!("the service manager passed `{name}`, and no listener has bind: fd:{name}");
    }
    let mut admin = Vec::new();
    if let Some(address) = config.admin_http {
        let bound = Bound::tcp(address).map_err(|source| bind_error("admin".into(), &address, source))?;
        addresses.admin = bound.address();
        let app = HttpServer::new_app(Admin::new(Arc::clone(live), Arc::clone(&trigger)));
        admin.push(Accepting::admin(bound, Arc::new(app)));
    }
    if let Some(path) = &config.admin_socket {
        let bound = Bound::private(path).map_err(|source| bind_error("admin".into(), &path.display(), source))?;
        let app = HttpServer::new_app(Admin::private(Arc::clone(live), Arc::clone(&trigger)));
        admin.push(Accepting::admin(bound, Arc::new(app)));
    }

    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads, ..ServerConf::default() });
    server.add_service(Process {
        live: Arc::clone(live),
        parts: Some(Parts {
            accepting,
            admin,
            options,
            trigger,
            drain,
            ready: Box::new(move || ready(&addresses)),
            stopped: Arc::clone(&stopped),
        }),
    });
    server.run(RunArgs { shutdown_signal: Box::new(Stopped(stopped)) });
    live.tick();
    live.record("stop", None);
    live.state().journal.flush();
    Ok(())
}

fn bind_error(what: String, place: &impl ToString, source: io::Error) -> CannotBind {
    CannotBind { what, place: place.to_string(), source }
}

/// Everything that runs, as one Pingora service and so in one runtime.
struct Process {
    live: Arc<Live>,
    parts: Option<Parts>,
}

/// What the service takes with it when it starts.
struct Parts {
    accepting: Vec<Accepting>,
    admin: Vec<Accepting>,
    options: Options,
    trigger: Arc<drain::Trigger>,
    drain: drain::Watch,
    ready: Box<dyn FnOnce() + Send + Sync>,
    stopped: Arc<Notify>,
}

#[async_trait]
impl Service for Process {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let Some(parts) = self.parts.take() else { return };
        match Received::new() {
            Ok(received) => serve(Arc::clone(&self.live), parts, received).await,
            Err(fault) => {
                log::error!("signals cannot be received: {fault}");
                parts.stopped.notify_one();
            }
        }
    }

    fn name(&self) -> &str {
        "belay"
    }
}

/// Gives DNS a moment to tell where servers are, before the first request asks for one.
async fn wait_for_names(live: &Live, lookups: &Lookups) {
    let mut answers = lookups.answers();
    let all_known = async {
        loop {
            live.rediscover();
            let is_known = live.snapshot().pools.iter().all(|pool| pool.unknown().is_empty());
            if is_known || answers.changed().await.is_err() {
                return;
            }
        }
    };
    if time::timeout(NAMES_WITHIN, all_known).await.is_err() {
        log::warn!("not all servers are found yet; requests for them are refused until then");
    }
}

async fn serve(live: Arc<Live>, parts: Parts, received: Received) {
    // From here on no generation is missed.
    let generations = live.generations();
    let runtime = tokio::runtime::Handle::current();
    let followers = Followers { probes: Probes::new(runtime.clone()), lookups: Lookups::new(runtime) };
    followers.follow(&live);
    wait_for_names(&live, &followers.lookups).await;
    followers.probes.follow(&live.snapshot().pools);
    for accepting in parts.accepting {
        tokio::spawn(accepting.run(parts.drain.clone()));
    }
    // Metrics and health are answered to the very end, so that the drain can be seen.
    let (_never, no_drain) = drain::channel();
    for admin in parts.admin {
        tokio::spawn(admin.run(no_drain.clone()));
    }
    let following = tokio::spawn(watch::follow(Arc::clone(&live), Arc::new(followers), generations, parts.drain));
    (parts.ready)();
    signals::obey(received, live, parts.options, &parts.trigger).await;
    following.abort();
    parts.stopped.notify_one();
}
