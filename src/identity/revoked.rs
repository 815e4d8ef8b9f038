//! What counts no more, whatever else says that it does.

use super::thumbprint::Thumbprint;
use super::token::Sighting;
use crate::name::{Kid, WorkloadName};
use crate::principal::User;
use crate::refusal::Refusal;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Names of what counts no more, from the next request on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked {
    /// Workloads, with all that they sign and show.
    pub workloads: HashSet<WorkloadName>,
    /// Users: their subjects by their issuers.
    pub users: HashMap<Box<str>, HashSet<Box<str>>>,
    /// Keys of workloads.
    pub keys: HashSet<Kid>,
    /// Certificates of clients.
    pub certificates: HashSet<Thumbprint>,
    /// Single tokens, of workloads and users: their `jti`, or for those of workloads base64url of SHA-256 of it, as the audit
    /// log writes it.
    pub tokens: HashSet<Box<str>>,
}

impl Revoked {
    /// What is not forgotten once it was here, in words: single tokens are, since they end.
    pub fn lasting(&self) -> impl Iterator<Item = String> {
        let workloads = self.workloads.iter().map(|name| format!("workload {name}"));
        let users = self
            .users
            .iter()
            .flat_map(|(issuer, subjects)| subjects.iter().map(move |subject| format!("user {issuer}|{subject}")));
        let certificates = self.certificates.iter().map(|thumbprint| format!("certificate {thumbprint}"));
        workloads.chain(users).chain(certificates)
    }

    /// What one of both names.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.workloads.extend(other.workloads.iter().cloned());
        all.keys.extend(other.keys.iter().cloned());
        all.certificates.extend(&other.certificates);
        all.tokens.extend(other.tokens.iter().cloned());
        for (issuer, subjects) in &other.users {
            all.users.entry(issuer.clone()).or_default().extend(subjects.iter().cloned());
        }
        all
    }

    /// Whether a workload counts, by what it has shown.
    ///
    /// # Errors
    /// What of it is revoked.
    pub(super) fn allows(
        &self,
        workload: &WorkloadName,
        certificate: Option<Thumbprint>,
        token: Option<&Sighting>,
    ) -> Result<(), Refusal> {
        let is_listed = |token: &Sighting| {
            !self.tokens.is_empty() && (self.has_token(&token.jti) || self.has_token(&token.jti_digest()))
        };
        if self.workloads.contains(workload) {
            Err(Refusal::WorkloadRevoked)
        } else if certificate.is_some_and(|shown| self.certificates.contains(&shown)) {
            Err(Refusal::CertificateRevoked)
        } else if token.is_some_and(|token| self.keys.contains(&token.kid)) {
            Err(Refusal::TokenKeyRevoked)
        } else if token.is_some_and(is_listed) {
            Err(Refusal::TokenRevoked)
        } else {
            Ok(())
        }
    }

    /// Whether a user counts, and his token.
    ///
    /// # Errors
    /// Which of them is revoked.
    pub(super) fn allows_user(&self, user: &User) -> Result<(), Refusal> {
        let jti = user.claims.get("jti").and_then(Value::as_str);
        if self.users.get(&*user.issuer).is_some_and(|subjects| subjects.contains(&*user.subject)) {
            Err(Refusal::UserRevoked)
        } else if jti.is_some_and(|jti| self.has_token(jti)) {
            Err(Refusal::UserTokenRevoked)
        } else {
            Ok(())
        }
    }

    fn has_token(&self, text: &str) -> bool {
        self.tokens.contains(text)
    }
}
