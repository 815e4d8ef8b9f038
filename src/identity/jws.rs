//! Compact JWS with ES256: parse strictly, verify, sign.
//!
//! The algorithm is the key's, never the token's choice: the header's `alg` must be the one of the key it names.

use super::thumbprint::sha256;
use crate::refusal::Refusal;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, sync::Arc};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

/// The value of `typ`.
const TYPE: &str = "edge-identity+jwt";

/// The id of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Kid(Arc<str>);

impl Kid {
    /// Reads 1 to 64 of `A-Z a-z 0-9 . _ -`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let well_formed = (1..=64).contains(&text.len()) && text.bytes().all(inside);
        well_formed.then(|| Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Kid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why bytes are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ECDSA key on the curve P-256")]
pub struct BadKey;

/// A public key on P-256.
#[derive(Clone)]
pub struct VerifyingKey {
    key: DecodingKey,
    /// The uncompressed point, to compare keys by.
    point: Box<[u8]>,
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyingKey(P-256)")
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.point == other.point
    }
}

impl VerifyingKey {
    /// Reads the DER of a `SubjectPublicKeyInfo` (RFC 5480).
    ///
    /// # Errors
    /// [`BadKey`] for any other kind of key.
    pub fn from_spki(der: &[u8]) -> Result<Self, BadKey> {
        const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
        const P_256: &str = "1.2.840.10045.3.1.7";
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_not_spki| BadKey)?;
        let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let point = &*spki.subject_public_key.data;
        let is_p256 = spki.algorithm.algorithm.to_id_string() == EC_PUBLIC_KEY
            && curve.is_some_and(|oid| oid.to_id_string() == P_256);
        let uncompressed = point.len() == 65 && point.first() == Some(&4);
        if rest.is_empty() && is_p256 && uncompressed {
            Ok(Self { key: DecodingKey::from_ec_der(point), point: point.into() })
        } else {
            Err(BadKey)
        }
    }
}

/// A private key on P-256.
pub struct SigningKey {
    key: EncodingKey,
    public: VerifyingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey([secret])")
    }
}

impl SigningKey {
    /// Reads the DER of a PKCS#8 key (RFC 5958).
    ///
    /// # Errors
    /// [`BadKey`] for any other kind of key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, BadKey> {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_rejected| BadKey)?;
        let point = pair.public_key().as_ref();
        let public = VerifyingKey { key: DecodingKey::from_ec_der(point), point: point.into() };
        Ok(Self { key: EncodingKey::from_ec_der(der), public })
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub const fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// Signs claims into a compact JWS.
    ///
    /// # Errors
    /// [`BadKey`] if the claims cannot be written or the key cannot sign.
    pub fn sign(&self, kid: &Kid, claims: &impl Serialize) -> Result<String, BadKey> {
        let header = Header { typ: TYPE.into(), alg: "ES256".into(), kid: kid.as_str().into() };
        let part = |json: serde_json::Result<Vec<u8>>| json.map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        let header = part(serde_json::to_vec(&header)).map_err(|_unwritable| BadKey)?;
        let claims = part(serde_json::to_vec(claims)).map_err(|_unwritable| BadKey)?;
        let message = format!("{header}.{claims}");
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, Algorithm::ES256);
        signature.map(|signature| format!("{message}.{signature}")).map_err(|_unsigned| BadKey)
    }
}

/// The JOSE header. Nothing but these three is accepted: not `crit`, `b64` or `zip`, and nothing that would bring or
/// name a key of the sender's choice (`jwk`, `jku`, `x5u`, `x5c`; RFC 8725 § 3.10). A repeated key is refused, too.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(borrow)]
    typ: Cow<'a, str>,
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    kid: Cow<'a, str>,
}

/// A token that is well formed and not verified yet.
pub(super) struct Unverified<'a> {
    /// The key that it names.
    pub(super) kid: Kid,
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// Takes a compact JWS apart.
///
/// # Errors
/// [`Refusal::TokenMalformed`] if it is none of ours, [`Refusal::TokenKeyUnknown`] for an algorithm that no key has.
pub(super) fn parse(token: &str) -> Result<Unverified<'_>, Refusal> {
    let malformed = Refusal::TokenMalformed;
    let (message, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (header, payload) = message.split_once('.').ok_or(malformed)?;
    let header = decode(header)?;
    let header: Header<'_> = serde_json::from_slice(&header).map_err(|_not_ours| malformed)?;
    match (&*header.typ, &*header.alg) {
        (TYPE, "ES256") => {}
        (TYPE, _) => return Err(Refusal::TokenKeyUnknown),
        (_, _) => return Err(malformed),
    }
    let kid = Kid::parse(&header.kid).ok_or(malformed)?;
    Ok(Unverified { kid, message, payload, signature })
}

impl Unverified<'_> {
    /// The payload and SHA-256 of the signing input, if the signature is the key's.
    ///
    /// # Errors
    /// [`Refusal::TokenSignature`] if it is not; [`Refusal::TokenMalformed`] if the payload is no base64url.
    pub(super) fn verify(&self, key: &VerifyingKey) -> Result<(Vec<u8>, [u8; 32]), Refusal> {
        let message = self.message.as_bytes();
        match jsonwebtoken::crypto::verify(self.signature, message, &key.key, Algorithm::ES256) {
            Ok(true) => Ok((decode(self.payload)?, sha256(message))),
            Ok(false) | Err(_) => Err(Refusal::TokenSignature),
        }
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_not_base64url| Refusal::TokenMalformed)
}
