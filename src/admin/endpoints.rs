//! What can be asked, in one table: it decides who may, finds what is meant, and is described by it (`openapi.rs`).

use crate::runtime::Right;
use http::Method;

/// Something that can be asked.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) does: Does,
    pub(super) method: Method,
    /// With `{names}` for what is put in.
    pub(super) path: &'static str,
    /// Who may; none for everybody, also at the address.
    pub(super) needs: Option<Right>,
    /// What it is good for.
    pub(super) about: &'static str,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Metrics,
    Livez,
    Readyz,
    Startupz,
    OpenApi,
    Recent,
    Status,
    Keys,
    Version,
    History,
    Generation,
    Config,
    Approval,
    Server,
    Reload,
    RollBack,
    Upgrade,
}

const fn read(does: Does, path: &'static str, needs: Option<Right>, about: &'static str) -> Endpoint {
    Endpoint { does, method: Method::GET, path, needs, about }
}

const fn change(does: Does, path: &'static str, about: &'static str) -> Endpoint {
    Endpoint { does, method: Method::POST, path, needs: Some(Right::Change), about }
}

const READ: Option<Right> = Some(Right::Read);
const CHANGE: Option<Right> = Some(Right::Change);

/// All there are.
pub(super) static ALL: [Endpoint; 17] = [
    read(Does::Metrics, "/metrics", None, "Metrics for Prometheus."),
    read(Does::Livez, "/livez", None, "Whether the process works at all."),
    read(
        Does::Readyz,
        "/readyz",
        None,
        "Whether this node should get requests: 503 while it drains, or cannot write its audit log. What all nodes \
         share, such as a pool without a server, does not count.",
    ),
    read(Does::Startupz, "/startupz", None, "Whether the process has started: it answers only then."),
    read(
        Does::Version,
        "/version",
        None,
        "Which program this is, which node, and the number and digests of the config and the policy that are live.",
    ),
    read(Does::OpenApi, "/openapi.json", READ, "This document."),
    read(Does::Recent, "/recent", READ, "The last decisions, the oldest first: audit records, one a line."),
    read(Does::Status, "/status", READ, "All pools with their servers: state, health, load."),
    read(
        Does::Keys,
        "/keys",
        READ,
        "Keys, certificates and all else that grows old: since when each is there, how long yet, and when it was used.",
    ),
    read(Does::History, "/history", READ, "The generations that are remembered, the oldest first."),
    read(
        Does::Generation,
        "/history/{generation}",
        CHANGE,
        "A generation with the contents of the files that decided, but secrets.",
    ),
    read(Does::Config, "/config", CHANGE, "What is live, with the contents of the files that decide, but secrets."),
    read(
        Does::Approval,
        "/approval",
        READ,
        "Whether changes must be approved, and what the next approval comes after.",
    ),
    change(Does::Server, "/servers/{pool}/{server}/{act}", "Change a server's state or weight."),
    change(Does::Reload, "/reload", "Read the config again."),
    change(Does::RollBack, "/rollback/{generation}", "Make an earlier generation live again, as a new one."),
    change(Does::Upgrade, "/upgrade", "Have a new process take over."),
];

/// What was not found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// There is nothing of that path.
    Path,
    /// It is asked with another method.
    Method,
}

/// Finds what a request asks, and what it puts into the path.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Result<(&'static Endpoint, Vec<&'a str>), Unknown> {
    let mut known = ALL.iter().filter_map(|endpoint| Some((endpoint, fits(endpoint.path, path)?))).peekable();
    if known.peek().is_none() {
        return Err(Unknown::Path);
    }
    known.find(|(endpoint, _)| endpoint.method == *method).ok_or(Unknown::Method)
}

/// What stands in the places of names.
fn fits<'a>(template: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let (wanted, given) = (template.split('/'), path.split('/'));
    if wanted.clone().count() != given.clone().count() {
        return None;
    }
    let mut words = Vec::new();
    for (wanted, given) in wanted.zip(given) {
        match wanted.starts_with('{') {
            true => words.push(given),
            false if wanted != given => return None,
            false => {}
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("GET", "/metrics", Ok((Does::Metrics, vec![])); "a path")]
    #[test_case("GET", "/history", Ok((Does::History, vec![])); "one that others begin with")]
    #[test_case("GET", "/history/7", Ok((Does::Generation, vec!["7"])); "with a word in it")]
    #[test_case("POST", "/servers/shop/a/weight=5", Ok((Does::Server, vec!["shop", "a", "weight=5"])); "with three")]
    #[test_case("POST", "/metrics", Err(Unknown::Method); "another method")]
    #[test_case("GET", "/reload", Err(Unknown::Method); "a change that is only read")]
    #[test_case("GET", "/historyx", Err(Unknown::Path); "longer")]
    #[test_case("GET", "/history/7/", Err(Unknown::Path); "a slash at the end")]
    #[test_case("GET", "//metrics", Err(Unknown::Path); "two slashes")]
    #[test_case("GET", "", Err(Unknown::Path); "nothing")]
    fn finds(method: &str, path: &str, expected: Result<(Does, Vec<&str>), Unknown>) {
        let found = find(&method.parse().unwrap(), path);
        assert_eq!(found.map(|(endpoint, words)| (endpoint.does, words)), expected);
    }

    #[test]
    fn what_changes_something_needs_the_right_to() {
        for endpoint in &ALL {
            assert!(endpoint.method == Method::GET || endpoint.needs == Some(Right::Change), "{}", endpoint.path);
        }
    }
}
