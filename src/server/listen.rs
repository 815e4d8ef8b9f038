//! Our own accept loop: every connection passes through here before Pingora's HTTP code sees it.

use crate::drain::Watch;
use crate::name::ListenerName;
use crate::proxy::Gate;
use crate::runtime::Live;
use pingora::apps::ServerApp;
use pingora::apps::http_app::HttpServer;
use pingora::protocols::l4::stream::Stream as Tcp;
use pingora::protocols::{GetSocketDigest, SocketDigest, Stream};
use pingora_proxy::HttpProxy;
use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::time;

/// How long a TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How long to wait when the system has no descriptor left for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// A bound address.
pub(super) struct Bound {
    socket: StdListener,
    address: SocketAddr,
}

impl Bound {
    /// Binds, so that a taken address shows before anything is served.
    pub(super) fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = tokio_socket(address)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

fn tokio_socket(address: SocketAddr) -> io::Result<StdListener> {
    let family = match address {
        SocketAddr::V4(_) => rustix::net::AddressFamily::INET,
        SocketAddr::V6(_) => rustix::net::AddressFamily::INET6,
    };
    use rustix::net::{SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are written one by one, so neither takes the other's place.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    Ok(StdListener::from(socket))
}

/// A bound address and what serves its connections.
pub(super) struct Accepting {
    bound: Bound,
    serves: Serves,
}

#[derive(Clone)]
enum Serves {
    Edge(Edge),
    Admin(Arc<HttpServer<crate::admin::Admin>>),
}

#[derive(Clone)]
struct Edge {
    gate: Arc<HttpProxy<Gate>>,
    listener: ListenerName,
    live: Arc<Live>,
}

impl Accepting {
    pub(super) fn edge(bound: Bound, gate: Arc<HttpProxy<Gate>>, listener: ListenerName, live: Arc<Live>) -> Self {
        Self { bound, serves: Serves::Edge(Edge { gate, listener, live }) }
    }

    pub(super) fn admin(bound: Bound, admin: Arc<HttpServer<crate::admin::Admin>>) -> Self {
        Self { bound, serves: Serves::Admin(admin) }
    }

    /// Accepts until the drain starts, then tells idle connections to close.
    pub(super) async fn run(self, mut drain: Watch) {
        let listener = match TcpListener::from_std(self.bound.socket) {
            Ok(listener) => listener,
            Err(fault) => return log::error!("{} cannot be listened on: {fault}", self.bound.address),
        };
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.wait() => break,
            };
            match accepted {
                Ok((stream, peer)) => drop(tokio::spawn(self.serves.clone().serve(stream, peer, drain.clone()))),
                Err(fault) => {
                    log::warn!("{}: a connection could not be accepted: {fault}", self.bound.address);
                    time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
        drop(listener);
        match &self.serves {
            Serves::Edge(edge) => edge.gate.cleanup().await,
            Serves::Admin(admin) => admin.cleanup().await,
        }
    }
}

impl Serves {
    async fn serve(self, stream: TcpStream, peer: SocketAddr, drain: Watch) {
        let stream = prepared(stream, peer);
        match self {
            Self::Edge(edge) => edge.serve(stream, drain).await,
            Self::Admin(admin) => finish(admin.process_new(Box::new(stream), drain.receiver()).await),
        }
    }
}

impl Edge {
    async fn serve(self, stream: Tcp, drain: Watch) {
        let snapshot = self.live.snapshot();
        let Some(entrance) = snapshot.entrances.get(&self.listener) else { return };
        let (open, failures) = (entrance.metrics.connections.clone(), entrance.metrics.handshake_failures.clone());
        let timeouts = entrance.metrics.handshake_timeouts.clone();
        entrance.metrics.accepted.inc();
        let _open = Open::new(open);
        let stream: Stream = match &entrance.tls {
            None => Box::new(stream),
            Some(tls) => match time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(fault)) => {
                    failures.inc();
                    return log::debug!("listener {}: a handshake failed: {fault}", self.listener);
                }
                Err(_elapsed) => return timeouts.inc(),
            },
        };
        // A connection lives longer than a generation: only requests hold one.
        drop(snapshot);
        finish(self.gate.process_new(stream, drain.receiver()).await);
    }
}

/// Pingora's HTTP code serves all requests of a connection and gives nothing back; if it did, the connection ends here.
fn finish(rest: Option<Stream>) {
    drop(rest);
}

/// A TCP stream as Pingora's code expects it: without delay, and knowing its addresses.
fn prepared(stream: TcpStream, peer: SocketAddr) -> Tcp {
    if let Err(fault) = stream.set_nodelay(true) {
        log::debug!("{peer}: {fault}");
    }
    let mut stream = Tcp::from(stream);
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // It was just made, so nothing is set there yet.
    digest.peer_addr.set(Some(peer.into())).ok();
    stream.set_socket_digest(digest);
    stream
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
