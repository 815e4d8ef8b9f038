//! Bytes that never print, and the words by which people tell keys and certificates apart.

use std::fmt;

/// What is told of with its age: secrets, and what vouches for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A workload's public key for tokens.
    TokenKey,
    /// A secret that a workload shares with us.
    SharedSecret,
    /// A certificate of our own, with its key.
    Certificate,
    /// A CA that vouches for others.
    Ca,
    /// What a CA has revoked.
    RevocationList,
    /// What signs cookies.
    CookieKey,
    /// What encrypts session tickets. It is made here, and never leaves the memory.
    TicketKey,
    /// What makes hashes of personal data.
    PseudonymKey,
    /// What signs checkpoints of the audit log.
    CheckpointKey,
    /// One that somebody else has, of which we only know.
    External,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TokenKey => "token_key",
            Self::SharedSecret => "shared_secret",
            Self::Certificate => "certificate",
            Self::Ca => "ca",
            Self::RevocationList => "revocation_list",
            Self::CookieKey => "cookie_key",
            Self::TicketKey => "ticket_key",
            Self::PseudonymKey => "pseudonym_key",
            Self::CheckpointKey => "checkpoint_key",
            Self::External => "external",
        }
    }
}

/// Which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// What.
    pub kind: Kind,
    /// Whose, or of what, as the config says it: `workloads.checkout`, `listeners.edge`, `audit`.
    pub owner: Box<str>,
    /// Its id, or the way to its file from the config's folder.
    pub name: Box<str>,
}

impl Label {
    /// That one.
    #[must_use]
    pub fn new(kind: Kind, owner: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        Self { kind, owner: owner.into(), name: name.into() }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, owner, name } = self;
        match kind {
            Kind::TokenKey | Kind::CookieKey | Kind::CheckpointKey | Kind::PseudonymKey => {
                write!(f, "the key `{name}` of {owner}")
            }
            Kind::SharedSecret => write!(f, "the secret `{name}` of {owner}"),
            Kind::Certificate => write!(f, "the certificate `{name}` of {owner}"),
            Kind::Ca => write!(f, "the CA `{name}` of {owner}"),
            Kind::RevocationList => write!(f, "the revocation list `{name}` of {owner}"),
            Kind::TicketKey => write!(f, "the key of session tickets of {owner}"),
            Kind::External => write!(f, "the secret `{name}` of somebody else"),
        }
    }
}

/// Secret bytes: no `Debug`, `Display` or serialisation shows them.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }

    /// Lends the bytes to the one that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "[secret] Some(\n    [secret],\n)");
    }
}
