//! Who is asking: certificate, token and their binding to each other and to the request.
//!
//! [`authenticate`] alone makes a [`Verified`], to which a user may be added, and nothing that decides works without one. It reveals nothing to a
//! stranger: a [`Denied`] knows whether its peer has proved anything, and only then does the answer say why.

mod body_digest;
mod certificate;
mod jws;
mod profile;
mod replay;
mod revoked;
mod strict;
mod thumbprint;
mod token;
mod user;

pub use crate::name::Kid;
pub use body_digest::BodyDigest;
pub use certificate::{Authorities, BadAuthority, Peer, Rules};
pub use jws::{Algorithm, BadKey, BadKeySet, KeySet, SigningKey, VerifyingKey, read_secret};
pub use profile::Profile;
pub use replay::{Elsewhere, NotEntered, Replay, Spending, Store as ReplayStore, Used};
pub use revoked::Revoked;
pub use thumbprint::Thumbprint;
pub use token::{Asserted, Claims, Confirmation, Counts, Edge, Sighting, TokenKey, Trust, are_few, may_be_fact};
pub use user::{Addressed, By, ClaimPath, Keys, Mapped, Membership, NoClaim, People};

use crate::clock::Timestamp;
use crate::name::{PeopleName, WorkloadName};
use crate::principal::{Principal, User, Workload};
use crate::refusal::Refusal;
use crate::request::Facts;
use crate::verdict::{RuleId, Shadow};
use http::HeaderMap;
use std::sync::Arc;

/// What the peer shows.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The request.
    pub facts: &'a Facts,
    /// The peer of the connection, if it showed a certificate.
    pub peer: Option<&'a Peer>,
    /// The first two `Edge-Identity` headers.
    pub tokens: [Option<&'a [u8]>; 2],
    /// All headers, of which some may bring a user's token.
    pub headers: &'a HeaderMap,
}

/// Proof that a peer showed what a profile demands. Only [`authenticate`] makes one, which can be given a
/// user or lose him: it can be read, not made.
///
/// ```
/// use belay::identity::{Profile, Verified};
/// use belay::principal::Principal;
/// fn read(verified: &Verified) -> (Profile, &Principal) {
///     (verified.profile(), verified.principal())
/// }
/// ```
///
/// ```compile_fail
/// use belay::identity::{Profile, Verified};
/// use belay::principal::Principal;
/// let forged = Verified { profile: Profile::MtlsJwt, principal: Principal::Anonymous, token: None };
/// ```
#[derive(Debug)]
pub struct Verified {
    profile: Profile,
    principal: Principal,
    token: Option<Arc<Sighting>>,
}

impl Verified {
    /// The profile that was satisfied.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Who it is.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The same without a user.
    #[must_use]
    pub fn of_workload(self) -> Self {
        let principal = match self.principal {
            Principal::User(workload, _) => Principal::Workload(workload),
            principal @ (Principal::Anonymous | Principal::Workload(_)) => principal,
        };
        Self { profile: self.profile.of_workload(), principal, token: self.token }
    }

    /// The same with the user for whom a token vouches.
    ///
    /// # Errors
    /// [`Denied`] with what is wrong with the user's token, or because it is not the one that the workload's names.
    pub fn with_user(&self, evidence: &Evidence<'_>, trust: &Trust, now: Timestamp) -> Result<Self, Denied> {
        let (Some(profile), Some(workload)) = (self.profile.with_user(), self.principal.workload()) else {
            return Err(Refusal::Internal.into());
        };
        let bringer = user::Bringer {
            workload: &workload.name,
            certificate: evidence.peer.filter(|_| self.profile.needs_certificate()).map(Peer::thumbprint),
            says: self.token.as_ref().map(|token| token.user),
        };
        let verified = user::verify(evidence.headers, &trust.people, &bringer, now.unix_seconds());
        let denied = |fault: user::Fault| Denied {
            workload: Some(workload.name.clone()),
            kid: self.token.as_ref().map(|token| token.kid.clone()),
            people: fault.people,
            users_key: fault.key,
            ..fault.refusal.into()
        };
        let allowed = |user: &User| {
            let fault = |refusal| user::Fault { people: Some(user.people.clone()), ..user::Fault::from(refusal) };
            trust.revoked.load().allows_user(user).map_err(fault)
        };
        let user = verified.and_then(|user| allowed(&user).map(|()| user)).map_err(denied)?;
        let principal = Principal::User(Arc::clone(workload), Arc::new(user));
        Ok(Self { profile, principal, token: self.token.clone() })
    }

    /// The same by what is trusted now: what was proved once, and was not revoked since. Whether tokens have expired is
    /// not asked again, nor whether their keys are still there.
    ///
    /// # Errors
    /// What counts no more.
    pub fn still(
        &self,
        peer: Option<&Peer>,
        authorities: Option<&Authorities>,
        trust: &Trust,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let Some(was) = self.principal.workload() else {
            return Ok(Self { profile: self.profile, principal: Principal::Anonymous, token: None });
        };
        self.is_unrevoked(peer, trust)?;
        let peer = peer.filter(|_| self.profile.needs_certificate());
        let workload = if self.profile.needs_certificate() {
            let peer = peer.ok_or(Refusal::CertificateMissing)?;
            vouched_for(peer, authorities.ok_or(Refusal::CertificateUntrusted)?, trust, now)?
        } else {
            trust.workload(was.id.as_str()).ok_or(Refusal::WorkloadRevoked)?
        };
        let principal = match self.principal.user() {
            Some(user) => Principal::User(Arc::clone(workload), user::still(user, &trust.people, &workload.name)?),
            None => Principal::Workload(Arc::clone(workload)),
        };
        Ok(Self { profile: self.profile, principal, token: self.token.clone() })
    }

    /// Whether nothing that it rests on was revoked by now.
    ///
    /// # Errors
    /// What was.
    pub fn is_unrevoked(&self, peer: Option<&Peer>, trust: &Trust) -> Result<(), Refusal> {
        let Some(workload) = self.principal.workload() else { return Ok(()) };
        if self.token.as_ref().is_some_and(|token| trust.has_revoked(&token.kid)) {
            return Err(Refusal::TokenKeyRevoked);
        }
        let revoked = trust.revoked.load();
        let certificate = peer.filter(|_| self.profile.needs_certificate()).map(Peer::thumbprint);
        revoked.allows(&workload.name, certificate, self.token.as_deref())?;
        self.principal.user().map_or(Ok(()), |user| revoked.allows_user(user))
    }

    /// The token's one use, to be entered into the replay store.
    #[must_use]
    pub const fn token(&self) -> Option<&Arc<Sighting>> {
        self.token.as_ref()
    }
}

/// A refusal, and what had been proved before it.
#[derive(Debug)]
pub struct Denied {
    /// Why.
    pub refusal: Refusal,
    /// The workload of a certificate that was valid, or of the key that has signed.
    pub workload: Option<WorkloadName>,
    /// The key that a token named, if there is such a key.
    pub kid: Option<Kid>,
    /// Whose user a token says that it is of.
    pub people: Option<PeopleName>,
    /// The key that a user's token names.
    pub users_key: Option<Box<str>>,
    /// The rule by which, where it is not one that is missing.
    pub rule: Option<RuleId>,
    /// Rules that do not allow it, and why.
    pub near: Vec<String>,
    /// What a rule would change that is only tried out.
    pub shadow: Option<Shadow>,
    /// What the client is told instead, where it is not to know of the route.
    pub shown: Option<Shown>,
}

/// What a client is told, whatever the reason is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// As what.
    pub refusal: Refusal,
    /// Whether he has proved enough to be told why.
    pub is_told_why: bool,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            workload: None,
            kid: None,
            people: None,
            users_key: None,
            rule: None,
            near: Vec::new(),
            shadow: None,
            shown: None,
        }
    }
}

/// The workload of a certificate that is good now, and not revoked.
///
/// # Errors
/// What is wrong with the certificate.
pub fn recognise<'a>(
    peer: &Peer,
    authorities: &Authorities,
    trust: &'a Trust,
    now: Timestamp,
) -> Result<&'a Arc<Workload>, Refusal> {
    let workload = vouched_for(peer, authorities, trust, now)?;
    trust.revoked.load().allows(&workload.name, Some(peer.thumbprint()), None)?;
    Ok(workload)
}

/// The workload of a certificate that is good now, perhaps revoked by name.
fn vouched_for<'a>(
    peer: &Peer,
    authorities: &Authorities,
    trust: &'a Trust,
    now: Timestamp,
) -> Result<&'a Arc<Workload>, Refusal> {
    trust.workload(peer.judge(authorities, now)?).ok_or(Refusal::CertificateUnknown)
}

/// Checks what the peer shows of its workload against what the route demands. Where that is a user, too, he is not proved
/// yet: [`Verified::with_user`].
///
/// # Errors
/// [`Denied`] with the first proof that fails.
pub fn authenticate(
    demanded: Profile,
    evidence: &Evidence<'_>,
    authorities: Option<&Authorities>,
    trust: &Trust,
    now: Timestamp,
) -> Result<Verified, Denied> {
    let demanded = demanded.of_workload();
    if demanded == Profile::None {
        return Ok(Verified { profile: demanded, principal: Principal::Anonymous, token: None });
    }
    let certified = if demanded.needs_certificate() {
        let peer = evidence.peer.ok_or(Refusal::CertificateMissing)?;
        let authorities = authorities.ok_or(Refusal::CertificateUntrusted)?;
        Some((vouched_for(peer, authorities, trust, now)?, peer.thumbprint()))
    } else {
        None
    };
    let (workload, token) = if demanded.needs_token() {
        let context = token::Context { profile: demanded, certified, facts: evidence.facts, now };
        let denied = |fault: token::Fault| {
            let known = certified.map(|(workload, _)| workload).or(fault.signer.as_ref());
            Denied { workload: known.map(|workload| workload.name.clone()), kid: fault.kid, ..fault.refusal.into() }
        };
        let (workload, token) = token::verify(evidence.tokens, trust, &context).map_err(denied)?;
        (workload, Some(Arc::new(token)))
    } else {
        let (workload, _) = certified.ok_or(Refusal::Internal)?;
        (Arc::clone(workload), None)
    };
    let certificate = certified.map(|(_, thumbprint)| thumbprint);
    let allowed = trust.revoked.load().allows(&workload.name, certificate, token.as_deref());
    allowed.map_err(|refusal| Denied {
        workload: Some(workload.name.clone()),
        kid: token.as_ref().map(|token| token.kid.clone()),
        ..refusal.into()
    })?;
    Ok(Verified { profile: demanded, principal: Principal::Workload(workload), token })
}
