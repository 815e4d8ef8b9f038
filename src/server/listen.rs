//! Our own accept loop: every connection passes through here before Pingora's HTTP code sees it.

use super::bind::{Accepted, Bound, Socket};
use crate::admin::{Admin, Visitor};
use crate::audit::HungUp;
use crate::drain::{self, Watch};
use crate::event_loop::{self, Work};
use crate::hangup::Hangup;
use crate::identity;
use crate::name::ListenerName;
use crate::network::Client;
use crate::network::proxy_protocol::{self, Header};
use crate::proxy::Front;
use crate::runtime::{Entrance, Live, Snapshot};
use crate::slots::{Holder, Slot};
use crate::tls;
use pingora::apps::ServerApp;
use pingora::protocols::l4::stream::Stream as Raw;
use pingora::protocols::{GetSocketDigest, SocketDigest, Ssl, Stream};
use std::{
    io,
    net::SocketAddr,
    os::fd::AsRawFd,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time;

/// How long to wait when the system has no descriptor left for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection to the admin may ask nothing: longer than Prometheus waits between two looks, usually.
const PAUSE_MAX: Duration = Duration::from_secs(90);
/// The same once it is to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// A bound socket and what serves its connections.
pub(super) struct Accepting {
    bound: Bound,
    door: Door,
}

/// Whether connections are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// They are.
    Accepting,
    /// They wait to be.
    Paused,
    /// Another process accepts them, and those that are open are drained.
    Leaving,
    /// They never will be again, and those that are open are drained.
    Over,
}

/// How connections come in.
#[derive(Clone)]
enum Door {
    /// Through an entrance that has limits, and TLS perhaps.
    Edge(Edge),
    /// From this machine, as they are.
    Near(Arc<Admin>),
}

/// What an entrance leads to.
#[derive(Clone)]
pub(super) enum Serves {
    /// Routes and pools.
    Front(Front),
    /// Metrics and health.
    Admin(Arc<Admin>),
}

#[derive(Clone)]
struct Edge {
    serves: Serves,
    listener: ListenerName,
    live: Arc<Live>,
}

/// A connection that may speak HTTP.
struct Arrival {
    stream: Stream,
    /// Held for as long as the connection lives; the last one says best who it is.
    slots: Vec<Slot>,
    /// When it is served, if its holder has sent floods before.
    turn: Instant,
}

impl Accepting {
    pub(super) const fn edge(bound: Bound, serves: Serves, listener: ListenerName, live: Arc<Live>) -> Self {
        Self { bound, door: Door::Edge(Edge { serves, listener, live }) }
    }

    pub(super) const fn admin(bound: Bound, admin: Arc<Admin>) -> Self {
        Self { bound, door: Door::Near(admin) }
    }

    /// Accepts as the phase says, until it is over or the drain of all starts; ends when its connections have.
    /// `is_quiet` is told whether any connection may be open.
    pub(super) async fn run(self, mut phases: watch::Receiver<Phase>, is_quiet: watch::Sender<bool>, mut drain: Watch) {
        let name = self.bound.to_string();
        let socket = match self.bound.listen() {
            Ok(socket) => socket,
            Err(fault) => return log::error!("{name} cannot be listened on: {fault}"),
        };
        let mut connections = Connections::new();
        loop {
            let phase = *phases.borrow_and_update();
            if !connections.enter(phase) {
                break;
            }
            is_quiet.send_replace(false);
            tokio::select! {
                accepted = socket.accept(), if phase == Phase::Accepting => {
                    self.take(accepted, &name, &mut connections).await;
                }
                Ok(()) = phases.changed() => {}
                () = connections.end(&is_quiet), if phase == Phase::Leaving => {}
                () = drain.wait() => break,
            }
        }
        drop::<Socket>(socket);
        drop(self);
        connections.finish();
        connections.finished().await;
    }

    async fn take(&self, accepted: io::Result<Accepted>, name: &str, connections: &mut Connections) {
        match accepted {
            Ok(accepted) => drop(tokio::spawn(self.door.clone().serve(accepted, connections.watch()))),
            Err(fault) => {
                log::warn!("{name}: a connection could not be accepted: {fault}");
                time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// The connections of a socket: those that come, and those that were told to finish.
struct Connections {
    coming: Option<(drain::Trigger, Watch)>,
    finishing: Vec<drain::Trigger>,
}

impl Connections {
    fn new() -> Self {
        Self { coming: Some(drain::channel()), finishing: Vec::new() }
    }

    /// What a new one holds.
    fn watch(&mut self) -> Watch {
        self.coming.get_or_insert_with(drain::channel).1.clone()
    }

    /// Does what a phase begins with; whether it is not the last.
    fn enter(&mut self, phase: Phase) -> bool {
        match phase {
            Phase::Accepting | Phase::Paused => drop(self.watch()),
            Phase::Leaving => self.finish(),
            Phase::Over => {}
        }
        phase != Phase::Over
    }

    /// Tells when those that were told have finished, and waits on.
    async fn end(&mut self, is_quiet: &watch::Sender<bool>) {
        self.finished().await;
        is_quiet.send_replace(true);
        std::future::pending().await
    }

    /// Tells those that are open to finish.
    fn finish(&mut self) {
        if let Some((trigger, _own)) = self.coming.take() {
            trigger.start();
            self.finishing.push(trigger);
        }
    }

    /// Waits until those that were told have finished.
    async fn finished(&mut self) {
        while let Some(trigger) = self.finishing.last() {
            trigger.finished().await;
            self.finishing.pop();
        }
    }
}

impl Door {
    async fn serve(self, accepted: Accepted, drain: Watch) {
        let Accepted { mut stream, peer, user } = accepted;
        match self {
            Self::Edge(edge) => edge.serve(stream, peer, drain).await,
            Self::Near(admin) => {
                came_from(&mut stream, peer);
                let visitor = user.map_or(Visitor::Anybody, Visitor::User);
                visit(&admin, visitor, Box::new(stream), drain).await;
            }
        }
    }
}

async fn visit(admin: &Arc<Admin>, visitor: Visitor, stream: Stream, mut drain: Watch) {
    let Some(visit) = admin.visited_by(visitor) else {
        return log::warn!("too many connections are open to the admin; another was closed");
    };
    let (serving, leaving) = (Arc::clone(&visit), drain.receiver().clone());
    let going = async {
        drain.wait().await;
        visit.pause(FAREWELL).await;
    };
    tokio::select! {
        _ended = serving.process_new(stream, &leaving) => {}
        () = visit.pause(PAUSE_MAX) => {}
        () = going => {}
    }
}

impl Edge {
    async fn serve(self, stream: Raw, peer: Option<SocketAddr>, drain: Watch) {
        let snapshot = self.live.snapshot_at(&self.listener);
        let Some(entrance) = snapshot.entrances.get(&self.listener) else { return };
        entrance.metrics.accepted.inc();
        let _open = Open::new(entrance.metrics.connections.clone());
        let mut client = peer;
        let arriving = self.arrive(stream, &mut client, &snapshot, entrance);
        // A handshake needs room that the connection does not need any more after it.
        let arrived = Box::pin(time::timeout(entrance.limits.handshake_timeout, arriving)).await;
        match arrived.unwrap_or(Err(Hangup::HandshakeTimeout)) {
            Ok(arrival) => {
                // A connection lives longer than a generation: only requests hold one.
                drop(snapshot);
                self.serve_in_turn(arrival, drain).await;
            }
            Err(hangup) => self.hang_up(hangup, client, &snapshot, entrance),
        }
    }

    /// Serves the connection when its turn has come.
    async fn serve_in_turn(&self, arrival: Arrival, mut drain: Watch) {
        let Arrival { stream, slots, turn } = arrival;
        tokio::select! {
            biased;
            () = time::sleep_until(turn.into()) => {}
            () = drain.wait() => return,
        }
        let front = match &self.serves {
            Serves::Front(front) => front,
            Serves::Admin(admin) => return visit(admin, Visitor::Workload, stream, drain).await,
        };
        let served = front.serve(stream, drain).await;
        if let (Err(_), Some(culprit)) = (served, culprit(&slots)) {
            self.live.state().tarpit.flooded(culprit, Instant::now());
        }
    }

    /// What comes before HTTP: who it is by his address, TLS, and whether he has connections enough.
    async fn arrive(
        &self,
        mut stream: Raw,
        client: &mut Option<SocketAddr>,
        snapshot: &Snapshot,
        entrance: &Entrance,
    ) -> Result<Arrival, Hangup> {
        let limits = &entrance.limits;
        let everybody = Holder::Everybody(self.listener.clone());
        let mut slots = vec![self.slot(everybody, limits.connections, Hangup::TooMany)?];
        if let (Some(trusted), Some(peer)) = (&entrance.proxy_protocol, *client)
            && trusted.contain(peer.ip())
        {
            *client = read_proxy_header(&mut stream).await?.or(*client);
        }
        came_from(&mut stream, *client);
        if let Some(address) = client.map(|client| client.ip()) {
            if entrance.sources.as_ref().is_some_and(|sources| !sources.contain(address)) {
                return Err(Hangup::Source);
            }
            let holder = Holder::Client(self.listener.clone(), Client::at(address));
            slots.push(self.slot(holder, limits.connections_per_address, Hangup::TooManyOfAddress)?);
        }
        let Some(tls) = &entrance.tls else { return self.arrival(Box::new(stream), slots) };
        event_loop::turn(Work::Long).await;
        let stream = tls.accept(stream).await?;
        if let Some(workload) = self.workload(&stream, snapshot, entrance) {
            let holder = Holder::Workload(self.listener.clone(), workload);
            slots.push(self.slot(holder, limits.connections_per_workload, Hangup::TooManyOfWorkload)?);
        }
        self.arrival(Box::new(stream), slots)
    }

    fn arrival(&self, stream: Stream, slots: Vec<Slot>) -> Result<Arrival, Hangup> {
        let now = Instant::now();
        let turn = culprit(&slots).map_or(Some(now), |culprit| self.live.state().tarpit.turn(culprit, now));
        Ok(Arrival { stream, slots, turn: turn.ok_or(Hangup::TooManyWaiting)? })
    }

    fn slot(&self, holder: Holder, max: usize, otherwise: Hangup) -> Result<Slot, Hangup> {
        self.live.state().slots.take(holder, max).ok_or(otherwise)
    }

    /// Whose certificate it is, to count his connections; requests are judged for themselves.
    fn workload(
        &self,
        stream: &impl Ssl,
        snapshot: &Snapshot,
        entrance: &Entrance,
    ) -> Option<crate::name::WorkloadName> {
        let digest = stream.get_ssl_digest()?;
        let peer = digest.extension.get::<tls::Client>()?.peer.as_ref()?;
        let (authorities, now) = (entrance.authorities.as_ref()?, self.live.state().clock.now());
        let workload = identity::recognise(peer, authorities, &snapshot.trust, now).ok()?;
        Some(workload.name.clone())
    }

    fn hang_up(&self, hangup: Hangup, client: Option<SocketAddr>, snapshot: &Snapshot, entrance: &Entrance) {
        entrance.metrics.hung_up(hangup);
        let state = self.live.state();
        let hung_up = HungUp {
            time: state.clock.now(),
            listener: self.listener.clone(),
            address: client.map(|client| (client.ip(), client.port())),
            hangup,
            judged: snapshot.judged(),
        };
        state.journal.hung_up(hung_up);
    }
}

/// Who has to wait if this connection sends a flood; nobody if it could be anybody's.
fn culprit(slots: &[Slot]) -> Option<&Holder> {
    slots.last().map(Slot::holder).filter(|holder| !matches!(holder, Holder::Everybody(_)))
}

/// Reads the header of the PROXY protocol and not a byte more; the client's address, if it tells one.
async fn read_proxy_header(stream: &mut Raw) -> Result<Option<SocketAddr>, Hangup> {
    let mut bytes = Vec::new();
    loop {
        match proxy_protocol::read(&bytes).map_err(|_malformed| Hangup::ProxyHeader)? {
            Header::Whole { client } => return Ok(client),
            Header::Needs(more) => {
                let from = bytes.len();
                bytes.resize(from.saturating_add(more), 0);
                let space = bytes.get_mut(from..).unwrap_or_default();
                stream.read_exact(space).await.map_err(|_gone| Hangup::ProxyHeader)?;
            }
        }
    }
}

/// Tells Pingora's code, and ours behind it, the client's address.
fn came_from(stream: &mut Raw, client: Option<SocketAddr>) {
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // It was just made, so nothing is set there yet.
    digest.peer_addr.set(client.map(Into::into)).ok();
    stream.set_socket_digest(digest);
}

/// Counts a connection while it is open.
struct Open(prometheus::IntGauge);

impl Open {
    fn new(gauge: prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
