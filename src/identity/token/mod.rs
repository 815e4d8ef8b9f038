//! The Edge-Identity token: claims, what they are bound to, and for how long.

mod facts;

pub use facts::{Asserted, are_few, may_be_fact};

use super::Profile;
use super::body_digest::BodyDigest;
use super::jws::{self, VerifyingKey};
use super::revoked::Revoked;
use super::thumbprint::{Thumbprint, sha256};
use super::user::People;
use crate::clock::{Timestamp, UnixSeconds};
use crate::name::Kid;
use crate::principal::{SpiffeId, Workload};
use crate::refusal::Refusal;
use crate::request::{AUTHORITY_MAX, Facts, Id, host_of};
use crate::uses::Uses;
use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::{borrow::Cow, collections::HashMap, net::IpAddr, sync::Arc};

/// The longest token, in bytes.
const TOKEN_MAX: usize = 8 * 1024;
/// The longest life of a token that no certificate backs, in seconds.
const UNBACKED_LIFETIME_MAX: UnixSeconds = 60;
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
    /// Whether a token that no certificate backs must carry the body's digest.
    pub demands_digest: bool,
}

/// A workload's key for tokens.
#[derive(Debug)]
pub struct TokenKey {
    /// Whose it is.
    pub workload: Arc<Workload>,
    /// The key.
    pub key: VerifyingKey,
    /// The facts that its tokens may assert.
    pub may_assert: Arc<[Box<str>]>,
    /// Until when it counts.
    pub counts: Counts,
    /// How many tokens it has verified.
    pub uses: Uses,
}

/// Until when a key counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// As long as it is in the config.
    Always,
    /// Up to that second: a shared secret is only so good for so long.
    Until(UnixSeconds),
    /// No more.
    Revoked,
}

impl TokenKey {
    fn is_good(&self, profile: Profile, now: UnixSeconds) -> Result<(), Refusal> {
        // A secret that both sides know proves less than a key that only one has, so it is asked for by name.
        if self.key.algorithm().is_shared() != profile.needs_secret() {
            return Err(Refusal::TokenKeyUnknown);
        }
        match self.counts {
            Counts::Revoked => Err(Refusal::TokenKeyRevoked),
            Counts::Until(end) if now >= end => Err(Refusal::TokenKeyExpired),
            Counts::Always | Counts::Until(_) => Ok(()),
        }
    }
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
    /// Whose users we know.
    pub people: Vec<People>,
    /// What counts no more. A process that only finishes what it has still learns of it, without another generation.
    pub revoked: ArcSwap<Revoked>,
}

impl Trust {
    pub(super) fn workload(&self, id: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(id)
    }

    /// Whether a key that is still there counts no more.
    pub(super) fn has_revoked(&self, kid: &Kid) -> bool {
        self.keys.get(kid).is_some_and(|key| key.counts == Counts::Revoked)
    }
}

/// The claims of a token. A repeated claim is refused, and so is one beyond these, unless it is a fact that the key may
/// assert.
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
    /// The certificate, where the profile demands one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation<'a>>,
    /// The request id that both layers use.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<Cow<'a, str>>,
    /// The client's address as the edge saw it, in its canonical form.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cip: Option<Cow<'a, str>>,
    /// The host that the person asked for, in lower case.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ohost: Option<Cow<'a, str>>,
    /// The body's digest, as `Content-Digest` writes it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cdg: Option<Cow<'a, str>>,
    /// base64url of SHA-256 of the user's token, where the profile demands one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ath: Option<Cow<'a, str>>,
}

/// `cnf` (RFC 7800) with a certificate's thumbprint (RFC 8705 § 3.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation<'a> {
    /// base64url of SHA-256 of the certificate's DER.
    #[serde(borrow, rename = "x5t#S256")]
    pub x5t_s256: Cow<'a, str>,
}

/// A verified token, as far as it must be remembered: to find it again, to act by it, and to write it down.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The key that signed it.
    pub kid: Kid,
    /// When it was signed.
    pub iat: UnixSeconds,
    /// When it ends.
    pub exp: UnixSeconds,
    /// The request id that the edge chose.
    pub rid: Option<Id>,
    /// The client's address as the edge saw it.
    pub cip: Option<IpAddr>,
    /// The host that the person asked for, perhaps with a port.
    pub ohost: Option<Box<str>>,
    /// What the body's digest must be.
    pub body: Option<BodyDigest>,
    /// What SHA-256 of the user's token must be.
    pub(super) user: Option<Thumbprint>,
    /// What the edge asserts.
    pub asserted: Asserted,
    /// SHA-256 of the signing input.
    pub(super) digest: [u8; 32],
    pub(super) jti: Box<str>,
}

impl Sighting {
    /// Whether it asserts a fact with one of those values.
    #[must_use]
    pub fn says(&self, fact: &str, values: &[Box<str>]) -> bool {
        let is_one = |text: &str| values.iter().any(|value| **value == *text);
        match self.asserted.get(fact) {
            Some(Value::String(text)) => is_one(text),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(is_one),
            Some(other) => is_one(&other.to_string()),
            None => false,
        }
    }

    /// base64url of SHA-256 of `jti`: what both layers' logs may say of it.
    #[must_use]
    pub fn jti_digest(&self) -> String {
        URL_SAFE_NO_PAD.encode(sha256(self.jti.as_bytes()))
    }
}

/// What a token is compared with.
pub(super) struct Context<'a> {
    pub(super) profile: Profile,
    /// The certificate that it came with, and whose that is, if it was judged.
    pub(super) certified: Option<(&'a Arc<Workload>, Thumbprint)>,
    pub(super) facts: &'a Facts,
    pub(super) now: Timestamp,
}

/// Why a token is refused, and what it had proved by then.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) refusal: Refusal,
    pub(super) kid: Option<Kid>,
    /// Whose key has signed it.
    pub(super) signer: Option<Arc<Workload>>,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, kid: None, signer: None }
    }
}

/// Verifies the one token that there must be. Whose it is, and what it says.
///
/// # Errors
/// The first fault, with the key that the token names once that is known.
pub(super) fn verify(
    tokens: [Option<&[u8]>; 2],
    trust: &Trust,
    context: &Context<'_>,
) -> Result<(Arc<Workload>, Sighting), Fault> {
    let unverified = jws::parse(only(tokens)?)?;
    let (kid, key) = trust.keys.get_key_value(&unverified.kid).ok_or(Refusal::TokenKeyUnknown)?;
    let named = |refusal| Fault { refusal, kid: Some(kid.clone()), signer: None };
    let edge = trust.edge.as_ref().ok_or_else(|| named(Refusal::TokenIssuer))?;
    key.is_good(context.profile, context.now.unix_seconds()).map_err(named)?;
    let (payload, digest) = unverified.verify(&key.key).map_err(named)?;
    let signed = |refusal| Fault { signer: Some(Arc::clone(&key.workload)), ..named(refusal) };
    let (claims, asserted) = parted(&payload, &key.may_assert).map_err(signed)?;
    let canonical = Canonical::read(&claims).ok_or_else(|| signed(Refusal::TokenMalformed))?;
    check(&claims, edge, key, context).map_err(signed)?;
    if edge.demands_digest && !context.profile.needs_certificate() && canonical.body.is_none() {
        return Err(signed(Refusal::TokenBodyMissing));
    }
    let sighting = Sighting {
        kid: kid.clone(),
        iat: claims.iat,
        exp: claims.exp,
        rid: canonical.rid,
        cip: canonical.cip,
        ohost: canonical.ohost,
        body: canonical.body,
        user: canonical.user,
        asserted,
        digest,
        jti: claims.jti.as_ref().into(),
    };
    key.uses.add();
    Ok((Arc::clone(&key.workload), sighting))
}

/// The claims, and the facts beside them where there may be any.
fn parted<'a>(payload: &'a [u8], may_assert: &[Box<str>]) -> Result<(Claims<'a>, Asserted), Refusal> {
    if may_assert.is_empty() {
        let claims = serde_json::from_slice(payload).map_err(|_not_ours| Refusal::TokenMalformed)?;
        return Ok((claims, Asserted::new()));
    }
    facts::part(payload, may_assert)
}

/// Claims that mean something else than text, each in the one form that it may have.
struct Canonical {
    rid: Option<Id>,
    cip: Option<IpAddr>,
    ohost: Option<Box<str>>,
    body: Option<BodyDigest>,
    user: Option<Thumbprint>,
}

impl Canonical {
    fn read(claims: &Claims<'_>) -> Option<Self> {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        let well_named = (16..=64).contains(&claims.jti.len()) && claims.jti.bytes().all(inside);
        let read = Self {
            rid: optional(claims.rid.as_deref(), Id::parse)?,
            cip: optional(claims.cip.as_deref(), address)?,
            ohost: optional(claims.ohost.as_deref(), original_host)?,
            body: optional(claims.cdg.as_deref(), BodyDigest::parse)?,
            user: optional(claims.ath.as_deref(), Thumbprint::parse)?,
        };
        well_named.then_some(read)
    }
}

/// Nothing, or what it reads as; none if it does not.
fn optional<T>(text: Option<&str>, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match text {
        Some(text) => read(text).map(Some),
        None => Some(None),
    }
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().filter(|address| address.to_string() == text)
}

fn original_host(text: &str) -> Option<Box<str>> {
    let lower = text.bytes().all(|b| !b.is_ascii_uppercase());
    host_of(text).ok().filter(|_| lower && text.len() <= AUTHORITY_MAX).map(|_| text.into())
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
    let whose = &key.workload.id;
    let certified = context.certified.is_none_or(|(workload, _)| workload.id == *whose);
    let bound = claims.htm == context.facts.method.as_str()
        && claims.hta == *context.facts.authority
        && claims.htt == *context.facts.target;
    let demands = [
        (claims.iss == *edge.issuer, Refusal::TokenIssuer),
        (claims.aud.iter().any(|aud| **aud == *edge.audience), Refusal::TokenAudience),
        (certified && claims.sub == whose.as_str(), Refusal::TokenSubject),
        (is_confirmed(claims, context), Refusal::TokenCertificate),
        (bound, Refusal::TokenBinding),
    ];
    let lifetime_max = if context.profile.needs_certificate() {
        edge.lifetime_max
    } else {
        edge.lifetime_max.min(UNBACKED_LIFETIME_MAX)
    };
    match demands.into_iter().find(|(met, _)| !met) {
        Some((_, refusal)) => Err(refusal),
        None => check_times(claims, lifetime_max, context.now.unix_seconds()),
    }
}

/// A token that is bound to a certificate counts with that one only, and where one is demanded it must be bound.
fn is_confirmed(claims: &Claims<'_>, context: &Context<'_>) -> bool {
    match (&claims.cnf, context.certified) {
        (Some(bound), Some((_, shown))) => Thumbprint::parse(&bound.x5t_s256) == Some(shown),
        (Some(_), None) => false,
        (None, _) => !context.profile.needs_certificate(),
    }
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
