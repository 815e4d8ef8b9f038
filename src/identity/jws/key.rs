//! Keys for tokens. What kind a key is decides its algorithm.

use super::{Algorithm, TYPE};
use crate::generation::Digest;
use crate::name::Kid;
use crate::secret::Secret;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::EncodingKey;
use serde::Serialize;
use std::{collections::HashSet, fmt};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

/// The shortest shared secret, in bytes.
const SECRET_MIN: usize = 32;
/// The longest, in bytes.
const SECRET_MAX: usize = 1024;
/// A shared secret with fewer different bytes is no random one: of 32 random ones about 30 differ.
const SECRET_DIFFERENT_MIN: usize = 16;
/// RFC 7518 § 3.3, in bits.
const RSA_MIN: usize = 2048;
/// What is longer only costs time, in bits.
const RSA_MAX: usize = 8192;

/// Why bytes are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// A key of a kind that no algorithm of ours uses.
    #[error("not a key on the curve P-256 (ES256), Ed25519 (EdDSA) or RSA (RS256)")]
    Kind,
    /// An RSA key that is too short to be safe or too long to be fast.
    #[error("an RSA key has {RSA_MIN} to {RSA_MAX} bits")]
    RsaSize,
    /// A secret that is no base64, too short, or not random.
    #[error(
        "a shared secret is the base64 of at least {SECRET_MIN} random bytes, for example of `openssl rand -base64 48`"
    )]
    Secret,
    /// The key cannot sign.
    #[error("the key cannot sign")]
    Unsigned,
}

/// A key that verifies. It is read once, and not again with each signature as the library for tokens would.
#[derive(Clone)]
pub struct VerifyingKey {
    key: Verifier,
    algorithm: Algorithm,
    /// Of the public key's bytes or of the secret, to compare keys by.
    fingerprint: Digest,
}

#[derive(Clone)]
enum Verifier {
    Public(ParsedPublicKey),
    Shared(Box<hmac::Key>),
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.algorithm)
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl VerifyingKey {
    /// Reads the DER of a `SubjectPublicKeyInfo` (RFC 5480, RFC 8410, RFC 3279).
    ///
    /// # Errors
    /// [`BadKey`] for any other kind of key.
    pub fn from_spki(der: &[u8]) -> Result<Self, BadKey> {
        const P_256: &str = "1.2.840.10045.3.1.7";
        const ED25519: &str = "1.3.101.112";
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_not_spki| BadKey::Kind)?;
        let bytes = &*spki.subject_public_key.data;
        if !rest.is_empty() {
            return Err(BadKey::Kind);
        }
        if spki.algorithm.algorithm.to_id_string() == ED25519 && bytes.len() == 32 {
            return Self::edwards(bytes);
        }
        match spki.parsed() {
            Ok(PublicKey::EC(point)) => {
                let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
                let is_p256 = curve.is_some_and(|oid| oid.to_id_string() == P_256);
                let uncompressed = point.data().len() == 65 && point.data().first() == Some(&4);
                if is_p256 && uncompressed { Self::point(bytes) } else { Err(BadKey::Kind) }
            }
            Ok(PublicKey::RSA(rsa)) if (RSA_MIN..=RSA_MAX).contains(&rsa.key_size()) => Self::rsa(bytes),
            Ok(PublicKey::RSA(_)) => Err(BadKey::RsaSize),
            Ok(_) | Err(_) => Err(BadKey::Kind),
        }
    }

    /// Reads a shared secret: the base64 of random bytes, in either alphabet.
    ///
    /// # Errors
    /// [`BadKey::Secret`].
    pub fn from_secret(text: &str) -> Result<Self, BadKey> {
        let secret = secret(text)?;
        let key = Verifier::Shared(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)));
        Ok(Self::new(key, Algorithm::Hs256, &secret))
    }

    /// Makes a key of a point of P-256, its coordinates in base64url (RFC 7518 § 6.2.1).
    ///
    /// # Errors
    /// [`BadKey::Kind`] if they are not of 32 bytes each, or the point is not on the curve.
    pub(super) fn from_point(x: &str, y: &str) -> Result<Self, BadKey> {
        let (x, y) = (coordinate(x)?, coordinate(y)?);
        let point = [&[4], x.as_slice(), y.as_slice()].concat();
        Self::point(&point)
    }

    /// Makes a key of a point of Ed25519 in base64url (RFC 8037 § 2).
    ///
    /// # Errors
    /// [`BadKey::Kind`] if it is not of 32 bytes.
    pub(super) fn from_edwards(x: &str) -> Result<Self, BadKey> {
        Self::edwards(&coordinate(x)?)
    }

    /// Makes a key of an RSA modulus and exponent in base64url (RFC 7518 § 6.3.1).
    ///
    /// # Errors
    /// [`BadKey::Kind`] if they are no numbers, [`BadKey::RsaSize`].
    pub(super) fn from_modulus(n: &str, e: &str) -> Result<Self, BadKey> {
        let number = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_no_base64| BadKey::Kind);
        let (modulus, exponent) = (number(n)?, number(e)?);
        let bits = modulus.iter().skip_while(|byte| **byte == 0).count().saturating_mul(8);
        if !(RSA_MIN..=RSA_MAX).contains(&bits) {
            return Err(BadKey::RsaSize);
        }
        let key = RsaPublicKeyComponents { n: &modulus, e: &exponent };
        let key = key.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).map_err(|_no_key| BadKey::Kind)?;
        Ok(Self::new(Verifier::Public(key), Algorithm::Rs256, format!("{n}.{e}").as_bytes()))
    }

    /// A point of P-256, not compressed (SEC 1 § 2.3.3).
    fn point(bytes: &[u8]) -> Result<Self, BadKey> {
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).map_err(|_not_on_the_curve| BadKey::Kind)?;
        Ok(Self::new(Verifier::Public(key), Algorithm::Es256, bytes))
    }

    /// A point of Ed25519 (RFC 8032 § 5.1.2).
    fn edwards(bytes: &[u8]) -> Result<Self, BadKey> {
        let key = ParsedPublicKey::new(&ED25519, bytes).map_err(|_no_point| BadKey::Kind)?;
        Ok(Self::new(Verifier::Public(key), Algorithm::EdDsa, bytes))
    }

    /// Modulus and exponent in DER (RFC 8017 § A.1.1).
    fn rsa(bytes: &[u8]) -> Result<Self, BadKey> {
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bytes).map_err(|_no_numbers| BadKey::Kind)?;
        Ok(Self::new(Verifier::Public(key), Algorithm::Rs256, bytes))
    }

    fn new(key: Verifier, algorithm: Algorithm, bytes: &[u8]) -> Self {
        Self { key, algorithm, fingerprint: Digest::of(&[(algorithm.name(), bytes)]) }
    }

    /// Its algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What it is known by, whatever it is called.
    #[must_use]
    pub const fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// Whether a signature, in base64url, is this key's over a message.
    #[must_use]
    pub fn verifies(&self, message: &str, signature: &str) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        match &self.key {
            Verifier::Public(key) => key.verify_sig(message.as_bytes(), &signature).is_ok(),
            Verifier::Shared(key) => hmac::verify(key, message.as_bytes(), &signature).is_ok(),
        }
    }
}

fn coordinate(text: &str) -> Result<Vec<u8>, BadKey> {
    URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 32).ok_or(BadKey::Kind)
}

/// Reads a shared secret: the base64 of random bytes, in either alphabet.
///
/// # Errors
/// [`BadKey::Secret`].
pub fn read_secret(text: &str) -> Result<Secret, BadKey> {
    secret(text).map(Secret::new)
}

fn secret(text: &str) -> Result<Vec<u8>, BadKey> {
    // `openssl` breaks long lines.
    let text: String = text.split_ascii_whitespace().collect();
    let text = text.trim_end_matches('=');
    let read = STANDARD_NO_PAD.decode(text).or_else(|_other_alphabet| URL_SAFE_NO_PAD.decode(text));
    let secret = read.map_err(|_no_base64| BadKey::Secret)?;
    let different = secret.iter().collect::<HashSet<_>>().len();
    let is_random = (SECRET_MIN..=SECRET_MAX).contains(&secret.len()) && different >= SECRET_DIFFERENT_MIN;
    if is_random { Ok(secret) } else { Err(BadKey::Secret) }
}

/// A key that signs, as a Worker's does.
pub struct SigningKey {
    key: Signer,
    public: VerifyingKey,
}

enum Signer {
    Library(EncodingKey),
    /// The library reads another form of RSA keys only.
    Rsa(RsaKeyPair),
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
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
            let point = pair.public_key().as_ref();
            let public = VerifyingKey::point(point)?;
            return Ok(Self { key: Signer::Library(EncodingKey::from_ec_der(der)), public });
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            let bytes = pair.public_key().as_ref();
            let public = VerifyingKey::edwards(bytes)?;
            return Ok(Self { key: Signer::Library(EncodingKey::from_ed_der(der)), public });
        }
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|_rejected| BadKey::Kind)?;
        let bits = pair.public_modulus_len().saturating_mul(8);
        if !(RSA_MIN..=RSA_MAX).contains(&bits) {
            return Err(BadKey::RsaSize);
        }
        let bytes = pair.public_key().as_ref();
        let public = VerifyingKey::rsa(bytes)?;
        Ok(Self { key: Signer::Rsa(pair), public })
    }

    /// Reads a shared secret, as [`VerifyingKey::from_secret`] does.
    ///
    /// # Errors
    /// [`BadKey::Secret`].
    pub fn from_secret(text: &str) -> Result<Self, BadKey> {
        let secret = secret(text)?;
        Ok(Self { key: Signer::Library(EncodingKey::from_secret(&secret)), public: VerifyingKey::from_secret(text)? })
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub const fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// Signs claims into a compact JWS.
    ///
    /// # Errors
    /// [`BadKey::Unsigned`] if the claims cannot be written or the key cannot sign.
    pub fn sign(&self, kid: &Kid, claims: &impl Serialize) -> Result<String, BadKey> {
        self.sign_as(TYPE, kid, claims)
    }

    /// Signs claims into a compact JWS of another type than an Edge-Identity token, as an identity provider does.
    ///
    /// # Errors
    /// [`BadKey::Unsigned`] if the claims cannot be written or the key cannot sign.
    pub fn sign_as(&self, typ: &str, kid: &Kid, claims: &impl Serialize) -> Result<String, BadKey> {
        let header =
            super::Header { typ: typ.into(), alg: self.public.algorithm.name().into(), kid: kid.as_str().into() };
        let part = |json: serde_json::Result<Vec<u8>>| json.map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        let header = part(serde_json::to_vec(&header)).map_err(|_unwritable| BadKey::Unsigned)?;
        let claims = part(serde_json::to_vec(claims)).map_err(|_unwritable| BadKey::Unsigned)?;
        let message = format!("{header}.{claims}");
        let signature = self.signature(message.as_bytes()).ok_or(BadKey::Unsigned)?;
        Ok(format!("{message}.{signature}"))
    }

    pub(in crate::identity) fn signature(&self, message: &[u8]) -> Option<String> {
        match &self.key {
            Signer::Library(key) => jsonwebtoken::crypto::sign(message, key, self.public.algorithm.library()).ok(),
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
                pair.sign(padding, &SystemRandom::new(), message, &mut signature).ok()?;
                Some(URL_SAFE_NO_PAD.encode(signature))
            }
        }
    }
}
