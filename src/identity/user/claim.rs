//! What the claims of a user's token say, and which roles that makes.

use crate::name::{RoleName, WorkloadName};
use serde_json::{Map, Value};
use std::{collections::HashSet, fmt, sync::Arc};

/// Where a claim stands: names from the outermost object inwards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimPath(Box<[Box<str>]>);

/// Why a text is no place of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("1 to {DEPTH_MAX} names of 1 to {NAME_MAX} bytes, for example `groups` or `realm_access.roles`")]
pub struct NoClaim;

const DEPTH_MAX: usize = 8;
const NAME_MAX: usize = 256;

impl ClaimPath {
    /// Reads names with dots between them. A text with `://` is one name: identity providers ask for such names where
    /// claims are a customer's own.
    ///
    /// # Errors
    /// [`NoClaim`].
    pub fn parse(text: &str) -> Result<Self, NoClaim> {
        if text.contains("://") { Self::of([text]) } else { Self::of(text.split('.')) }
    }

    /// Takes names as they are.
    ///
    /// # Errors
    /// [`NoClaim`].
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, NoClaim> {
        let names: Box<[Box<str>]> = names.into_iter().map(Into::into).collect();
        let well_formed = names.iter().all(|name| (1..=NAME_MAX).contains(&name.len()));
        if well_formed && (1..=DEPTH_MAX).contains(&names.len()) { Ok(Self(names)) } else { Err(NoClaim) }
    }

    /// What stands there.
    #[must_use]
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, inner) = self.0.split_first()?;
        inner.iter().try_fold(claims.get(&**first)?, |value, name| value.as_object()?.get(&**name))
    }

    /// The texts that stand there: one, a list, or the words of a scope.
    pub fn texts<'a>(&self, claims: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
        let (one, many) = match self.find(claims) {
            Some(Value::Array(values)) => (None, values.as_slice()),
            Some(Value::String(text)) => (Some(text.as_str()), &[][..]),
            _ => (None, &[][..]),
        };
        // RFC 8693 § 4.2: a scope is words with spaces between them. Some call it `scp`.
        let is_scope = self.0.last().is_some_and(|name| matches!(&**name, "scope" | "scp"));
        let words = one.into_iter().flat_map(move |text| text.split(move |c| is_scope && c == ' '));
        words.chain(many.iter().filter_map(Value::as_str))
    }

    /// The claims of somebody of whom nothing else is said than those texts at this place.
    #[must_use]
    pub fn claiming(&self, texts: Vec<String>) -> Map<String, Value> {
        self.saying(match <[String; 1]>::try_from(texts) {
            Ok([only]) => Value::from(only),
            Err(texts) => Value::from(texts),
        })
    }

    /// The claims of somebody of whom nothing else is said than that at this place.
    #[must_use]
    pub fn saying(&self, said: Value) -> Map<String, Value> {
        let nest = |value: Value, name: &str| Value::Object(Map::from_iter([(name.to_owned(), value)]));
        let Some((first, inner)) = self.0.split_first() else { return Map::new() };
        let value = inner.iter().rev().fold(said, |value, name| nest(value, name));
        Map::from_iter([(first.to_string(), value)])
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// What makes a role of people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The role.
    pub role: RoleName,
    /// By what.
    pub by: By,
    /// The workloads through which they must come.
    pub through: Box<[WorkloadName]>,
}

/// By what people have a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// All of them have it.
    Everybody,
    /// The claim holds one of these texts.
    Claim(ClaimPath, Box<[Box<str>]>),
    /// A file says so.
    Mapping(Arc<Mapped>),
}

/// Who has a role by a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// The claim that says who it is.
    pub person: ClaimPath,
    /// Those who have it; nobody before the file is read.
    pub people: HashSet<Box<str>>,
    /// The claim that says in which groups he is.
    pub group: ClaimPath,
    /// Groups of which all have it.
    pub groups: HashSet<Box<str>>,
}

impl Membership {
    /// Whether somebody with those claims has the role when he comes through that workload.
    #[must_use]
    pub fn includes(&self, claims: &Map<String, Value>, workload: &WorkloadName) -> bool {
        self.through.contains(workload) && self.by.includes(claims)
    }
}

impl By {
    fn includes(&self, claims: &Map<String, Value>) -> bool {
        match self {
            Self::Everybody => true,
            Self::Claim(claim, wanted) => claim.texts(claims).any(|text| wanted.iter().any(|wanted| **wanted == *text)),
            Self::Mapping(mapped) => {
                let is_named = mapped.person.find(claims).and_then(Value::as_str);
                is_named.is_some_and(|person| mapped.people.contains(person))
                    || mapped.group.texts(claims).any(|group| mapped.groups.contains(group))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use test_case::test_case;

    fn claims(claims: Value) -> Map<String, Value> {
        serde_json::from_value(claims).unwrap()
    }

    #[test_case("groups", json!({ "groups": ["a", "support"] }), true; "in a list")]
    #[test_case("groups", json!({ "groups": "support" }), true; "a text")]
    #[test_case("realm_access.roles", json!({ "realm_access": { "roles": ["support"] } }), true; "in an object")]
    #[test_case("https://shop.example/roles", json!({ "https://shop.example/roles": ["support"] }), true; "a name with dots")]
    #[test_case("cognito:groups", json!({ "cognito:groups": ["support"] }), true; "a name with a colon")]
    #[test_case("scope", json!({ "scope": "openid support email" }), true; "a word of a scope")]
    #[test_case("scp", json!({ "scp": "support" }), true; "the only word of a scope")]
    #[test_case("scp", json!({ "scp": ["openid", "support"] }), true; "a scope as a list")]
    #[test_case("groups", json!({ "groups": ["Support"] }), false; "in other case")]
    #[test_case("groups", json!({ "groups": "support admin" }), false; "words where there is no scope")]
    #[test_case("groups", json!({ "groups": "x\u{0}support" }), false; "after a NUL")]
    #[test_case("groups", json!({ "groups": "unsupported" }), false; "part of a text")]
    #[test_case("groups", json!({ "groups": { "support": true } }), false; "a name of an object")]
    #[test_case("groups", json!({ "groups": [["support"]] }), false; "a list in a list")]
    #[test_case("groups", json!({ "groups": [] }), false; "an empty list")]
    #[test_case("groups", json!({ "groups": null }), false; "null")]
    #[test_case("groups", json!({ "groups": true }), false; "a truth")]
    #[test_case("groups", json!({}), false; "nothing")]
    #[test_case("realm_access.roles", json!({ "realm_access.roles": ["support"] }), false; "a name with a dot is no path")]
    #[test_case("realm_access.roles", json!({ "realm_access": ["support"] }), false; "no object on the way")]
    #[test_case("scope", json!({ "scope": "unsupport supported" }), false; "parts of words")]
    fn a_role_by_a_claim(path: &str, token: Value, expected: bool) {
        let [checkout, reports] = ["checkout", "reports"].map(|name| WorkloadName::parse(name).unwrap());
        let membership = Membership {
            role: RoleName::parse("support").unwrap(),
            by: By::Claim(ClaimPath::parse(path).unwrap(), ["support".into()].into()),
            through: [checkout.clone()].into(),
        };
        let token = claims(token);
        assert_eq!(membership.includes(&token, &checkout), expected);
        assert!(!membership.includes(&token, &reports), "through another workload nobody has it");
    }

    #[test_case("groups", true)]
    #[test_case("a.b.c.d.e.f.g.h", true)]
    #[test_case("a.b.c.d.e.f.g.h.i", false; "too deep")]
    #[test_case("", false; "empty")]
    #[test_case("a..b", false; "an empty name")]
    #[test_case(".a", false; "no first name")]
    fn a_place(text: &str, expected: bool) {
        assert_eq!(ClaimPath::parse(text).is_ok(), expected);
    }

    #[test]
    fn who_claims_just_that_has_it() {
        let path = ClaimPath::parse("realm_access.roles").unwrap();
        let claims = path.claiming(vec!["support".into()]);
        assert_eq!(path.texts(&claims).collect::<Vec<_>>(), ["support"]);
    }
}
