//! Keys that somebody publishes: a JWK Set (RFC 7517).

use super::{Algorithm, VerifyingKey};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde::Deserialize;

/// The largest number of keys in a set.
const KEYS_MAX: usize = 100;
/// The largest number of keys that are each by themselves.
const FILES_MAX: usize = 16;
/// The longest id of a key, in bytes.
const KID_MAX: usize = 256;

/// Keys by which tokens of others are verified.
#[derive(Debug, PartialEq)]
pub struct KeySet(Box<[Published]>);

#[derive(Debug, Clone, PartialEq)]
struct Published {
    kid: Option<Box<str>>,
    key: VerifyingKey,
}

/// Why a text is no set of keys.
#[derive(Debug, thiserror::Error)]
pub enum BadKeySet {
    /// It is something else.
    #[error("no JWK set: {0}")]
    Json(#[from] serde_json::Error),
    /// It is too much.
    #[error("more than {KEYS_MAX} keys")]
    TooMany,
    /// None of its keys can be used.
    #[error("none of its keys is for signatures by ES256, EdDSA or RS256")]
    Useless,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// A key of any kind (RFC 7518 § 6, RFC 8037 § 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    for_what: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl KeySet {
    /// Reads a JWK Set. Keys for other purposes and of other kinds are passed over (RFC 7517 § 5).
    ///
    /// # Errors
    /// [`BadKeySet`] if it is none, or if nothing of it can be used.
    pub fn read(text: &[u8]) -> Result<Self, BadKeySet> {
        let set: Set = serde_json::from_slice(text)?;
        if set.keys.len() > KEYS_MAX {
            return Err(BadKeySet::TooMany);
        }
        let keys: Box<[_]> =
            set.keys.into_iter().filter_map(|key| published(serde_json::from_value(key).ok()?)).collect();
        if keys.is_empty() { Err(BadKeySet::Useless) } else { Ok(Self(keys)) }
    }

    /// The keys of a provider that shows each by itself: those that were known, but for what their files say now. None
    /// means that there is no such file; what is no PEM file of a key says nothing. The oldest make room.
    pub fn with_files<'a>(known: Option<&Self>, files: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> Self {
        let mut keys: Vec<Published> = known.map(|known| known.0.to_vec()).unwrap_or_default();
        for (kid, text) in files {
            let read = text.map(|text| {
                let der = SubjectPublicKeyInfoDer::from_pem_slice(text).ok()?;
                VerifyingKey::from_spki(&der).ok()
            });
            if let Some(None) = read {
                continue;
            }
            keys.retain(|known| known.kid.as_deref() != Some(kid));
            keys.extend(read.flatten().map(|key| Published { kid: Some(kid.into()), key }));
        }
        let room = keys.len().saturating_sub(FILES_MAX);
        Self(keys.into_iter().skip(room).collect())
    }

    /// The ids of its keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|published| published.kid.as_deref())
    }

    /// The key by which a token says that it is signed; of one that names none, the only one of that algorithm.
    #[must_use]
    pub fn find(&self, kid: Option<&str>, algorithm: &str) -> Option<&VerifyingKey> {
        let mut fitting = self.0.iter().filter(|published| published.key.algorithm().name() == algorithm);
        match kid {
            Some(kid) => fitting.find(|published| published.kid.as_deref() == Some(kid)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
        .map(|published| &published.key)
    }

    /// Whether all keys of another set are in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|key| self.0.iter().any(|known| known.key == key.key))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A key that we can use; none for all others.
fn published(jwk: Jwk) -> Option<Published> {
    let for_signatures = jwk.for_what.as_deref().is_none_or(|what| what == "sig")
        && jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    let kid = jwk.kid.filter(|kid| kid.len() <= KID_MAX);
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("EC", Some("P-256")) => VerifyingKey::from_point(jwk.x.as_deref()?, jwk.y.as_deref()?),
        ("OKP", Some("Ed25519")) => VerifyingKey::from_edwards(jwk.x.as_deref()?),
        ("RSA", _) => VerifyingKey::from_modulus(jwk.n.as_deref()?, jwk.e.as_deref()?),
        (_, _) => return None,
    }
    .ok()?;
    // RFC 9864 § 2.2 names the same signature `Ed25519`.
    let same = |alg: &str| alg == key.algorithm().name() || (alg == "Ed25519" && key.algorithm() == Algorithm::EdDsa);
    let meant = jwk.alg.as_deref().is_none_or(same);
    (for_signatures && meant).then(|| Published { kid: kid.map(Into::into), key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use test_case::test_case;

    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn ec(more: &Value) -> Value {
        let mut key = json!({ "kty": "EC", "crv": "P-256", "x": X, "y": Y, "kid": "a" });
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    }

    fn rsa(bytes: usize) -> Value {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        json!({ "kty": "RSA", "kid": "r", "n": URL_SAFE_NO_PAD.encode(vec![0xC1; bytes]), "e": "AQAB" })
    }

    fn found(keys: &Value, kid: Option<&str>, algorithm: &str) -> bool {
        let set = KeySet::read(json!({ "keys": keys }).to_string().as_bytes());
        set.is_ok_and(|set| set.find(kid, algorithm).is_some())
    }

    #[test_case(&ec(&json!({})), "ES256", true; "a plain key")]
    #[test_case(&ec(&json!({ "use": "sig", "alg": "ES256", "x5t": "x" })), "ES256", true; "one that says more")]
    #[test_case(&ec(&json!({ "key_ops": ["verify"] })), "ES256", true; "one to verify with")]
    #[test_case(&json!({ "kty": "OKP", "crv": "Ed25519", "x": X, "kid": "a", "alg": "Ed25519" }), "EdDSA", true; "edwards")]
    #[test_case(&ec(&json!({ "use": "enc" })), "ES256", false; "for encryption")]
    #[test_case(&ec(&json!({ "key_ops": ["sign"] })), "ES256", false; "to sign with")]
    #[test_case(&ec(&json!({ "alg": "ES384" })), "ES256", false; "for another algorithm")]
    #[test_case(&ec(&json!({})), "RS256", false; "asked for as another kind")]
    #[test_case(&ec(&json!({})), "HS256", false; "asked for as a secret")]
    #[test_case(&ec(&json!({ "x": "AAAA" })), "ES256", false; "a short coordinate")]
    #[test_case(&ec(&json!({ "x": format!("{X}=") })), "ES256", false; "another alphabet")]
    #[test_case(&ec(&json!({ "y": null })), "ES256", false; "half a point")]
    #[test_case(&ec(&json!({ "y": X })), "ES256", false; "a point that is not on the curve")]
    #[test_case(&json!({ "kty": "oct", "k": X, "kid": "a" }), "HS256", false; "a secret")]
    #[test_case(&ec(&json!({ "kid": 1 })), "ES256", false; "an id that is a number")]
    #[test_case(&ec(&json!({ "kid": "b" })), "ES256", false; "another id")]
    #[test_case(&json!("x"), "ES256", false; "no key")]
    fn a_key_of_a_set(key: &Value, algorithm: &str, expected: bool) {
        assert_eq!(found(&json!([key]), Some("a"), algorithm), expected);
    }

    #[test_case(256, true)]
    #[test_case(1024, true)]
    #[test_case(128, false; "too short")]
    #[test_case(2048, false; "too long")]
    fn a_modulus_has_its_length(bytes: usize, expected: bool) {
        assert_eq!(found(&json!([rsa(bytes)]), Some("r"), "RS256"), expected);
    }

    #[test]
    fn who_names_no_key_means_the_only_one() {
        assert!(found(&json!([ec(&json!({})), rsa(256)]), None, "ES256"));
        let other = ec(&json!({ "kid": "b" }));
        assert!(!found(&json!([ec(&json!({})), other]), None, "ES256"), "it could be either");
    }

    #[test]
    fn one_bad_key_does_not_spoil_the_others() {
        assert!(found(&json!([{ "kty": "AKP" }, 7, ec(&json!({}))]), Some("a"), "ES256"));
    }

    #[test_case("[]"; "no object")]
    #[test_case("{}"; "no keys")]
    #[test_case(r#"{"keys":{}}"#; "no list")]
    #[test_case(r#"{"keys":[]}"#; "an empty list")]
    #[test_case(r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#; "only a secret")]
    #[test_case("<html>"; "a page")]
    #[test_case(""; "nothing")]
    fn no_set(text: &str) {
        assert!(KeySet::read(text.as_bytes()).is_err());
    }

    #[test]
    fn a_set_has_its_limit() {
        let many = json!({ "keys": vec![ec(&json!({})); KEYS_MAX + 1] }).to_string();
        assert!(matches!(KeySet::read(many.as_bytes()), Err(BadKeySet::TooMany)));
    }
}
