//! Which bytes may stand where.

/// A set of bytes.
pub(super) struct Class([bool; 256]);

impl Class {
    /// RFC 9110 § 5.6.2.
    pub(super) const TOKEN: Self = Self::alphanumeric_and(b"!#$%&'*+-.^_`|~");
    /// RFC 3986 § 2: what stands in a target, and what servers take in one.
    pub(super) const TARGET: Self = Self::graphic_but(b"#\"<>\\^`{|}");
    /// What stands between the dots of a host's name.
    pub(super) const LABEL: Self = Self::alphanumeric_and(b"-_");

    const fn alphanumeric_and(others: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut byte = 0;
        while byte < set.len() {
            set[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        Self(set).with(others, true)
    }

    const fn graphic_but(others: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut byte = 0;
        while byte < set.len() {
            set[byte] = (byte as u8).is_ascii_graphic();
            byte += 1;
        }
        Self(set).with(others, false)
    }

    const fn with(mut self, bytes: &[u8], inside: bool) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0[bytes[at] as usize] = inside;
            at += 1;
        }
        self
    }

    /// Whether all of them are of it.
    pub(super) fn has_all(&self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| self.0.get(usize::from(*byte)).is_some_and(|inside| *inside))
    }
}
