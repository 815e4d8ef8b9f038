//! The W3C trace that a request goes on with.

use crate::request::random_digits;

/// `00-<32 hex>-<16 hex>-<2 hex>`, neither id all zero (W3C Trace Context § 3.2).
pub(super) fn is_one(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let some = |part: &str| part.bytes().any(|b| b != b'0');
    match text.split('-').collect::<Vec<_>>().as_slice() {
        ["00", trace, parent, flags] => {
            hex(trace, 32) && some(trace) && hex(parent, 16) && some(parent) && hex(flags, 2)
        }
        _ => false,
    }
}

/// A trace of our own, not sampled.
pub(super) fn new() -> Box<str> {
    let (trace, parent) = (random_digits(), random_digits());
    let part = |digits| std::str::from_utf8(digits).unwrap_or_default();
    let parent = parent.first_chunk::<16>().map_or(b"0000000000000001", |parent| parent);
    ["00-", part(&trace), "-", part(parent), "-00"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true; "the specification's own")]
    #[test_case("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false; "no trace")]
    #[test_case("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false; "no parent")]
    #[test_case("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false; "upper case")]
    #[test_case("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false; "other version")]
    #[test_case("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", false; "no flags")]
    #[test_case("", false; "empty")]
    fn traceparent(text: &str, ok: bool) {
        assert_eq!(is_one(text), ok);
    }

    #[test]
    fn our_own_trace_is_one() {
        assert!(is_one(&new()));
    }
}
