//! Requests that somebody could make, and by whom.

use crate::config::{Config, Workload};
use crate::identity::{By, People};
use crate::name::{ListenerName, PeopleName, RoleName, WorkloadName};
use http::Method;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, fmt};

/// A request that somebody could make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Where it comes to.
    pub listener: ListenerName,
    /// Whose it is; none for a stranger.
    pub workload: Option<WorkloadName>,
    /// The person who comes through it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<AskedUser>,
    /// Its method.
    #[serde(serialize_with = "as_text")]
    pub method: Method,
    /// Its host.
    pub host: String,
    /// Its path.
    pub path: String,
}

fn as_text<S: Serializer>(method: &Method, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(method.as_str())
}

/// A person whose token is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AskedUser {
    /// Whose user it is.
    pub people: PeopleName,
    /// What the token says of him.
    pub claims: Map<String, Value>,
}

/// Who makes a request, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) listener: &'a ListenerName,
    pub(super) workload: Option<&'a WorkloadName>,
    pub(super) user: Option<&'a AskedUser>,
}

impl Asked {
    pub(super) fn asker(&self) -> Asker<'_> {
        Asker { listener: &self.listener, workload: self.workload.as_ref(), user: self.user.as_ref() }
    }

    /// Who makes it, in words.
    #[must_use]
    pub fn by(&self) -> String {
        self.asker().in_words("a stranger")
    }
}

impl<'a> Asker<'a> {
    /// The workload, as a config knows it.
    pub(super) fn known(self, config: &Config) -> Option<&Workload> {
        let name = self.workload?;
        config.workloads.iter().find(|known| known.workload.name == *name)
    }

    /// Whether a config knows whose user it is.
    pub(super) fn is_known_user(self, config: &Config) -> bool {
        self.user.is_some_and(|user| config.people.iter().any(|people| people.terms.name == user.people))
    }

    /// The roles that the user has through a workload; whom a file gives roles is known only of people who were built.
    pub(super) fn roles_of_user(
        self,
        config: &'a Config,
        built: Option<&'a [People]>,
        through: &'a Workload,
    ) -> impl Iterator<Item = &'a RoleName> {
        let user = self.user.and_then(|user| {
            let is_meant = |people: &&People| people.name == user.people;
            let people = match built {
                Some(built) => built.iter().find(is_meant),
                None => config.people.iter().map(|people| &people.terms).find(is_meant),
            };
            Some((people?, user))
        });
        user.into_iter().flat_map(move |(people, user)| {
            let has = move |it: &&crate::identity::Membership| it.includes(&user.claims, &through.workload.name);
            people.memberships.iter().filter(has).map(|membership| &membership.role)
        })
    }

    /// Who it is, in words.
    pub(super) fn in_words(self, stranger: &str) -> String {
        match (self.workload, self.user) {
            (None, _) => stranger.to_owned(),
            (Some(workload), None) => workload.to_string(),
            (Some(workload), Some(user)) => format!("{user} through {workload}"),
        }
    }
}

impl fmt::Display for AskedUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = BTreeSet::new();
        tell(&Value::Object(self.claims.clone()), "", &mut said);
        write!(f, "a user of {}", self.people)?;
        for (index, said) in said.iter().enumerate() {
            write!(f, "{}{said}", if index == 0 { " with " } else { " and " })?;
        }
        Ok(())
    }
}

/// Each value with its place.
fn tell(value: &Value, place: &str, said: &mut BTreeSet<String>) {
    match value {
        Value::Object(inner) => {
            for (name, value) in inner {
                let dot = if place.is_empty() { "" } else { "." };
                tell(value, &format!("{place}{dot}{name}"), said);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| tell(value, place, said)),
        Value::String(text) => drop(said.insert(format!("{place}={text}"))),
        Value::Null | Value::Bool(_) | Value::Number(_) => drop(said.insert(format!("{place}={value}"))),
    }
}

/// Users who stand for all whom the roles of those configs tell apart: of each people one of whom nothing is said, and one
/// for each text that makes a role.
pub(super) fn users(configs: [&Config; 2]) -> Vec<AskedUser> {
    let mut users: Vec<AskedUser> = Vec::new();
    for people in configs.into_iter().flat_map(|config| &config.people).map(|people| &people.terms) {
        let claiming = people.memberships.iter().flat_map(|membership| match &membership.by {
            By::Claim(path, wanted) => wanted.iter().map(|text| path.claiming(vec![text.to_string()])).collect(),
            By::Everybody | By::Mapping(_) => Vec::new(),
        });
        for claims in std::iter::once(Map::new()).chain(claiming) {
            let user = AskedUser { people: people.name.clone(), claims };
            if !users.contains(&user) {
                users.push(user);
            }
        }
    }
    users
}
