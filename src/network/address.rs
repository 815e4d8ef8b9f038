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

/// Whether an address is one of the public internet: none of a private network, of this machine or this link, where what
/// is meant for its neighbours only may answer (a cloud's metadata, for example), and none that is reserved (RFC 6890).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_for_protocols = (a, b, c) == (192, 0, 0);
            let is_for_benchmarks = a == 198 && (b == 18 || b == 19);
            let is_reserved = a == 0 || a >= 240;
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_documentation()
                || is_shared
                || is_for_protocols
                || is_for_benchmarks
                || is_reserved)
        }
        // RFC 4291 § 2.4: what is global begins with 001. Of it, addresses that hold an IPv4 one lead elsewhere (6to4,
        // Teredo, NAT64), and some are for documentation.
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            let is_global = first & 0xe000 == 0x2000;
            let leads_elsewhere = first == 0x2002 || (first == 0x2001 && second < 0x200);
            let is_documentation = (first == 0x2001 && second == 0xdb8) || first == 0x3fff;
            is_global && !leads_elsewhere && !is_documentation
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("1.1.1.1", true)]
    #[test_case("100.63.255.255", true; "before the shared ones")]
    #[test_case("172.32.0.1", true; "after the private ones")]
    #[test_case("2606:4700:4700::1111", true)]
    #[test_case("::ffff:1.1.1.1", true; "mapped")]
    #[test_case("127.0.0.1", false; "loopback")]
    #[test_case("127.255.0.3", false; "all of loopback")]
    #[test_case("10.1.2.3", false; "private a")]
    #[test_case("172.16.0.1", false; "private b")]
    #[test_case("192.168.1.1", false; "private c")]
    #[test_case("169.254.169.254", false; "a cloud's metadata")]
    #[test_case("100.64.0.1", false; "shared")]
    #[test_case("0.0.0.0", false; "any")]
    #[test_case("0.1.2.3", false; "this network")]
    #[test_case("192.0.0.8", false; "for protocols")]
    #[test_case("198.18.0.1", false; "for benchmarks")]
    #[test_case("203.0.113.1", false; "documentation")]
    #[test_case("224.0.0.1", false; "a group")]
    #[test_case("255.255.255.255", false; "everybody")]
    #[test_case("::1", false; "v6 loopback")]
    #[test_case("::", false; "v6 any")]
    #[test_case("::ffff:10.0.0.1", false; "a mapped private one")]
    #[test_case("::ffff:169.254.169.254", false; "mapped metadata")]
    #[test_case("fe80::1", false; "this link")]
    #[test_case("fd00:ec2::254", false; "v6 private")]
    #[test_case("ff02::1", false; "v6 group")]
    #[test_case("64:ff9b::a00:1", false; "nat64")]
    #[test_case("2002:a00:1::", false; "6to4")]
    #[test_case("2001::1", false; "teredo")]
    #[test_case("2001:db8::1", false; "v6 documentation")]
    fn public(address: &str, expected: bool) {
        assert_eq!(is_public(address.parse().unwrap()), expected);
    }
}
