//! The id of a request.

use serde::Serialize;
use std::{fmt, sync::Arc};

/// 8 to 64 of `A-Z a-z 0-9 -`: the edge's where it signed one, else made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Id(Arc<str>);

impl Id {
    /// Reads an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        ((8..=64).contains(&text.len()) && text.bytes().all(inside)).then(|| Self(text.into()))
    }

    /// A new one: 128 random bits in hexadecimal.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        // It fails only where the system gives no randomness; then an id that repeats is the smaller evil, as nothing
        // trusts in ids being secret.
        aws_lc_rs::rand::fill(&mut bytes).ok();
        Self(format!("{:032x}", u128::from_be_bytes(bytes)).into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
