//! Where a server listens.

use serde::{Serialize, Serializer};
use std::{
    fmt,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A Unix socket.
    Unix(Arc<Path>),
}

impl Address {
    /// The IP address; none for a Unix socket.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Socket(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a server can be there: at a port, and not at "any address" or a group's.
#[must_use]
pub fn can_be_dialled(address: SocketAddr) -> bool {
    let host = address.ip().to_canonical();
    address.port() != 0 && !host.is_unspecified() && !host.is_multicast()
}

/// Where Belay itself listens. No server can be there: requests would be led to what only operators may ask, or round
/// and round.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// IP addresses.
    pub addresses: Vec<SocketAddr>,
    /// Paths of Unix sockets.
    pub sockets: Vec<PathBuf>,
}

impl Own {
    /// Whether who dials that address reaches Belay.
    #[must_use]
    pub fn has(&self, address: &Address) -> bool {
        match address {
            Address::Socket(address) => self.addresses.iter().any(|own| leads_to(*address, *own)),
            Address::Unix(path) => self.sockets.iter().any(|own| is_same(path, own)),
        }
    }
}

/// Whether two paths lead to the same file.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

/// Whether who dials the one reaches the other: the same port, and the same host or any of this machine's.
fn leads_to(dialled: SocketAddr, bound: SocketAddr) -> bool {
    let (to, at) = (dialled.ip().to_canonical(), bound.ip().to_canonical());
    dialled.port() == bound.port() && (to == at || at.is_unspecified() && is_ours(to))
}

/// Whether it is an address of this machine: only those can be bound.
fn is_ours(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}
