//! Who is asking.

use crate::clock::UnixSeconds;
use crate::name::{PeopleName, RoleName, WorkloadName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{borrow::Borrow, collections::HashMap, fmt, sync::Arc};

/// A SPIFFE id: the URI in a workload's certificate, compared byte for byte.
///
/// <https://spiffe.io/docs/latest/spiffe-about/spiffe-concepts/>: `spiffe://trust-domain/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId(Box<str>);

/// Why a text is no SPIFFE id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SPIFFE id is `spiffe://trust-domain/path` in plain lower-case ASCII without query or fragment")]
pub struct MalformedId;

impl SpiffeId {
    /// The longest id, in bytes (the SPIFFE specification's own limit).
    pub const LENGTH_MAX: usize = 2048;

    /// Reads an id.
    ///
    /// # Errors
    /// [`MalformedId`] if it is none.
    pub fn parse(text: &str) -> Result<Self, MalformedId> {
        let rest = text.strip_prefix("spiffe://").ok_or(MalformedId)?;
        let (domain, path) = rest.split_once('/').ok_or(MalformedId)?;
        let in_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
        let in_segment = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
        let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(in_segment);
        let fits = text.len() <= Self::LENGTH_MAX && !domain.is_empty() && domain.bytes().all(in_domain);
        if fits && path.split('/').all(segment) { Ok(Self(text.into())) } else { Err(MalformedId) }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for SpiffeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who is served first where there is not enough for all, and who is sent away first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    High,
    /// As others.
    #[default]
    Normal,
    /// After all others.
    Low,
}

impl Priority {
    /// The highest of those that somebody's roles have; normal, where none of them has one.
    #[must_use]
    pub fn of(principal: &Principal, roles: &HashMap<RoleName, Self>) -> Self {
        principal.roles().filter_map(|role| roles.get(role)).min().copied().unwrap_or_default()
    }
}

/// A machine that the config knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name in the config.
    pub name: WorkloadName,
    /// Its id in certificates and tokens.
    pub id: SpiffeId,
    /// The roles that the config gives it, in the config's order.
    pub roles: Box<[RoleName]>,
}

/// A person, as an identity provider vouches for him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Whose people he is of, in the config.
    pub people: PeopleName,
    /// The identity provider.
    pub issuer: Arc<str>,
    /// Who he is there: 1 to 255 bytes of plain ASCII, and perhaps the name of the claim that says so.
    pub subject: Box<str>,
    /// The roles that he has through the workload by which he came, in the order of their names.
    pub roles: Box<[RoleName]>,
    /// What his token says of him.
    pub claims: Map<String, Value>,
    /// Until when his token counts.
    pub expires: UnixSeconds,
    /// SHA-256 of his token.
    pub token: [u8; 32],
}

impl fmt::Display for User {
    /// Issuer and subject, which together are one person's and nobody else's (OpenID Connect Core § 5.7).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.issuer, self.subject)
    }
}

/// The one who asks, as far as he has proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nobody said who he is.
    Anonymous,
    /// A workload.
    Workload(Arc<Workload>),
    /// A person who comes through a workload.
    User(Arc<Workload>, Arc<User>),
}

impl Principal {
    /// The workload, if there is one.
    #[must_use]
    pub fn workload(&self) -> Option<&Arc<Workload>> {
        match self {
            Self::Anonymous => None,
            Self::Workload(workload) | Self::User(workload, _) => Some(workload),
        }
    }

    /// The person, if there is one.
    #[must_use]
    pub fn user(&self) -> Option<&Arc<User>> {
        match self {
            Self::Anonymous | Self::Workload(_) => None,
            Self::User(_, user) => Some(user),
        }
    }

    /// The roles of both.
    pub fn roles(&self) -> impl Iterator<Item = &RoleName> {
        let of_workload = self.workload().map(|workload| &*workload.roles);
        let of_user = self.user().map(|user| &*user.roles);
        of_workload.into_iter().chain(of_user).flatten()
    }

    /// The roles as one text, with commas between them; none if he has none.
    #[must_use]
    pub fn role_list(&self) -> Option<String> {
        let roles: Vec<_> = self.roles().map(RoleName::as_str).collect();
        (!roles.is_empty()).then(|| roles.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("spiffe://example.com/worker/checkout", true)]
    #[test_case("spiffe://example.com/A-b_c.d", true)]
    #[test_case("spiffe://example.com", false; "no path")]
    #[test_case("spiffe://example.com/", false; "empty path")]
    #[test_case("spiffe:///worker", false; "no domain")]
    #[test_case("spiffe://Example.com/worker", false; "upper-case domain")]
    #[test_case("spiffe://example.com/../worker", false; "dots")]
    #[test_case("spiffe://example.com//worker", false; "empty segment")]
    #[test_case("spiffe://example.com/worker?x", false; "query")]
    #[test_case("spiffe://example.com/work%65r", false; "encoded")]
    #[test_case("https://example.com/worker", false; "other scheme")]
    #[test_case("", false; "empty")]
    fn id_is(text: &str, ok: bool) {
        assert_eq!(SpiffeId::parse(text).is_ok(), ok);
    }
}
