//! Requests that stand for all that a table tells apart.

use super::pattern::{HostPattern, PathPattern, Pattern};
use std::collections::HashSet;

/// Hosts and a segment of paths that none of some patterns names, to stand for all others.
#[derive(Debug)]
pub struct Others<'a> {
    named: HashSet<&'a str>,
    segment: String,
}

impl<'a> Others<'a> {
    /// What none of those patterns names.
    #[must_use]
    pub fn than(patterns: impl Iterator<Item = &'a Pattern> + Clone) -> Self {
        let segments: HashSet<_> = patterns.clone().flat_map(|pattern| pattern.path.text().split('/')).collect();
        let named = patterns.filter_map(|pattern| pattern.host.exact()).collect();
        let segment = words().find(|word| !segments.contains(word.as_str())).unwrap_or_default();
        Self { named, segment }
    }
}

/// `any`, `any1`, `any2` and so on.
fn words() -> impl Iterator<Item = String> {
    std::iter::once("any".to_owned()).chain((1_u32..).map(|number| format!("any{number}")))
}

impl HostPattern {
    /// A host that it takes, and that no pattern names.
    fn example(&self, others: &Others<'_>) -> String {
        let of = |label: &str| match self {
            Self::Exact(host) => host.to_string(),
            Self::OneLabelBefore(rest) => format!("{label}{rest}"),
            Self::Any => format!("{label}.example"),
        };
        let is_exact = matches!(self, Self::Exact(_));
        let mut hosts = words().map(|label| of(&label));
        hosts.find(|host| is_exact || !others.named.contains(host.as_str())).unwrap_or_default()
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
    /// What stands before its stars.
    fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::OneBelow(text) | Self::Below(text) => text,
        }
    }

    /// Paths that it takes: one of each kind that another pattern could tell apart.
    fn examples(&self, others: &Others<'_>) -> Vec<String> {
        let any = &others.segment;
        match self {
            Self::Exact(path) => vec![path.to_string()],
            Self::OneBelow(prefix) => vec![format!("{prefix}/{any}")],
            Self::Below(prefix) => {
                let own = if prefix.is_empty() { "/".to_owned() } else { prefix.to_string() };
                vec![own, format!("{prefix}/{any}"), format!("{prefix}/{any}/{any}")]
            }
        }
    }
}

/// Hosts and paths that both patterns take, one of each kind that a table of such patterns tells apart.
pub fn examples(one: &Pattern, other: &Pattern, others: &Others<'_>) -> Vec<(String, String)> {
    let Some(host) = one.host.meet(&other.host) else { return Vec::new() };
    let mut paths = one.path.examples(others);
    paths.extend(other.path.examples(others));
    paths.retain(|path| one.path.takes(path) && other.path.takes(path));
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        return Vec::new();
    }
    let host = host.example(others);
    paths.into_iter().map(|path| (host.clone(), path)).collect()
}
