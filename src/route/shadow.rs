//! Patterns that are never reached, because an earlier one takes all their requests.

use super::pattern::{HostPattern, PathPattern, Pattern};
use std::collections::HashMap;

/// Host, kind of path, and path, as other patterns are looked up by them.
type Key<'a> = (&'a HostPattern, Kind, &'a str);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Exact,
    OneBelow,
    Below,
}

/// For each pattern the first one before it that takes all its requests. What could is looked up, so that many patterns
/// take little longer each than few.
pub fn hiding<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Vec<Option<usize>> {
    let mut known: HashMap<Key<'_>, Vec<(usize, &Pattern)>> = HashMap::new();
    let mut hiding = Vec::new();
    for (index, pattern) in patterns.enumerate() {
        let hosts = wider_hosts(&pattern.host);
        let hosts = std::iter::once(&pattern.host).chain(&hosts);
        let (kind, path) = parts(&pattern.path);
        let places = hosts.flat_map(|host| wider_paths(kind, path).map(move |(kind, path)| (host, kind, path)));
        let earlier = places.filter_map(|(host, kind, path)| known.get(&(host, kind, path))).flatten();
        let covering = earlier.filter(|(_, other)| other.covers(pattern)).map(|(index, _)| *index);
        hiding.push(covering.min());
        known.entry((&pattern.host, kind, path)).or_default().push((index, pattern));
    }
    hiding
}

const fn parts(path: &PathPattern) -> (Kind, &str) {
    match path {
        PathPattern::Exact(path) => (Kind::Exact, path),
        PathPattern::OneBelow(prefix) => (Kind::OneBelow, prefix),
        PathPattern::Below(prefix) => (Kind::Below, prefix),
    }
}

/// The other hosts that take all that one takes.
fn wider_hosts(host: &HostPattern) -> Vec<HostPattern> {
    let parent = host.exact().and_then(|host| host.find('.').and_then(|dot| host.get(dot..)));
    parent.map(|rest| HostPattern::OneLabelBefore(rest.into())).into_iter().chain([HostPattern::Any]).collect()
}

/// The paths that take all that one takes, itself included.
fn wider_paths(kind: Kind, path: &str) -> impl Iterator<Item = (Kind, &str)> {
    let parent = |path: &'_ str| path.rfind('/');
    let above = std::iter::successors(Some(path), move |path| path.get(..parent(path)?));
    let one_above = (kind == Kind::Exact).then(|| path.get(..parent(path)?)).flatten();
    let one_above = one_above.map(|prefix| (Kind::OneBelow, prefix));
    let own = (kind != Kind::Below).then_some((kind, path));
    own.into_iter().chain(one_above).chain(above.map(|prefix| (Kind::Below, prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use proptest::prelude::*;

    fn pattern() -> impl Strategy<Value = Pattern> {
        let hosts = prop::sample::select(vec!["*", "*.x", "a.x", "b.x", "*.a.x", "x"]);
        let paths =
            prop::sample::select(vec!["/", "/*", "/**", "/p", "/p/*", "/p/**", "/p/q", "/p/q/*", "/p/q/**", "/pq"]);
        let methods = prop::sample::select(vec![None, Some(vec![Method::GET]), Some(vec![Method::GET, Method::PUT])]);
        (hosts, paths, methods).prop_map(|(host, path, methods)| Pattern {
            host: HostPattern::parse(host).unwrap(),
            path: PathPattern::parse(path).unwrap(),
            methods: methods.map(Into::into),
        })
    }

    proptest! {
        #[test]
        fn it_is_the_first_of_all_that_cover(patterns in prop::collection::vec(pattern(), 1..12)) {
            let all = |index: usize| patterns.iter().take(index).position(|other| other.covers(&patterns[index]));
            let expected: Vec<_> = (0..patterns.len()).map(all).collect();
            prop_assert_eq!(hiding(patterns.iter()), expected);
        }
    }
}
