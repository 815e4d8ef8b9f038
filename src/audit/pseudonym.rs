//! Hashes instead of personal data: the same person has the same one, and only who has the key can tell whose it is.

use crate::secret::Secret;
use crate::uses::Uses;
use crate::verdict::HasRead;
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use std::{fmt, net::IpAddr};

/// Bytes of a hash that are shown.
const SHOWN: usize = 16;

/// The key of the hashes.
pub struct Pseudonyms {
    key: hmac::Key,
    uses: Uses,
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms([secret])")
    }
}

impl Pseudonyms {
    /// Hashes with that secret.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()), uses: Uses::default() }
    }

    /// Its uses are counted there.
    #[must_use]
    pub fn counted(self, uses: Uses) -> Self {
        Self { uses, ..self }
    }

    /// A user's, by `issuer|subject`.
    #[must_use]
    pub fn of_user(&self, user: &str) -> String {
        self.hash("user", user)
    }

    /// An address's.
    #[must_use]
    pub fn of_address(&self, address: IpAddr) -> String {
        self.hash("address", &address.to_string())
    }

    /// What rules have read, with hashes of what users claim and where clients are. The same claim of the same value has
    /// the same hash.
    pub(super) fn of_read(&self, read: &HasRead) -> HasRead {
        let hidden = |(place, value): &(std::sync::Arc<str>, Value)| {
            let hash = match (&**place, value) {
                ("context.client", Value::String(address)) => self.hash("address", address),
                (claim, value) if claim.starts_with("principal.claims") => {
                    self.hash("claim", &format!("{claim} {value}"))
                }
                _ => return (place.clone(), value.clone()),
            };
            (place.clone(), Value::String(hash))
        };
        HasRead(read.0.iter().map(hidden).collect())
    }

    /// Of what and whose it is.
    fn hash(&self, of: &str, text: &str) -> String {
        self.uses.add();
        let mut context = hmac::Context::with_key(&self.key);
        [of.as_bytes(), &[0], text.as_bytes()].iter().for_each(|part| context.update(part));
        let tag = context.sign();
        format!("hmac:{}", URL_SAFE_NO_PAD.encode(tag.as_ref().get(..SHOWN).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_same_has_the_same_and_nothing_else_has_it() {
        let [one, other] = [b"a".repeat(32), b"b".repeat(32)].map(|bytes| Pseudonyms::new(&Secret::new(bytes)));
        let ada = one.of_user("https://login.example.com|ada");
        assert_eq!((ada.len(), &ada[..5]), (27, "hmac:"), "{ada}");
        assert_eq!(ada, one.of_user("https://login.example.com|ada"));
        let address = "192.0.2.7".parse().unwrap();
        let all = [
            ada,
            other.of_user("https://login.example.com|ada"),
            one.of_user("https://login.example.com|bob"),
            one.of_user("192.0.2.7"),
            one.of_address(address),
        ];
        assert!((1..all.len()).all(|index| !all[index..].contains(&all[index - 1])), "{all:?}");
        assert_eq!(format!("{one:?}"), "Pseudonyms([secret])");
    }

    #[test]
    fn what_users_claim_is_hidden_and_facts_are_not() {
        let pseudonyms = Pseudonyms::new(&Secret::new(b"a".repeat(32)));
        let read = [
            ("context.client", json!("192.0.2.7")),
            ("context.facts.country", json!("DE")),
            ("principal.claims.department", json!("sales")),
            ("principal.claims.level", json!(3)),
        ];
        let read = HasRead(read.map(|(place, value)| (place.into(), value)).into());
        let hidden = serde_json::to_value(pseudonyms.of_read(&read)).unwrap();
        assert_eq!(hidden["context.facts.country"], "DE");
        assert_eq!(hidden["context.client"], pseudonyms.of_address("192.0.2.7".parse().unwrap()));
        let text = hidden.to_string();
        assert!(!text.contains("sales") && !text.contains(":3") && !text.contains("192.0.2.7"), "{text}");
    }
}
