//! The chain: each line holds a hash of itself and of all lines of its process before it.
//!
//! `chain[n] = SHA-256(chain[n-1] ‖ line[n])`, where `line[n]` is the line without its own `belay.chain`, which is its last
//! member; `chain[0]` is SHA-256 of the boot's id. Whoever alters, removes, adds or moves a line breaks it there. Whoever
//! can write the whole file can make a new chain, and whoever cuts off the end leaves a shorter one.

use crate::generation::hexadecimal;
use aws_lc_rs::digest::{Context, SHA256};
use std::fmt;

const BEFORE: &[u8] = b",\"chain\":\"";
const BEHIND: &[u8] = b"\"}}";
/// Bytes of a hash as hexadecimal digits.
pub(super) const DIGITS: usize = 64;
/// How the object ends of which the chain is the last member.
const END: &[u8] = b"}}";

/// A chain up to its last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain([u8; 32]);

impl Chain {
    /// That of a process, before its first line.
    pub(super) fn of(boot: &str) -> Self {
        Self(hash(&[boot.as_bytes()]))
    }

    /// Adds a line to it, and it to the line, which stands from there on and ends with two braces.
    pub(super) fn seal(&mut self, lines: &mut Vec<u8>, from: usize) {
        let line = lines.get(from..).unwrap_or_default();
        self.0 = hash(&[&self.0, line]);
        lines.truncate(lines.len().saturating_sub(END.len()));
        lines.extend_from_slice(BEFORE);
        lines.extend_from_slice(&hexadecimal(self.0));
        lines.extend_from_slice(BEHIND);
    }

    /// One that somebody tells of.
    pub(super) fn told(text: &str) -> Option<Self> {
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        let pairs = text.as_bytes().chunks_exact(2).filter(|_| text.len() == DIGITS);
        let mut count = 0_usize;
        for (byte, pair) in hash.iter_mut().zip(pairs) {
            let [high, low] = *pair else { return None };
            *byte = value(high)? << 4 | value(low)?;
            count = count.saturating_add(1);
        }
        (count == hash.len()).then_some(Self(hash))
    }

    /// Whether that is the next line.
    pub(super) fn goes_on_with(&mut self, (start, digits_told): (&[u8], &[u8])) -> bool {
        self.0 = hash(&[&self.0, start, END]);
        hexadecimal(self.0) == *digits_told
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&hexadecimal(self.0)).unwrap_or_default())
    }
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 32];
    // That of SHA-256 has 32 bytes, always.
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// What stands before the chain, and its digits.
pub(super) fn parts(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_suffix(BEHIND)?;
    let (start, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    Some((start.strip_suffix(BEFORE)?, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_has_written() {
        let chain = Chain::of("boot");
        assert_eq!(Chain::told(&chain.to_string()), Some(chain.clone()));
        let text = chain.to_string();
        for bad in ["", "00", &text[2..], &format!("{text}00"), &text.to_uppercase(), &text.replacen('a', "g", 1)] {
            assert_eq!(Chain::told(bad), None, "{bad}");
        }
    }
}
