//! The PROXY protocol, versions 1 and 2: how a load balancer before us tells the client's address.
//!
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes after which it is clear which version it is; no header is shorter.
pub const START: usize = 15;
/// The longest header of version 1, with its line end (§ 2.1).
const TEXT_MAX: usize = 107;
/// Addresses and extensions of version 2; there is no need for more.
const BINARY_MAX: usize = 2048;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header says, as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// So many bytes more are needed.
    Needs(usize),
    /// It is whole.
    Whole {
        /// The client's address; none where the load balancer speaks for itself or does not know.
        client: Option<SocketAddr>,
    },
}

/// It is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no header of the PROXY protocol")]
pub struct Malformed;

/// Reads a header, from its first byte on. Whoever reads no more than it asks for reads nothing of what follows.
///
/// # Errors
/// [`Malformed`].
pub fn read(bytes: &[u8]) -> Result<Header, Malformed> {
    if bytes.len() < START {
        return Ok(Header::Needs(START.saturating_sub(bytes.len())));
    }
    if bytes.starts_with(SIGNATURE) { binary(bytes) } else { text(bytes) }
}

/// § 2.1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443` and CRLF.
fn text(bytes: &[u8]) -> Result<Header, Malformed> {
    let rest = bytes.strip_prefix(b"PROXY ").ok_or(Malformed)?;
    let Some(line) = rest.strip_suffix(b"\r\n") else {
        let goes_on = bytes.len() < TEXT_MAX && !rest.contains(&b'\n');
        return if goes_on { Ok(Header::Needs(1)) } else { Err(Malformed) };
    };
    let line = std::str::from_utf8(line).map_err(|_no_text| Malformed)?;
    let parts: Vec<_> = line.split(' ').collect();
    match parts.as_slice() {
        ["UNKNOWN", ..] => Ok(Header::Whole { client: None }),
        ["TCP4", from, to, ports @ ..] => told(address::<Ipv4Addr>(from)?, address::<Ipv4Addr>(to)?, ports),
        ["TCP6", from, to, ports @ ..] => told(address::<Ipv6Addr>(from)?, address::<Ipv6Addr>(to)?, ports),
        _ => Err(Malformed),
    }
}

fn address<T: std::str::FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, Malformed> {
    text.parse::<T>().map(Into::into).map_err(|_no_address| Malformed)
}

fn told(client: IpAddr, _ours: IpAddr, ports: &[&str]) -> Result<Header, Malformed> {
    let port = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse::<u16>().ok().filter(|_| plain).ok_or(Malformed)
    };
    let [from, to] = ports else { return Err(Malformed) };
    port(to)?;
    Ok(Header::Whole { client: Some(SocketAddr::new(client, port(from)?)) })
}

/// § 2.2: signature, version and command, family and protocol, length, addresses, extensions.
fn binary(bytes: &[u8]) -> Result<Header, Malformed> {
    let rest = bytes.strip_prefix(SIGNATURE).ok_or(Malformed)?;
    let &[command, family, high, low, ref content @ ..] = rest else {
        return Ok(Header::Needs(SIGNATURE.len().saturating_add(4).saturating_sub(bytes.len())));
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > BINARY_MAX || content.len() > length {
        return Err(Malformed);
    }
    if content.len() < length {
        return Ok(Header::Needs(length.saturating_sub(content.len())));
    }
    let client = match (command, family) {
        // LOCAL: the load balancer's own health check. Unspecified, and sockets of its own machine: nothing to tell.
        (0x20, _) | (0x21, 0x00 | 0x31) => None,
        (0x21, 0x11) => Some(binary_address::<4, Ipv4Addr>(content)?),
        (0x21, 0x21) => Some(binary_address::<16, Ipv6Addr>(content)?),
        (_, _) => return Err(Malformed),
    };
    Ok(Header::Whole { client })
}

/// Two addresses and two ports; the first of each is the client's.
fn binary_address<const N: usize, T: From<[u8; N]> + Into<IpAddr>>(content: &[u8]) -> Result<SocketAddr, Malformed> {
    let (address, rest) = content.split_first_chunk::<N>().ok_or(Malformed)?;
    let (_ours, ports) = rest.split_first_chunk::<N>().ok_or(Malformed)?;
    let &[high, low, _, _, ..] = ports else { return Err(Malformed) };
    Ok(SocketAddr::new(T::from(*address).into(), u16::from_be_bytes([high, low])))
}

/// A header of version 1 (§ 2.1): from whom and to where, or that nothing is known.
#[must_use]
pub fn write_text(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((from, to)) = addresses.map(alike) else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into_bytes()
}

/// A header of version 2 (§ 2.2): from whom and to where, or that we speak for ourselves.
#[must_use]
pub fn write_binary(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    match addresses.map(alike) {
        None => header.extend([0x20, 0, 0, 0]),
        Some((SocketAddr::V4(from), SocketAddr::V4(to))) => {
            header.extend([0x21, 0x11, 0, 12]);
            header.extend([from.ip().octets(), to.ip().octets()].concat());
            header.extend([from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
        }
        Some((from, to)) => {
            header.extend([0x21, 0x21, 0, 36]);
            header.extend([v6(from.ip()).octets(), v6(to.ip()).octets()].concat());
            header.extend([from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
        }
    }
    header
}

/// Both in the same family: plain IPv4 if both are, else IPv6.
fn alike((from, to): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    match (plain(from), plain(to)) {
        (from, to) if from.is_ipv4() == to.is_ipv4() => (from, to),
        (from, to) => {
            let mapped = |address: SocketAddr| SocketAddr::new(v6(address.ip()).into(), address.port());
            (mapped(from), mapped(to))
        }
    }
}

const fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    fn whole(client: Option<&str>) -> Result<Header, Malformed> {
        Ok(Header::Whole { client: client.map(|address| address.parse().unwrap()) })
    }

    #[test_case("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", whole(Some("192.0.2.1:56324")); "v4")]
    #[test_case("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", whole(Some("[2001:db8::1]:1")); "v6")]
    #[test_case("PROXY UNKNOWN\r\n", whole(None); "unknown")]
    #[test_case("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", whole(None); "unknown with addresses")]
    #[test_case("PROXY TCP4 192.0.2.1", Ok(Header::Needs(1)); "goes on")]
    #[test_case("PROXY", Ok(Header::Needs(10)); "only begun")]
    #[test_case("", Ok(Header::Needs(15)); "nothing yet")]
    #[test_case("GET / HTTP/1.1\r\n", Err(Malformed); "http")]
    #[test_case("proxy TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", Err(Malformed); "lower case")]
    #[test_case("PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n", Err(Malformed); "one port")]
    #[test_case("PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n", Err(Malformed); "three ports")]
    #[test_case("PROXY TCP4 192.0.2.1  198.51.100.1 1 2\r\n", Err(Malformed); "two spaces")]
    #[test_case("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", Err(Malformed); "v6 as v4")]
    #[test_case("PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n", Err(Malformed); "no address")]
    #[test_case("PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n", Err(Malformed); "no port")]
    #[test_case("PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n", Err(Malformed); "signed port")]
    #[test_case("PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n", Err(Malformed); "port with zeros")]
    #[test_case("PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n", Err(Malformed); "udp")]
    #[test_case("PROXY UNKNOWN\n  ", Err(Malformed); "bare lf")]
    #[test_case(&format!("PROXY {}", "x".repeat(101)), Err(Malformed); "too long")]
    fn reads_text(text: &str, expected: Result<Header, Malformed>) {
        assert_eq!(read(text.as_bytes()), expected);
    }

    fn framed(command: u8, family: u8, length: u16, content: &[u8]) -> Vec<u8> {
        [SIGNATURE, &[command, family], &length.to_be_bytes(), content].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 1, 0xbb];

    #[test_case(&framed(0x21, 0x11, 12, &V4), whole(Some("192.0.2.1:56324")); "v4")]
    #[test_case(&framed(0x21, 0x11, 15, &[&V4[..], &[4, 0, 0]].concat()), whole(Some("192.0.2.1:56324")); "extension")]
    #[test_case(&framed(0x21, 0x21, 36, &[0; 36]), whole(Some("[::]:0")); "v6")]
    #[test_case(&framed(0x20, 0x00, 0, &[]), whole(None); "local")]
    #[test_case(&framed(0x21, 0x00, 0, &[]), whole(None); "unspecified")]
    #[test_case(&framed(0x21, 0x11, 12, &V4[..5]), Ok(Header::Needs(7)); "goes on")]
    #[test_case(SIGNATURE, Ok(Header::Needs(3)); "only begun")]
    #[test_case(&framed(0x21, 0x11, 11, &V4[..11]), Err(Malformed); "too short for its family")]
    #[test_case(&framed(0x21, 0x11, 11, &V4), Err(Malformed); "longer than it says")]
    #[test_case(&framed(0x11, 0x11, 12, &V4), Err(Malformed); "another version")]
    #[test_case(&framed(0x22, 0x11, 12, &V4), Err(Malformed); "another command")]
    #[test_case(&framed(0x21, 0x12, 12, &V4), Err(Malformed); "udp")]
    #[test_case(&framed(0x21, 0x11, 65535, &V4), Err(Malformed); "endless")]
    fn reads_binary(bytes: &[u8], expected: Result<Header, Malformed>) {
        assert_eq!(read(bytes), expected);
    }

    proptest! {
        /// Read piece by piece as it asks, a header ends where it ends and never before.
        #[test]
        fn never_asks_for_what_follows(client in any::<[u8; 4]>(), port: u16) {
            let from = SocketAddr::from((client, port));
            let line = format!("PROXY TCP4 {} 198.51.100.1 {port} 443\r\n", from.ip());
            let frame = framed(0x21, 0x11, 12, &[&client[..], &[198, 51, 100, 1], &port.to_be_bytes(), &[1, 0xbb]].concat());
            for header in [line.into_bytes(), frame] {
                let mut taken = 0;
                while let Header::Needs(more) = read(&header[..taken]).unwrap() {
                    taken += more;
                    prop_assert!(taken <= header.len());
                }
                prop_assert_eq!(taken, header.len());
                prop_assert_eq!(read(&header), Ok(Header::Whole { client: Some(from) }));
            }
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes).ok();
        }
    }

    #[test_case(Some(("192.0.2.1:5", "10.0.0.1:443")), "PROXY TCP4 192.0.2.1 10.0.0.1 5 443\r\n"; "v4")]
    #[test_case(Some(("[::ffff:192.0.2.1]:5", "10.0.0.1:443")), "PROXY TCP4 192.0.2.1 10.0.0.1 5 443\r\n"; "v4 in disguise")]
    #[test_case(Some(("[2001:db8::1]:5", "[::1]:443")), "PROXY TCP6 2001:db8::1 ::1 5 443\r\n"; "v6")]
    #[test_case(Some(("[2001:db8::1]:5", "10.0.0.1:443")), "PROXY TCP6 2001:db8::1 ::ffff:10.0.0.1 5 443\r\n"; "both")]
    #[test_case(None, "PROXY UNKNOWN\r\n"; "nobody")]
    fn writes_text(addresses: Option<(&str, &str)>, expected: &str) {
        let addresses = addresses.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
        assert_eq!(String::from_utf8(write_text(addresses)).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(from: SocketAddr, to: SocketAddr, knows: bool) {
            let addresses = knows.then_some((from, to));
            let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
            for written in [write_text(addresses), write_binary(addresses)] {
                let Ok(Header::Whole { client }) = read(&written) else { panic!("not whole: {written:?}") };
                prop_assert_eq!(client.map(canonical), addresses.map(|(from, _)| canonical(from)));
            }
        }
    }
}
