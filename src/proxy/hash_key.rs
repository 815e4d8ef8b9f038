//! What a request is recognised by, for `balance: hash`.

use super::cookie;
use crate::balance::number;
use crate::config::HashKey;
use crate::identity::Sighting;
use crate::name::WorkloadName;
use pingora_proxy::Session;
use std::net::IpAddr;

/// What is known of who asks.
pub(super) struct Known<'a> {
    pub(super) client: Option<IpAddr>,
    pub(super) workload: Option<&'a WorkloadName>,
    pub(super) token: Option<&'a Sighting>,
}

/// The number that stands for it; none if the request has nothing of the kind.
pub(super) fn of(by: &HashKey, session: &Session, known: &Known<'_>) -> Option<u64> {
    let head = session.req_header();
    match by {
        HashKey::Address => known.client.map(|client| number(client.to_canonical().to_string().as_bytes())),
        HashKey::Path => Some(number(head.uri.path().as_bytes())),
        HashKey::Header(name) => head.headers.get(name).map(|value| number(value.as_bytes())),
        HashKey::Cookie(name) => cookie::value(&head.headers, name).map(|value| number(value.as_bytes())),
        HashKey::Workload => known.workload.map(|workload| number(workload.as_str().as_bytes())),
        HashKey::Query(name) => named(head.uri.query()?.split('&'), name),
        HashKey::Claim(name) => {
            let value = known.token?.asserted.get(name)?;
            Some(value.as_str().map_or_else(|| number(value.to_string().as_bytes()), |text| number(text.as_bytes())))
        }
    }
}

/// The value of the first pair with that name, as it is written.
fn named<'a>(mut pairs: impl Iterator<Item = &'a str>, name: &str) -> Option<u64> {
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(|value| number(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case(&["a=1"], Some("1"); "one")]
    #[test_case(&["ab=2", "a=1", "a=3"], Some("1"); "the first of that very name")]
    #[test_case(&["a="], Some(""); "an empty one")]
    #[test_case(&["a"], None; "none without a value")]
    #[test_case(&["A=1", "b=1"], None; "none")]
    fn pairs(pairs: &[&str], value: Option<&str>) {
        assert_eq!(named(pairs.iter().copied(), "a"), value.map(|value| number(value.as_bytes())));
    }
}
