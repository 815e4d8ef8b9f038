//! Users: people for whom an identity provider vouches by a token (OpenID Connect, RFC 9068), brought by a workload.
//!
//! A user's token alone never suffices. It is read only where the profile demands it, after the workload has proved
//! itself, and where the workload signs tokens, its token must name this very one (`ath`).

mod claim;

pub use claim::{By, ClaimPath, Mapped, Membership, NoClaim};

use super::jws::{self, KeySet};
use super::strict;
use super::thumbprint::Thumbprint;
use crate::clock::UnixSeconds;
use crate::name::{PeopleName, RoleName, WorkloadName};
use crate::principal::User;
use crate::refusal::Refusal;
use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The longest token, in bytes.
const TOKEN_MAX: usize = 16 * 1024;
/// How far the clocks of identity providers may be from ours, in seconds.
const CLOCK_OFF_MAX: UnixSeconds = 30;
/// The longest subject, in bytes (OpenID Connect Core § 2).
const SUBJECT_MAX: usize = 255;

/// An identity provider, and what of its tokens counts.
#[derive(Debug, Clone)]
pub struct People {
    /// What the config calls them.
    pub name: PeopleName,
    /// `iss`.
    pub issuer: Arc<str>,
    /// How its tokens say that they are for us.
    pub addressed: Addressed,
    /// Where the token comes; in `Authorization` after `Bearer`.
    pub header: HeaderName,
    /// The claims of which the first that is there says who it is.
    pub subject: Box<[ClaimPath]>,
    /// The roles that its people may have.
    pub memberships: Box<[Membership]>,
    /// Whether the token goes on to the origin.
    pub is_forwarded: bool,
    /// The keys that verify its tokens.
    pub keys: Arc<Keys>,
}

/// How a token says that it is for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressed {
    /// A claim, `aud` but for a few, is or holds one of these texts.
    To {
        /// The claim.
        claim: ClaimPath,
        /// What it may be.
        audiences: Box<[Box<str>]>,
    },
    /// It says nothing of us, but one of these load balancers of AWS has signed it, which are ours.
    By {
        /// Their ARNs.
        signers: Box<[Box<str>]>,
    },
}

impl Addressed {
    /// What must be so before a key is looked for, which may be fetched.
    fn fits(&self, token: &jws::Users<'_>) -> Result<(), Refusal> {
        match self {
            Self::To { .. } if token.is_padded => Err(Refusal::UserTokenMalformed),
            Self::To { .. } => Ok(()),
            Self::By { signers } => {
                let is_ours = |signer: &str| signers.iter().any(|ours| **ours == *signer);
                // The key is fetched by its id: nothing else may become of a path.
                let has_id = token.kid.as_deref().is_some_and(is_uuid);
                match (&token.signer, has_id && *token.alg == *jws::Algorithm::Es256.name()) {
                    (_, false) => Err(Refusal::UserTokenMalformed),
                    (Some(signer), true) if is_ours(signer) => Ok(()),
                    (_, true) => Err(Refusal::UserTokenSigner),
                }
            }
        }
    }

    fn allows(&self, claims: &Map<String, Value>) -> bool {
        match self {
            Self::To { claim, audiences } => {
                claim.texts(claims).any(|audience| audiences.iter().any(|ours| **ours == *audience))
            }
            Self::By { .. } => true,
        }
    }
}

/// `8-4-4-4-12` hexadecimal digits in lower case (RFC 9562 § 4).
pub(super) fn is_uuid(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(is_hex)
}

/// The keys of an identity provider as they are known now; nothing, before they were.
#[derive(Debug, Default)]
pub struct Keys(ArcSwapOption<KeySet>);

impl Keys {
    /// Those keys.
    #[must_use]
    pub fn new(keys: KeySet) -> Self {
        Self(ArcSwapOption::from_pointee(keys))
    }

    /// From now on these count, or none.
    pub fn set(&self, keys: Option<KeySet>) {
        self.0.store(keys.map(Arc::new));
    }

    /// The keys, if they are known.
    #[must_use]
    pub fn get(&self) -> Option<Arc<KeySet>> {
        self.0.load_full()
    }
}

/// The connection's certificate and workload, which bring a user's token.
pub(super) struct Bringer<'a> {
    pub(super) workload: &'a WorkloadName,
    pub(super) certificate: Option<Thumbprint>,
    /// Whether it signs a token itself, and what that says of the user's.
    pub(super) says: Option<Option<Thumbprint>>,
}

/// Why a user's token is refused.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) refusal: Refusal,
    /// Whose user it says that it is of.
    pub(super) people: Option<PeopleName>,
    /// The key that it names.
    pub(super) key: Option<Box<str>>,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, people: None, key: None }
    }
}

/// Verifies the one user's token that there must be.
///
/// # Errors
/// The first fault.
pub(super) fn verify(
    headers: &HeaderMap,
    people: &[People],
    bringer: &Bringer<'_>,
    now: UnixSeconds,
) -> Result<User, Fault> {
    let (header, token) = only(headers, people)?;
    let thumbprint = Thumbprint::of(token.as_bytes());
    if bringer.says.is_some_and(|says| says != Some(thumbprint)) {
        return Err(Refusal::TokenUser.into());
    }
    let unverified = jws::parse_users(token).ok_or(Refusal::UserTokenMalformed)?;
    let claims = strict::object(&unverified.payload).ok_or(Refusal::UserTokenMalformed)?;
    let issuer = claims.get("iss").and_then(Value::as_str).ok_or(Refusal::UserTokenMalformed)?;
    let from = |people: &&People| people.header == *header && *people.issuer == *issuer;
    let people = people.iter().find(from).ok_or(Refusal::UserTokenIssuer)?;
    let user = people.verify((&unverified, thumbprint, claims), bringer, now);
    user.map_err(|refusal| Fault { refusal, people: Some(people.name.clone()), key: unverified.kid })
}

/// A user by what is known of his people now, with the roles that this gives him.
///
/// # Errors
/// If nobody vouches for him any more.
pub(super) fn still(user: &User, people: &[People], bringer: &WorkloadName) -> Result<Arc<User>, Refusal> {
    let same = |people: &&People| people.name == user.people && people.issuer == user.issuer;
    let people = people.iter().find(same).ok_or(Refusal::UserTokenIssuer)?;
    let roles = people.roles(&user.claims, bringer);
    Ok(Arc::new(User { roles, ..user.clone() }))
}

/// The token, and the header that it came in. Who brings two could be meant as either.
fn only<'a>(headers: &'a HeaderMap, people: &'a [People]) -> Result<(&'a HeaderName, &'a str), Refusal> {
    let mut found = None;
    for (index, People { header, .. }) in people.iter().enumerate() {
        if people.iter().take(index).any(|earlier| earlier.header == *header) {
            continue;
        }
        let values = || headers.get_all(header).iter();
        let Some(token) = values().find_map(|value| token(header, value.as_bytes())) else { continue };
        if values().nth(1).is_some() || found.is_some() {
            return Err(Refusal::UserTokenRepeated);
        }
        found = Some((header, token));
    }
    let (header, token) = found.ok_or(Refusal::UserTokenMissing)?;
    match std::str::from_utf8(token) {
        Ok(_) if token.len() > TOKEN_MAX => Err(Refusal::UserTokenTooLong),
        Ok(token) => Ok((header, token)),
        Err(_not_text) => Err(Refusal::UserTokenMalformed),
    }
}

/// RFC 6750 § 2.1: `Authorization` names a scheme first, and another one brings no token. Other headers hold just it.
fn token<'a>(header: &HeaderName, value: &'a [u8]) -> Option<&'a [u8]> {
    const SCHEME: &[u8] = b"bearer ";
    if *header != AUTHORIZATION {
        return Some(value);
    }
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii_start())
}

/// RFC 8705 § 3.1: a token that is bound to a certificate counts with that one only. One that is bound to something
/// else (RFC 9449 § 6.1) cannot be checked.
fn is_confirmed(claims: &Map<String, Value>, certificate: Option<Thumbprint>) -> bool {
    let Some(confirmation) = claims.get("cnf") else { return true };
    let Some(bound) = confirmation.as_object().filter(|bound| bound.len() == 1) else { return false };
    let bound = bound.get("x5t#S256").and_then(Value::as_str).and_then(Thumbprint::parse);
    bound.is_some() && bound == certificate
}

/// Until when the token counts.
fn check_times(claims: &Map<String, Value>, now: UnixSeconds) -> Result<UnixSeconds, Refusal> {
    let time = |name: &str| claims.get(name).map(|value| value.as_i64().ok_or(Refusal::UserTokenMalformed)).transpose();
    let expires = time("exp")?.ok_or(Refusal::UserTokenMalformed)?.saturating_add(CLOCK_OFF_MAX);
    let latest = now.saturating_add(CLOCK_OFF_MAX);
    if time("nbf")?.into_iter().chain(time("iat")?).any(|begins| begins > latest) {
        return Err(Refusal::UserTokenNotYet);
    }
    if expires <= now { Err(Refusal::UserTokenExpired) } else { Ok(expires) }
}

impl People {
    fn verify(
        &self,
        (token, thumbprint, claims): (&jws::Users<'_>, Thumbprint, Map<String, Value>),
        bringer: &Bringer<'_>,
        now: UnixSeconds,
    ) -> Result<User, Refusal> {
        self.addressed.fits(token)?;
        let keys = self.keys.get().ok_or(Refusal::UserKeysMissing)?;
        let key = keys.find(token.kid.as_deref(), &token.alg).ok_or(Refusal::UserTokenKeyUnknown)?;
        if !token.is_signed_by(key) {
            return Err(Refusal::UserTokenSignature);
        }
        if !self.addressed.allows(&claims) {
            return Err(Refusal::UserTokenAudience);
        }
        if !is_confirmed(&claims, bringer.certificate) {
            return Err(Refusal::UserTokenCertificate);
        }
        let expires = check_times(&claims, now)?;
        Ok(User {
            people: self.name.clone(),
            issuer: Arc::clone(&self.issuer),
            subject: self.subject(&claims).ok_or(Refusal::UserTokenSubject)?,
            roles: self.roles(&claims, bringer.workload),
            expires,
            claims,
            token: thumbprint.bytes(),
        })
    }

    /// The roles of whom claims say that, if he comes through that workload.
    fn roles(&self, claims: &Map<String, Value>, bringer: &WorkloadName) -> Box<[RoleName]> {
        let has = |membership: &&Membership| membership.includes(claims, bringer);
        self.memberships.iter().filter(has).map(|membership| membership.role.clone()).collect()
    }

    /// Who it is, by the first claim that says so. A subject by another claim than the first says by which, so that
    /// nobody is taken for one whom the first claim names alike.
    fn subject(&self, claims: &Map<String, Value>) -> Option<Box<str>> {
        let mut named = self.subject.iter().enumerate().filter_map(|(index, claim)| {
            let text = claim.find(claims)?.as_str().filter(|text| !text.is_empty())?;
            Some((index, claim, text))
        });
        let (index, claim, text) = named.next()?;
        let inside = |b: u8| b.is_ascii_graphic() || b == b' ';
        let others = self.subject.iter().skip(1).map(|other| format!("{other}:"));
        let is_alike = index == 0 && others.into_iter().any(|prefix| text.starts_with(&prefix));
        let well_formed = text.len() <= SUBJECT_MAX && text.bytes().all(inside) && text.trim() == text && !is_alike;
        let subject = || if index == 0 { text.into() } else { format!("{claim}:{text}").into() };
        well_formed.then(subject)
    }
}

#[cfg(test)]
mod tests;
