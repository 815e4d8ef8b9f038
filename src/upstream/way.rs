//! How the servers of a pool are reached.

use super::tls::OriginTls;
use crate::config;
use http::HeaderName;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use std::{net::SocketAddr, sync::Arc};

/// How the servers of a pool are reached.
#[derive(Debug, PartialEq)]
pub(super) struct Way {
    pub(super) speaks_h2: bool,
    pub(super) tls: Option<OriginTls>,
    pub(super) timeouts: config::Timeouts,
    pub(super) trailers: Arc<[HeaderName]>,
}

/// Requests at once on one HTTP/2 connection to a server.
const STREAMS_MAX: usize = 100;

impl Way {
    /// The way to a server, every timeout set. What `is_long` may be quiet for as long as a tunnel.
    pub(super) fn to(&self, address: SocketAddr, is_long: bool) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.tls.is_some(), String::new());
        if let Some(tls) = &self.tls {
            tls.apply(&mut peer);
        }
        let between = if is_long { self.timeouts.tunnel } else { self.timeouts.between_bytes };
        let options = &mut peer.options;
        options.alpn = if self.speaks_h2 { ALPN::H2 } else { ALPN::H1 };
        options.max_h2_streams = STREAMS_MAX;
        options.connection_timeout = Some(self.timeouts.connect);
        options.total_connection_timeout = Some(self.timeouts.connect);
        options.read_timeout = Some(between);
        options.write_timeout = Some(self.timeouts.between_bytes);
        options.idle_timeout = Some(self.timeouts.idle);
        peer
    }
}
