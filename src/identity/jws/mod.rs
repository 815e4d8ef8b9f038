//! Compact JWS: parse strictly, verify, sign.
//!
//! The algorithm is the key's, never the token's choice: the header's `alg` must be the one of the key it names.

mod key;
mod published;

pub use key::{BadKey, SigningKey, VerifyingKey, read_secret};
pub use published::{BadKeySet, KeySet};

use super::strict;
use super::thumbprint::sha256;
use crate::name::Kid;
use crate::refusal::Refusal;
use base64::{
    Engine,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::{borrow::Cow, fmt};

/// The value of `typ`.
const TYPE: &str = "edge-identity+jwt";

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// HMAC with SHA-256, by a secret that both sides know.
    Hs256,
}

impl Algorithm {
    /// The value of `alg` (RFC 7518 § 3.1, RFC 8037 § 3.1).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }

    /// Whether who verifies could sign, too.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Hs256)
    }

    const fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
    alg: Box<str>,
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// Takes a compact JWS apart.
///
/// # Errors
/// [`Refusal::TokenMalformed`] if it is none of ours.
pub(super) fn parse(token: &str) -> Result<Unverified<'_>, Refusal> {
    let malformed = Refusal::TokenMalformed;
    let (message, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (header, payload) = message.split_once('.').ok_or(malformed)?;
    let header = decode(header)?;
    let header: Header<'_> = serde_json::from_slice(&header).map_err(|_not_ours| malformed)?;
    if header.typ != TYPE {
        return Err(malformed);
    }
    let kid = Kid::parse(&header.kid).ok_or(malformed)?;
    Ok(Unverified { kid, alg: header.alg.as_ref().into(), message, payload, signature })
}

impl Unverified<'_> {
    /// The payload and SHA-256 of the signing input, if the signature is the key's.
    ///
    /// # Errors
    /// [`Refusal::TokenKeyUnknown`] if the token names another algorithm than the key's, [`Refusal::TokenSignature`] if
    /// the signature is not the key's, [`Refusal::TokenMalformed`] if the payload is no base64url.
    pub(super) fn verify(&self, key: &VerifyingKey) -> Result<(Vec<u8>, [u8; 32]), Refusal> {
        if *self.alg != *key.algorithm().name() {
            return Err(Refusal::TokenKeyUnknown);
        }
        if !key.verifies(self.message, self.signature) {
            return Err(Refusal::TokenSignature);
        }
        Ok((decode(self.payload)?, sha256(self.message.as_bytes())))
    }
}

/// A user's token that is well formed and not verified yet.
pub(super) struct Users<'a> {
    /// The key that it names, if it does.
    pub(super) kid: Option<Box<str>>,
    /// The algorithm that it names.
    pub(super) alg: Box<str>,
    /// Its claims, which nobody has vouched for yet.
    pub(super) payload: Vec<u8>,
    /// Which load balancer says that it has signed it.
    pub(super) signer: Option<Box<str>>,
    /// Whether its parts are filled up with `=`, which RFC 7515 § 2 forbids and AWS does.
    pub(super) is_padded: bool,
    message: &'a str,
    signature: &'a str,
}

/// The JOSE header of a token that is not for us alone. What it says beyond these changes nothing, but for what is
/// refused by name.
#[derive(Deserialize)]
struct UsersHeader<'a> {
    #[serde(borrow)]
    typ: Option<Cow<'a, str>>,
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    signer: Option<Cow<'a, str>>,
    /// RFC 7515 § 4.1.11: what must be understood is not.
    crit: Option<IgnoredAny>,
    /// RFC 7797: the payload would be another one.
    b64: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
    /// RFC 8725 § 3.10: a key of the sender's choice.
    jwk: Option<IgnoredAny>,
    jku: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
}

impl UsersHeader<'_> {
    fn is_plain(&self) -> bool {
        let asks = [&self.crit, &self.b64, &self.zip, &self.jwk, &self.jku, &self.x5u, &self.x5c];
        // RFC 8725 § 3.11: tokens for other ends, such as logging out, name another type.
        const TYPES: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];
        let is_users = |typ: &Cow<'_, str>| TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ));
        asks.iter().all(|ask| ask.is_none()) && self.typ.as_ref().is_none_or(is_users)
    }
}

/// Takes a user's token apart; none if it is no compact JWS or asks for what we do not do.
pub(super) fn parse_users(token: &str) -> Option<Users<'_>> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let is_padded = token.contains('=');
    let header = decode_users(header)?;
    // A repeated member of a struct is refused, but one that the struct does not know could be repeated.
    strict::object(&header)?;
    let header: UsersHeader<'_> = serde_json::from_slice(&header).ok()?;
    let payload = decode_users(payload).filter(|_| header.is_plain())?;
    let (kid, signer) = (header.kid.map(Into::into), header.signer.map(Into::into));
    Some(Users { kid, alg: header.alg.into(), payload, signer, is_padded, message, signature })
}

impl Users<'_> {
    /// Whether the signature is the key's.
    pub(super) fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        *self.alg == *key.algorithm().name() && key.verifies(self.message, self.signature.trim_end_matches('='))
    }
}

/// Whether it may be filled up is seen later.
fn decode_users(part: &str) -> Option<Vec<u8>> {
    if part.ends_with('=') { URL_SAFE.decode(part).ok() } else { URL_SAFE_NO_PAD.decode(part).ok() }
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_not_base64url| Refusal::TokenMalformed)
}
