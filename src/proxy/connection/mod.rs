//! Connections: ours to read, so that every head is read strictly and in time, and every refusal is recorded.
//!
//! Pingora would read heads itself, and answer what it cannot read before any of our code knows of it.

mod brake;
mod frames;
mod h1;
mod h2;
mod link;
mod message;
mod outgoing;
mod pass_on;

pub(super) use link::Link;

use super::Gate;
use super::exchange::Exchange;
use crate::audit::HungUp;
use crate::config::Limits;
use crate::drain::Watch;
use crate::hangup::Hangup;
use crate::name::ListenerName;
use crate::refusal::Refusal;
use crate::runtime::Live;
use pass_on::pass_on;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{ALPN, Digest, SocketDigest, Stream};
use pingora::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use std::{fmt, sync::Arc};

/// Serves the connections of one listener.
#[derive(Clone)]
pub struct Front {
    proxy: Arc<HttpProxy<Gate>>,
    listener: ListenerName,
    live: Arc<Live>,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Front({})", self.listener)
    }
}

impl Front {
    /// The front of a listener.
    #[must_use]
    pub fn new(conf: &Arc<ServerConf>, listener: ListenerName, live: Arc<Live>) -> Self {
        let mut proxy = http_proxy(conf, Gate::new(listener.clone(), Arc::clone(&live)));
        // What would be refused past our own code is refused by it: `Gate` knows CONNECT.
        let mut options = HttpServerOptions::default();
        options.allow_connect_method_proxying = true;
        proxy.server_options = Some(options);
        Self { proxy: Arc::new(proxy), listener, live }
    }

    /// Serves the requests of a connection, to its end.
    ///
    /// # Errors
    /// If we had to end it, because the client floods us with HTTP/2 or breaks its rules; this is recorded already.
    pub async fn serve(&self, stream: Stream, drain: Watch) -> Result<(), Hangup> {
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            h2::serve(self, stream, drain).await
        } else {
            h1::serve(self, stream, drain).await;
            Ok(())
        }
    }

    /// Serves one request; the connection, if it can be used again.
    async fn request(&self, session: ServerSession, link: &Arc<Link>, drain: &Watch) -> Option<ReusedHttpStream> {
        let serving = link.scope(self.proxy.process_new_http(session, drain.receiver()));
        tokio::select! {
            reused = serving => reused,
            // What is dropped here writes its outcome in doing so.
            () = link.is_cut(self.live.generations()) => None,
        }
    }

    /// The limits of the live config; none if the listener is no more.
    fn limits(&self) -> Option<Limits> {
        self.live.snapshot_at(&self.listener).entrances.get(&self.listener).map(|entrance| entrance.limits)
    }

    /// Records and counts a connection that is ended.
    fn hung_up(&self, hangup: Hangup, digest: &Digest) {
        let snapshot = self.live.snapshot_at(&self.listener);
        let address = digest.socket_digest.as_ref().and_then(|socket| socket.peer_addr()?.as_inet().copied());
        if let Some(entrance) = snapshot.entrances.get(&self.listener) {
            entrance.metrics.hung_up(hangup);
        }
        let state = self.live.state();
        state.journal.hung_up(HungUp {
            time: state.clock.now(),
            listener: self.listener.clone(),
            address: address.map(|address| (address.ip(), address.port())),
            hangup,
            judged: snapshot.judged(),
        });
    }

    /// Records a request that never became one.
    fn refused(&self, source: &Source, refusal: Refusal) -> Exchange {
        let mut exchange = Exchange::begin(&self.live, self.listener.clone(), Arc::default());
        exchange.came_from(source.tls.as_deref(), source.socket.as_deref());
        exchange.deny(&refusal.into());
        exchange
    }
}

/// Where a connection comes from.
struct Source {
    tls: Option<Arc<SslDigest>>,
    socket: Option<Arc<SocketDigest>>,
}
