//! Which proofs are demanded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A set of proofs, not a rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Profile {
    /// Nothing is asked; everybody is anonymous.
    #[serde(rename = "none")]
    None,
    /// A client certificate of a workload.
    #[serde(rename = "mtls")]
    Mtls,
    /// `mtls`, and an Edge-Identity token signed for that certificate and this request.
    #[default]
    #[serde(rename = "mtls+jwt")]
    MtlsJwt,
    /// An Edge-Identity token signed with a workload's own key for this request and body, over TLS, without a client
    /// certificate. It lives 60 s at most and counts once.
    #[serde(rename = "jwt")]
    Jwt,
    /// `jwt` with a secret that workload and load balancer share.
    #[serde(rename = "psk")]
    Psk,
    /// `mtls`, and a user's token of one of the `people`.
    #[serde(rename = "mtls+user")]
    MtlsUser,
    /// `mtls+jwt`, and a user's token, which the workload's token names (`ath`).
    #[serde(rename = "mtls+jwt+user")]
    MtlsJwtUser,
    /// `jwt`, and a user's token, which the workload's token names.
    #[serde(rename = "jwt+user")]
    JwtUser,
    /// `psk`, and a user's token, which the workload's token names.
    #[serde(rename = "psk+user")]
    PskUser,
}

impl Profile {
    /// All profiles, for messages.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Mtls,
        Self::MtlsJwt,
        Self::Jwt,
        Self::Psk,
        Self::MtlsUser,
        Self::MtlsJwtUser,
        Self::JwtUser,
        Self::PskUser,
    ];

    /// The name in the config, in metrics and in the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mtls => "mtls",
            Self::MtlsJwt => "mtls+jwt",
            Self::Jwt => "jwt",
            Self::Psk => "psk",
            Self::MtlsUser => "mtls+user",
            Self::MtlsJwtUser => "mtls+jwt+user",
            Self::JwtUser => "jwt+user",
            Self::PskUser => "psk+user",
        }
    }

    /// What the workload has to prove: the profile without the user.
    #[must_use]
    pub const fn of_workload(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Mtls | Self::MtlsUser => Self::Mtls,
            Self::MtlsJwt | Self::MtlsJwtUser => Self::MtlsJwt,
            Self::Jwt | Self::JwtUser => Self::Jwt,
            Self::Psk | Self::PskUser => Self::Psk,
        }
    }

    /// The same with a user's token; none for [`Self::None`], since a user's token alone never suffices.
    #[must_use]
    pub const fn with_user(self) -> Option<Self> {
        match self.of_workload() {
            Self::Mtls => Some(Self::MtlsUser),
            Self::MtlsJwt => Some(Self::MtlsJwtUser),
            Self::Jwt => Some(Self::JwtUser),
            Self::Psk => Some(Self::PskUser),
            Self::None | Self::MtlsUser | Self::MtlsJwtUser | Self::JwtUser | Self::PskUser => None,
        }
    }

    /// Whether it asks for every kind of proof that another does.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.needs_certificate() >= other.needs_certificate()
            && self.needs_token() >= other.needs_token()
            && self.needs_user() >= other.needs_user()
    }

    /// Whether a client certificate is among the proofs.
    #[must_use]
    pub const fn needs_certificate(self) -> bool {
        matches!(self.of_workload(), Self::Mtls | Self::MtlsJwt)
    }

    /// Whether a workload's token is.
    #[must_use]
    pub const fn needs_token(self) -> bool {
        matches!(self.of_workload(), Self::MtlsJwt | Self::Jwt | Self::Psk)
    }

    /// Whether that token is made with a shared secret.
    #[must_use]
    pub const fn needs_secret(self) -> bool {
        matches!(self.of_workload(), Self::Psk)
    }

    /// Whether a user's token is among the proofs.
    #[must_use]
    pub const fn needs_user(self) -> bool {
        matches!(self, Self::MtlsUser | Self::MtlsJwtUser | Self::JwtUser | Self::PskUser)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_added_and_changes_nothing_else() {
        for profile in Profile::ALL {
            assert_eq!(profile.of_workload().name(), profile.name().trim_end_matches("+user"));
            assert_eq!(profile.needs_user(), profile.name().ends_with("+user"));
            let Some(with_user) = profile.with_user() else { continue };
            assert!(with_user.needs_user() && with_user.of_workload() == profile.of_workload());
            assert_eq!(with_user.needs_certificate(), profile.needs_certificate());
            assert_eq!(
                (with_user.needs_token(), with_user.needs_secret()),
                (profile.needs_token(), profile.needs_secret())
            );
        }
    }
}
