//! What a token says beyond its own claims: facts that the edge asserts, if its key may.

use super::Claims;
use crate::identity::strict;
use crate::refusal::Refusal;
use serde::de::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How many facts one token may assert.
const COUNT_MAX: usize = 16;
/// And how long they may be together, as JSON, in bytes.
const LENGTH_MAX: usize = 2048;
/// How many values one fact may list.
const LIST_MAX: usize = 64;

/// Facts that were signed by a key that may assert them.
pub type Asserted = BTreeMap<Box<str>, Value>;

/// The names of the claims that are no facts.
const CLAIMS: [&str; 15] =
    ["iss", "aud", "sub", "iat", "exp", "jti", "htm", "hta", "htt", "cnf", "rid", "cip", "ohost", "cdg", "ath"];

/// Whether a name may stand in `may_assert`.
#[must_use]
pub fn may_be_fact(name: &str) -> bool {
    const RESERVED: [&str; 2] = ["nbf", "crit"];
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"_-.:/".contains(&b);
    let well_formed = (1..=128).contains(&name.len()) && name.bytes().all(inside);
    well_formed && !CLAIMS.contains(&name) && !RESERVED.contains(&name)
}

/// Parts the payload of a token into claims and facts.
///
/// # Errors
/// [`Refusal::TokenMalformed`] if it is no JSON object, repeats a key anywhere or lacks a claim,
/// [`Refusal::TokenAssertion`] for a fact that the key may not assert, or that is too much.
pub(super) fn part(payload: &[u8], may_assert: &[Box<str>]) -> Result<(Claims<'static>, Asserted), Refusal> {
    let malformed = |_: serde_json::Error| Refusal::TokenMalformed;
    let all = strict::object(payload).ok_or(Refusal::TokenMalformed)?;
    let (claims, facts): (Map<_, _>, Map<_, _>) =
        all.into_iter().partition(|(name, _)| CLAIMS.contains(&name.as_str()));
    let claims = Claims::deserialize(Value::Object(claims)).map_err(malformed)?;
    let allowed = facts.keys().all(|name| may_assert.iter().any(|known| **known == *name));
    let few = are_few(facts.iter().map(|(name, value)| (name.as_str(), value)));
    if !allowed || !few || !facts.values().all(is_simple) {
        return Err(Refusal::TokenAssertion);
    }
    Ok((claims, facts.into_iter().map(|(name, value)| (name.into_boxed_str(), value)).collect()))
}

/// Whether a token may assert so many facts, and such long ones.
pub fn are_few<'a>(mut facts: impl Iterator<Item = (&'a str, &'a Value)>) -> bool {
    let (mut count, mut length) = (0_usize, 0_usize);
    facts.all(|(name, value)| {
        count = count.saturating_add(1);
        length = length.saturating_add(name.len()).saturating_add(value.to_string().len());
        count <= COUNT_MAX && length <= LENGTH_MAX
    })
}

/// A text, number or truth, or a list of them.
fn is_simple(value: &Value) -> bool {
    let is_scalar = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    match value {
        Value::Array(values) => values.len() <= LIST_MAX && values.iter().all(is_scalar),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => is_scalar(value),
    }
}
