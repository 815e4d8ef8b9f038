//! New connections to a server: how many there may be, and what is said first.

use super::patient::Patient;
use crate::uses::Uses;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::ext::{connect, connect_uds};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::VirtualSocketStream;
use pingora::upstreams::peer::{Tracer, Tracing};
use pingora::{Error, ErrorType, OrErr};
use prometheus::IntGauge;
use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time;

/// Why there is no connection, if there are as many as may be. The server is not to blame for it.
pub const FULL: ErrorType = ErrorType::new("ServerConnectionsFull");

/// Opens connections to one server.
#[derive(Debug)]
pub(super) struct Dial {
    /// The server's and the pool's, and how many of each there may be at once.
    pub(super) connections: [(Arc<Connections>, u32); 2],
    /// For the connection, without TLS.
    pub(super) timeout: Duration,
    /// Whether it is asked to become a tunnel.
    pub(super) is_for_tunnel: bool,
    /// What is sent first: who the client is, in the PROXY protocol.
    pub(super) introduction: Option<Bytes>,
    /// Who counts it.
    pub(super) uses: Arc<[Uses]>,
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let full = || Error::explain(FULL, "as many connections are open as may be");
        let [server, pool] = &self.connections;
        let open = Open::new(server).zip(Open::new(pool)).ok_or_else(full)?;
        let dialling = time::timeout(self.timeout, dial(address, self.is_for_tunnel)).await;
        let mut stream = dialling.or_err(ErrorType::ConnectTimedout, "no connection in time")??;
        self.uses.iter().for_each(Uses::add);
        stream.tracer = Some(Tracer(Box::new(Counted(Arc::new(open)))));
        if let Some(introduction) = &self.introduction {
            let said = async {
                stream.write_all(introduction).await?;
                stream.flush().await
            };
            said.await.or_err(ErrorType::ConnectError, "the PROXY header could not be sent")?;
        }
        Ok(stream)
    }
}

async fn dial(address: &SocketAddr, is_for_tunnel: bool) -> pingora::Result<Stream> {
    match address {
        SocketAddr::Inet(address) if is_for_tunnel => {
            let stream = connect(address, None).await?;
            // The library does it for connections that it knows.
            stream.set_nodelay(true).or_err(ErrorType::SocketError, "without delay")?;
            Ok(patient(stream))
        }
        SocketAddr::Inet(address) => Ok(connect(address, None).await?.into()),
        SocketAddr::Unix(address) => {
            let nameless = || Error::explain(ErrorType::SocketError, "a Unix socket without a path");
            let stream = connect_uds(address.as_pathname().ok_or_else(nameless)?).await?;
            Ok(if is_for_tunnel { patient(stream) } else { stream.into() })
        }
    }
}

fn patient<S: AsyncRead + AsyncWrite + Unpin + Send + Sync + Debug + 'static>(stream: S) -> Stream {
    VirtualSocketStream::new(Box::new(Patient::new(stream))).into()
}

/// The connections to a server. They may outlive what else is known of it.
#[derive(Debug)]
pub(super) struct Connections {
    open: AtomicU32,
    /// What tells how many there are; another one when a server comes back that was forgotten.
    gauge: Mutex<Option<IntGauge>>,
}

impl Connections {
    /// None yet, and no gauge.
    pub(super) const fn new() -> Self {
        Self { open: AtomicU32::new(0), gauge: Mutex::new(None) }
    }

    /// From now on this gauge tells how many there are.
    pub(super) fn tell(&self, gauge: IntGauge) {
        let mut told = self.gauge.lock();
        gauge.set(self.count().into());
        *told = Some(gauge);
    }

    /// How many are open.
    pub(super) fn count(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }
}

/// An open connection, counted while it lives.
#[derive(Debug)]
struct Open(Arc<Connections>);

impl Open {
    fn new((connections, max): &(Arc<Connections>, u32)) -> Option<Self> {
        let more = |open: u32| (open < *max).then(|| open.saturating_add(1));
        let gauge = connections.gauge.lock();
        connections.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        gauge.iter().for_each(IntGauge::inc);
        drop(gauge);
        Some(Self(Arc::clone(connections)))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let gauge = self.0.gauge.lock();
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        gauge.iter().for_each(IntGauge::dec);
    }
}

/// What the library keeps beside a connection, to its end.
#[derive(Debug)]
struct Counted(Arc<(Open, Open)>);

impl Tracing for Counted {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {}

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}
