//! What a request is recognised by, for `balance: hash` and for limits.

use super::cookie;
use crate::balance::number;
use crate::config::HashKey;
use crate::identity::Sighting;
use crate::name::WorkloadName;
use pingora_proxy::Session;
use serde_json::Value;
use std::net::IpAddr;

/// What is known of who asks.
pub(super) struct Known<'a> {
    pub(super) client: Option<IpAddr>,
    pub(super) workload: Option<&'a WorkloadName>,
    pub(super) token: Option<&'a Sighting>,
}

/// The number that stands for it; none if the request has nothing of the kind.
pub(super) fn of(by: &HashKey, session: &Session, known: &Known<'_>) -> Option<u64> {
    with(by, session, known, |value| value.map(number))
}

/// Does something with it; without it if the request has nothing of the kind.
pub(super) fn with<T>(by: &HashKey, session: &Session, known: &Known<'_>, then: impl FnOnce(Option<&[u8]>) -> T) -> T {
    let head = session.req_header();
    match by {
        HashKey::Address => {
            let client = known.client.map(|client| client.to_canonical().to_string());
            then(client.as_ref().map(String::as_bytes))
        }
        HashKey::Path => then(Some(head.uri.path().as_bytes())),
        HashKey::Header(name) => then(head.headers.get(name).map(http::HeaderValue::as_bytes)),
        HashKey::Cookie(name) => then(cookie::value(&head.headers, name).map(str::as_bytes)),
        HashKey::Workload => then(known.workload.map(|workload| workload.as_str().as_bytes())),
        HashKey::Query(name) => {
            then(head.uri.query().and_then(|query| named(query.split('&'), name)).map(str::as_bytes))
        }
        HashKey::Claim(name) => match known.token.and_then(|token| token.asserted.get(name)) {
            Some(Value::String(text)) => then(Some(text.as_bytes())),
            Some(other) => then(Some(other.to_string().as_bytes())),
            None => then(None),
        },
    }
}

/// The value of the first pair with that name, as it is written.
fn named<'a>(mut pairs: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
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
        assert_eq!(named(pairs.iter().copied(), "a"), value);
    }
}
