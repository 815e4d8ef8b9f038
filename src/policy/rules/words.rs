//! What rules can speak of: whatever the config gives a name.

use crate::identity::ClaimPath;
use crate::name::{GroupName, PeopleName, RoleName, RouteName, WorkloadName};
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What rules can speak of.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// Workloads.
    pub workloads: Vec<WorkloadName>,
    /// Roles.
    pub roles: Vec<RoleName>,
    /// Routes.
    pub routes: Vec<RouteWords>,
    /// Claims of users.
    pub claims: Vec<Declared>,
    /// Facts that the edge asserts.
    pub facts: Vec<Declared>,
}

/// A route, as rules know it.
#[derive(Debug, Clone)]
pub struct RouteWords {
    /// Its name.
    pub name: RouteName,
    /// Its groups.
    pub groups: Vec<GroupName>,
    /// The methods that it takes; none means all.
    pub methods: Option<Vec<Method>>,
    /// Whether a token is read there, which may assert facts.
    pub has_facts: bool,
    /// Whether a user is proved there.
    pub has_users: bool,
}

/// A claim or fact that rules may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: Box<str>,
    /// Where it stands. A fact stands under its name.
    pub path: ClaimPath,
    /// What it is.
    pub is: Type,
    /// The people whose claim it is; a fact is nobody's.
    pub of: Vec<PeopleName>,
}

/// What a claim or fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// A text.
    Text,
    /// A list of texts; a single one counts as a list of it.
    Texts,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Truth,
}
