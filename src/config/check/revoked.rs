//! The file that `revoked` names.

use super::{Check, Context};
use crate::config::document::RevokedFile;
use crate::config::fault::Fault;
use crate::config::node::Place;
use crate::identity::{Revoked, Thumbprint};
use crate::name::{Kid, WorkloadName};

/// Checks what counts no more. What cannot be read is a fault: a typing error must not let anybody in.
pub(in crate::config) fn revoked(file: &RevokedFile, context: &Context<'_>, faults: &mut Vec<Fault>) -> Revoked {
    let mut check = Check { context: *context, faults };
    let mut revoked = Revoked::default();
    for (name, place) in entries(&file.workloads, "workloads") {
        revoked.workloads.extend(check.name(WorkloadName::parse, name, &place));
    }
    for (user, place) in entries(&file.users, "users") {
        match user.split_once('|').filter(|(issuer, subject)| !issuer.is_empty() && !subject.is_empty()) {
            Some((issuer, subject)) => {
                revoked.users.entry(issuer.into()).or_default().insert(subject.into());
            }
            None => check.fault(
                Fault::new(&place, format!("`{user}` is no user"))
                    .hint("issuer and subject as in `user.id` of the audit log: `https://login.example.com|1234`"),
            ),
        }
    }
    for (kid, place) in entries(&file.keys, "keys") {
        match Kid::parse(kid) {
            Some(kid) => drop(revoked.keys.insert(kid)),
            None => check.fault(Fault::new(&place, format!("`{kid}` is no id of a key"))),
        }
    }
    for (text, place) in entries(&file.certificates, "certificates") {
        match Thumbprint::parse(text).or_else(|| Thumbprint::parse_hex(text)) {
            Some(thumbprint) => drop(revoked.certificates.insert(thumbprint)),
            None => check.fault(
                Fault::new(&place, format!("`{text}` is no SHA-256 of a certificate"))
                    .hint("openssl x509 -in FILE -noout -fingerprint -sha256"),
            ),
        }
    }
    for (jti, place) in entries(&file.tokens, "tokens") {
        if jti.is_empty() {
            check.fault(Fault::new(&place, "an empty text names no token"));
        }
        revoked.tokens.insert(jti.into());
    }
    revoked
}

/// The texts of a list, each with its place.
fn entries<'a>(texts: &'a [String], list: &'static str) -> impl Iterator<Item = (&'a str, Place)> {
    texts.iter().enumerate().map(move |(index, text)| (text.as_str(), Place::root().key(list).index(index)))
}
