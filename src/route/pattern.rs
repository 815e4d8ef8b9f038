//! What a route matches.

use crate::request::Path;
use http::Method;
use std::fmt;

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No host pattern.
    #[error("a host is a name in lower case without port, `*.` and such a name, or `*`")]
    Host,
    /// No path pattern.
    #[error(
        "a path starts with `/`, has no empty, `.` or `..` segment, and `*` or `**` only as its whole last segment"
    )]
    Path,
}

/// Which hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Every one.
    Any,
    /// That one.
    Exact(Box<str>),
    /// One label before this, which starts with a dot.
    OneLabelBefore(Box<str>),
}

impl HostPattern {
    /// Reads `*`, `*.example.com` or `shop.example.com`.
    ///
    /// # Errors
    /// [`Malformed::Host`].
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(inside);
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(Malformed::Host);
        }
        Ok(if name.len() < text.len() {
            Self::OneLabelBefore(format!(".{name}").into())
        } else {
            Self::Exact(name.into())
        })
    }

    /// The one host that it names.
    pub(super) fn exact(&self) -> Option<&str> {
        match self {
            Self::Exact(host) => Some(host),
            Self::Any | Self::OneLabelBefore(_) => None,
        }
    }

    /// Whether a host, in lower case, is one of them.
    #[must_use]
    pub fn takes(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *host,
            Self::OneLabelBefore(rest) => {
                host.strip_suffix(&**rest).is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::OneLabelBefore(_), Self::Exact(host)) => self.takes(host),
            (Self::Exact(_) | Self::OneLabelBefore(_), _) => self == other,
        }
    }
}

/// Which paths, by whole segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// `/orders`: that one.
    Exact(Box<str>),
    /// `/orders/*`: exactly one more segment.
    OneBelow(Box<str>),
    /// `/orders/**`: it and everything below.
    Below(Box<str>),
}

impl PathPattern {
    /// Reads `/orders`, `/orders/*` or `/orders/**`.
    ///
    /// # Errors
    /// [`Malformed::Path`].
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (prefix, wrap): (&str, fn(Box<str>) -> Self) = match text {
            _ if text.ends_with("/**") => (text.trim_end_matches("/**"), Self::Below),
            _ if text.ends_with("/*") => (text.trim_end_matches("/*"), Self::OneBelow),
            _ => (text, Self::Exact),
        };
        let whole = wrap(prefix.into());
        let plain =
            prefix.is_empty() && !text.is_empty() || Path::read(prefix).is_ok_and(|path| path.as_str() == prefix);
        if plain && !prefix.contains(['*', '?']) && whole.to_string() == text {
            Ok(whole)
        } else {
            Err(Malformed::Path)
        }
    }

    /// Whether a path is one of them.
    #[must_use]
    pub fn takes(&self, path: &str) -> bool {
        let below = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::OneBelow(prefix) => below(prefix).is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
            Self::Below(prefix) => **prefix == *path || below(prefix).is_some(),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Below(prefix), Self::Below(inner) | Self::OneBelow(inner)) => prefix == inner || self.takes(inner),
            (_, Self::Exact(path)) => self.takes(path),
            (Self::Exact(_) | Self::OneBelow(_), _) => self == other,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::OneBelow(prefix) => write!(f, "{prefix}/*"),
            Self::Below(prefix) => write!(f, "{prefix}/**"),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => f.write_str(host),
            Self::OneLabelBefore(rest) => write!(f, "*{rest}"),
        }
    }
}

/// What a route matches: host and path and method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Which hosts.
    pub host: HostPattern,
    /// Which paths.
    pub path: PathPattern,
    /// Which methods; none means all.
    pub methods: Option<Box<[Method]>>,
}

impl Pattern {
    /// Whether such a request matches. The host is in lower case.
    #[must_use]
    pub fn takes(&self, method: &Method, host: &str, path: &str) -> bool {
        let fits = self.methods.as_ref().is_none_or(|methods| methods.contains(method));
        fits && self.path.takes(path) && self.host.takes(host)
    }

    /// Whether every request that `other` matches would match this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => theirs.iter().all(|method| ours.contains(method)),
        };
        methods && self.host.covers(&other.host) && self.path.covers(&other.path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::facts;
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    #[test_case("/orders", true)]
    #[test_case("/orders/*", true; "one below")]
    #[test_case("/orders/**", true; "below")]
    #[test_case("/", true; "root")]
    #[test_case("/*", true; "any one segment")]
    #[test_case("/**", true; "everything")]
    #[test_case("/a b/é", true; "decoded")]
    #[test_case("", false; "empty")]
    #[test_case("orders", false; "relative")]
    #[test_case("/or*", false; "star in a segment")]
    #[test_case("/*/orders", false; "star inside")]
    #[test_case("/**/**", false; "twice")]
    #[test_case("/orders//x", false; "empty segment")]
    #[test_case("/../x", false; "dots")]
    #[test_case("/a%20b", false; "encoded")]
    #[test_case("/a?b", false; "query")]
    fn path(text: &str, ok: bool) {
        assert_eq!(PathPattern::parse(text).is_ok(), ok);
    }

    #[test_case("shop.example.com", true)]
    #[test_case("*.example.com", true; "one label")]
    #[test_case("*", true; "any")]
    #[test_case("Shop.example.com", false; "upper case would never match")]
    #[test_case("shop.example.com:443", false; "port")]
    #[test_case("*.*.com", false; "two stars")]
    #[test_case("a*.com", false; "star in a label")]
    #[test_case("", false; "empty")]
    #[test_case("a..b", false; "empty label")]
    fn host(text: &str, ok: bool) {
        assert_eq!(HostPattern::parse(text).is_ok(), ok);
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        let host = prop_oneof![Just("*"), Just("*.b.c"), Just("a.b.c"), Just("b.c")];
        let path =
            "(/[ab]){0,2}(/|/[*]|/[*][*]|/a)".prop_filter_map("a pattern", |text| PathPattern::parse(&text).ok());
        let methods = proptest::option::of(proptest::sample::subsequence(vec![Method::GET, Method::POST], 0..2));
        (host, path, methods).prop_map(|(host, path, methods)| Pattern {
            host: HostPattern::parse(host).unwrap(),
            path,
            methods: methods.map(Into::into),
        })
    }

    proptest! {
        #[test]
        fn covering_is_matching_all_that_the_other_does(
            (wide, narrow) in (any_pattern(), any_pattern()),
            host in "([ab]\\.)?(a\\.)?b\\.c",
            target in "(/[ab]){1,3}/?",
            post in any::<bool>(),
        ) {
            let facts = facts(if post { &Method::POST } else { &Method::GET }, &host, &target);
            if wide.covers(&narrow) && narrow.takes(&facts.method, &facts.host, facts.path.as_str()) {
                prop_assert!(wide.takes(&facts.method, &facts.host, facts.path.as_str()), "{:?} {:?} {}{}", wide, narrow, host, target);
            }
        }
    }
}
