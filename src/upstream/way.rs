//! How the servers of a pool are reached.

use super::dial::Dial;
use super::server::ServerState;
use super::tls::OriginTls;
use crate::config::{self, Introduction};
use crate::network::{Address, proxy_protocol};
use bytes::Bytes;
use http::HeaderName;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

/// How the servers of a pool are reached.
#[derive(Debug, PartialEq)]
pub(super) struct Way {
    pub(super) speaks_h2: bool,
    pub(super) tls: Option<OriginTls>,
    pub(super) timeouts: config::Timeouts,
    pub(super) trailers: Arc<[HeaderName]>,
    /// How each connection begins, if the client is introduced.
    pub(super) introduction: Option<Introduction>,
    /// How many connections a server may have, and all.
    pub(super) connections_max: [u32; 2],
}

/// For whom a connection is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Purpose {
    /// It may be quiet for as long as a tunnel.
    pub is_long: bool,
    /// It is asked to become a tunnel.
    pub is_for_tunnel: bool,
    /// The client's address, and ours that he came to.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// It is a look of our own, which must also be had where clients have taken all connections.
    pub is_look: bool,
}

/// Requests at once on one HTTP/2 connection to a server.
pub(super) const STREAMS_MAX: u32 = 100;

impl Way {
    /// The way to a server, every timeout set.
    ///
    /// # Errors
    /// If the address can be none.
    pub(super) fn to(&self, server: &Arc<ServerState>, purpose: Purpose) -> pingora::Result<HttpPeer> {
        let mut peer = match &server.address {
            Address::Socket(address) => HttpPeer::new(*address, self.tls.is_some(), String::new()),
            Address::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), self.tls.is_some(), String::new())?,
        };
        if let Some(tls) = &self.tls {
            tls.apply(&mut peer);
        }
        let [of_server, of_all] = if purpose.is_look { [u32::MAX; 2] } else { self.connections_max };
        let (span, left) = self.span(server);
        let introduction = self.introduction.map(|version| introduction(version, purpose.addresses));
        // What becomes a tunnel is no request's any more.
        let own = || fastrand::u64(..);
        let kind = || self.kind_of_connection(span, introduction.as_deref());
        peer.group_key = if purpose.is_for_tunnel { own() } else { kind() };
        let between = if purpose.is_long { self.timeouts.tunnel } else { self.timeouts.between_bytes };
        let options = &mut peer.options;
        options.alpn = if self.speaks_h2 { ALPN::H2 } else { ALPN::H1 };
        options.max_h2_streams = STREAMS_MAX as usize;
        options.connection_timeout = Some(self.timeouts.connect);
        options.total_connection_timeout = Some(self.timeouts.connect);
        options.read_timeout = Some(between);
        options.write_timeout = Some(self.timeouts.between_bytes);
        // After its span nobody could use it any more.
        let idle = if purpose.is_for_tunnel { Duration::ZERO } else { self.timeouts.idle };
        options.idle_timeout = Some(idle.min(left));
        options.custom_l4 = Some(Arc::new(Dial {
            connections: [
                (Arc::clone(&server.connections), of_server),
                (Arc::clone(&server.connections_of_all), of_all),
            ],
            timeout: self.timeouts.connect,
            is_for_tunnel: purpose.is_for_tunnel,
            introduction,
            uses: self.tls.as_ref().map(|tls| Arc::clone(tls.uses())).unwrap_or_default(),
        }));
        Ok(peer)
    }

    /// Only a connection of the same kind is used again: with the same TLS, introduced for the same client, and begun in
    /// the same span of time, so that none is used for longer than its lifetime.
    fn kind_of_connection(&self, span: u128, introduction: Option<&[u8]>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.tls.as_ref().map(OriginTls::profile).hash(&mut hasher);
        introduction.hash(&mut hasher);
        span.hash(&mut hasher);
        hasher.finish()
    }

    /// The span of time that it is for a server, and how much of it is left. Each has spans of its own, so that not all
    /// connect anew at once.
    fn span(&self, server: &ServerState) -> (u128, Duration) {
        let lifetime = self.timeouts.lifetime.as_nanos().max(1);
        let offset = Duration::from_nanos(server.id()).as_nanos() % lifetime;
        let now = server.now().as_nanos().saturating_add(offset);
        let left = lifetime.saturating_sub(now % lifetime);
        (now / lifetime, Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX)))
    }
}

/// What a connection begins with.
fn introduction(version: Introduction, addresses: Option<(SocketAddr, SocketAddr)>) -> Bytes {
    match version {
        Introduction::V1 => proxy_protocol::write_text(addresses).into(),
        Introduction::V2 => proxy_protocol::write_binary(addresses).into(),
    }
}
