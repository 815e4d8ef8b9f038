//! The files that `access.tests` names, word for word.

use crate::policy::rules::Answered;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A test of who may: somebody asks for something, and is let in or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyTest {
    /// The workload that asks; a stranger, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// The user who comes through it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<TestUser>,
    /// What the workload's token asserts.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// When, as RFC 3339 says it: `2026-11-24T10:00:00Z`; now, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Where it comes in; at the first listener, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// Method and URL: `GET https://shop.example.com/orders/7`.
    pub what: String,
    /// What is to be decided.
    pub expect: Answered,
    /// The rule that is to decide, as records name it: `policies.no-bots`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why that is right.
    pub because: String,
}

/// A user of whom a test speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestUser {
    /// A name of `people`.
    pub people: String,
    /// What his token says.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub claims: Map<String, Value>,
}
