//! SHA-256 of a request's body, as tokens and `Content-Digest` carry it (RFC 9530 § 2).

use super::thumbprint::sha256;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::fmt;

/// The digest of a body; an absent body is zero bytes long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// The digest of a body.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(sha256(body))
    }

    /// Reads `sha-256=:<base64>:`, and nothing else: one algorithm, no parameters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let base64 = text.strip_prefix("sha-256=:")?.strip_suffix(':')?;
        STANDARD.decode(base64).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha-256=:{}:", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    /// RFC 9530, appendix D: the digest of `{"hello": "world"}` and a newline.
    #[test]
    fn is_the_digest_of_the_specification() {
        let written = BodyDigest::of(b"{\"hello\": \"world\"}\n").to_string();
        assert_eq!(written, "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
        assert_eq!(BodyDigest::parse(&written), Some(BodyDigest::of(b"{\"hello\": \"world\"}\n")));
    }

    #[test_case(""; "nothing")]
    #[test_case("RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg="; "no algorithm")]
    #[test_case("sha-512=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"; "another algorithm")]
    #[test_case("sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg:"; "no padding")]
    #[test_case("sha-256=:RK_0qy18MlBSVnWgjwz6lZEWjP_lF5HF9bvEF8FabDg=:"; "other alphabet")]
    #[test_case("sha-256=:AAAA:"; "short")]
    #[test_case("sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:, unixsum=30637"; "two of them")]
    fn is_no_digest(text: &str) {
        assert_eq!(BodyDigest::parse(text), None);
    }
}
