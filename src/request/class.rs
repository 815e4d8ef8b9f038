//! Which bytes may stand where.

/// A set of bytes.
pub(super) struct Class([bool; 256]);

impl Class {
    /// RFC 9110 § 5.6.2.
    pub(super) const TOKEN: Self = Self::alphanumeric_and(b"!#$%&'*+-.^_`|~");
    /// What of RFC 3986 § 2 stands in a target.
    pub(super) const TARGET: Self = Self::alphanumeric_and(b"!$%&'()*+,-./:;=?@[]_~");
    /// What stands between the dots of a host's name.
    pub(super) const LABEL: Self = Self::alphanumeric_and(b"-_");

    const fn alphanumeric_and(others: &[u8]) -> Self {
        let letters = Self([false; 256]).with(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
        letters.with(b"0123456789").with(others)
    }

    #[expect(clippy::indexing_slicing, reason = "the compiler runs it, and would not build what reads too far")]
    const fn with(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0[bytes[at] as usize] = true;
            at += 1;
        }
        self
    }

    /// Whether all of them are of it.
    pub(super) fn has_all(&self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| self.0.get(usize::from(*byte)).is_some_and(|inside| *inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case(&Class::TOKEN, |b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b); "token")]
    #[test_case(&Class::TARGET, |b| b.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&b); "target")]
    #[test_case(&Class::LABEL, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'; "label")]
    fn holds_what_it_should(class: &Class, is_inside: impl Fn(u8) -> bool) {
        for byte in 0..=u8::MAX {
            assert_eq!(class.has_all(&[byte]), is_inside(byte), "{byte}");
        }
    }
}
