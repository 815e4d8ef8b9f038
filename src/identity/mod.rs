//! Who is asking: certificate, token and their binding to each other and to the request.
//!
//! [`authenticate`] alone makes a [`Verified`], and nothing that decides works without one. It reveals nothing to a
//! stranger: a [`Denied`] knows whether its peer has proved anything, and only then does the answer say why.

mod body_digest;
mod certificate;
mod jws;
mod replay;
mod thumbprint;
mod token;

pub use crate::name::Kid;
pub use body_digest::BodyDigest;
pub use certificate::{Authorities, BadAuthority, Peer, Rules};
pub use jws::{Algorithm, BadKey, SigningKey, VerifyingKey, read_secret};
pub use replay::{Elsewhere, NotEntered, Replay, Spending, Store as ReplayStore, Used};
pub use thumbprint::Thumbprint;
pub use token::{Asserted, Claims, Confirmation, Counts, Edge, Sighting, TokenKey, Trust, are_few, may_be_fact};

use crate::clock::Timestamp;
use crate::name::WorkloadName;
use crate::principal::{Principal, Workload};
use crate::refusal::Refusal;
use crate::request::Facts;
use std::{fmt, sync::Arc};

/// Which proofs a route demands: a set, not a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Profile {
    /// None: whoever it is stays anonymous.
    #[serde(rename = "none")]
    None,
    /// A client certificate of a known workload.
    #[serde(rename = "mtls")]
    Mtls,
    /// `mtls`, and a token signed by that workload for that certificate and this request.
    #[serde(rename = "mtls+jwt")]
    MtlsJwt,
    /// A token signed by a workload's own key for this request, without a certificate.
    #[serde(rename = "jwt")]
    Jwt,
    /// A token made with a secret that workload and load balancer share.
    #[serde(rename = "psk")]
    Psk,
}

impl Profile {
    /// All profiles, for messages.
    pub const ALL: [Self; 5] = [Self::None, Self::Mtls, Self::MtlsJwt, Self::Jwt, Self::Psk];

    /// The name in the config, in metrics and in the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mtls => "mtls",
            Self::MtlsJwt => "mtls+jwt",
            Self::Jwt => "jwt",
            Self::Psk => "psk",
        }
    }

    /// Whether a client certificate is among the proofs.
    #[must_use]
    pub const fn needs_certificate(self) -> bool {
        matches!(self, Self::Mtls | Self::MtlsJwt)
    }

    /// Whether a token is.
    #[must_use]
    pub const fn needs_token(self) -> bool {
        matches!(self, Self::MtlsJwt | Self::Jwt | Self::Psk)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the peer shows.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The request.
    pub facts: &'a Facts,
    /// The peer of the connection, if it showed a certificate.
    pub peer: Option<&'a Peer>,
    /// The first two `Edge-Identity` headers.
    pub tokens: [Option<&'a [u8]>; 2],
}

/// Proof that a peer showed what a profile demands. Only [`authenticate`] makes one: it can be read, not made.
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
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, workload: None, kid: None }
    }
}

/// The workload of a certificate that is good now.
///
/// # Errors
/// What is wrong with the certificate.
pub fn recognise<'a>(
    peer: &Peer,
    authorities: &Authorities,
    trust: &'a Trust,
    now: Timestamp,
) -> Result<&'a Arc<Workload>, Refusal> {
    trust.workload(peer.judge(authorities, now)?).ok_or(Refusal::CertificateUnknown)
}

/// Checks what the peer shows against what the route demands.
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
    if demanded == Profile::None {
        return Ok(Verified { profile: demanded, principal: Principal::Anonymous, token: None });
    }
    let certified = if demanded.needs_certificate() {
        let peer = evidence.peer.ok_or(Refusal::CertificateMissing)?;
        let authorities = authorities.ok_or(Refusal::CertificateUntrusted)?;
        Some((recognise(peer, authorities, trust, now)?, peer.thumbprint()))
    } else {
        None
    };
    let (workload, token) = if demanded.needs_token() {
        let context = token::Context { profile: demanded, certified, facts: evidence.facts, now };
        let denied = |fault: token::Fault| {
            let known = certified.map(|(workload, _)| workload).or(fault.signer.as_ref());
            Denied { refusal: fault.refusal, workload: known.map(|workload| workload.name.clone()), kid: fault.kid }
        };
        let (workload, token) = token::verify(evidence.tokens, trust, &context).map_err(denied)?;
        (workload, Some(Arc::new(token)))
    } else {
        let (workload, _) = certified.ok_or(Refusal::Internal)?;
        (Arc::clone(workload), None)
    };
    Ok(Verified { profile: demanded, principal: Principal::Workload(workload), token })
}
