//! The Edge-Identity token: claims, what they are bound to, and for how long.

use super::jws::{self, Kid, VerifyingKey};
use super::thumbprint::{Thumbprint, sha256};
use crate::clock::{Timestamp, UnixSeconds};
use crate::principal::{SpiffeId, Workload};
use crate::refusal::Refusal;
use crate::request::{Facts, Id};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize};
use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// The longest token, in bytes.
const TOKEN_MAX: usize = 8 * 1024;
/// How far a Worker's clock may be behind ours.
const CLOCK_BEHIND_MAX: UnixSeconds = 30;
/// How far a Worker's clock may be ahead of ours.
const CLOCK_AHEAD_MAX: UnixSeconds = 5;

/// What all Workers' tokens have in common: the config's `edge`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// `iss`.
    pub issuer: Box<str>,
    /// What `aud` must be or hold.
    pub audience: Box<str>,
    /// The longest `exp - iat`, in seconds.
    pub lifetime_max: UnixSeconds,
}

/// A workload's key for tokens.
#[derive(Debug)]
pub struct TokenKey {
    /// Whose it is.
    pub workload: Arc<Workload>,
    /// The key.
    pub key: VerifyingKey,
}

/// Whom we know and what they sign with.
#[derive(Debug, Default)]
pub struct Trust {
    /// The config's `edge`; without it no token is accepted.
    pub edge: Option<Edge>,
    /// Every workload by its id.
    pub workloads: HashMap<SpiffeId, Arc<Workload>>,
    /// Every key by its id.
    pub keys: HashMap<Kid, TokenKey>,
}

impl Trust {
    pub(super) fn workload(&self, id: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(id)
    }
}

/// The claims of a token. An unknown or repeated claim is refused: what a token says beyond these would be a fact that
/// its key may not assert.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims<'a> {
    /// The Workers' issuer.
    #[serde(borrow)]
    pub iss: Cow<'a, str>,
    /// This load balancer; a string or an array of strings.
    #[serde(borrow, deserialize_with = "one_or_many")]
    pub aud: Vec<Cow<'a, str>>,
    /// The workload's id.
    #[serde(borrow)]
    pub sub: Cow<'a, str>,
    /// When it was signed.
    pub iat: UnixSeconds,
    /// When it ends.
    pub exp: UnixSeconds,
    /// Its own id: 16 to 64 of `A-Z a-z 0-9 _ -`, which is at least 96 bits in base64url.
    #[serde(borrow)]
    pub jti: Cow<'a, str>,
    /// The method.
    #[serde(borrow)]
    pub htm: Cow<'a, str>,
    /// The authority as on the wire.
    #[serde(borrow)]
    pub hta: Cow<'a, str>,
    /// The raw request target with its query.
    #[serde(borrow)]
    pub htt: Cow<'a, str>,
    /// The certificate.
    #[serde(borrow)]
    pub cnf: Confirmation<'a>,
    /// The request id that both layers use.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<Cow<'a, str>>,
    /// The client's address as the edge saw it. Nothing reads it yet.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cip: Option<Cow<'a, str>>,
    /// The host that the person asked for. Nothing reads it yet.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ohost: Option<Cow<'a, str>>,
}

/// `cnf` (RFC 7800) with a certificate's thumbprint (RFC 8705 § 3.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation<'a> {
    /// base64url of SHA-256 of the certificate's DER.
    #[serde(borrow, rename = "x5t#S256")]
    pub x5t_s256: Cow<'a, str>,
}

/// A verified token, as far as it must be remembered: to find it again, and to write it down.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The key that signed it.
    pub kid: Kid,
    /// The certificate that it came with.
    pub thumbprint: Thumbprint,
    /// When it was signed.
    pub iat: UnixSeconds,
    /// When it ends.
    pub exp: UnixSeconds,
    /// The request id that the edge chose.
    pub rid: Option<Id>,
    /// SHA-256 of the signing input.
    pub(super) digest: [u8; 32],
    pub(super) jti: Box<str>,
}

impl Sighting {
    /// base64url of SHA-256 of `jti`: what both layers' logs may say of it.
    #[must_use]
    pub fn jti_digest(&self) -> String {
        URL_SAFE_NO_PAD.encode(sha256(self.jti.as_bytes()))
    }
}

/// What a token is compared with.
pub(super) struct Context<'a> {
    pub(super) workload: &'a Arc<Workload>,
    pub(super) thumbprint: Thumbprint,
    pub(super) facts: &'a Facts,
    pub(super) now: Timestamp,
}

/// Verifies the one token that there must be.
///
/// # Errors
/// The first fault, with the key that the token names once that is known.
pub(super) fn verify(
    tokens: [Option<&[u8]>; 2],
    trust: &Trust,
    context: &Context<'_>,
) -> Result<Sighting, (Refusal, Option<Kid>)> {
    let token = only(tokens).map_err(|refusal| (refusal, None))?;
    let unverified = jws::parse(token).map_err(|refusal| (refusal, None))?;
    let (kid, key) = trust.keys.get_key_value(&unverified.kid).ok_or((Refusal::TokenKeyUnknown, None))?;
    let named = |refusal| (refusal, Some(kid.clone()));
    let edge = trust.edge.as_ref().ok_or_else(|| named(Refusal::TokenIssuer))?;
    let (payload, digest) = unverified.verify(&key.key).map_err(named)?;
    let claims: Claims<'_> = serde_json::from_slice(&payload).map_err(|_not_ours| named(Refusal::TokenMalformed))?;
    check(&claims, edge, key, context).map_err(named)?;
    Ok(Sighting {
        kid: kid.clone(),
        thumbprint: context.thumbprint,
        iat: claims.iat,
        exp: claims.exp,
        rid: claims.rid.as_deref().and_then(Id::parse),
        digest,
        jti: claims.jti.as_ref().into(),
    })
}

fn only(tokens: [Option<&[u8]>; 2]) -> Result<&str, Refusal> {
    let [first, second] = tokens;
    let token = first.ok_or(Refusal::TokenMissing)?;
    match (second, token.len() > TOKEN_MAX) {
        (Some(_), _) => Err(Refusal::TokenRepeated),
        (None, true) => Err(Refusal::TokenTooLong),
        (None, false) => std::str::from_utf8(token).map_err(|_not_text| Refusal::TokenMalformed),
    }
}

fn check(claims: &Claims<'_>, edge: &Edge, key: &TokenKey, context: &Context<'_>) -> Result<(), Refusal> {
    let whose = &context.workload.id;
    let bound = claims.htm == context.facts.method.as_str()
        && claims.hta == *context.facts.authority
        && claims.htt == *context.facts.target;
    let demands = [
        (is_well_formed(claims), Refusal::TokenMalformed),
        (claims.iss == *edge.issuer, Refusal::TokenIssuer),
        (claims.aud.iter().any(|aud| **aud == *edge.audience), Refusal::TokenAudience),
        (key.workload.id == *whose && claims.sub == whose.as_str(), Refusal::TokenSubject),
        (Thumbprint::parse(&claims.cnf.x5t_s256) == Some(context.thumbprint), Refusal::TokenCertificate),
        (bound, Refusal::TokenBinding),
    ];
    match demands.into_iter().find(|(met, _)| !met) {
        Some((_, refusal)) => Err(refusal),
        None => check_times(claims, edge.lifetime_max, context.now.unix_seconds()),
    }
}

fn is_well_formed(claims: &Claims<'_>) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    claims.rid.as_deref().is_none_or(|rid| Id::parse(rid).is_some())
        && (16..=64).contains(&claims.jti.len())
        && claims.jti.bytes().all(inside)
}

fn check_times(claims: &Claims<'_>, lifetime_max: UnixSeconds, now: UnixSeconds) -> Result<(), Refusal> {
    let lifetime = claims.exp.checked_sub(claims.iat).ok_or(Refusal::TokenLifetime)?;
    if !(1..=lifetime_max).contains(&lifetime) {
        Err(Refusal::TokenLifetime)
    } else if claims.iat > now.saturating_add(CLOCK_AHEAD_MAX) {
        Err(Refusal::TokenNotYet)
    } else if claims.exp.saturating_add(CLOCK_BEHIND_MAX) <= now {
        Err(Refusal::TokenExpired)
    } else {
        Ok(())
    }
}

/// The last moment at which a token with that `exp` can still be accepted, plus one second.
pub(super) const fn acceptable_until(exp: UnixSeconds) -> UnixSeconds {
    exp.saturating_add(CLOCK_BEHIND_MAX)
}

/// RFC 7519 § 4.1.3: `aud` is a string or an array of strings.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Cow<'de, str>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience<'a> {
        One(#[serde(borrow)] Cow<'a, str>),
        Many(#[serde(borrow)] Vec<Cow<'a, str>>),
    }
    Audience::deserialize(from).map(|audience| match audience {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}

#[cfg(test)]
mod tests;
