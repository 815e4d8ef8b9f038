//! The sockets that are listened on: opened, kept, handed from listener to listener and closed as the config says.

use super::bind::{Bound, Inherited, InheritedSockets, PRIVATE_MODE, PUBLIC_MODE};
use super::listen::{Accepting, Phase, Serves};
use crate::admin::Admin;
use crate::config::{self, Bind, Config, Finding};
use crate::drain::{self, Watch};
use crate::name::ListenerName;
use crate::proxy::Front;
use crate::runtime::Live;
use parking_lot::Mutex;
use pingora::server::configuration::ServerConf;
use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    os::unix::fs::PermissionsExt,
    sync::Arc,
};
use tokio::sync::watch;

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

impl CannotBind {
    /// The same as a finding.
    pub(super) fn finding(&self) -> Finding {
        let is_forbidden = self.source.kind() == io::ErrorKind::PermissionDenied;
        let hint = is_forbidden.then(|| "let the service manager open it, and bind fd:NAME".to_owned());
        Finding::of_file("", format!("{self}: {}", self.source), hint)
    }
}

/// The addresses that are listened on.
#[derive(Debug, Default)]
pub struct Addresses {
    /// Of each listener, in the config's order: addresses with ports, and paths.
    pub listeners: Vec<(ListenerName, String)>,
    /// Of metrics and health.
    pub admin: Option<SocketAddr>,
    /// Of the same for workloads that come from elsewhere.
    pub admin_https: Option<SocketAddr>,
}

impl Addresses {
    /// Says them in the log.
    pub fn log(&self) {
        for (name, address) in &self.listeners {
            log::info!("listener {name} on {address}");
        }
        if let Some(address) = self.admin {
            log::info!("metrics and health on http://{address}");
        }
        if let Some(address) = self.admin_https {
            log::info!("metrics and health for workloads on https://{address}");
        }
    }
}

/// What connections at a socket are for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    /// Requests, at that listener.
    Listener(ListenerName),
    /// Metrics and health.
    Metrics,
    /// The same for workloads that come from elsewhere.
    RemoteMetrics(ListenerName),
    /// Operators.
    Operators,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "listener {name}"),
            Self::Metrics => f.write_str("admin.http"),
            Self::RemoteMetrics(_) => f.write_str("admin.https"),
            Self::Operators => f.write_str("admin.socket"),
        }
    }
}

/// A place to listen at, as a config wants it. Connections that were opened under another want are drained.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    bind: Bind,
    purpose: Purpose,
    speaks_tls: bool,
}

impl Wanted {
    fn all(config: &Config) -> Vec<Self> {
        let of = |listener: &config::Listener, purpose: fn(ListenerName) -> Purpose| {
            let (purpose, speaks_tls) = (purpose(listener.name.clone()), listener.tls.is_some());
            let wanted = |bind: &Bind| Self { bind: bind.clone(), purpose: purpose.clone(), speaks_tls };
            listener.bind.iter().map(wanted).collect::<Vec<_>>()
        };
        let listeners = config.listeners.iter().flat_map(|listener| of(listener, Purpose::Listener));
        let remote = config.admin_https.iter().flat_map(|https| of(&https.listener, Purpose::RemoteMetrics));
        let own = |bind, purpose| Self { bind, purpose, speaks_tls: false };
        let metrics = config.admin_http.map(|address| own(Bind::Tcp(address), Purpose::Metrics));
        let operators = config.admin_socket.clone().map(|path| own(Bind::Unix(path), Purpose::Operators));
        listeners.chain(metrics).chain(remote).chain(operators).collect()
    }

    /// Whether that one's socket can be taken over without asking the system for another.
    fn can_take_from(&self, other: &Self) -> bool {
        // The operators' socket has a mode of its own.
        let is_any = |wanted: &Self| wanted.purpose != Purpose::Operators;
        self.bind == other.bind && is_any(self) && is_any(other)
    }

    fn bind(&self, inherited: &InheritedSockets) -> Result<Vec<Bound>, CannotBind> {
        let bound = match (&self.purpose, &self.bind) {
            (Purpose::Operators, Bind::Unix(path)) => Bound::private(path).map(|bound| vec![bound]),
            (_, bind) => Bound::all(bind, inherited),
        };
        bound.map_err(|source| self.cannot(source))
    }

    fn cannot(&self, source: io::Error) -> CannotBind {
        let (what, place) = (self.purpose.to_string(), self.bind.to_string());
        CannotBind { what, place: place.trim_start_matches("unix:").to_owned(), source }
    }
}

/// A socket that is listened on.
#[derive(Debug)]
struct Open {
    wanted: Wanted,
    bound: Bound,
    phase: watch::Sender<Phase>,
    /// Whether no connection is open, while it leaves.
    is_quiet: watch::Receiver<bool>,
}

/// What a config changes of the sockets: nothing has happened yet but that new ones are bound.
#[derive(Debug)]
pub(super) struct Opening {
    /// Which of those that are open stay as they are.
    kept: Vec<usize>,
    new: Vec<(Wanted, Bound)>,
}

/// All sockets that are listened on.
pub(super) struct Sockets {
    open: Vec<Open>,
    live: Arc<Live>,
    admin: Arc<Admin>,
    conf: Arc<ServerConf>,
    inherited: InheritedSockets,
    /// Sockets of the process that is replaced, by the config's words for their places.
    left: Mutex<Vec<(String, Inherited)>>,
    drain: Watch,
    /// Metrics and health are answered to the very end, so that the drain can be seen.
    never: (drain::Trigger, Watch),
}

impl Sockets {
    /// None open yet. Listeners' connections follow the drain.
    pub(super) fn new(
        live: Arc<Live>,
        admin: Arc<Admin>,
        conf: Arc<ServerConf>,
        (mut inherited, left): (InheritedSockets, Vec<(String, Inherited)>),
        drain: Watch,
    ) -> Self {
        let mut bound = Vec::new();
        for (place, socket) in left {
            match place.strip_prefix("fd:") {
                // The service manager's sockets go from process to process.
                Some(name) => inherited.entry(name.to_owned()).or_default().push(socket),
                None => bound.push((place, socket)),
            }
        }
        let left = Mutex::new(bound);
        Self { open: Vec::new(), live, admin, conf, inherited, left, drain, never: drain::channel() }
    }

    /// Binds what a config wants and what is not open yet.
    pub(super) fn prepare(&self, config: &Config) -> Result<Opening, CannotBind> {
        let mut free: Vec<usize> = (0..self.open.len()).collect();
        let mut opening = Opening { kept: Vec::new(), new: Vec::new() };
        let mut missing = Vec::new();
        for wanted in Wanted::all(config) {
            let kept = self.take(&mut free, &wanted, |open| open.wanted == wanted);
            if kept.is_empty() {
                missing.push(wanted);
            }
            opening.kept.extend(kept);
        }
        for wanted in missing {
            let taken = self.take(&mut free, &wanted, |open| wanted.can_take_from(&open.wanted));
            let taken: Vec<_> =
                taken.into_iter().filter_map(|index| Some(self.open.get(index)?.bound.clone())).collect();
            let bound = if taken.is_empty() { self.bind(&wanted)? } else { taken };
            opening.new.extend(bound.into_iter().map(|bound| (wanted.clone(), bound)));
        }
        Ok(opening)
    }

    /// Binds a place, if the process that is replaced does not listen there.
    fn bind(&self, wanted: &Wanted) -> Result<Vec<Bound>, CannotBind> {
        let place = wanted.bind.to_string();
        let mut left = self.left.lock();
        match left.iter().position(|(known, _)| *known == place) {
            Some(index) => {
                let (_, socket) = left.remove(index);
                Ok(vec![Bound::taken_over(&socket).map_err(|source| wanted.cannot(source))?])
            }
            None => wanted.bind(&self.inherited),
        }
    }

    /// Takes the first of the free sockets that fits, or all of them where one name stands for many.
    fn take(&self, free: &mut Vec<usize>, wanted: &Wanted, fits: impl Fn(&Open) -> bool) -> Vec<usize> {
        let max = if matches!(wanted.bind, Bind::Inherited(_)) { usize::MAX } else { 1 };
        let fitting = free.iter().copied().filter(|index| self.open.get(*index).is_some_and(&fits));
        let taken: Vec<_> = fitting.take(max).collect();
        free.retain(|index| !taken.contains(index));
        taken
    }

    /// Stops accepting where somebody else will, or nobody: whoever comes now waits for what is decided.
    pub(super) fn pause(&self, opening: &Opening) {
        self.enter(opening, Phase::Paused);
    }

    /// Accepts there again.
    pub(super) fn resume(&self, opening: &Opening) {
        self.enter(opening, Phase::Accepting);
    }

    fn enter(&self, opening: &Opening, phase: Phase) {
        for (_, open) in self.open.iter().enumerate().filter(|(index, _)| !opening.kept.contains(index)) {
            open.phase.send_replace(phase);
        }
    }

    /// Accepts at the new sockets, and drains the connections of those that are not wanted any more.
    pub(super) fn commit(&mut self, opening: Opening) {
        let old = std::mem::take(&mut self.open);
        for (index, open) in old.into_iter().enumerate() {
            if opening.kept.contains(&index) {
                self.open.push(open);
            } else {
                log::info!("{} listens on {} no more", open.wanted.purpose, open.bound);
                open.phase.send_replace(Phase::Over);
            }
        }
        for (wanted, bound) in opening.new {
            let (phase, phases) = watch::channel(Phase::Accepting);
            let (accepting, drain) = self.accepting(&wanted.purpose, bound.clone());
            let (quiet, is_quiet) = watch::channel(false);
            tokio::spawn(accepting.run(phases, quiet, drain));
            self.open.push(Open { wanted, bound, phase, is_quiet });
        }
        self.admit_operators();
    }

    /// Opens the operators' socket to all users if some are named, who are then told apart by the system.
    fn admit_operators(&self) {
        let mode = if self.live.snapshot().operators.are_named() { PUBLIC_MODE } else { PRIVATE_MODE };
        for open in &self.open {
            if let (Purpose::Operators, Bind::Unix(path)) = (&open.wanted.purpose, &open.wanted.bind)
                && let Err(fault) = fs::set_permissions(path, fs::Permissions::from_mode(mode))
            {
                log::error!("the mode of {} cannot be set: {fault}", path.display());
            }
        }
    }

    fn accepting(&self, purpose: &Purpose, bound: Bound) -> (Accepting, Watch) {
        match purpose {
            Purpose::Listener(name) => {
                let front = Front::new(&self.conf, name.clone(), Arc::clone(&self.live));
                let accepting = Accepting::edge(bound, Serves::Front(front), name.clone(), Arc::clone(&self.live));
                (accepting, self.drain.clone())
            }
            Purpose::RemoteMetrics(name) => {
                let serves = Serves::Admin(Arc::clone(&self.admin));
                let accepting = Accepting::edge(bound, serves, name.clone(), Arc::clone(&self.live));
                (accepting, self.never.1.clone())
            }
            Purpose::Metrics | Purpose::Operators => {
                (Accepting::admin(bound, Arc::clone(&self.admin)), self.never.1.clone())
            }
        }
    }

    /// The process that was replaced has ended: what it has bound is ours, and what is not wanted here is closed.
    pub(super) fn inherit(&self) {
        self.give_away(false);
        for (place, socket) in self.left.lock().drain(..) {
            if let Ok(bound) = Bound::taken_over(&socket) {
                bound.give_away(false);
                log::info!("nobody listens on {place} any more");
            }
        }
    }

    fn give_away(&self, is_given_away: bool) {
        self.open.iter().for_each(|open| open.bound.give_away(is_given_away));
    }

    /// All sockets, with the config's words for their places; those of the service manager that nobody uses, too.
    pub(super) fn all(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        let own = self.open.iter().filter(|open| !matches!(open.wanted.bind, Bind::Inherited(_)));
        let own = own.map(|open| (open.wanted.bind.to_string(), open.bound.as_fd()));
        let place = |name: &String| Bind::Inherited(name.clone()).to_string();
        let inherited =
            self.inherited.iter().flat_map(move |(name, all)| all.iter().map(move |it| (place(name), it.as_fd())));
        own.chain(inherited)
    }

    /// Leaves accepting to another process, which has the same sockets, and has the connections finish.
    pub(super) fn leave(&self) {
        self.give_away(true);
        self.enter_all(Phase::Leaving);
    }

    /// Accepts again.
    pub(super) fn come_back(&self) {
        self.give_away(false);
        self.enter_all(Phase::Accepting);
    }

    fn enter_all(&self, phase: Phase) {
        for open in &self.open {
            open.phase.send_replace(phase);
        }
    }

    /// Waits until no connection is open, after [`Sockets::leave`].
    pub(super) async fn quiet(&self) {
        for open in &self.open {
            // Who has gone has no connections any more.
            open.is_quiet.clone().wait_for(|is_quiet| *is_quiet).await.ok();
        }
    }

    /// Opens no listener any more, so that the drain is over when the connections are.
    pub(super) fn no_more(&mut self) {
        self.drain = self.never.1.clone();
    }

    /// Sockets that the service manager has passed and that nobody listens on.
    pub(super) fn unused(&self, config: &Config) -> Vec<&str> {
        let is_used = |name: &String| {
            config.listeners.iter().flat_map(|it| &it.bind).any(|bind| *bind == Bind::Inherited(name.clone()))
        };
        self.inherited.keys().filter(|name| !is_used(name)).map(String::as_str).collect()
    }
}

impl Opening {
    /// The addresses that are new.
    pub(super) fn addresses(&self) -> Addresses {
        let mut addresses = Addresses::default();
        for (wanted, bound) in &self.new {
            match &wanted.purpose {
                Purpose::Listener(name) => addresses.listeners.push((name.clone(), bound.to_string())),
                Purpose::Metrics => addresses.admin = bound.address(),
                Purpose::RemoteMetrics(_) => addresses.admin_https = bound.address(),
                Purpose::Operators => {}
            }
        }
        addresses
    }
}
