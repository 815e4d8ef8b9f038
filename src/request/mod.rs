//! The facts of a request that decisions read: free of any HTTP library's session, read once, never repaired.
//!
//! What is forwarded is the raw target, byte for byte; what is judged is its one reading in [`Facts`]. A target that
//! two parsers could read in two ways is refused here, so that the origin cannot see another path than policy did.

mod class;
pub mod headers;
mod id;
mod path;
mod url;
pub mod wire;

pub use id::{Id, random_digits};
pub use path::Path;
pub use url::place_of;

use crate::refusal::Refusal;
use class::Class;
use http::Method;

/// The longest method, in bytes.
pub const METHOD_MAX: usize = 32;
/// The longest authority, in bytes: a DNS name (253) and a port.
pub const AUTHORITY_MAX: usize = 259;

/// How the request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "2")]
    Http2,
}

/// A request head as it was received, before anything is read into it.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request target (h1) or `:path` (h2), raw.
    pub target: &'a [u8],
    /// `:authority`, in h2.
    pub authority: Option<&'a str>,
    /// `Host`, at most the first two.
    pub hosts: [Option<&'a [u8]>; 2],
    /// The protocol.
    pub protocol: Protocol,
}

/// What decisions know of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The method.
    pub method: Method,
    /// `Host` or `:authority`, as it was on the wire.
    pub authority: Box<str>,
    /// The authority's host in lower case, without the port.
    pub host: Box<str>,
    /// The origin-form target, raw: what tokens are bound to and what is forwarded.
    pub target: Box<str>,
    /// The path, read once.
    pub path: Path,
    /// The protocol.
    pub protocol: Protocol,
}

impl Facts {
    /// The port that the authority names, if it names one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let port = self.authority.get(self.host.len()..)?.strip_prefix(':')?;
        port.parse().ok()
    }

    /// Reads a head.
    ///
    /// # Errors
    /// A [`Refusal`] of the family `request`, when the head has no reading, or more than one.
    pub fn read(head: &Head<'_>) -> Result<Self, Refusal> {
        // Records hold it, and HTTP/2 would take one as long as a head.
        if head.method.as_str().len() > METHOD_MAX {
            return Err(Refusal::MalformedHead);
        }
        let authority = authority(head)?;
        let target = origin_form(head.target, authority)?;
        let raw_path = target.split_once('?').map_or(target, |(path, _query)| path);
        Ok(Self {
            method: head.method.clone(),
            authority: authority.into(),
            host: host_of(authority)?.to_ascii_lowercase().into(),
            path: Path::read(raw_path)?,
            target: target.into(),
            protocol: head.protocol,
        })
    }
}

/// RFC 9112 § 3.2: one Host, or refused. RFC 9113 § 8.3.1: a Host beside `:authority` must be the same.
fn authority<'a>(head: &Head<'a>) -> Result<&'a str, Refusal> {
    let [host, second] = head.hosts;
    if second.is_some() {
        return Err(Refusal::MalformedAuthority);
    }
    let host = host.map(|raw| std::str::from_utf8(raw).map_err(|_not_text| Refusal::MalformedAuthority)).transpose()?;
    match (head.authority, host) {
        (Some(authority), Some(host)) if authority != host => Err(Refusal::AuthorityMismatch),
        (Some(one), _) | (None, Some(one)) if !one.is_empty() && one.len() <= AUTHORITY_MAX => Ok(one),
        (Some(_) | None, _) => Err(Refusal::MalformedAuthority),
    }
}

/// The host of `host[:port]`. User information, a trailing dot and anything that is no host is refused.
///
/// # Errors
/// [`Refusal::MalformedAuthority`].
pub fn host_of(authority: &str) -> Result<&str, Refusal> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok() => host,
        Some((_, tail)) if !tail.ends_with(']') => return Err(Refusal::MalformedAuthority),
        Some(_) | None => authority,
    };
    let literal = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let well_formed = match literal {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.ends_with('.') && host.split('.').all(is_label),
    };
    if well_formed { Ok(host) } else { Err(Refusal::MalformedAuthority) }
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.len() <= 63 && Class::LABEL.has_all(label.as_bytes())
}

/// The target as path and query. An absolute target is taken only if it names https and our very authority.
fn origin_form<'a>(raw: &'a [u8], authority: &str) -> Result<&'a str, Refusal> {
    let text = std::str::from_utf8(raw).map_err(|_not_text| Refusal::MalformedTarget)?;
    if !Class::TARGET.has_all(raw) {
        return Err(Refusal::MalformedTarget);
    }
    let Some(absolute) = text.strip_prefix("https://") else {
        return if text.starts_with('/') { Ok(text) } else { Err(Refusal::MalformedTarget) };
    };
    let end = absolute.find(['/', '?']).unwrap_or(absolute.len());
    let (named, rest) = absolute.split_at(end);
    match (named == authority, rest.starts_with('/')) {
        (false, _) => Err(Refusal::AuthorityMismatch),
        (true, false) => Err(Refusal::MalformedTarget),
        (true, true) => Ok(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn read(target: &str, authority: Option<&str>, hosts: [Option<&str>; 2]) -> Result<Facts, Refusal> {
        let hosts = hosts.map(|host| host.map(str::as_bytes));
        let protocol = if authority.is_some() { Protocol::Http2 } else { Protocol::Http1 };
        Facts::read(&Head { method: &Method::GET, target: target.as_bytes(), authority, hosts, protocol })
    }

    #[test_case("shop.example.com", Ok("shop.example.com"))]
    #[test_case("Shop.Example.COM:8443", Ok("shop.example.com"); "port and case")]
    #[test_case("127.0.0.1:80", Ok("127.0.0.1"))]
    #[test_case("[::1]:80", Ok("[::1]"))]
    #[test_case("[::1]", Ok("[::1]"); "literal without port")]
    #[test_case("", Err(Refusal::MalformedAuthority); "empty")]
    #[test_case("a, b", Err(Refusal::MalformedAuthority); "list")]
    #[test_case("a b", Err(Refusal::MalformedAuthority); "space")]
    #[test_case("user@a", Err(Refusal::MalformedAuthority); "userinfo")]
    #[test_case("a.", Err(Refusal::MalformedAuthority); "trailing dot")]
    #[test_case("a..b", Err(Refusal::MalformedAuthority); "empty label")]
    #[test_case("a:", Err(Refusal::MalformedAuthority); "empty port")]
    #[test_case("a:x", Err(Refusal::MalformedAuthority); "no number")]
    #[test_case("a:123456", Err(Refusal::MalformedAuthority); "long port")]
    #[test_case("a:65536", Err(Refusal::MalformedAuthority); "no such port")]
    #[test_case("a:+80", Err(Refusal::MalformedAuthority); "signed port")]
    #[test_case("::1", Err(Refusal::MalformedAuthority); "bare v6")]
    #[test_case("[zz]", Err(Refusal::MalformedAuthority); "no address")]
    #[test_case("a/b", Err(Refusal::MalformedAuthority); "slash")]
    fn host(host: &str, expected: Result<&str, Refusal>) {
        let facts = read("/", None, [Some(host), None]);
        assert_eq!(facts.as_ref().map(|f| &*f.host).map_err(|e| *e), expected);
    }

    #[test_case(None, [None, None], Err(Refusal::MalformedAuthority); "none at all")]
    #[test_case(None, [Some("a"), Some("a")], Err(Refusal::MalformedAuthority); "two hosts")]
    #[test_case(Some("a"), [Some("b"), None], Err(Refusal::AuthorityMismatch); "h2 host differs")]
    #[test_case(Some("a"), [Some("A"), None], Err(Refusal::AuthorityMismatch); "h2 host differs in case")]
    #[test_case(Some("a"), [Some("a"), None], Ok("a"); "h2 host is the same")]
    #[test_case(Some("a"), [None, None], Ok("a"); "h2 without host")]
    fn one_authority(authority: Option<&str>, hosts: [Option<&str>; 2], expected: Result<&str, Refusal>) {
        let facts = read("/", authority, hosts);
        assert_eq!(facts.as_ref().map(|f| &*f.authority).map_err(|e| *e), expected);
    }

    #[test_case("/a?b=c", Ok("/a?b=c"))]
    #[test_case("/a?", Ok("/a?"); "a lone question mark stays")]
    #[test_case("/a?x=%2f", Ok("/a?x=%2f"); "the query is not judged")]
    #[test_case("https://h:1/a?b", Ok("/a?b"); "absolute")]
    #[test_case("https://h/a", Err(Refusal::AuthorityMismatch); "absolute with another port")]
    #[test_case("https://H:1/a", Err(Refusal::AuthorityMismatch); "absolute in another case")]
    #[test_case("https://h:1", Err(Refusal::MalformedTarget); "absolute without a path")]
    #[test_case("http://h:1/a", Err(Refusal::MalformedTarget); "absolute without tls")]
    #[test_case("*", Err(Refusal::MalformedTarget); "asterisk")]
    #[test_case("a", Err(Refusal::MalformedTarget); "relative")]
    #[test_case("", Err(Refusal::MalformedTarget); "empty")]
    #[test_case("/a#b", Err(Refusal::MalformedTarget); "fragment")]
    #[test_case("/a b", Err(Refusal::MalformedTarget); "space")]
    #[test_case("/a\0", Err(Refusal::MalformedTarget); "nul")]
    #[test_case("/a\\b", Err(Refusal::MalformedTarget); "backslash")]
    #[test_case("/é", Err(Refusal::MalformedTarget); "not ascii")]
    fn target(target: &str, expected: Result<&str, Refusal>) {
        let facts = read(target, None, [Some("h:1"), None]);
        assert_eq!(facts.as_ref().map(|f| &*f.target).map_err(|e| *e), expected);
    }
}
