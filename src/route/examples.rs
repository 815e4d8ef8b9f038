//! Requests that stand for all that a table tells apart.

use super::pattern::{HostPattern, PathPattern, Pattern};

/// A segment, and a label, that nobody writes.
const ANY: &str = "any";

impl HostPattern {
    /// A host that it takes, and that no pattern names.
    fn example(&self, is_named: &dyn Fn(&str) -> bool) -> String {
        let of = |label: &str| match self {
            Self::Exact(host) => host.to_string(),
            Self::OneLabelBefore(rest) => format!("{label}{rest}"),
            Self::Any => format!("{label}.example"),
        };
        let labels = std::iter::once(ANY.to_owned()).chain((1_u32..).map(|number| format!("{ANY}{number}")));
        let mut hosts = labels.map(|label| of(&label)).take(1_000);
        let is_exact = matches!(self, Self::Exact(_));
        hosts.find(|host| is_exact || !is_named(host)).unwrap_or_default()
    }

    /// What both take, if anything: the narrower one.
    fn meet<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        match (self, other) {
            (Self::Any, it) | (it, Self::Any) => Some(it),
            (Self::Exact(host), _) => other.takes(host).then_some(self),
            (_, Self::Exact(host)) => self.takes(host).then_some(other),
            (Self::OneLabelBefore(_), Self::OneLabelBefore(_)) => (self == other).then_some(self),
        }
    }
}

impl PathPattern {
    /// Paths that it takes: one of each kind that another pattern could tell apart.
    fn examples(&self) -> Vec<String> {
        match self {
            Self::Exact(path) => vec![path.to_string()],
            Self::OneBelow(prefix) => vec![format!("{prefix}/{ANY}")],
            Self::Below(prefix) => {
                let own = if prefix.is_empty() { "/".to_owned() } else { prefix.to_string() };
                vec![own, format!("{prefix}/{ANY}"), format!("{prefix}/{ANY}/{ANY}")]
            }
        }
    }
}

/// Hosts and paths that both patterns take, one of each kind that a table of such patterns tells apart. `is_named` says
/// whether some pattern names a host.
pub fn examples(one: &Pattern, other: &Pattern, is_named: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
    let Some(host) = one.host.meet(&other.host) else { return Vec::new() };
    let mut paths = one.path.examples();
    paths.extend(other.path.examples());
    paths.retain(|path| one.path.takes(path) && other.path.takes(path));
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        return Vec::new();
    }
    let host = host.example(is_named);
    paths.into_iter().map(|path| (host.clone(), path)).collect()
}
