//! Names that a config gives to things.
//!
//! Each kind of thing has a type of its own, so that a pool's name is never taken for a route's. A name is lower-case
//! ASCII and at most [`LENGTH_MAX`] bytes long: it goes unescaped into metric labels, headers and audit records.

use serde::{Deserialize, Serialize};
use std::{borrow::Borrow, fmt, sync::Arc};

/// The longest name, in bytes.
pub const LENGTH_MAX: usize = 63;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {LENGTH_MAX} of `a-z 0-9 _ -` and starts with a letter or digit")]
pub struct Malformed;

fn checked(text: &str) -> Result<Arc<str>, Malformed> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if starts_well && text.len() <= LENGTH_MAX && text.bytes().all(inside) { Ok(text.into()) } else { Err(Malformed) }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads a name.
            ///
            /// # Errors
            /// [`Malformed`] if the text is empty, too long or holds other characters.
            pub fn parse(text: &str) -> Result<Self, Malformed> {
                checked(text).map(Self)
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;

            fn try_from(text: String) -> Result<Self, Malformed> {
                Self::parse(&text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// This load balancer, among its like.
    NodeName
    /// Where connections come in.
    ListenerName
    /// What a request is matched with.
    RouteName
    /// Servers that do the same job.
    PoolName
    /// One server, within its pool.
    ServerName
    /// A machine that calls, for example a Worker.
    WorkloadName
    /// What workloads and people may be allowed as.
    RoleName
    /// An identity provider's users.
    PeopleName
    /// Routes of which rules speak together.
    GroupName
}

impl ServerName {
    /// The name with a number after it; none if that is too long.
    #[must_use]
    pub fn numbered(&self, number: usize) -> Option<Self> {
        Self::parse(&format!("{self}-{number}")).ok()
    }
}

/// The known word that a typing slip could have turned into the written one.
pub fn closest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |word: &&str| strsim::damerau_levenshtein(written, word);
    known.into_iter().min_by_key(distance).filter(|word| distance(word) <= word.len().min(written.len()).div_ceil(3))
}

/// The id of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Kid(Arc<str>);

impl Kid {
    /// Reads 1 to 64 of `A-Z a-z 0-9 . _ -`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let well_formed = (1..=64).contains(&text.len()) && text.bytes().all(inside);
        well_formed.then(|| Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Kid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("orders", true)]
    #[test_case("orders-2_b", true)]
    #[test_case("9lives", true)]
    #[test_case(&"a".repeat(63), true; "longest")]
    #[test_case(&"a".repeat(64), false; "too long")]
    #[test_case("", false; "empty")]
    #[test_case("-a", false)]
    #[test_case("Orders", false)]
    #[test_case("or ders", false)]
    #[test_case("ordérs", false)]
    #[test_case("a\"b", false)]
    #[test_case("a\nb", false)]
    fn name_is(text: &str, ok: bool) {
        assert_eq!(PoolName::parse(text).is_ok(), ok);
    }
}
