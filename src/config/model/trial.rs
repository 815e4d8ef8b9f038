//! Tests of the policy.

use crate::clock::Timestamp;
use crate::identity::Asserted;
use crate::name::{ListenerName, PeopleName, WorkloadName};
use crate::policy::rules::Answered;
use http::Method;
use serde_json::{Map, Value};
use std::{net::IpAddr, path::PathBuf};

/// A test of who may.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Its file.
    pub file: PathBuf,
    /// The line where it begins.
    pub line: usize,
    /// Who asks; none for a stranger.
    pub who: Option<WorkloadName>,
    /// The user who comes through it, and what his token says.
    pub user: Option<(PeopleName, Map<String, Value>)>,
    /// What the edge asserts.
    pub facts: Asserted,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// When; none means now.
    pub at: Option<Timestamp>,
    /// Where it comes in; none means at the first listener.
    pub listener: Option<ListenerName>,
    /// Its method.
    pub method: Method,
    /// Its host.
    pub host: String,
    /// Its path.
    pub path: String,
    /// What is to be decided.
    pub expects: Answered,
    /// The rule that is to decide.
    pub rule: Option<String>,
    /// Why that is right.
    pub because: String,
}
