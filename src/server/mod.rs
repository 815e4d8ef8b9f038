//! The process: binds every address first, then runs the parts in Pingora's server until a signal ends it.

mod bind;
mod handover;
mod listen;
mod notify;
mod reload;
mod signals;
mod sockets;
mod upgrade;
mod watch;

use crate::admin::{self, Admin, Order, Orders};
use crate::audit::Cause;
use crate::drain;
use crate::identity::ReplayStore;
use crate::provider::Fetcher;
use crate::runtime::Live;
use crate::upstream::{Lookups, Probes};
use async_trait::async_trait;
pub use bind::{Inherited, InheritedSockets};
use handover::{Heritage, Succession};
pub use handover::{Program, Replaced};
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, RunArgs, Server, ShutdownWatch};
use pingora::services::Service;
use signals::{Post, Received, Stopped, Wishes};
pub use sockets::{Addresses, CannotBind};
use sockets::{Opening, Sockets};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc};
use tokio::time;
use watch::Followers;

/// How long the first answers of DNS are waited for.
const NAMES_WITHIN: Duration = Duration::from_secs(2);

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// The config's file, read again on SIGHUP; none if there is nothing to read again.
    pub config_file: Option<PathBuf>,
    /// Sockets that the service manager has opened.
    pub inherited: InheritedSockets,
    /// How it was started; without it no process can replace it.
    pub program: Option<Program>,
    /// The process that this one replaces.
    pub replaced: Option<Replaced>,
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
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let conf = Arc::new(ServerConf { threads, ..ServerConf::default() });
    let (trigger, drain) = drain::channel();
    let trigger = Arc::new(trigger);
    let (orders, ordered) = admin::channel();
    let admin = Arc::new(Admin::new(Arc::clone(live), Arc::clone(&trigger), orders.clone()));
    let inherited = std::mem::take(&mut options.inherited);
    let left = options.replaced.as_mut().map(Replaced::sockets).unwrap_or_default();
    let sockets = Sockets::new(Arc::clone(live), admin, conf, (inherited, left), drain.clone());
    let config = Arc::clone(&live.snapshot().config);
    for name in sockets.unused(&config) {
        log::warn!("the service manager passed `{name}`, and no listener has bind: fd:{name}");
    }
    let opening = sockets.prepare(&config).inspect_err(|fault| {
        if let Some(replaced) = &options.replaced {
            replaced.refuse(&fault.finding().message);
        }
        // It has said that it starts.
        live.record_failure("stop", &Cause::default(), &fault.finding().message);
        live.state().journal.flush();
    })?;
    let addresses = opening.addresses();
    let stopped = Arc::new(Notify::new());
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads, ..ServerConf::default() });
    server.add_service(Process {
        live: Arc::clone(live),
        parts: Some(Parts {
            sockets,
            opening,
            options,
            trigger,
            drain,
            orders,
            ordered,
            ready: Box::new(move || ready(&addresses)),
            stopped: Arc::clone(&stopped),
        }),
    });
    server.run(RunArgs { shutdown_signal: Box::new(Stopped(stopped)) });
    live.tick();
    live.record("stop", &Cause::default());
    live.state().journal.flush();
    Ok(())
}

/// Everything that runs, as one Pingora service and so in one runtime.
struct Process {
    live: Arc<Live>,
    parts: Option<Parts>,
}

/// What the service takes with it when it starts.
struct Parts {
    sockets: Sockets,
    opening: Opening,
    options: Options,
    trigger: Arc<drain::Trigger>,
    drain: drain::Watch,
    orders: Orders,
    ordered: mpsc::Receiver<Order>,
    ready: Box<dyn FnOnce() + Send + Sync>,
    stopped: Arc<Notify>,
}

#[async_trait]
impl Service for Process {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let Some(parts) = self.parts.take() else { return };
        match Received::new() {
            Ok(received) => Box::pin(serve(Arc::clone(&self.live), parts, received)).await,
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

/// Takes over what another process has learned; none if that one is not to be replaced after all.
async fn succeed(replaced: Replaced, live: &Live) -> Option<Heritage> {
    match replaced.succeed(live).await {
        Ok((Succession::Whole, heritage)) => Some(heritage),
        Ok((Succession::Orphaned, heritage)) => {
            log::warn!("the process that was to be replaced has died; what it knew of used tokens is lost");
            let state = live.state();
            state.replay.take_back(Some(state.clock.now().plus(ReplayStore::HORIZON_AFTER_START)));
            Some(heritage)
        }
        Err(fault) => {
            log::error!("the process that is to be replaced cannot be asked: {fault}");
            None
        }
    }
}

async fn serve(live: Arc<Live>, parts: Parts, received: Received) {
    // From here on no generation is missed.
    let generations = live.generations();
    let runtime = tokio::runtime::Handle::current();
    let followers = Followers {
        probes: Probes::new(runtime.clone()),
        lookups: Lookups::new(runtime.clone()),
        fetcher: Fetcher::new(runtime, Arc::clone(&live.state().clock)),
    };
    followers.follow(&live);
    wait_for_names(&live, &followers.lookups).await;
    followers.probes.follow(&live.snapshot().pools);
    let Parts { mut sockets, opening, mut options, trigger, drain, orders, ordered, ready, stopped } = parts;
    let heritage = match options.replaced.take() {
        Some(replaced) => match succeed(replaced, &live).await {
            Some(heritage) => Some(heritage),
            None => return stopped.notify_one(),
        },
        None => None,
    };
    sockets.commit(opening);
    if heritage.is_none() {
        sockets.inherit();
    }
    let attended = heritage.map(|heritage| heritage.attend(Arc::clone(&live)));
    let following = watch::follow(Arc::clone(&live), Arc::new(followers), generations, (orders, drain));
    let following = tokio::spawn(following);
    ready();
    notify::ready();
    let watchdog = tokio::spawn(notify::watchdog());
    Box::pin(signals::obey(Wishes { received, ordered }, Post { live, options, sockets, trigger, attended })).await;
    following.abort();
    watchdog.abort();
    stopped.notify_one();
}
