//! Which config a request was judged by.

use serde::{Serialize, Serializer};
use std::fmt;

/// The number of a config that went live. It only grows, over restarts too where a history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Generation(u64);

impl Generation {
    /// The generation of that number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 over what decides: the config's text and every file that it names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of named contents; the order and every boundary count.
    #[must_use]
    pub fn of(contents: &[(&str, &[u8])]) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in contents.iter().flat_map(|(name, content)| [name.as_bytes(), content]) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut bytes = [0; 32];
        // The digest of SHA-256 has 32 bytes, always.
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    /// SHA-256 of one content, as others compute it, too.
    #[must_use]
    pub fn of_content(content: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content).as_ref());
        Self(bytes)
    }

    /// Reads one: 64 hexadecimal digits in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = digits(pair)?;
        }
        Some(Self(bytes)).filter(|digest| digest.to_string() == text)
    }

    /// Its first 64 bits, where no more fit.
    #[must_use]
    pub const fn short(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&hexadecimal(self.0)).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    /// Every record has two of them, so it is done without formatting.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(std::str::from_utf8(&hexadecimal(self.0)).unwrap_or_default())
    }
}

/// The digits of a hash, in lower case.
#[must_use]
pub fn hexadecimal(hash: [u8; 32]) -> [u8; 64] {
    let mut digits = [0; 64];
    write_hexadecimal(&hash, &mut digits);
    digits
}

/// Writes the digits of bytes, in lower case: two for each, as far as there is room.
pub fn write_hexadecimal(bytes: &[u8], digits: &mut [u8]) {
    let (pairs, _rest) = digits.as_chunks_mut();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

const fn digit(half: u8) -> u8 {
    if half < 10 { b'0' + half } else { b'a' + half - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_bytes() {
        let hash: [u8; 32] = std::array::from_fn(|index| u8::try_from(index * 8 + index % 8).unwrap());
        let expected: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hexadecimal(hash), *expected.as_bytes());
        let mut short = [0; 3];
        write_hexadecimal(&hash, &mut short);
        assert_eq!(short, *b"00\0", "what has no room for both is left out");
    }
}
