//! Where connections come from: networks, and who counts as one client.

mod address;
pub mod proxy_protocol;

pub use address::{Address, Own, can_be_dialled, is_public};

use ipnet::{IpNet, Ipv6Net};
use std::{fmt, net::IpAddr};

/// Networks, any of which counts.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Networks(Box<[IpNet]>);

/// A text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address, or one with the length of its prefix")]
pub struct NotOne;

impl Networks {
    /// Reads `203.0.113.0/24`, or one address. An address with bits beyond its prefix is refused: it may be a slip.
    ///
    /// # Errors
    /// [`NotOne`].
    pub fn parse(text: &str) -> Result<IpNet, NotOne> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().map_err(|_neither| NotOne)?,
        };
        if network.trunc() == network { Ok(network) } else { Err(NotOne) }
    }

    /// Whether one of them is the whole internet.
    #[must_use]
    pub fn have_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }

    /// Whether every address of others lies in one of them. Neighbours do not count as one.
    #[must_use]
    pub fn cover(&self, others: &Self) -> bool {
        others.0.iter().all(|other| self.0.iter().any(|network| network.contains(other)))
    }

    /// Whether an address lies in one of them; an IPv4 address in IPv6's clothes counts as what it is.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

/// Who counts as one client: an IPv4 address, or the /64 that one IPv6 customer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(IpAddr);

impl Client {
    /// The client at an address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => Self(Ipv6Net::new_assert(address, 64).network().into()),
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("203.0.113.0/24", "203.0.113.255", true)]
    #[test_case("203.0.113.0/24", "203.0.114.0", false; "the one after")]
    #[test_case("203.0.113.7", "203.0.113.7", true; "one address")]
    #[test_case("203.0.113.7", "203.0.113.8", false; "another address")]
    #[test_case("203.0.113.0/24", "::ffff:203.0.113.7", true; "mapped")]
    #[test_case("2001:db8::/32", "2001:db8:ffff::1", true; "v6")]
    #[test_case("2001:db8::/32", "203.0.113.7", false; "v4 in v6")]
    #[test_case("0.0.0.0/0", "2001:db8::1", false; "all of v4 is not v6")]
    fn contains(network: &str, address: &str, expected: bool) {
        let networks: Networks = [Networks::parse(network).unwrap()].into_iter().collect();
        assert_eq!(networks.contain(address.parse().unwrap()), expected);
    }

    #[test_case("203.0.113.7/24"; "bits beyond the prefix")]
    #[test_case("203.0.113.0/33"; "long prefix")]
    #[test_case("203.0.113"; "short address")]
    #[test_case("example.com"; "a name")]
    #[test_case(""; "nothing")]
    fn is_no_network(text: &str) {
        assert_eq!(Networks::parse(text), Err(NotOne));
    }

    #[test_case("203.0.113.7", "::ffff:203.0.113.7", true; "mapped")]
    #[test_case("203.0.113.7", "203.0.113.8", false; "neighbours in v4")]
    #[test_case("2001:db8::1", "2001:db8::ffff:1", true; "same 64")]
    #[test_case("2001:db8::1", "2001:db8:0:1::1", false; "other 64")]
    fn is_one_client(one: &str, other: &str, expected: bool) {
        assert_eq!(Client::at(one.parse().unwrap()) == Client::at(other.parse().unwrap()), expected);
    }
}
