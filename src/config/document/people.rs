//! Users and the roles that they have.

use crate::policy::rules::Type as ClaimType;
use crate::principal::Priority;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeMap};

/// Users of an identity provider (OpenID Connect). Their token is read where a profile ends in `+user`, and nowhere else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// `iss` of their tokens, byte for byte.
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// What `aud` of their tokens must be or hold: one text, or a list of which one is enough. A token for another
    /// service is refused. This or `signer` must be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Texts>,
    /// For tokens that an Application Load Balancer of AWS has made (`x-amzn-oidc-data`), which name no audience: its ARN,
    /// or a list of which one is enough. Any account's load balancers make such tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<Texts>,
    /// The claim that is compared with `audience`; for access tokens of Cognito `client_id`.
    #[serde(default = "audience_claim")]
    pub audience_claim: String,
    /// The header that brings the token: `authorization` (after `Bearer`), `cf-access-jwt-assertion` or another. With
    /// `signer` it is `x-amzn-oidc-data` unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Where the provider's keys are: the URL of its JWK set, or `file:PATH` of one. Without it they are where the
    /// provider's metadata say, at `issuer` with `/.well-known/openid-configuration`. With `signer` it is the URL below
    /// which each key has its own file; without it that of AWS for the region of the first ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// PEM files of CAs that vouch for the provider's server; without it those of this system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ca: Vec<String>,
    /// Networks in which the provider's server may be although they are private: `10.0.0.0/8`. What a name leads to is
    /// judged each time that it is connected to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_networks: Vec<String>,
    /// Claims of which the first that is there and not empty says who it is; for Cloudflare Access `[sub, common_name]`,
    /// since the `sub` of its service tokens is empty.
    #[serde(default = "subject")]
    #[schemars(length(min = 1, max = 4))]
    pub subject: Vec<String>,
    /// Claims that rules of `access.policies` may read, by their places (`department`, `realm_access.roles`), and what
    /// each is. Where a rule reads it and it is something else, the request is refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, ClaimType>,
    /// A file that says who has which role, for roles that are `mapped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
    /// Whether the token goes on to the origin. Who has it can use it elsewhere.
    #[serde(default)]
    pub forward: bool,
}

fn audience_claim() -> String {
    "aud".into()
}

impl People {
    /// The header that brings the token, said or not.
    #[must_use]
    pub fn brought_by(&self) -> &str {
        let usual = if self.signer.is_some() { "x-amzn-oidc-data" } else { "authorization" };
        self.header.as_deref().unwrap_or(usual)
    }
}

fn subject() -> Vec<String> {
    vec!["sub".into()]
}

/// A file that says which people and groups have which roles: `people: { ada: [support] }` and `groups: { sre: [support]
/// }`. It is read again when it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The file: YAML.
    pub file: String,
    /// The claim that says who it is. What people can choose themselves (often `email`) says nothing.
    #[serde(default = "sub")]
    pub person: String,
    /// The claim that says in which groups he is.
    #[serde(default = "groups")]
    pub group: String,
}

fn sub() -> String {
    "sub".into()
}

fn groups() -> String {
    "groups".into()
}

/// What stands in such a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MappingFile {
    /// The roles of people.
    pub people: BTreeMap<String, Vec<String>>,
    /// The roles of all who are in a group.
    pub groups: BTreeMap<String, Vec<String>>,
}

/// A role: of workloads (`workloads`), or of people who come through workloads (`people`, `claim`, `has`, `through`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The workloads that have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<String>,
    /// The people of whom some have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<String>,
    /// The claim of their token that says so: names with dots between them (`realm_access.roles`), or a list of names. A
    /// text with `://` is one name. Without it all of them have the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Texts>,
    /// What the claim must be or hold: one text, or a list of which one is enough. Of `scope` and `scp` each word counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has: Option<Texts>,
    /// Whether the file of `mapping` says who has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mapped: bool,
    /// The workloads through which they must come. Through others nobody has the role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<String>,
    /// Who has it is served before others, or after them, where all servers of a pool are busy; when its queue is full,
    /// who comes after others makes room. Of several roles the highest counts, and those without it do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Texts {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

impl JsonSchema for Texts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = json_schema!({ "type": "string", "minLength": 1 });
        json_schema!({ "anyOf": [text, { "type": "array", "items": text, "minItems": 1 }] })
    }
}
